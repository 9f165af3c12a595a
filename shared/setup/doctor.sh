#!/usr/bin/env bash
# `make doctor`: one line for each thing a run needs, OK or how to fix it. Exit code 1 if any failed.
set -uo pipefail
# shellcheck source=checks.sh
. "$(dirname "${BASH_SOURCE[0]}")/checks.sh"
cd "$root"

failed=0
report() {
    local line
    if line=$("$@"); then
        echo "OK    $line"
    else
        echo "FAIL  $line"
        failed=1
        return 1
    fi
}

libtorch=${LIBTORCH:-.libtorch/torch}

# loads LIBRARY NAME FIX: opens one of libtorch's libraries, with all that it needs.
loads() {
    local answer
    if ! answer=$(python3 -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$libtorch/lib/$1" 2>&1); then
        echo "$2 does not load (${answer##*: }): $3"
        return 1
    fi
    echo "$2 loads"
}

driver() {
    local version need=580 # for CUDA 13, which this libtorch is made for
    version=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
    if ! at_least "$version" "$need"; then
        echo "the GPU's driver is $version, but CUDA 13 needs $need or newer: update it, or use --device cpu."
        return 1
    fi
    echo "GPU driver $version"
}

cores() {
    local count
    count=$(getconf _NPROCESSORS_ONLN)
    if [ "$count" -lt 2 ]; then
        echo "$count core: everything runs, but no two ranks at once"
    else
        echo "$count cores"
    fi
}

memory() {
    local mib
    case $system in
        Darwin*) mib=$(($(sysctl -n hw.memsize) / 1048576)) ;; # all: macOS does not say what it would free
        *) mib=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo) ;;
    esac
    if [ "$mib" -lt 4096 ]; then
        echo "$mib MiB of memory are free, 4096 are needed: close other programs, or use a larger machine."
        return 1
    fi
    echo "memory: $mib MiB free"
}

disk() {
    local mib need=2048
    # A first build compiles libtorch's bindings; before set-up, libtorch itself is added.
    check_libtorch "$libtorch" >/dev/null || need=6144
    mib=$(df -Pk . | awk 'NR == 2 { print int($4 / 1024) }')
    if [ "$mib" -lt "$need" ]; then
        echo "$mib MiB of disk are free here, $need are needed: make room, or move the checkout."
        return 1
    fi
    echo "disk: $mib MiB free"
}

port() {
    local answer
    if ! answer=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname(), 5); print(s.getsockname()[1])' 2>&1); then
        echo "no port of 127.0.0.1 can be opened (${answer##*: }): a firewall or sandbox is in the way of ranks in separate processes."
        return 1
    fi
    echo "port $answer of 127.0.0.1 opens"
}

# all_reduce LAUNCHER WORDS: two ranks sum a tensor and check the result.
all_reduce() {
    local answer
    if ! answer=$(RUST_BACKTRACE=0 "${CARGO_TARGET_DIR:-target}/debug/examples/doctor" "$1" 2>&1); then
        echo "two ranks as $2 cannot sum a tensor: $answer"
        return 1
    fi
    echo "two ranks as $2 sum a tensor"
}

# In bf16 cuDNN compiles its attention kernels during a run.
kernel() {
    local answer
    if ! answer=$(RUST_BACKTRACE=0 "${CARGO_TARGET_DIR:-target}/debug/examples/doctor" kernel 2>&1); then
        answer=${answer%%$'\n'*}
        echo "the CUDA half of libtorch cannot compile a kernel (${answer#Error: }): remove .libtorch and run \`make setup CUDA=1\`."
        return 1
    fi
    echo "the CUDA half of libtorch compiles a kernel"
}

build() {
    local answer
    if ! answer=$(cargo build --quiet -p launch --example doctor 2>&1); then
        echo "the workspace does not build: $(echo "$answer" | grep -m 1 '^error' || echo "$answer" | head -n 1)"
        return 1
    fi
    echo "the workspace builds"
}

ready=1
report check_rust || ready=0
report check_cxx || ready=0
python=0
if report check_python; then
    python=1
    report port
fi
report cores
report memory
report disk
cuda=0
if report check_libtorch "$libtorch"; then
    [ "$python" = 0 ] || report loads "libtorch_cpu.$dylib" libtorch "remove .libtorch and run \`make setup\`." || ready=0
    if [ "$python" = 1 ] && { has_gpu || has_cuda .libtorch; }; then
        report loads libtorch_cuda.so "the CUDA half of libtorch" "run \`make setup CUDA=1\`." && cuda=1
    fi
    if has_gpu; then report driver; fi
else
    # Only set-up needs pip.
    [ "$python" = 0 ] || report check_pip
    ready=0
fi
if [ "$ready" = 1 ]; then
    echo "      building a two-rank check (about three minutes the first time)"
    if report build; then
        report all_reduce threads threads
        report all_reduce processes "processes over TCP"
        [ "$cuda" = 0 ] || report kernel
    fi
fi
[ "$failed" = 0 ] && echo "All is well." || echo "Fix what failed, then run \`make doctor\` again."
exit "$failed"
