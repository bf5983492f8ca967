#!/usr/bin/env bash
# drain.sh SECONDS: what a Ray worker does before its pod ends, at most for so long.
#
# Ray puts nothing new on this node from now on, and Serve stops what it has here once that has finished its requests.
# Then the node is idle, and its raylet ends by itself. Whatever fails here must not keep the pod from ending.
set -uo pipefail

deadline=$((SECONDS + $1))
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "the pod ends" \
    --deadline-remaining-seconds "$1" || exit 0
alive() {
    python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' \
        "http://127.0.0.1:${EDGEGEN_AGENT_PORT:-52365}/api/local_raylet_healthz" 2> /dev/null
}
while ((SECONDS < deadline)) && alive; do
    sleep 1
done
