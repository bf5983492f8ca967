#!/usr/bin/env bash
# drain.sh SECONDS [PORT]: what a Ray worker does before its pod ends, at most for so long.
#
# From the beginning of its end a pod gets no new connections. Those that its Serve proxy has are waited for. (Not
# `ray drain-node`: work under way would end well, but Serve takes the edge out at once, although none can start elsewhere
# at a site of one machine.)
set -uo pipefail

deadline=$((SECONDS + $1))
connection=$(printf '^ *[0-9]+: [0-9A-F]+:%04X [0-9A-F]+:[0-9A-F]+ 01 ' "${2:-8000}") # 01: established
sleep 3 # until the whole cluster knows it
while ((SECONDS < deadline)) && grep -Eqs "$connection" /proc/net/tcp /proc/net/tcp6; do
    sleep 1
done
