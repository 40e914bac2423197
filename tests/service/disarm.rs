//! `vpnd disarm` with a daemon that hangs or crashes at every start, and for a while.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Router, read, router, sh, traces};

#[test]
fn a_hung_daemon_is_disarmed() {
    router("hung", |r| {
        let before = traces();
        r.locked();
        let pid = r.pid();
        sh(&format!("kill -STOP {pid}"));
        r.expect("disarm", 1, "say it again with --yes");
        assert_eq!(r.leaves(), 0);
        let said = r.expect("disarm --yes", 0, "disarmed: as if vpnd were not there");
        assert!(
            said.contains("does not answer") && said.contains("'service vpnd start' starts it"),
            "{said}"
        );
        assert_eq!((traces(), r.leaves()), (before, 10));
        std::thread::sleep(Duration::from_millis(800));
        assert!(!Path::new(&format!("/proc/{pid}")).exists() && !r.answers(), "nobody starts it again");
        r.expect("status", 4, "not armed");
        // The word holds for the next daemon.
        r.start();
        assert_eq!((r.leaves(), &r.status()["state"]), (10, &"open".into()));
    });
}

#[test]
fn a_daemon_that_crashes_at_every_start_is_disarmed() {
    router("crashing", |r| {
        r.locked();
        fs::write("/run/crash", "").unwrap();
        sh(&format!("kill -9 {}", r.pid()));
        let crashes = || read("/run/fault.log").lines().count();
        let before = crashes();
        r.until("it goes round", |_| crashes() > before + 8);
        assert_eq!(r.leaves(), 0, "in a circle of crashes it blocks");
        r.expect("disarm --yes", 0, "disarmed");
        assert_eq!(r.leaves(), 10);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!((r.leaves(), Path::new("/etc/vpnd/armed").exists()), (10, false));
    });
    // Where nobody can stop the respawn, its lock keeps the next one out, and the word holds.
    router("norespawn", |r| {
        r.locked();
        fs::write("/run/crash", "").unwrap();
        fs::remove_file("/etc/init.d/vpnd").unwrap();
        sh(&format!("kill -9 {}", r.pid()));
        r.expect("disarm --yes", 0, "disarmed");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!((r.leaves(), Path::new("/etc/vpnd/armed").exists()), (10, false));
    });
}

#[test]
fn disarmed_for_a_while_it_closes_by_itself() {
    router("for", |r| {
        r.expect("disarm --for 5 --yes", 1, "nothing was opened");
        r.start();
        r.expect("disarm --for 5 --yes", 1, "the router is open already");
        r.expect("lockdown on", 0, "");
        for wrong in ["0", "25h", "soon"] {
            r.expect(&format!("disarm --for {wrong} --yes"), 1, "is no time from 1s to 24h");
        }
        r.expect("disarm --for 5s", 1, "say it again with --yes");
        assert_eq!(r.leaves(), 0);
        r.expect("disarm --for 3s --yes", 0, "open for 3 s, then blocked again");
        assert_eq!(r.leaves(), 10);
        let said = r.expect("status", 4, "open: for a while ('vpnd disarm --for'), then blocked again");
        assert!(said.contains("  open for ") && said.contains("armed      yes"), "{said}");
        r.until("it closes", |r| r.status()["state"] == "blocked");
        assert_eq!(r.leaves(), 0);
        assert!(!Path::new("/run/vpnd/pause.json").exists());

        // Over a crash: neither longer nor shorter.
        r.expect("disarm --for 6s --yes", 0, "open");
        let start = Instant::now();
        sh(&format!("kill -9 {}", r.pid()));
        r.until("another daemon answers", Router::answers);
        assert_eq!((r.leaves(), &r.status()["state"]), (10, &"open".into()));
        r.until("it closes", |r| r.status()["state"] == "blocked");
        let took = start.elapsed();
        assert!((5..10).contains(&took.as_secs()), "{took:?}");
        assert_eq!(r.leaves(), 0);

        // Nobody lives when the time is up: the next daemon closes at once.
        r.expect("disarm --for 2s --yes", 0, "open");
        r.service("vpnd", "stop");
        r.until("the daemon ends", |r| !r.answers());
        r.expect("status", 4, "only a daemon blocks again");
        std::thread::sleep(Duration::from_secs(2));
        r.start();
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));

        // A reboot closes at once.
        r.expect("disarm --for 1h --yes", 0, "open");
        assert_eq!(r.leaves(), 10);
        r.reboot();
        assert_eq!(r.leaves(), 0);
        r.until("the daemon answers", Router::answers);
        assert_eq!((r.leaves(), &r.status()["state"]), (0, &"blocked".into()));

        // A word that closes ends it; one that opens for good, too.
        r.expect("disarm --for 1h --yes", 0, "open");
        r.expect("lockdown on", 0, "");
        assert_eq!((r.leaves(), Path::new("/run/vpnd/pause.json").exists()), (0, false));
        r.expect("disarm --for 2s --yes", 0, "open");
        r.expect("disarm --yes", 0, "disarmed");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!((r.leaves(), Path::new("/etc/vpnd/armed").exists()), (10, false));
    });
}

#[test]
fn a_hung_daemon_is_replaced_by_one_that_opens_for_a_while() {
    router("forhung", |r| {
        r.locked();
        sh(&format!("kill -STOP {}", r.pid()));
        r.expect("disarm --for 4s --yes", 0, "open for 4 s, then blocked again");
        assert_eq!(r.leaves(), 10);
        r.until("it closes", |r| r.status()["state"] == "blocked");
        assert_eq!(r.leaves(), 0);
        assert!(fs::metadata("/run/vpnd/vpnd.lock").unwrap().permissions().mode() & 0o777 == 0o600);
    });
}
