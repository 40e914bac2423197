//! Disk, configuration and nft fail: nothing leaves, it is said, and when they are back so is vpnd.

use std::fs;
use std::time::Duration;

use super::{CONFIG, Router, router, sh};

/// The daemon is killed, and procd starts another.
fn die(r: &Router) {
    let pid = r.pid();
    sh(&format!("kill -9 {pid}"));
    r.until("another daemon answers", |r| r.pid() != pid && r.answers());
}

/// The state folder is a file system of its own, as small as that.
fn small_flash(size: &str) {
    sh(&format!("mkdir -p /etc/vpnd; mount -t tmpfs -o size={size} none /etc/vpnd"));
}

#[test]
fn on_a_full_flash_it_blocks_and_a_crash_does_not_open() {
    router("fullflash", |r| {
        small_flash("64k");
        r.start();
        assert_eq!(r.leaves(), 10, "control");
        sh("dd if=/dev/zero of=/etc/vpnd/fill bs=1k 2> /dev/null || true");
        let said = r.expect("lockdown on", 0, "the flash is full");
        assert!(said.contains("could not be stored"), "{said}");
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));
        die(&r);
        r.until("it is blocked", |r| r.status()["state"] == "blocked");
        assert_eq!(r.leaves(), 0);
        // With room again the word is stored, by the next word at the latest.
        fs::remove_file("/etc/vpnd/fill").unwrap();
        r.expect("lockdown on", 0, "");
        r.until("it is stored", |_| super::read("/etc/vpnd/wanted.json").contains("\"latched\":true"));
        r.reboot();
        assert_eq!(r.leaves(), 0);
    });
}

#[test]
fn on_a_read_only_flash_it_blocks_and_a_crash_does_not_open() {
    router("readonly", |r| {
        small_flash("1m");
        r.start();
        assert_eq!(r.leaves(), 10, "control");
        sh("mount -o remount,ro /etc/vpnd");
        let said = r.expect("lockdown on", 0, "is read-only");
        assert!(said.contains("not blocked after a reboot until the daemon runs"), "{said}");
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));
        die(&r);
        r.until("it is blocked", |r| r.status()["state"] == "blocked");
        assert_eq!(r.leaves(), 0, "the word is kept in RAM");
        // And the word that opens is taken, too.
        r.expect("lockdown off", 0, "");
        r.until("it is open", |r| r.status()["state"] == "open");
        die(&r);
        r.until("it is open", |r| r.status()["state"] == "open");
        r.expect("lockdown on", 0, "");
        sh("mount -o remount,rw /etc/vpnd");
        die(&r);
        r.until("it is stored", |_| super::read("/etc/vpnd/wanted.json").contains("\"latched\":true"));
        assert!(!std::path::Path::new("/run/vpnd/wanted.json").exists());
        r.reboot();
        assert_eq!(r.leaves(), 0);
    });
}

#[test]
fn a_configuration_that_goes_bad_keeps_it_closed() {
    router("badconfig", |r| {
        r.locked();
        for bad in [Some("config vpnd 'main"), Some("\0\u{1b}[2J\u{7f}"), Some(""), None] {
            match bad {
                Some(text) => fs::write("/etc/config/vpnd", text).unwrap(),
                None => fs::remove_file("/etc/config/vpnd").unwrap(),
            }
            // While it runs, then at its start; procd runs it all the same, as the init script
            // was asked before.
            r.say("reload");
            assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()), "{bad:?}");
            sh(&format!("kill -9 {}", r.pid()));
            std::thread::sleep(Duration::from_millis(700));
            assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()), "{bad:?}");
        }
        r.reboot();
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));
        fs::write("/etc/config/vpnd", CONFIG).unwrap();
        r.start();
        r.until("it is blocked as before", |r| r.status()["kernel"]["rules"]["state"] == "blocked");
        assert_eq!(r.leaves(), 0);
    });
}

#[test]
fn without_nft_the_barrier_holds_and_the_rules_come_when_it_is_back() {
    router("nonft", |r| {
        r.locked();
        for away in ["mv /usr/sbin/nft /run/away", "chmod -x /usr/sbin/nft"] {
            let back =
                if away.starts_with("mv") { "mv /run/away /usr/sbin/nft" } else { "chmod +x /usr/sbin/nft" };
            // While it runs: what stands stays.
            sh(away);
            r.say("reload");
            assert_eq!(r.leaves(), 0, "{away}");
            // At the start, with nothing left of the rules, as after a boot.
            r.service("vpnd", "stop");
            r.until("the daemon ends", |r| !r.answers());
            sh("/run/nft flush ruleset; for f in -4 -6; do ip $f rule flush
                ip $f rule add pref 32766 lookup main; ip $f rule add pref 32767 lookup default; done");
            assert_eq!(r.leaves(), 10, "control: nothing is left");
            r.start();
            assert_eq!(r.leaves(), 0, "{away}: {}", r.log());
            let said = r.say("status").1;
            assert!(said.contains("NOT BLOCKED: no blocking policy could be installed"), "{said}");
            sh(back);
            r.until("the rules are back", |r| r.status()["kernel"]["rules"]["state"] == "blocked");
            assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));
        }
    });
}
