# Stand-ins of opkg and apk, for tests/packages/life and, in a guest, tests/packages/manager: they take
# an unpacked package and do the steps of the real ones in their order, scripts and configuration
# files included. Sourced by bash, dash and busybox' ash, never run.
#   opkg: opkg-lede libopkg/opkg_install.c (opkg_install_pkg, resolve_conffiles), opkg_remove.c
#   apk: apk-tools src/database.c (apk_db_install_pkg, apk_db_migrate_files, apk_db_purge_pkg)
# shellcheck shell=dash disable=SC2154,SC3043 # root, work and here are those of who sources this; all three have local
#
# They know of one package, vpnd. Its record is in $work/installed, outside of the root. Who sources
# this brings three functions: `fault WORDS`; `moment WORDS`, at each step at which a router may lose
# power; and `unpack PACKAGE FOLDER`, after which FOLDER is as `read.py extract` and `catalogue` left it.

# furnish: a router without vpnd, in $root; with the stand-ins of OpenWrt's own scripts.
furnish() {
    local folder
    for folder in bin sbin dev tmp sys proc etc/capabilities etc/config etc/init.d etc/rc.d etc/hotplug.d etc/udhcpc.user.d \
        lib/upgrade/keep.d lib/functions lib/apk usr/bin usr/sbin usr/lib/opkg/info usr/share var/run var/lock var/log; do
        mkdir -p "$root/$folder"
    done
    cp "$(command -v busybox)" "$root/bin/busybox"
    chroot "$root" /bin/busybox --install -s /bin
    ln -s /bin/busybox "$root/usr/bin/env"
    mknod -m 666 "$root/dev/null" c 1 3
    : > "$root/dev/console"
    cp "$here/standins/functions.sh" "$root/lib/"
    cp "$here/standins/rc.common" "$root/etc/"
    # Other packages have files there.
    for folder in etc/capabilities etc/config etc/init.d etc/rc.d etc/hotplug.d etc/udhcpc.user.d lib/upgrade/keep.d usr/sbin usr/share usr/lib/opkg/info lib/apk; do
        : > "$root/$folder/other"
    done
}

run() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# script NAME ENVIRONMENT ARGUMENT...: runs a script that lies in the root, if it is there.
script() {
    local name="$1" variables="$2"
    shift 2
    [ -e "$root/$name" ] || return 0
    # shellcheck disable=SC2086 # several variables
    run $variables /bin/sh -c "$name $*" >> "$work/said" 2>&1 || fault "script $name $* failed with status $?"
}

# catalogue FOLDER: lists of the files and of the folders of an unpacked package.
catalogue() {
    (cd "$1/files" && find . -mindepth 1 ! -type d -printf '/%P\n' | LC_ALL=C sort) > "$1/list"
    (cd "$1/files" && find . -mindepth 1 -type d -printf '/%P\n' | LC_ALL=C sort -r) > "$1/dirs"
}

version() { sed -n 's/^  "[Vv]ersion": "\(.*\)",*$/\1/p' "$1/info.json"; }
hash_of() { sha256sum < "$1" | cut -d ' ' -f 1; }

# put FOLDER PATH [AS]: one file of the unpacked package into the root.
put() {
    mkdir -p "$root$(dirname "$2")"
    rm -f "$root${3:-$2}"
    cp -a "$1/files$2" "$root${3:-$2}"
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
    local new="$work/new" upgrade='' old='' conffile path
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

# gone FOLDER: the files that the installed package has and the new one has not.
gone() { grep -vxF -f "$1/list" "$work/installed/list" || true; }

# obsolete FOLDER: removes what the installed package has and the new one has not.
obsolete() {
    local path
    gone "$1" | while read -r path; do rm -f "$root$path"; done
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
    local folder="$1" name
    name=/lib/apk/exec/vpnd-$(version "$1").$2
    [ -e "$folder/scripts/$2" ] || return 0
    mkdir -p "$root/lib/apk/exec"
    cp "$folder/scripts/$2" "$root$name"
    shift 2
    script "$name" '' "$@"
    rm -rf "$root/lib/apk/exec"
}

apk_install() {
    local new="$work/new" old='' path
    unpack "$1" "$new"
    [ ! -e "$work/installed" ] || old=$(version "$work/installed")
    if [ -n "$old" ]; then
        apk_script "$new" pre-upgrade "$(version "$new")" "$old"
    else
        apk_script "$new" pre-install "$(version "$new")"
    fi
    while read -r path; do
        if protected "$path"; then
            cmp -s "$new/files$path" "$root$path" || put "$new" "$path" "$path.apk-new"
        else
            put "$new" "$path"
        fi
    done < "$new/list"
    moment "apk put the new package"
    if [ -n "$old" ]; then
        gone "$new" > "$work/gone"
        apk_purge "$work/gone"
    fi
    record "$new"
    if [ -n "$old" ]; then
        apk_script "$work/installed" post-upgrade "$(version "$work/installed")" "$old"
    else
        apk_script "$work/installed" post-install "$(version "$work/installed")"
    fi
}

# protected PATH: whatever lies below /etc and was changed, or is nobody's.
protected() {
    case $1 in
        /etc/*) [ -e "$root$1" ] && modified "$1" ;;
        *) return 1 ;;
    esac
}

apk_purge() {
    local path
    while read -r path; do
        case $path in /etc/*) rm -f "$root$path.apk-new" ;; esac
        protected "$path" && continue
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
