# Stand-ins of opkg and apk, and a root for them, for tests/packages/life and readme: they unpack with read.py and do the steps of
# the real ones in their order, scripts and configuration files included. Sourced by bash, never run.
#   opkg: opkg-lede libopkg/opkg_install.c (opkg_install_pkg, resolve_conffiles), opkg_remove.c
#   apk: apk-tools src/database.c (apk_db_install_pkg, apk_db_migrate_files, apk_db_purge_pkg)
# shellcheck shell=bash disable=SC2154,SC2034 # root, work and scratch are theirs
#
# They know of one package, vpnd. Its record is in $work/installed, outside of the root.

event() { grep -q -- "$1" "$root/events"; }
forget() { : > "$root/events"; : > "$work/said"; }
# begin NAME: a fresh root, a router without vpnd.
begin() {
    local command folder
    story=$1 armed='' work=$scratch/$1 root=$scratch/$1/root
    mkdir -p "$root"/{bin,dev,tmp,sys,proc,etc/{capabilities,config,init.d,rc.d,hotplug.d,udhcpc.user.d},lib/{upgrade/keep.d,functions},lib/apk,usr/{bin,sbin,lib/opkg/info,share},var/{run,lock}}
    cp /bin/busybox "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    mkdir -p "$root/usr/bin"
    ln -s /bin/busybox "$root/usr/bin/env"
    mknod -m 666 "$root/dev/null" c 1 3
    : > "$root/dev/console"
    cp "$here/standins/functions.sh" "$root/lib/"
    cp "$here/standins/rc.common" "$root/etc/"
    for command in logger nft ip conntrack uci ubus; do
        rm -f "$root/bin/$command"
        cp "$here/standins/record" "$root/usr/sbin/$command"
    done
    # Other packages have files there.
    for folder in etc/capabilities etc/config etc/init.d etc/rc.d etc/hotplug.d etc/udhcpc.user.d lib/upgrade/keep.d usr/sbin usr/share usr/lib/opkg/info lib/apk; do
        : > "$root/$folder/other"
    done
    forget
    listing "$root" > "$work/before"
}
listing() { (cd "$1" && find . -path ./events -prune -o -path ./tmp -prune -o -path ./var -prune -o -printf '%p %y %m %l\n' | LC_ALL=C sort); }

run() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# script NAME ENVIRONMENT ARGUMENT...: runs a script that lies in the root, if it is there.
script() {
    local name=$1 variables=$2
    shift 2
    [ -e "$root/$name" ] || return 0
    # shellcheck disable=SC2086 # several variables
    run $variables /bin/sh -c "$name $*" >> "$work/said" 2>&1 || fault "script $name $* failed with status $?"
}

# unpack PACKAGE FOLDER: and puts the stand-in of vpnd's program in its place.
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
    (cd "$2/files" && find . -mindepth 1 ! -type d -printf '/%P\n' | LC_ALL=C sort) > "$2/list"
    (cd "$2/files" && find . -mindepth 1 -type d -printf '/%P\n' | LC_ALL=C sort -r) > "$2/dirs"
}

version() { sed -n 's/^  "[Vv]ersion": "\(.*\)",*$/\1/p' "$1/info.json"; }
hash_of() { sha256sum < "$1" | cut -d ' ' -f 1; }

# put FOLDER PATH [AS]: one file of the unpacked package into the root.
put() {
    mkdir -p "$root$(dirname "$2")"
    cp -a --remove-destination "$1/files$2" "$root${3:-$2}"
}

# sweep: removes the folders that the package leaves empty.
sweep() {
    local path
    while read -r path; do rmdir "$root$path" 2> /dev/null || true; done < "$1/dirs"
}

# The record: hash of each file as it was shipped, `HASH PATH` lines.
shipped() { sed -n "s|^\([0-9a-f]*\) $1\$|\1|p" "$work/installed/hashes" 2> /dev/null; }
record() {
    local path
    while read -r path; do
        [ -L "$1/files$path" ] || echo "$(hash_of "$1/files$path") $path"
    done < "$1/list" > "$1/hashes"
    rm -rf "$work/installed"
    mv "$1" "$work/installed"
}
modified() { [ "$(hash_of "$root$1")" != "$(shipped "$1")" ]; }

info=/usr/lib/opkg/info

opkg_install() {
    local new=$work/new upgrade='' old='' conffile path
    unpack "$1" "$new"
    if [ -e "$work/installed" ]; then
        upgrade=1 old=$(version "$work/installed")
        script $info/vpnd.prerm PKG_UPGRADE=1 upgrade "$(version "$new")"
    fi
    mkdir -p "$root/tmp/control"
    cp -a "$new/scripts/." "$root/tmp/control/"
    script /tmp/control/preinst "PKG_UPGRADE=${upgrade:-0}" "${upgrade:+upgrade }${old:-install}"
    # Changed ones of the old package, and all that are new to it.
    while read -r conffile; do
        [ -e "$root$conffile" ] || continue
        if [ -z "$(shipped "$conffile")" ] || modified "$conffile"; then
            cp -a "$root$conffile" "$root$conffile-opkg.backup"
        fi
    done < "$new/control/conffiles"
    if [ -n "$upgrade" ]; then
        script $info/vpnd.postrm PKG_UPGRADE=1 upgrade "$(version "$new")"
        obsolete "$new"
        rm -f "$root$info"/vpnd.*
    fi
    moment "opkg took the old package"
    mkdir -p "$root$info"
    for path in "$new"/scripts/* "$new/control/control" "$new/control/conffiles"; do
        cp -a "$path" "$root$info/vpnd.${path##*/}"
    done
    while read -r path; do put "$new" "$path"; done < "$new/list"
    cp "$new/list" "$root$info/vpnd.list"
    while read -r conffile; do
        [ -e "$root$conffile-opkg.backup" ] || continue
        if ! cmp -s "$root$conffile" "$root$conffile-opkg.backup"; then
            mv "$root$conffile" "$root$conffile-opkg"
            mv "$root$conffile-opkg.backup" "$root$conffile"
        fi
        rm -f "$root$conffile-opkg.backup"
    done < "$new/control/conffiles"
    rm -rf "$root/tmp/control"
    record "$new"
    moment "opkg put the new package"
    script $info/vpnd.postinst "PKG_UPGRADE=${upgrade:-0}" configure
}

# obsolete FOLDER: removes what the installed package has and the new one has not.
obsolete() {
    local path
    LC_ALL=C comm -23 "$work/installed/list" "$1/list" | while read -r path; do rm -f "$root$path"; done
}

opkg_remove() {
    local path
    script $info/vpnd.prerm PKG_UPGRADE=0 remove
    while read -r path; do
        grep -qxF "$path" "$work/installed/control/conffiles" && modified "$path" && continue
        rm -f "$root$path"
    done < "$work/installed/list"
    rm -f "$root$info/vpnd.list"
    sweep "$work/installed"
    moment "opkg removed the files"
    script $info/vpnd.postrm PKG_UPGRADE=0 remove
    rm -f "$root$info"/vpnd.*
    rm -rf "$work/installed"
}

# apk_script FOLDER TYPE ARGUMENT...: its scripts lie in memory, or for a moment in the root.
apk_script() {
    local folder=$1 name
    name=/lib/apk/exec/vpnd-$(version "$1").$2
    [ -e "$folder/scripts/$2" ] || return 0
    mkdir -p "$root/lib/apk/exec"
    cp "$folder/scripts/$2" "$root$name"
    shift 2
    script "$name" '' "$@"
    rm -rf "$root/lib/apk/exec"
}

apk_install() {
    local new=$work/new old='' path
    unpack "$1" "$new"
    [ ! -e "$work/installed" ] || old=$(version "$work/installed")
    if [ -n "$old" ]; then
        apk_script "$new" pre-upgrade "$(version "$new")" "$old"
    else
        apk_script "$new" pre-install "$(version "$new")"
    fi
    # Whatever lies below /etc and was changed, or is nobody's, stays.
    while read -r path; do
        if [[ $path == /etc/* && -e $root$path ]] && modified "$path"; then
            cmp -s "$new/files$path" "$root$path" || put "$new" "$path" "$path.apk-new"
        else
            put "$new" "$path"
        fi
    done < "$new/list"
    moment "apk put the new package"
    if [ -n "$old" ]; then
        LC_ALL=C comm -23 "$work/installed/list" "$new/list" > "$work/gone"
        apk_purge "$work/gone"
    fi
    record "$new"
    if [ -n "$old" ]; then
        apk_script "$work/installed" post-upgrade "$(version "$work/installed")" "$old"
    else
        apk_script "$work/installed" post-install "$(version "$work/installed")"
    fi
}

apk_purge() {
    local path
    while read -r path; do
        [[ $path != /etc/* ]] || rm -f "$root$path.apk-new"
        [[ $path == /etc/* && -e $root$path ]] && modified "$path" && continue
        rm -f "$root$path"
    done < "$1"
}

apk_remove() {
    apk_script "$work/installed" pre-deinstall "$(version "$work/installed")"
    apk_purge "$work/installed/list"
    sweep "$work/installed"
    moment "apk removed the files"
    apk_script "$work/installed" post-deinstall "$(version "$work/installed")"
    rm -rf "$work/installed"
}
