#!/usr/bin/env bash
# `make bench`: collectives beside Gloo, and step01 and step06 beside transformers' Llama. `make bench-gpu`
# (--gpu): the same on GPUs, see gpu_bench.py. What Python needs for that goes into .venv, once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

wants=tests/bench/requirements.txt
if ! cmp -s "$wants" .venv/installed.txt; then
    echo "bench: fetching PyTorch for Python and transformers into .venv, about 2.5 GB, once"
    python3 -m venv .venv || {
        echo 'bench: python3 cannot make a virtual environment: on Debian and Ubuntu `sudo apt-get install python3-venv`.' >&2
        exit 1
    }
    PIP_USER=0 .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$wants"
    cp "$wants" .venv/installed.txt # last, so a broken install is done again
fi

cargo build -p step01 -p step06
binaries=${CARGO_TARGET_DIR:-target}/debug
if [ "${1:-}" = --gpu ]; then
    shift
    cargo build -p parity --bin bandwidth
    exec .venv/bin/python tests/bench/gpu_bench.py --binaries "$binaries" "$@"
fi
cargo bench -p comm --bench collectives -- --gloo --python "$PWD/.venv/bin/python" # cargo runs it elsewhere
exec .venv/bin/python tests/bench/model_bench.py --binaries "$binaries" "$@"
