#!/usr/bin/env bash
# Attacks a service at work and measures what others notice of it (tests/examples/attack.rs). schemathesis, which tries
# every operation of the OpenAPI document, goes to a folder of its own in the cache.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${LAMINA_CACHE:-${HOME:?is not set, and neither is LAMINA_CACHE}/.cache/lamina}/schemathesis
requirements=$root/tests/examples/schemathesis/requirements.txt
# A run that was broken off leaves no copy of the requirements, and a new version another one.
if ! cmp --silent "$requirements" "$venv/requirements.txt"; then
    echo "attack: installing schemathesis into $venv"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
export LAMINA_SCHEMATHESIS=$venv/bin/schemathesis
cd "$root"
exec cargo run --release --quiet --package tests --example attack
