//! fw4 in its own words: `vpnd setup`, and what fw4 brings back while armed comes and goes with it.

use std::fs;

use super::{Router, busybox, read, router, sh};

/// Loads what `/etc/config/firewall` includes after fw4's own table, in one transaction, and passes over
/// what is not there; `stop` deletes every table.
const FIREWALL: &str = r#"#!/bin/sh
case "$1" in
	stop) nft list tables | while read -r _ family name; do nft delete table "$family" "$name" 2> /dev/null; done ;;
	start | reload)
		[ ! -e /run/slow ] || sleep 1
		{
			echo "table inet fw4; flush table inet fw4"
			sed -n "s/^[[:space:]]*option path '\(.*\)'/\1/p" /run/former | while read -r path; do
				[ ! -e "$path" ] || echo "include \"$path\""
			done
		} > /run/fw4.$$
		nft -f /run/fw4.$$ || exit 1
		;;
esac
"#;

/// As far as `way-out` asks it.
const UCI: &str = r#"#!/bin/sh
case "$2 $3" in
	"show firewall") sed -n "s/^config \([a-z]*\) '\(.*\)'/firewall.\2=\1/p" /etc/config/firewall ;;
	"delete "*)
		awk -v name="'${3#firewall.}'" '/^config/ { skip = ($3 == name) } !skip' /etc/config/firewall > /run/uci
		cp /run/uci /etc/config/firewall
		;;
esac
"#;

const ZONES: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n\n\
                     config zone\n\toption name 'wan'\n\tlist network 'wan'\n\toption masq '1'\n";

fn healed() -> bool {
    busybox(&["sh", "-c", "nft list table inet vpnd_heal"]).0 == 0
}

fn included() -> bool {
    read("/etc/config/firewall").contains("/usr/share/vpnd/heal.nft")
}

fn fw4(r: &Router) {
    fs::write("/etc/config/firewall", ZONES).unwrap();
    fs::write("/etc/init.d/firewall", FIREWALL.replace("/run/former", "/etc/config/firewall")).unwrap();
    fs::write("/usr/sbin/uci", UCI).unwrap();
    sh("chmod 755 /etc/init.d/firewall /usr/sbin/uci");
    r.expect("setup", 0, "set up");
    assert!(!included() && !healed(), "nothing is armed");
}

#[test]
fn it_comes_with_the_block_and_every_way_of_opening_takes_it_away() {
    router("heal", |r| {
        fw4(&r);
        r.locked();
        let stands = |r: &Router| included() && healed() && r.leaves() == 0;
        r.until("fw4 has it", |_| healed());
        assert!(stands(&r));

        // Everything is gone, and nobody lives: fw4 brings it back. Of this, and of nothing else, it knows.
        r.kill();
        sh("nft flush ruleset; /etc/init.d/firewall stop; /etc/init.d/firewall start");
        let tables = busybox(&["sh", "-c", "nft list tables"]).1;
        assert_eq!(tables, "table inet fw4\ntable inet vpnd_heal\n");

        // By the daemon, for a while and for good.
        r.start();
        r.expect("disarm --for 3s --yes", 0, "open for 3 s");
        r.until("fw4 is open", |_| !included() && !healed());
        r.until("it closes", |r| r.status()["state"] == "blocked");
        r.until("fw4 has it again", |_| healed());
        // A reload that began before the file was open brings it back once more.
        fs::write("/run/slow", "").unwrap();
        sh(
            "cp /etc/config/firewall /run/old; sed s,/etc/config/firewall,/run/old, /etc/init.d/firewall > /run/late; sh /run/late reload > /dev/null 2>&1 &",
        );
        r.expect("disarm --yes", 0, "disarmed");
        r.until("it is gone for good", |_| !healed());
        assert!(!included() && r.leaves() == 10);
        fs::remove_file("/run/slow").unwrap();

        // Without the daemon.
        r.expect("lockdown on", 0, "");
        r.until("fw4 has it", |_| healed());
        sh(&format!("kill -STOP {}", r.pid()));
        r.expect("disarm --yes", 0, "disarmed");
        assert!(!included() && !healed() && r.leaves() == 10);

        // Disconnected without lockdown.
        r.start();
        r.expect("lockdown on", 0, "");
        r.until("fw4 has it", |_| healed());
        r.expect("lockdown off", 0, "");
        r.until("it is open", |r| r.status()["state"] == "open");
        r.until("fw4 is open", |_| !included() && !healed());

        // Without vpnd.
        r.expect("lockdown on", 0, "");
        r.until("fw4 has it", |_| healed());
        let (code, said) = busybox(&["ash", "/etc/vpnd/way-out", "--yes"]);
        assert!(code == 0 && said.contains("open: as if"), "{said}");
        assert!(!included() && !healed() && r.leaves() == 10, "{said}");
        assert!(read("/etc/config/firewall").contains("vpnd_zone_1"), "the package is there");

        // Left by whom it may be, it goes with the rest.
        sh("nft -f /usr/share/vpnd/heal.nft");
        r.expect("teardown", 0, "what it was");
        let left = read("/etc/config/firewall");
        assert!(!healed() && left.starts_with(ZONES) && !left.contains("vpnd"), "{left}");
    });
}

#[test]
fn what_nft_refuses_fw4_never_sees() {
    router("unfit", |r| {
        fw4(&r);
        let good = read("/usr/share/vpnd/heal.nft");
        let damage = || fs::write("/usr/share/vpnd/heal.nft", good.replace("chain", "chian")).unwrap();
        let loads = || busybox(&["sh", "-c", "/etc/init.d/firewall reload"]).0 == 0;
        // When it closes.
        damage();
        r.locked();
        r.until("fw4's file is closed", |_| read("/etc/config/firewall").contains("vpnd_closed_1"));
        assert!(!included() && loads() && !healed());
        r.expect("status", 3, "it does not bring back what blocks");
        // Set up while armed.
        r.kill();
        fs::write("/etc/config/firewall", ZONES).unwrap();
        r.expect("setup", 0, "fw4 will not bring back what blocks");
        assert!(!included() && loads());
        // Mended; and damaged after that: before fw4 loads at the next boot it is out of the way.
        fs::write("/usr/share/vpnd/heal.nft", &good).unwrap();
        r.expect("setup", 0, "set up");
        assert!(included() && loads() && healed());
        damage();
        assert!(!loads(), "control: what nft refuses takes fw4 down");
        r.reboot();
        assert!(loads() && !healed(), "{}", r.log());
        assert!(r.log().contains("boot: nft refuses /usr/share/vpnd/heal.nft"), "{}", r.log());
        // Where nothing is wrong nothing is moved.
        fs::write("/usr/share/vpnd/heal.nft", &good).unwrap();
        r.reboot();
        assert!(loads() && read("/usr/share/vpnd/heal.nft") == good);
    });
}
