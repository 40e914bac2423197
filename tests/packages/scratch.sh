# Routers in a scratch folder, for tests/packages/life and readme. Sourced by bash, never run.
# shellcheck shell=bash disable=SC2034,SC2154 # scratch and here are theirs; story and armed are for them
. "$here/tools.sh"

# unpack PACKAGE FOLDER: with the stand-in of vpnd's program in its place ($standin, or the one that records).
unpack() {
    local program=$2/files/usr/sbin/vpnd real
    rm -rf "$2"
    # The same ones are unpacked again and again.
    [ -e "$scratch/unpacked/${1##*/}" ] || {
        mkdir -p "$scratch/unpacked"
        "$here/read.py" extract "$1" "$scratch/unpacked/${1##*/}" || die "cannot unpack $1"
    }
    cp -a "$scratch/unpacked/${1##*/}" "$2"
    real=$(hash_of "$program")
    sed "s/PROGRAM\$/$real/" "$here/standins/${standin:-vpnd}" > "$program"
    catalogue "$2"
}

event() { grep -q -- "$1" "$root/events"; }
forget() { : > "$root/events"; : > "$work/said"; }

# begin NAME: a fresh root, a router without vpnd.
begin() {
    local command
    story=$1 armed='' work=$scratch/$1 root=$scratch/$1/root
    mkdir -p "$root"
    furnish
    for command in logger nft ip conntrack uci ubus; do
        rm -f "$root/bin/$command"
        cp "$here/standins/record" "$root/usr/sbin/$command"
    done
    forget
    listing "$root" > "$work/before"
}
listing() { (cd "$1" && find . -path ./events -prune -o -path ./tmp -prune -o -path ./var -prune -o -printf '%p %y %m %l\n' | LC_ALL=C sort); }
