# Checks of the machine that setup and doctor share. Sourced, not run.
#
# Each check prints one line and returns 0 (the line says what was found) or 1 (the line says what
# is missing and how to fix it). None changes anything.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
torch_version=2.11.0 # moves together with `tch` in Cargo.toml
system=$(uname -sm)  # "Linux x86_64", "Linux aarch64", "Darwin arm64"
case $system in Darwin*) dylib=dylib ;; *) dylib=so ;; esac

# at_least HAVE WANT: compares dotted version numbers.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

check_rust() {
    local want have
    want=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
    if ! command -v cargo >/dev/null || ! have=$(rustc --version 2>/dev/null); then
        if [ -f "$HOME/.cargo/env" ]; then
            echo 'Rust is installed but not on the PATH: run `. "$HOME/.cargo/env"`, or open a new terminal.'
        else
            echo 'Rust is missing: install it with rustup (https://rustup.rs), then open a new terminal.'
        fi
        return 1
    fi
    have=$(echo "$have" | cut -d ' ' -f 2)
    if ! at_least "${have%%-*}" "$want"; then
        echo "Rust $have is too old, $want or newer is needed: run \`rustup update stable\`."
        return 1
    fi
    echo "Rust $have"
}

how_to_get_cxx() {
    case $system in
        Darwin*) echo 'on macOS `xcode-select --install`' ;;
        *) echo 'on Debian and Ubuntu `sudo apt-get install g++`' ;;
    esac
}

check_cxx() {
    local cxx=${CXX:-c++} work answer
    if ! command -v "${cxx%% *}" >/dev/null; then
        echo "A C++ compiler is missing (no \`$cxx\`): install g++ or clang, $(how_to_get_cxx)."
        return 1
    fi
    work=$(mktemp -d)
    # Structured bindings and an inline variable: both are new in C++17.
    printf '%s\n' '#include <map>' 'inline int none = 0;' \
        'int main() { for (auto [key, value] : std::map<int, int>{}) none += key + value; return none; }' \
        >"$work/probe.cpp"
    # shellcheck disable=SC2086 # CXX may hold a compiler and its flags
    if $cxx -std=c++17 -o "$work/probe" "$work/probe.cpp" 2>/dev/null && "$work/probe"; then
        answer=0
    else
        answer=1
    fi
    rm -r "$work"
    if [ "$answer" = 1 ]; then
        echo "\`$cxx\` cannot build a C++17 program: install g++ 9 or newer ($(how_to_get_cxx)), or set CXX."
        return 1
    fi
    echo "C++ compiler: $($cxx --version | head -n 1)"
}

check_python() {
    if ! command -v python3 >/dev/null; then
        echo 'Python 3 is missing: install python3, on Debian and Ubuntu `sudo apt-get install python3 python3-pip`.'
        return 1
    fi
    echo "$(python3 --version 2>&1)"
}

check_pip() {
    local version
    # `pip` by itself may be absent or belong to another Python; the module is what counts.
    if ! version=$(python3 -m pip --version 2>/dev/null); then
        echo 'pip is missing: install it for python3, on Debian and Ubuntu `sudo apt-get install python3-pip`.'
        return 1
    fi
    version=$(echo "$version" | cut -d ' ' -f 2)
    if ! at_least "$version" 20.3; then
        echo "pip $version does not know today's wheels, 20.3 or newer is needed: run \`python3 -m pip install --user --upgrade pip\`."
        return 1
    fi
    echo "pip $version"
}

has_gpu() {
    command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '
}

# has_cuda DIR: whether set-up has put the libraries of the CUDA half beside the libtorch in DIR.
has_cuda() {
    [ -d "$1/nvidia/cudnn" ]
}

# libtorch_version DIR: the version of the libtorch in DIR, a zip release or a Python wheel.
libtorch_version() {
    local version=
    if [ -f "$1/build-version" ]; then
        version=$(cat "$1/build-version")
    elif [ -f "$1/version.py" ]; then
        version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$1/version.py")
    fi
    echo "${version%%+*}"
}

# check_libtorch DIR: is there a whole libtorch of the right version in DIR?
check_libtorch() {
    local version fix='run `make setup`.'
    [ -z "${LIBTORCH:-}" ] || fix="point LIBTORCH at a libtorch $torch_version, or unset it and run \`make setup\`."
    if [ ! -e "$1/lib/libtorch_cpu.$dylib" ] || [ ! -e "$1/include/torch/csrc/api/include/torch/torch.h" ]; then
        echo "There is no libtorch in $1: $fix"
        return 1
    fi
    version=$(libtorch_version "$1")
    if [ "$version" != "$torch_version" ]; then
        echo "libtorch in $1 is ${version:-of an unknown version}, $torch_version is needed: $fix"
        return 1
    fi
    echo "libtorch $version in $1"
}
