# shellcheck shell=dash disable=SC3043,SC2154 # ash has local; name and state are rc.common's
# procd, for rc.common's stand-in, where services are to run: a command that ends by itself is started
# again after respawn's delay; what is stopped gets SIGTERM, and SIGKILL where that was not enough
# within term_timeout. As with procd, who says stop does not wait for the end, and the next one starts after
# it (service/instance.c). Sourced for the first two functions, run for the third.

run_service() {
	local former respawn timeout
	# Before the child is there, which would read its own.
	former=$(cat "$state.pid" 2> /dev/null)
	respawn=$(sed -n 's/^respawn [^ ]* //p' "$state")
	timeout=$(sed -n 's/^term_timeout //p' "$state")
	# shellcheck disable=SC2046 # the command's words
	setsid /bin/sh /lib/procd-runs.sh supervise "$former" "${respawn%% *}" "$timeout" \
		$(sed -n 's/^command //p' "$state") < /dev/null >> "/var/log/$name" 2>&1 &
	echo $! > "$state.pid"
}

end_service() {
	kill "$(cat "$state.pid")" 2> /dev/null
}

# lives PID: and is no zombie.
lives() {
	grep -q '^State:[[:space:]]*[^Z]' "/proc/$1/status" 2> /dev/null
}

# supervise FORMER DELAY TIMEOUT COMMAND...: FORMER is the supervisor of the instance before.
supervise() {
	local former=$1 delay=$2 timeout=$3 child='' killer='' status
	shift 3
	ended=''
	trap 'ended=1' TERM
	while [ -n "$former" ] && lives "$former"; do sleep 0.1; done
	while [ -z "$ended" ]; do
		"$@" &
		child=$!
		# A wait that a signal ends is no end of the child.
		while lives "$child"; do
			if [ -n "$ended" ] && [ -z "$killer" ]; then
				kill "$child"
				(sleep "$timeout" && kill -9 "$child") &
				killer=$!
			fi
			wait "$child"
			status=$?
		done
		[ -z "$killer" ] || kill "$killer"
		echo "procd: ended with $status"
		[ -n "$ended" ] || sleep "$delay"
	done
}

[ "$1" != supervise ] || "$@"
