# shellcheck shell=dash disable=SC3043,SC2034,SC2317 # ash has local; who sources this reads and calls what is here
# Stands in for OpenWrt's /lib/functions.sh, of which it has what maintainer scripts and init
# scripts of ours use: default_postinst and default_prerm in the order of the original (base-files),
# and the UCI functions for files without quotes inside of quotes. Written anew, by its behaviour.

event() {
	echo "$*" >> /events
}

list_contains() {
	eval "case \" \$$1 \" in *\" $2 \"*) return 0 ;; esac"
	return 1
}

# UCI: a file of `config`, `option` and `list` lines, which sh can read.
config_load() {
	[ -z "$IPKG_INSTROOT" ] || return 0
	config() {
		section=${2:-anonymous}
	}
	option() {
		eval "CONFIG_${section}_$1=\$2"
	}
	list() {
		:
	}
	# shellcheck disable=SC1090
	[ ! -e "/etc/config/$1" ] || . "/etc/config/$1"
}

config_get_bool() {
	local value
	eval "value=\${CONFIG_${2}_$3:-$4}"
	case "$value" in
		1 | on | true | yes | enabled) value=1 ;;
		*) value=0 ;;
	esac
	eval "$1=$value"
}

# The list of the package's files: apk's, else opkg's.
files_of() {
	if [ -f "$IPKG_INSTROOT/lib/apk/packages/$1.list" ]; then
		cat "$IPKG_INSTROOT/lib/apk/packages/$1.list"
	else
		cat "$IPKG_INSTROOT/usr/lib/opkg/info/$1.list" 2> /dev/null
	fi
}

add_group_and_user() {
	return 0
}

default_postinst() {
	local root="$IPKG_INSTROOT" name="${pkgname:-$(basename "${1%.*}")}" script status=0
	if [ -z "$root" ]; then
		for script in $(files_of "$name" | grep '^/etc/uci-defaults/'); do
			# shellcheck disable=SC1090
			([ -f "$script" ] && cd "$(dirname "$script")" && . "$script") && rm -f "$script"
		done
	fi
	# shellcheck disable=SC1090
	if [ -f "$root/usr/lib/opkg/info/$name.postinst-pkg" ]; then
		(. "$root/usr/lib/opkg/info/$name.postinst-pkg")
		status=$?
	fi
	for script in $(files_of "$name" | grep '^/etc/init.d/'); do
		if [ -n "$root" ]; then
			/bin/sh "$root/etc/rc.common" "$root$script" enable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$script" enable
			"$script" start
		fi
	done
	return $status
}

default_prerm() {
	local root="$IPKG_INSTROOT" name="${pkgname:-$(basename "${1%.*}")}" script status=0
	# shellcheck disable=SC1090
	if [ -f "$root/usr/lib/opkg/info/$name.prerm-pkg" ]; then
		(. "$root/usr/lib/opkg/info/$name.prerm-pkg")
		status=$?
	fi
	for script in $(files_of "$name" | grep '^/etc/init.d/'); do
		if [ -n "$root" ]; then
			/bin/sh "$root/etc/rc.common" "$root$script" disable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$script" disable
			"$script" stop
		fi
	done
	return $status
}
