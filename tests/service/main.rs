//! The service as a router runs it, with busybox and at its own paths, under a stand-in for procd:
//! stop, upgrade and removal, `vpnd disarm`, and what happens when disk, configuration or nft fail.
//! Each test in network and mount namespaces of its own. Needs root; no WireGuard: the router is
//! open or blocked throughout.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod capabilities;
mod disarm;
mod heal;
mod stop;
mod trouble;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const NETWORK: &str = "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n\
                       \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n\
                       config interface 'wan'\n\toption device 'wan'\n\toption proto 'dhcp'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const CONFIG: &str = "config vpnd 'main'\n\toption enabled '1'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint '198.51.100.1:51820'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n";

/// What the scripts need of OpenWrt's: procd starts what ends again, and stops nothing but by
/// `stop`. Its delay is 5 s in truth.
const RC_COMMON: &str = r#"#!/bin/sh
initscript=$1
action=${2:-help}
name=${initscript##*/}
name=${name#S[0-9][0-9]}
shift 2
procd=/run/procd
mkdir -p $procd
logger() { echo "$*" >> /run/log; }
config_load() { config=/etc/config/$1; }
config_get_bool() {
	value=$(sed -n "s/^[[:space:]]*option $3 '\([^']*\)'.*/\1/p" "$config" 2> /dev/null | head -n 1)
	eval "$1=${value:-$4}"
}
procd_add_reload_trigger() { :; }
procd_open_instance() { rm -f "$procd/$name".*; }
procd_add_jail() { echo "$*" > "$procd/$name.jail"; }
procd_set_param() {
	parameter=$1
	shift
	echo "$*" > "$procd/$name.$parameter"
	[ "$parameter $1" != "no_new_privs 1" ] || no_new_privs=1
}
procd_close_instance() {
	command=$(cat "$procd/$name.command")
	# As procd's own (service/instance.c): without a jail nobody asks for capabilities.
	if [ -e "$procd/$name.jail" ]; then
		command="/sbin/ujail -t $(cat "$procd/$name.term_timeout") -n $(cat "$procd/$name.jail") \
			-C $(cat "$procd/$name.capabilities") ${no_new_privs:+-c} -- $command"
	fi
	echo "$command" > "$procd/$name"
	setsid sh -c '
		echo $$ > "$0.owner"
		while [ -e "$0" ] && [ "$(cat "$0.owner")" = $$ ]; do
			[ ! -e /run/crash ] || echo 3 > /run/fault
			VPND_FAULT=/run/fault $(cat "$0") >> /run/log 2>&1 &
			echo $! > "$0.pid"
			wait $!
			sleep 0.3
		done' "$procd/$name" < /dev/null > /dev/null 2>&1 &
}
boot() { start "$@"; }
start() { [ -e "$procd/$name" ] || start_service "$@"; }
stop() {
	[ -e "$procd/$name" ] || return 0
	rm "$procd/$name"
	kill "$(cat "$procd/$name.pid")" 2> /dev/null
	return 0
}
reload() { reload_service "$@"; }
. "$initscript"
"$action" "$@"
"#;

/// What of OpenWrt's ujail (procd, jail/jail.c) is asked for here: with neither mounts nor another
/// option that makes namespaces it makes none, and only sets capabilities and `no_new_privs`.
const UJAIL: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do
	case "$1" in
		-t | -n) shift ;;
		-C) file=$2; shift ;;
		-c) privs=--no-new-privs ;;
		*) echo "ujail: $1 is not known here"; exit 1 ;;
	esac
	shift
done
shift
only() {
	tr -d ' \t\n"' < "$file" | sed "s/.*$1:\[\([^]]*\)\].*/\1/; s/CAP_/+/g; s/^/-all,/" | tr A-Z a-z
}
exec /usr/bin/setpriv $privs --bounding-set "$(only bounding)" --inh-caps "$(only inheritable)" \
	--ambient-caps "$(only ambient)" "$@"
"#;

const LONG: Duration = Duration::from_secs(40);

struct Router {
    dir: PathBuf,
}

impl Router {
    /// The package is installed and configured; nothing runs.
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-service-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let at = dir.display();
        sh(&format!("mount --make-rprivate /; mount -t tmpfs none {at}; mount -t tmpfs none /run; mount -t sysfs none /sys
            for each in etc usr; do
                mkdir -p {at}/$each/up {at}/$each/work
                mount -t overlay overlay -o lowerdir=/$each,upperdir={at}/$each/up,workdir={at}/$each/work /$each
            done
            cp $(readlink -f $(command -v nft)) /run/nft; mkdir -p /run/busybox /etc/config /etc/rc.d /etc/init.d; busybox --install -s /run/busybox; rm /run/busybox/mount"));
        let router = Self { dir: dir.clone() };
        router.install();
        fs::write("/etc/rc.common", RC_COMMON).unwrap();
        // Each test's daemon has the powers that the package leaves it, and no others.
        fs::write("/usr/sbin/ujail", UJAIL).unwrap();
        sh("chmod 755 /usr/sbin/ujail");
        for (file, text) in [("vpnd", CONFIG), ("network", NETWORK), ("firewall", FIREWALL)] {
            fs::write(Path::new("/etc/config").join(file), text).unwrap();
        }
        // The WAN's other end counts what arrives, and answers nothing.
        sh("ip link set lo up; ip link add br-lan type bridge; ip addr add 192.168.1.1/24 dev br-lan; ip link set br-lan up
            ip netns add isp");
        router.wan();
        router.wan_up();
        router
    }
    /// A WAN device that has sent nothing yet.
    fn wan(&self) {
        sh("ip link add wan type veth peer name cpe netns isp
            ip -n isp addr add 203.0.113.1/24 dev cpe; ip -n isp link set cpe up
            ip netns exec isp /run/nft 'table netdev t; delete table netdev t; table netdev t { chain c { type filter hook ingress device cpe priority 0; udp dport 9999 counter; }; }'");
    }
    fn wan_up(&self) {
        sh(
            "ip addr add 203.0.113.2/24 dev wan; ip link set wan up; ip route add default via 203.0.113.1 dev wan onlink",
        );
    }
    /// As the package's recipe does.
    fn install(&self) {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("files");
        sh(&format!(
            "cp -r {0}/etc/init.d {0}/etc/hotplug.d {0}/etc/capabilities /etc/; cp -r {0}/usr/share/vpnd /usr/share/; mkdir -p /lib/upgrade/keep.d
             cp {1} /usr/sbin/vpnd; chmod 755 /etc/init.d/vpnd* /usr/share/vpnd/*
             ln -sf ../init.d/vpnd-boot /etc/rc.d/S18vpnd-boot; ln -sf ../init.d/vpnd /etc/rc.d/S21vpnd",
            files.display(),
            env!("CARGO_BIN_EXE_vpnd")
        ));
    }
    /// Only what the package brought; no more does a package manager know of.
    fn remove_package(&self) {
        sh("rm -r /usr/share/vpnd /usr/sbin/vpnd /etc/init.d/vpnd /etc/init.d/vpnd-boot /etc/hotplug.d/ntp \
            /etc/rc.d/S18vpnd-boot /etc/rc.d/S21vpnd");
    }
    /// What a reboot leaves of the kernel and of /run; then the init scripts in order.
    fn reboot(&self) {
        self.kill();
        sh("nft flush ruleset; rm -rf /run/vpnd /run/procd; for f in -4 -6; do ip $f rule flush
            ip $f rule add pref 32766 lookup main; ip $f rule add pref 32767 lookup default; done
            for s in /etc/rc.d/S*; do [ ! -e $s ] || busybox ash /etc/rc.common $s boot; done");
    }
    fn kill(&self) {
        let pid = fs::read_to_string("/run/vpnd/vpnd.lock").unwrap_or_default();
        let _ = fs::remove_file("/run/procd/vpnd");
        if !pid.trim().is_empty() {
            let _ = Command::new("kill").args(["-9", pid.trim()]).stderr(Stdio::null()).status();
        }
    }
    fn pid(&self) -> String {
        fs::read_to_string("/run/vpnd/vpnd.lock").unwrap_or_default().trim().to_owned()
    }
    fn service(&self, name: &str, action: &str) -> i32 {
        busybox(&["ash", "/etc/rc.common", &format!("/etc/init.d/{name}"), action]).0
    }
    fn say(&self, line: &str) -> (i32, String) {
        let output = command("/usr/sbin/vpnd").args(line.split_whitespace()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }
    #[track_caller]
    fn expect(&self, line: &str, code: i32, words: &str) -> String {
        let (found, all) = self.say(line);
        assert!(
            found == code && all.contains(words),
            "vpnd {line}: exit {found}, wanted {code} and '{words}':\n{all}\nlog: {}",
            self.log()
        );
        all
    }
    fn log(&self) -> String {
        fs::read_to_string("/run/log").unwrap_or_default()
    }
    fn status(&self) -> Value {
        serde_json::from_str(&self.say("status --json").1).unwrap_or_default()
    }
    fn answers(&self) -> bool {
        !self.status()["daemon"]["status"].is_null()
    }
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < end, "in vain until {what}: {:#}\n{}", self.status(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    fn start(&self) {
        assert_eq!(self.service("vpnd", "start"), 0, "{}", self.log());
        self.until("the daemon answers", Self::answers);
    }
    /// The daemon runs and blocks.
    fn locked(&self) {
        self.start();
        self.expect("lockdown on", 0, "");
        self.until("it is blocked", |r| r.status()["state"] == "blocked");
        assert_eq!(self.leaves(), 0);
    }
    /// How many of ten packets of the router arrive at the other end of the WAN.
    fn leaves(&self) -> u64 {
        let before = arrived();
        sh("ip neigh replace 203.0.113.1 lladdr 02:00:00:00:00:01 dev wan");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..10 {
            let _ = socket.send_to(b"x", "198.51.100.77:9999");
        }
        std::thread::sleep(Duration::from_millis(50));
        arrived() - before
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.kill();
        let _ = Command::new("ip").args(["netns", "del", "isp"]).status();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn arrived() -> u64 {
    let output = Command::new("ip")
        .args(["netns", "exec", "isp", "/run/nft", "list", "chain", "netdev", "t", "c"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = text.split("packets ").nth(1).unwrap_or_else(|| panic!("no counter: {text}"));
    after.split(' ').next().unwrap().parse().unwrap()
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap();
    command.stdin(Stdio::null()).env("PATH", format!("/run/busybox:{path}:/usr/sbin:/sbin"));
    command
}

/// Exit code and everything said.
fn busybox(words: &[&str]) -> (i32, String) {
    let output = command("busybox").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn router(name: &'static str, test: impl FnOnce(Router) + Send + 'static) {
    // SAFETY: geteuid has no preconditions.
    assert_eq!(unsafe { libc::geteuid() }, 0, "this test builds namespaces: run it as root");
    let thread = std::thread::spawn(move || {
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) }, 0);
        test(Router::new(name));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Everything that vpnd changes outside its own folders, to be compared.
fn traces() -> String {
    let settings = ["all", "wan", "br-lan"].map(|device| {
        ["rp_filter", "arp_ignore", "arp_announce", "src_valid_mark"]
            .map(|name| read(&format!("/proc/sys/net/ipv4/conf/{device}/{name}")))
            .concat()
    });
    let groups: String =
        ["wan", "br-lan"].map(|device| read(&format!("/sys/class/net/{device}/netdev_group"))).concat();
    let of = |words: &[&str]| {
        String::from_utf8(Command::new(words[0]).args(&words[1..]).output().unwrap().stdout).unwrap()
    };
    let rules = ["-4", "-6"].map(|family| of(&["ip", family, "rule", "show"])).concat();
    format!("{settings:?} {groups} {rules} {}", of(&["nft", "list", "tables"]))
}
