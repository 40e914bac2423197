//! Contract section 4: stop, upgrade, removal; and the way out that needs no package.

use std::fs;
use std::path::Path;

use super::{CONFIG, Router, busybox, read, router, sh, traces};

#[test]
fn stop_restart_and_upgrade_keep_blocking() {
    router("upgrade", |r| {
        assert_eq!(r.leaves(), 10, "control: open before vpnd");
        assert_eq!(r.service("vpnd-boot", "start"), 0);
        assert_eq!(r.leaves(), 10, "a fresh install blocks nothing");
        r.locked();
        let hash = r.status()["kernel"]["rules"]["hash"].clone();
        assert_eq!(r.service("vpnd", "stop"), 0);
        r.until("the daemon ends", |r| !r.answers());
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));
        // An upgrade: stopped, replaced, both scripts started.
        r.install();
        assert_eq!(r.leaves(), 0);
        assert_eq!(r.service("vpnd-boot", "start"), 0);
        assert_eq!(r.leaves(), 0);
        r.start();
        assert_eq!((r.leaves(), &r.status()["kernel"]["rules"]["hash"]), (0, &hash));
        assert_eq!(read("/run/procd/vpnd.respawn"), "3600 5 0\n", "procd never gives up");
        // Switched off in the configuration: an armed block stays, and it is said.
        fs::write("/etc/config/vpnd", CONFIG.replace("enabled '1'", "enabled '0'")).unwrap();
        r.service("vpnd", "stop");
        r.until("the daemon ends", |r| !r.answers());
        assert_eq!(r.service("vpnd", "start"), 0);
        assert!(r.log().contains("not enabled, but armed: the router stays blocked"), "{}", r.log());
        assert!(!r.answers() && r.leaves() == 0);
        r.expect("disarm --yes", 0, "disarmed");
        assert_eq!(r.leaves(), 10);
    });
}

/// Contract 4.4: removed while armed, the router stays closed over a reboot, and a script of its
/// own opens it.
#[test]
fn without_the_package_it_stays_closed_and_there_is_a_way_out() {
    router("removed", |r| {
        r.locked();
        let kept: Vec<String> =
            include_str!("../../files/lib/upgrade/keep.d/vpnd").lines().map(str::to_owned).collect();
        for left in
            ["/etc/init.d/vpnd-closed", "/etc/rc.d/S18vpnd-closed", "/etc/vpnd/boot.nft", "/etc/vpnd/way-out"]
        {
            assert!(fs::symlink_metadata(left).is_ok(), "{left}");
            assert!(
                kept.iter().any(|kept| left.starts_with(kept.as_str())),
                "{left}: a sysupgrade would drop it"
            );
        }
        let written = fs::metadata("/etc/vpnd/boot.nft").unwrap().modified().unwrap();
        assert_eq!(busybox(&["ash", "/usr/share/vpnd/stay", "put"]).0, 0);
        assert_eq!(fs::metadata("/etc/vpnd/boot.nft").unwrap().modified().unwrap(), written, "flash");
        // While the package is there, the boot is its own.
        r.reboot();
        assert!(r.status()["boot"]["blocked_ms"].is_u64(), "{:#}", r.status());
        r.until("the daemon answers", Router::answers);
        r.service("vpnd", "stop");
        r.until("the daemon ends", |r| !r.answers());
        r.remove_package();
        assert_eq!(r.leaves(), 0, "removed");
        r.reboot();
        assert_eq!(r.leaves(), 0, "removed, and rebooted: {}", r.log());
        assert!(r.log().contains("/etc/vpnd/way-out opens it"), "{}", r.log());
        let (code, said) = busybox(&["ash", "/etc/vpnd/way-out"]);
        assert!(code == 1 && said.contains("say it again with --yes"), "{said}");
        assert_eq!(r.leaves(), 0);
        let (code, said) = busybox(&["ash", "/etc/vpnd/way-out", "--yes"]);
        assert!(code == 0 && said.contains("open: as if vpnd were not there"), "{said}");
        assert_eq!(r.leaves(), 10);
        r.reboot();
        assert_eq!(r.leaves(), 10, "and after a reboot");
    });
}

/// Whatever a living daemon put, the script takes away.
#[test]
fn the_way_out_leaves_nothing_behind() {
    router("wayout", |r| {
        for (path, value) in [("all/rp_filter", "2"), ("wan/rp_filter", "1"), ("br-lan/rp_filter", "1")] {
            fs::write(format!("/proc/sys/net/ipv4/conf/{path}"), value).unwrap();
        }
        let before = traces();
        r.locked();
        let pid = r.pid();
        let held = traces();
        for part in ["199:", "inet vpnd\n", "inet vpnd_guard", "netdev vpnd_egress", "7651"] {
            assert!(held.contains(part), "{part}: {held}");
        }
        // As a daemon leaves it that dies in the midst of a transition.
        sh("nft add table inet vpnd_stop");
        let (code, said) = busybox(&["ash", "/etc/vpnd/way-out", "--yes"]);
        assert!(code == 0 && said.contains("open: as if"), "{said}");
        assert_eq!(traces(), before);
        assert_eq!(r.leaves(), 10);
        assert!(!Path::new("/etc/vpnd/armed").exists() && !Path::new(&format!("/proc/{pid}")).exists());
        // With a daemon that hangs, as well.
        fs::remove_dir_all("/run/procd").unwrap();
        r.locked();
        sh(&format!("rm /run/procd/vpnd; kill -STOP {}", r.pid()));
        // And by the full ip, which also takes the routes away that nobody looks at any more.
        sh("ip route show table 7651 | grep -q br-lan; sh /etc/vpnd/way-out --yes");
        assert_eq!((traces(), r.leaves()), (before, 10));
        sh("! ip route show table 7651 2> /dev/null | grep -q br-lan");
    });
}

/// Each boot's record: when the block stood, and when the first frame left.
#[test]
fn status_tells_when_the_block_stood_and_when_the_first_frame_left() {
    router("bootrecord", |r| {
        r.locked();
        assert_eq!(r.status()["boot"], serde_json::Value::Null, "nothing was armed at this boot");
        // A device that had sent frames before.
        r.reboot();
        let boot = &r.status()["boot"];
        // The kernel's own MLD reports may have followed.
        let now = read("/sys/class/net/wan/statistics/tx_packets").trim().parse().unwrap();
        let sent = boot["sent"]["wan"].as_u64().unwrap();
        assert!((1..=now).contains(&sent), "{boot} {now}");
        let said = r.expect("status", 3, "! frames left by the WAN before the block stood: blocked ");
        assert!(said.contains(&format!("AFTER {sent} frames by wan")), "{said}");
        // As it should be.
        r.kill();
        sh("ip link del wan");
        r.wan();
        r.reboot();
        r.until("the daemon answers", Router::answers);
        let said = r.expect("status", 3, "after boot, before any frame left by the WAN");
        assert!(!said.contains("the first after it") && !said.contains("AFTER"), "{said}");
        let (blocked, uptime) = (r.status()["boot"]["blocked_ms"].as_u64().unwrap(), read("/proc/uptime"));
        let uptime = uptime.split('.').next().unwrap().parse::<u64>().unwrap() * 1000;
        assert!((uptime - 60_000..uptime + 1000).contains(&blocked), "{blocked} {uptime}");
        r.wan_up();
        r.until("the first frame is seen", |r| r.status()["boot"]["first_ms"].is_u64());
        let boot = r.status()["boot"].clone();
        assert!(
            boot["first_ms"].as_u64() >= boot["none_ms"].as_u64()
                && boot["none_ms"].as_u64() >= Some(blocked),
            "{boot}"
        );
        r.expect("status", 3, "before any frame left by the WAN; the first after it ");
        assert_eq!(r.leaves(), 0);
    });
}

/// As much of it as the scripts use, on files with named sections.
const UCI: &str = r#"#!/bin/sh
[ "$1" != -q ] || shift
verb=$1
IFS=. read -r file section option << END
$2
END
case $verb in
	show) awk -v f="$file" -v q="'" '$1 == "config" { s = $3; gsub(q, "", s); print f "." s "=" $2; next }
		NF > 2 { print f "." s "." $2 "=" $3 }' "/etc/config/$file" ;;
	get) "$0" show "$file" | sed -n "s/^$2='\(.*\)'$/\1/p" ;;
	delete) awk -v w="'$section'" -v o="$option" '$1 == "config" { in_it = $3 == w; if (in_it && o == "") next }
		in_it && (o == "" || $2 == o) { next } { print }' "/etc/config/$file" > /run/uci.new
		cat /run/uci.new > "/etc/config/$file" ;;
	commit) echo "$file" >> /run/commits ;;
esac
"#;

/// What vpnd adds to the owner's sections is taken back, by its daemon, by its command alone, and without it.
#[test]
fn the_lans_ipv6_is_lent_while_armed_and_given_back() {
    router("lan6", |r| {
        let network = super::NETWORK.replace("\toption netmask", "\toption ip6assign '60'\n\toption netmask");
        let dhcp = "config dhcp 'lan'\n\toption interface 'lan'\n\toption ra 'server'\n";
        let config = fs::read_to_string("/etc/config/vpnd").unwrap();
        let ipv6 = config.replace("\tlist dns", "\tlist address 'fc00:bbbb::2/128'\n\tlist dns");
        for (file, text) in [("vpnd", &*ipv6), ("network", &*network), ("dhcp", dhcp)] {
            fs::write(Path::new("/etc/config").join(file), text).unwrap();
        }
        for service in ["firewall", "network", "odhcpd"] {
            fs::write(
                format!("/etc/init.d/{service}"),
                format!("#!/bin/sh\necho {service} $1 >> /run/reloads\n"),
            )
            .unwrap();
            sh(&format!("chmod 755 /etc/init.d/{service}"));
        }
        let files = || ["network", "dhcp"].map(|file| read(&format!("/etc/config/{file}")));
        let lent = || {
            files().iter().map(|text| text.matches("\toption vpnd_").count()).collect::<Vec<_>>() == [1, 1]
        };
        let before = [network.clone(), dhcp.to_owned()];
        // Not before `vpnd setup`.
        r.locked();
        assert_eq!(files(), before);
        r.expect("disarm --yes", 0, "disarmed");
        r.expect("setup", 0, "set up");
        assert_eq!(files(), before, "an open router");
        r.expect("lockdown on", 0, "");
        r.until("it is lent", |_| lent());
        r.until("both are told", |_| {
            ["network", "odhcpd"].iter().all(|name| read("/run/reloads").contains(name))
        });
        r.expect("teardown", 1, "armed");
        r.expect("disarm --yes", 0, "disarmed");
        assert_eq!(files(), before);

        // By force, beside a daemon that hangs.
        r.expect("lockdown on", 0, "");
        r.until("it is lent", |_| lent());
        sh(&format!("kill -STOP {}", r.pid()));
        r.expect("disarm --yes", 0, "disarmed");
        assert_eq!(files(), before);

        // A daemon that died in between is followed by one that lends nothing twice.
        r.locked();
        r.until("it is lent", |_| lent());
        sh(&format!("kill -9 {}", r.pid()));
        r.until("another answers", Router::answers);
        assert!(lent());

        // Without vpnd.
        r.service("vpnd", "stop");
        r.until("the daemon ends", |r| !r.answers());
        fs::write("/sbin/uci", UCI).unwrap();
        sh("chmod 755 /sbin/uci; sh /usr/share/vpnd/stay put");
        r.remove_package();
        fs::write("/run/reloads", "").unwrap();
        let (code, said) = busybox(&["ash", "/etc/vpnd/way-out", "--yes"]);
        assert!(code == 0 && said.contains("the LAN's IPv6: done"), "{said}");
        assert_eq!(files(), before);
        assert_eq!(read("/run/reloads"), "firewall reload\nnetwork reload\nodhcpd reload\n");
        assert_eq!(read("/etc/config/firewall").matches("vpnd_").count(), 0);
    });
}
