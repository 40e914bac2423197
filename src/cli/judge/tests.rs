use super::*;
use crate::control::{PolicyStatus, RelayStatus};
use crate::firewall::guard::Hold;
use crate::from_json::from_bytes;

/// A state word, then what differs from the plain case: "lockdown", "nopolicy", "hash".
pub fn says(words: &str) -> Daemon {
    let mut words = words.split(' ');
    let (first, rest) = (words.next().unwrap(), words.collect::<Vec<_>>());
    if first == "dead" {
        return Daemon::Dead;
    }
    if first == "hung" {
        return Daemon::Hung("the daemon (pid 77) does not answer within 2 s".into());
    }
    let least = format!(r#"{{"state":"{first}","lockdown":false,"armed":true,"since_s":75}}"#);
    let mut status: Status = from_bytes(least.as_bytes()).unwrap();
    status.lockdown = rest.contains(&"lockdown");
    let policy = match (status.state, status.lockdown) {
        (TunnelState::Disconnected, false) => None,
        (TunnelState::Connected, _) => Some("connected"),
        (TunnelState::Connecting, _) => Some("connecting"),
        _ => Some("blocked"),
    };
    let hash = if rest.contains(&"hash") { "00ff00ff00ff00ff" } else { HASH };
    status.policy =
        policy.map(|state| PolicyStatus { state: state.into(), hash: hash.into(), generation: Some(2) });
    if rest.contains(&"nopolicy") {
        status.policy = None;
    }
    if status.state == TunnelState::Error {
        status.cause = Some("no relay answers".into());
    }
    if matches!(status.state, TunnelState::Connecting | TunnelState::Connected) {
        status.relay = Some(RelayStatus {
            name: "se-got-001".parse().unwrap(),
            endpoint: "198.51.100.7:51820".parse().unwrap(),
            country: "Sweden".into(),
            city: "Gothenburg".into(),
        });
    }
    Daemon::Answers(Box::new(status))
}

const HASH: &str = "a1b2c3d4e5f60718";

/// "connected barrier age=12", "none", "unreadable", "blocked", "connected nosession".
pub fn kernel(words: &str) -> Kernel {
    let mut words = words.split(' ');
    let first = words.next().unwrap();
    let rest: Vec<_> = words.collect();
    let age = rest.iter().find_map(|w| w.strip_prefix("age=")).map(|a| a.parse().unwrap());
    Kernel {
        table: match first {
            "none" => Ok(None),
            "unreadable" => Err("nft: Operation not permitted".into()),
            state => {
                let rows = vec![crate::firewall::RowCount { row: "3.3", packets: 5, bytes: 700 }];
                Ok(Some(Table { state: state.parse().unwrap(), hash: HASH.into(), rows }))
            }
        },
        device: if age.is_some() || rest.contains(&"nosession") {
            Ok(Some(Device { handshake_age_s: age, rx: 1_300_000, tx: 4096 }))
        } else {
            Ok(None)
        },
        barrier: Ok(rest.contains(&"barrier")),
        guards: Ok(Guards {
            guard: rest.contains(&"guard").then_some(Hold { owned: true, persist: true }),
            egress: rest.contains(&"guard").then_some(Hold { owned: true, persist: true }),
            devices: rest.iter().filter(|w| **w == "guard").map(|_| "wan".to_owned()).collect(),
        }),
    }
}

pub fn kept(armed: bool) -> Kept {
    let wanted = armed.then(|| Stored { connect: true, ..Stored::default() });
    Kept {
        armed,
        wanted,
        trouble: None,
        generations: Vec::new(),
        uptime: 1000,
        on_trial: false,
        boot: None,
        pause_s: None,
    }
}

#[test]
fn the_verdicts() {
    use Word::{Blocked, Connected, Connecting, Error, Open};
    let table = [
        // All agree.
        ("connected", "connected barrier age=12", true, Connected, "verified"),
        ("connecting", "connecting barrier age=12", true, Connecting, "not verified yet"),
        ("error", "blocked barrier", true, Blocked, "no relay answers"),
        ("disconnecting", "blocked barrier", true, Blocked, "disconnecting"),
        ("disconnected lockdown", "blocked barrier", true, Blocked, "lockdown on"),
        ("disconnected", "none", false, Open, "as if vpnd were not there"),
        // The daemon is gone; what stands, stands.
        (
            "dead",
            "blocked barrier",
            true,
            Blocked,
            "daemon not running; table a1b2c3d4e5f60718 (blocked) in force",
        ),
        ("dead", "boot", true, Blocked, "(boot) in force"),
        ("dead", "connecting barrier", true, Blocked, "(connecting) in force"),
        ("dead", "connected barrier age=12", true, Connected, "not verified: no daemon; table"),
        ("hung", "connected barrier age=12", true, Connected, "not verified: daemon hung; table"),
        ("dead", "connected barrier age=181", true, Blocked, "silent"),
        ("dead", "connected barrier", true, Blocked, "device is gone"),
        ("dead", "none", false, Open, "not armed; daemon not running"),
        ("hung", "blocked barrier", true, Blocked, "daemon hung; table"),
        ("hung", "none", false, Open, "daemon hung"),
        ("hung", "none", true, Open, "NOT PROTECTED"),
        // The kernel contradicts.
        ("connected", "none", true, Open, "NOT PROTECTED: the daemon says connected"),
        ("connected", "none barrier", true, Error, "RULES ARE GONE"),
        ("error", "none", true, Open, "NOT PROTECTED"),
        ("disconnected lockdown", "none", true, Open, "NOT PROTECTED"),
        ("dead", "none", true, Open, "NOT PROTECTED: the router is armed"),
        ("dead", "none barrier", true, Error, "RULES ARE GONE"),
        ("dead", "none barrier", false, Error, "barrier is still there"),
        ("dead", "none guard", false, Error, "not armed, but the guard table is still there"),
        ("dead", "none guard", true, Error, "only the guard table still blocks"),
        ("dead", "none barrier guard", true, Error, "the routing barrier and the guard table still block"),
        ("connected", "connected barrier", true, Error, "device is gone"),
        ("connected", "connected barrier nosession", true, Error, "no session with any relay"),
        ("dead", "connected barrier nosession", true, Blocked, "silent"),
        ("connected hash", "connected barrier age=1", true, Error, "enforces other rules"),
        ("connected nopolicy", "connected barrier age=1", true, Error, "the daemon put none"),
        ("connected", "blocked barrier age=1", true, Error, "rules in force are those of blocked"),
        ("connecting", "connected barrier age=1", true, Error, "rules in force are those of connected"),
        ("error", "connected barrier age=1", true, Error, "those of connected"),
        ("disconnected", "blocked", false, Error, "the daemon put none"),
        ("connected hash", "boot barrier age=1", true, Blocked, "'vpnd block'"),
        ("connected", "unreadable", true, Error, "cannot tell"),
        ("dead", "unreadable", false, Error, "cannot tell"),
    ];
    for (daemon, seen, armed, word, why) in table {
        let report = judge(&says(daemon), &kernel(seen), &kept(armed));
        assert_eq!(report.word, word, "{daemon} / {seen}: {report:?}");
        assert!(report.why.contains(why), "{daemon} / {seen}: {report:?}");
    }
}

/// "HASH HASH …": generations 1, 2, …, the last 60 s old.
pub fn noted(hashes: &str) -> Vec<Generation> {
    let mut all = Vec::new();
    for hash in hashes.split_whitespace() {
        let number = all.len() as u32 + 1;
        let (hash, state) = if hash == "open" { ("", "open") } else { (hash, "blocked") };
        let cause = if number == 1 { "the daemon started" } else { "connect asked" };
        let (hash, state, cause) = (hash.to_owned(), state.to_owned(), cause.to_owned());
        all.push(Generation { number, state, hash, cause, when: 1_700_000_000, uptime: 940, dropped: None });
    }
    all
}

#[test]
fn rules_that_vpnd_did_not_put_are_not_vouched_for_without_a_daemon() {
    for (daemon, hashes, word, why, warning) in [
        ("dead", "01 a1b2c3d4e5f60718", Word::Blocked, "daemon not running; table", None),
        ("dead", "01 02", Word::Error, "rules that are none of vpnd's: a1b2c3d4e5f60718", Some("vpnd block")),
        ("hung", "01 open", Word::Error, "daemon hung; the kernel enforces rules", Some("vpnd block")),
        ("dead", "a1b2c3d4e5f60718 02", Word::Blocked, "table", Some("generation 1 is in force again")),
        // The daemon's own word on its hash counts more than a list that could not be written.
        ("error", "01 02", Word::Blocked, "no relay answers", None),
        ("error", "a1b2c3d4e5f60718 02", Word::Blocked, "no relay answers", None),
        ("dead", "", Word::Blocked, "table", None),
    ] {
        let kept = Kept { generations: noted(hashes), ..kept(true) };
        let report = judge(&says(daemon), &kernel("blocked barrier"), &kept);
        assert_eq!(report.word, word, "{daemon} {hashes}: {report:?}");
        assert!(report.why.contains(why), "{daemon} {hashes}: {report:?}");
        let has = |words| report.warnings.iter().any(|w| w.contains(words));
        assert!(warning.is_none_or(has), "{daemon} {hashes}: {report:?}");
        assert_eq!(warning.is_none(), report.warnings.iter().all(|w| w.contains("pid 77")), "{report:?}");
    }
}

#[test]
fn the_warnings() {
    let warned = |daemon, seen, armed, words: &str| {
        let report = judge(&says(daemon), &kernel(seen), &kept(armed));
        assert!(report.warnings.iter().any(|w| w.contains(words)), "{daemon} / {seen}: {report:?}");
    };
    warned("connected", "connected age=12", true, "routing barrier is missing");
    warned("connected", "connected barrier age=12", false, "OPEN after a reboot");
    warned("dead", "connected barrier age=12", true, "nobody checks the tunnel");
    warned("hung", "blocked barrier", true, "pid 77");
    let quiet = judge(&says("connected"), &kernel("connected barrier age=12"), &kept(true));
    assert_eq!(quiet.warnings, Vec::<String>::new());
    let boot = judge(&says("dead"), &kernel("boot"), &kept(true));
    assert_eq!(boot.warnings, Vec::<String>::new());
}

/// The one property that must not depend on a table: nobody is told "connected" or "blocked"
/// without a table in the kernel, nor "connected" without a device.
#[test]
fn no_word_of_safety_without_the_kernel() {
    for daemon in [
        "connected",
        "connecting",
        "error",
        "disconnecting",
        "disconnected",
        "disconnected lockdown",
        "dead",
        "hung",
    ] {
        for seen in [
            "none",
            "none barrier",
            "none age=1",
            "unreadable",
            "connected barrier",
            "blocked",
            "boot barrier age=1",
        ] {
            for armed in [true, false] {
                let view = kernel(seen);
                let word = judge(&says(daemon), &view, &kept(armed)).word;
                let table = matches!(view.table, Ok(Some(_)));
                let device = matches!(view.device, Ok(Some(_)));
                assert!(table || matches!(word, Word::Open | Word::Error), "{daemon} / {seen}: {word:?}");
                assert!(device || word != Word::Connected, "{daemon} / {seen}: {word:?}");
            }
        }
    }
}
