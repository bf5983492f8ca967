#!/usr/bin/env bash
# train.sh RUN ARGUMENTS...: `edgegen train` that continues where an earlier attempt of the same job stopped.
#
# RUN is the run's folder below runs/. KubeRay repeats a failed job from the beginning in a new cluster; with the
# folder on a volume, the repetition resumes from the latest checkpoint. A run has the arguments that it was begun with:
# with others it is refused, because a resumed run keeps its own settings and would ignore them without a word.
set -euo pipefail

name="$1"
run="runs/$name"
shift
kept="runs/.$name.arguments"
given=$(printf '%q ' "$@")

if ! compgen -G "$run/checkpoint-*" > /dev/null; then
    rm -rf -- "$run" # what an attempt without a checkpoint left can not be resumed
    mkdir -p runs
    printf '%s\n' "$given" > "$kept"
    exec edgegen train "$@" --out "$run" --address auto
fi

begun=$(cat -- "$kept" 2> /dev/null || true)
if [[ "$given" != "$begun" ]]; then
    echo "The run $run was begun with the arguments '$begun', and not with '$given'; give the new run another name." >&2
    exit 2
fi
# Of these a resumed run knows nothing by itself; all others are in its own files.
again=()
while (($#)); do
    case "$1" in
        --register | --bar | --wait | --max-restarts)
            again+=("$1" "$2")
            shift
            ;;
        --force | --register=* | --bar=* | --wait=* | --max-restarts=*) again+=("$1") ;;
    esac
    shift
done
exec edgegen train --resume "$run" --address auto "${again[@]}"
