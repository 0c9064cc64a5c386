# Shared by the scripts in this directory; sourced, never run. Changes to the repository's root, and expects
# `set -euo pipefail`.
# shellcheck shell=bash disable=SC2034

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# A relative CARGO_TARGET_DIR means the caller's directory, as it does to cargo.
if [[ ${CARGO_TARGET_DIR:-/} != /* ]]; then
    export CARGO_TARGET_DIR=$PWD/$CARGO_TARGET_DIR
fi
cd -- "$repository" || exit

# Downloads are cached here between runs.
cache=${KAFKA_SSE_BRIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kafka-sse-bridge}

# Debian's names of the packages that the build, the tests and the packages need, besides Rust.
# librdkafka is compiled from source (its C++ wrapper too, though nothing uses it), OpenSSL and zlib are the system's.
build_packages=(gcc g++ libc6-dev libssl-dev make pkg-config zlib1g-dev)
test_packages=(chromium chromium-driver curl fonts-dejavu-core maven openjdk-17-jre-headless)
packaging_packages=(binutils dpkg-dev groff-base lintian python3 rpm rpmlint systemd xz-utils)
systemd_packages=(mmdebstrap systemd-container)
script_packages=(shellcheck)
# Their commands, for systems with other package names.
build_commands=(cc c++ make pkg-config)

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# same WHAT EXPECTED FOUND: ends the script where they differ.
same() { diff -u --label "$1: expected" --label "$1: found" <(printf '%s\n' "$2") <(printf '%s\n' "$3") >&2 || die "$1 differ"; }

# version_at_least WANTED FOUND
version_at_least() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$1" ]]; }

# Finds cargo, in PATH or where rustup puts it, and sees that it is recent enough.
need_rust() {
    local wanted found
    if ! command -v cargo >/dev/null; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    command -v cargo >/dev/null || die "cargo is missing: install Rust $wanted or later from https://rustup.rs, then run this again"
    found=$(cargo --version | cut -d ' ' -f 2)
    version_at_least "$wanted" "$found" || die "Rust $wanted or later is needed, this is $found: run 'rustup update stable', then this again"
}

# need_runtimes: what the clients of tests/clients run on. Looked for by command, because these often come from
# elsewhere than Debian, where its packages would be in the way. Without one, the suite leaves its tests out, and says so.
need_runtimes() {
    local missing=()
    { command -v node && command -v npm; } >/dev/null || missing+=(nodejs npm)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v go >/dev/null || missing+=(golang-go)
    ((${#missing[@]})) || return 0
    (need_packages "${missing[@]}") || say "continuing without ${missing[*]}"
}

# need_firefox: what the tests in Firefox run in. Not every relative of Debian has the package. Without it, the suite leaves
# these tests out, and says so.
need_firefox() {
    (need_packages firefox-esr) || say "continuing without firefox-esr"
}

# need_component COMMAND COMPONENT: a part of the Rust toolchain that minimal installations leave out.
need_component() {
    if ! cargo "$1" --version >/dev/null 2>&1; then
        command -v rustup >/dev/null || die "cargo $1 is missing: install the $2 component of your Rust toolchain"
        say "installing the Rust component $2"
        rustup component add "$2"
    fi
}

# need_packages NAME...: installs those that are missing. Without apt it names them and goes on.
need_packages() {
    local missing=() package as_root=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        say "no apt here: what follows needs what Debian calls $*"
        for package in "${build_commands[@]}"; do
            command -v "$package" >/dev/null || die "$package is missing"
        done
        return
    fi
    for package; do
        # shellcheck disable=SC2016 # dpkg-query's own placeholder
        [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ?i* ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local install=(apt-get install -y --no-install-recommends "${missing[@]}")
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "packages are missing; as root, run: apt-get update && ${install[*]}"
        as_root=(sudo)
    fi
    say "installing packages: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" -q </dev/null
}

# need_tool NAME VERSION [cargo install's arguments...]: a cargo tool of that version, or a later one compatible
# with it. What is in PATH is taken; otherwise it is built once, unoptimised, into the cache. A tool that does not say its
# version is taken from the cache alone, which knows it.
need_tool() {
    local name=$1 version=$2 found series
    shift 2
    [[ :$PATH: == *:"$cache/tools/bin":* ]] || PATH=$cache/tools/bin:$PATH
    found=$("$name" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) ||
        found=$(sed -n "s/^\"$name \([0-9.]*\) .*/\1/p" "$cache/tools/.crates.toml" 2>/dev/null) || found=
    # Compatible as cargo means it: the first part that is not zero stays.
    series=$(sed -E 's/^(0\.[0-9]+|[1-9][0-9]*)\..*/\1/' <<<"$version")
    if [[ $found != "$series".* ]] || ! version_at_least "$version" "$found"; then
        say "building $name $version (a minute or two, once)"
        env -u CARGO_TARGET_DIR CARGO_PROFILE_DEV_DEBUG=0 \
            cargo install --quiet --locked --debug --root "$cache/tools" "$@" "$name@$version"
        hash -r
    fi
}

need_packaging_tools() {
    local part fast=()
    need_packages "${packaging_packages[@]}"
    # Puts the list of crates into the binary.
    need_tool cargo-auditable 0.7.7
    need_tool cargo-deb 3.8.0
    # Unoptimised, hashing and compression would take half a minute for each package.
    for part in sha2 sha3 md-5 digest block-buffer hybrid-array zstd-sys; do
        fast+=(--config "profile.dev.package.$part.opt-level=3")
    done
    need_tool cargo-generate-rpm 0.21.1 "${fast[@]}"
}

# need_source_date: sets SOURCE_DATE_EPOCH, the time that packages bear, to that of the commit; of sources without a
# repository, to that of Debian's changelog.
need_source_date() {
    [[ -z ${SOURCE_DATE_EPOCH:-} ]] || return 0
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) ||
        SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --file packaging/deb/changelog --show-field Timestamp)
    export SOURCE_DATE_EPOCH
}

# documented SECTION LANGUAGE [NUMBER]: a block of code in this language, the first unless told, of a section of
# docs/operations.md.
documented() {
    local block
    block=$(awk -v section="## $1" -v fence="\`\`\`$2" -v number="${3:-1}" '
        /^## / { inside = $0 == section }
        /^```$/ { block = 0 }
        block
        inside && $0 == fence && ++found == number { block = 1 }' docs/operations.md)
    [[ -n $block ]] || die "docs/operations.md has no block ${3:-1} of $2 under '$1'"
    printf '%s\n' "$block"
}

# Prints the directory cargo builds into.
target_directory() {
    cargo metadata --locked --no-deps --format-version 1 | sed -E 's/.*"target_directory":"([^"]*)".*/\1/'
}
