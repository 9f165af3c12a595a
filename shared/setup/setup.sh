#!/usr/bin/env bash
# `make setup`: checks that the machine has what a build needs, and puts libtorch into .libtorch.
#
# It can be run again at any time: what is already there is left alone. Nothing outside the
# checkout is changed. The CUDA half of libtorch is fetched too where nvidia-smi finds a GPU, and with
# --cuda (`make setup CUDA=1`) everywhere: a cluster's login node often has none.
set -euo pipefail
# shellcheck source=checks.sh
. "$(dirname "${BASH_SOURCE[0]}")/checks.sh"
cd "$root"

need() {
    local line
    if ! line=$("$@"); then
        echo "setup: $line" >&2
        exit 1
    fi
}

need check_rust
need check_cxx

home=.libtorch
cuda=0
if has_gpu || [ "${1:-}" = --cuda ]; then cuda=1; fi

# A libtorch of the user's own: the build takes it from LIBTORCH, and running binaries find it
# through this link, since their run path names .libtorch.
if [ -n "${LIBTORCH:-}" ]; then
    need check_libtorch "$LIBTORCH"
    target=$(cd "$LIBTORCH" && pwd -P)
    if [ "$(readlink -f "$home/torch" || true)" != "$target" ]; then
        rm -rf "$home.tmp" "$home"
        mkdir "$home.tmp"
        ln -s "$target" "$home.tmp/torch"
        mv "$home.tmp" "$home"
        echo "setup: using libtorch $torch_version from $target"
    fi
    exit 0
fi

# The CUDA libraries beside libtorch: needed on a GPU, and 2 GB of dead weight elsewhere.
wanted() {
    check_libtorch "$home/torch" >/dev/null || return 1
    [ ! -L "$home/torch" ] || return 0
    [ "$cuda" = 0 ] || has_cuda "$home"
}
if wanted; then
    exit 0
fi

# What the wheel weighs, and for pip the names of the systems that it serves: glibc 2.17 to 2.28, macOS 11 and 12.
case $system in
    "Linux x86_64") size="540 MB" platforms=$(echo manylinux2014_x86_64 manylinux_2_{17..28}_x86_64) ;;
    "Linux aarch64") size="430 MB" platforms=$(echo manylinux2014_aarch64 manylinux_2_{17..28}_aarch64) ;;
    "Darwin arm64") size="81 MB" platforms=$(echo macosx_1{1,2}_0_arm64) ;;
    "Darwin x86_64")
        echo "setup: there is no libtorch $torch_version for Intel Macs: use a container (.devcontainer/) or a Linux machine." >&2
        exit 1
        ;;
    *)
        echo "setup: no libtorch is known for $system: unpack libtorch $torch_version yourself and set LIBTORCH to its directory." >&2
        exit 1
        ;;
esac
if [ "$cuda" = 1 ] && [ "$dylib" = dylib ]; then
    echo "setup: CUDA is not to be had on macOS: run \`make setup\` without it." >&2
    exit 1
fi
need check_python
need check_pip

if [ "$cuda" = 1 ]; then
    echo "setup: fetching libtorch $torch_version with CUDA, about 2.5 GB, once"
    packages=("torch==$torch_version")
else
    echo "setup: fetching libtorch $torch_version, about $size, once"
    packages=(--no-deps "torch==$torch_version")
    # On Linux the wheel's CPU half is linked against these two small libraries and no other.
    [ "$dylib" = dylib ] || packages+=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
fi

# Only the C++ half of the wheel is used, so where the running Python is one that the wheel is not
# made for, that of another Python serves as well.
minor=$(python3 -c 'import sys; print(sys.version_info[1])')
if [ "$minor" -lt 10 ] || [ "$minor" -gt 14 ]; then
    packages+=(--only-binary=:all: --python-version 3.12 --ignore-requires-python)
    # The wheel asks for glibc 2.28; given one platform, pip does not try those that it includes.
    for platform in $platforms; do
        packages+=(--platform "$platform")
    done
fi
[ -t 1 ] || packages+=(--quiet)

# Installed beside and renamed when whole, so an interrupted fetch is never taken for a libtorch. pip's
# own temporary files go there too: the wheels unpack to 4.5 GB, which a small /tmp does not hold.
rm -rf "$home.tmp"
mkdir -p "$home.tmp/pip"
trap 'rm -rf "$home.tmp"' EXIT
# A user's pip settings (--user by default, a virtual environment required) must not reach
# --target; with --target, pip needs no permission from an externally managed Python.
if ! PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    TMPDIR="$PWD/$home.tmp/pip" \
    python3 -m pip install --no-warn-conflicts --target "$home.tmp/libtorch" "${packages[@]}"; then
    if check_libtorch "$home/torch" >/dev/null; then
        echo "setup: pip could not fetch the CUDA libraries (its message is above): the libtorch that is here works on the CPU only." >&2
        exit 0
    fi
    echo "setup: pip could not fetch libtorch: see its message above; check the network, or set LIBTORCH to a libtorch $torch_version." >&2
    exit 1
fi
need check_libtorch "$home.tmp/libtorch/torch"
rm -rf "$home"
mv "$home.tmp/libtorch" "$home"
echo "setup: libtorch $torch_version is in $home"
