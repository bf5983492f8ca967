#!/usr/bin/env bash
# train.sh RUN ARGUMENTS...: `edgegen train` that continues where an earlier attempt of the same job stopped.
#
# RUN is the run's folder below runs/. KubeRay repeats a failed job from the beginning in a new cluster; with the
# folder on a volume, the repetition resumes from the latest checkpoint.
set -euo pipefail

run="runs/$1"
shift
if compgen -G "$run/checkpoint-*" > /dev/null; then
    exec edgegen train --resume "$run" --address auto
fi
rm -rf -- "$run" # what an attempt without a checkpoint left can not be resumed
exec edgegen train "$@" --out "$run" --address auto
