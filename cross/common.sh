# What every script here shares: the cache folder, quiet and locked installing,
# the choice of a Rust toolchain, and timed stages. Sourced by bash, never run.
# shellcheck shell=bash

# shellcheck disable=SC2034  # for those who source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything downloaded or built for the tests, except the results, which go to
# $ROOT/out. May be shared by several clones and several runs at once.
CACHE=${VPND_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vpnd}
mkdir -p "$CACHE"
export VPND_CACHE=$CACHE

die() { echo "${0##*/}: $*" >&2; exit 2; }
note() { echo "${0##*/}: $*" >&2; }

# quietly CMD...: shows CMD's output only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" > "$log" 2>&1 < /dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        echo "${0##*/}: failed with status $status: $*" >&2
        cat "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

# locked NAME CMD...: runs CMD quietly while no other process holds the lock
# NAME of the cache. CMD is a program, not a shell function.
locked() {
    local name=$1
    shift
    # -o: what CMD leaves running must not keep the lock.
    quietly flock -o "$CACHE/.lock-$name" "$@"
}

# apt_install PACKAGE...: installs those that are missing; silent and without
# a look at the network when there are none.
apt_install() {
    local package missing=()
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || die "needs these packages, and root to install them: ${missing[*]}"
    note "installing ${missing[*]}"
    apt_update
    DEBIAN_FRONTEND=noninteractive locked apt apt-get -q -y -o DPkg::Lock::Timeout=600 \
        --no-install-recommends install "${missing[@]}"
}
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2> /dev/null)" = installed ]; }

# apt_update: reads the package lists, at most once in six hours.
apt_update() {
    local stamp=/run/vpnd-apt-update
    if [ -n "$(find "$stamp" -mmin -360 2> /dev/null)" ] && [ -n "$(find /var/lib/apt/lists -name '*Packages*' -print -quit)" ]; then
        return 0
    fi
    # A third party's source that fails must not stop us: what we need is
    # Debian's own, and the install fails if that was not read.
    locked apt apt-get -q update || note "apt-get update failed; going on with what is there"
    touch "$stamp"
}

# ordinary_toolchain: makes `cargo` and `rustc` in PATH those for builds that
# run on this machine: what PATH has, else Debian's.
ordinary_toolchain() {
    if ! cargo --version > /dev/null 2>&1 || ! rustc --version > /dev/null 2>&1; then
        apt_install ca-certificates cargo-web rustc-web
        export PATH=/usr/bin:$PATH
    fi
    command -v cc > /dev/null || apt_install gcc libc6-dev
}

# checking_toolchain: the same, with clippy and rustfmt.
checking_toolchain() {
    ordinary_toolchain
    if ! cargo clippy --version > /dev/null 2>&1 || ! cargo fmt --version > /dev/null 2>&1; then
        apt_install ca-certificates cargo-web rustc-web rust-web-clippy rustfmt-web
        export PATH=/usr/bin:$PATH
    fi
}

# What the tests run as commands, and what the real libuci is built with.
HOME_PACKAGES=(busybox-static nftables iproute2 conntrack wireguard-tools netbase dnsmasq-base radvd)
ORACLE_PACKAGES=(cmake make gcc libc6-dev libclang-dev)

# stage NAME CMD...: runs CMD and says how long it took. stage_table lists
# what ran since the first one.
STAGES=()
stage() {
    local name=$1 from to status=0
    shift
    echo "== $name"
    from=$(date +%s%N)
    "$@" || status=$?
    to=$(date +%s%N)
    STAGES+=("$(printf '%-24s %7s s  %s' "$name" "$(tenths $((to - from)))" "$(verdict "$status")")")
    echo "== $name: $(tenths $((to - from))) s, $(verdict "$status")"
    return "$status"
}
# stage_table: where the time went.
stage_table() { printf '   %s\n' "${STAGES[@]}"; }
tenths() { printf '%d.%d' $(($1 / 1000000000)) $(($1 / 100000000 % 10)); }
verdict() { if [ "$1" -eq 0 ]; then echo ok; else echo "FAILED ($1)"; fi; }
