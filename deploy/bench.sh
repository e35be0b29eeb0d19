#!/usr/bin/env bash
# Compares the speed and the memory of the pre-train step with PyTorch's, in one run on the same cores. It also measures
# how much time layer drop saves and, if LAMINA_DATA is set, how fast the loader is.
#
#   deploy/bench.sh PYTHON [OPTIONS]   PYTHON is an interpreter with the packages of trainer/benches/requirements.txt.
#                                      If it is empty, the script makes one.
#                                      OPTIONS go to trainer/benches/compare.py, for example --sizes narrow --eager.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
benches=$root/trainer/benches
trainer=${CARGO_TARGET_DIR:-$root/target}/release/lamina-trainer
python=$1
shift
if [[ -z $python ]]; then
    venv=${LAMINA_CACHE:-${HOME:?is not set, and neither is LAMINA_CACHE}/.cache/lamina}/bench
    python=$venv/bin/python
    if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
        echo "bench: installing PyTorch and transformers into $venv"
        python3 -m venv "$venv"
        "$python" -m pip install --quiet --disable-pip-version-check --requirement "$benches/requirements.txt"
    fi
fi

printf '\n# Speed\n\n'
# A peer that cannot run does not keep the rest from being measured; the exit status tells of it at the end.
status=0
python3 "$benches/compare.py" --trainer "$trainer" --python "$python" "$@" || status=$?
printf '\n# What layer drop saves\n\n'
python3 "$benches/layer_drop.py" --trainer "$trainer" --sizes narrow
printf '\n# Memory\n'
python3 "$benches/memory.py" --trainer "$trainer" --python "$python" --sizes base --steps 2
if [[ -n ${LAMINA_DATA:-} ]]; then
    printf '\n# Loader\n\n'
    corpora=("$LAMINA_DATA"/corpus/*.txt*) vocabularies=("$LAMINA_DATA"/vocab/*.txt)
    (cd "$root" && cargo bench --quiet --package trainer --bench loader -- "${corpora[0]}" "${vocabularies[0]}")
fi
exit "$status"
