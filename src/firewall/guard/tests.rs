//! What the guard lets out, against what the policies do; and on the real kernel, in a network
//! namespace of each test's own. Needs root.

use std::path::PathBuf;
use std::process::Command;

use crate::firewall::tests::kernel::in_namespace;
use crate::policy::{Action, Clause, Match, Way, compose, samples};

use super::rules::{Place, said};
use super::*;

fn uplink(name: &str) -> Uplink {
    let addresses = vec!["198.51.100.2".parse().unwrap()];
    Uplink { name: name.parse().unwrap(), index: 7, addresses, pppoe: name == "eth1" }
}

fn guard(case: &samples::Case) -> Guard {
    Guard::new(&case.settings, &case.facts, vec![uplink("eth1"), uplink("eth2")])
}

/// A clause that the policy lets packets out by, ahead of which the guard refuses nothing that the
/// policy does not.
fn covered(clause: &Clause, before: &[&Clause], guard: &[Clause], mark: crate::config::Mark) -> bool {
    if clause.matches.contains(&Match::Marked(mark)) {
        return true;
    }
    let Some(at) = guard.iter().position(|known| known == clause) else { return false };
    guard[..at].iter().filter(|known| known.action != Action::Allow).all(|refusal| before.contains(&refusal))
}

#[test]
fn what_any_policy_lets_out_the_guard_lets_out() {
    let mut seen = 0;
    for case in samples::cases() {
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        let guard = guard(&case);
        let both: Vec<Clause> = guard.router.iter().chain(&guard.lan).cloned().collect();
        for (way, own) in [(Way::RouterToWan, &guard.router), (Way::LanToWan, &guard.lan)] {
            let clauses: Vec<&Clause> = policy.on(way).collect();
            for (at, clause) in clauses.iter().enumerate() {
                if clause.action != Action::Allow {
                    continue;
                }
                seen += 1;
                let here = |list: &[Clause]| covered(clause, &clauses[..at], list, case.settings.mark);
                // Forwarded packets are nobody's socket's.
                assert!(
                    way == Way::RouterToWan || !clause.matches.iter().any(|m| matches!(m, Match::Marked(_)))
                );
                assert!(here(own), "{}: {way:?}: {clause:?}", case.name);
                // The egress hook has both lists behind one another; the refusals are on both ways.
                let same = |clause: &Clause| Clause { way: Way::RouterToWan, ..clause.clone() };
                let alike: Vec<Clause> = both.iter().map(same).collect();
                let before: Vec<Clause> = clauses[..at].iter().map(|clause| same(clause)).collect();
                let before: Vec<&Clause> = before.iter().collect();
                assert!(
                    covered(&same(clause), &before, &alike, case.settings.mark),
                    "{}: {clause:?}",
                    case.name
                );
            }
        }
        // By LAN and tunnel devices everything leaves.
        let zones = policy.zones();
        for device in zones.lan_devices().iter().chain(&zones.group) {
            assert!(guard.inside.contains(device), "{}: {device}", case.name);
        }
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn every_condition_can_be_asked_for_where_it_counts() {
    for case in samples::cases() {
        let guard = guard(&case);
        for clause in guard.router.iter().chain(&guard.lan) {
            for condition in &clause.matches {
                // Who spoke first is in a set of the rules' own; that it is an answer is enough here.
                let emergency = matches!(condition, Match::SpokeFirst(_));
                assert!(emergency || said(condition, Place::Postrouting).is_some(), "{clause:?}");
                let service = clause.matches.iter().any(|m| matches!(m, Match::FlowMarked(_)));
                let answer = service && *condition == Match::Reply;
                // Where no LAN is known there is no egress hook.
                let said = answer
                    || case.settings.lan.devices.is_empty()
                    || said(condition, Place::Egress).is_some();
                assert!(said, "{clause:?}");
            }
        }
        assert_eq!(guard.egress().is_none(), case.settings.lan.devices.is_empty(), "{}", case.name);
        // Whatever is said of a device, the LAN's is held by nothing.
        let lan = case.settings.lan.devices.iter().map(|device| uplink(device.name.as_str()));
        assert_eq!(Guard::new(&case.settings, &case.facts, lan.collect()).egress(), None, "{}", case.name);
    }
}

fn nft(line: &str) -> String {
    let output = Command::new("nft").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "nft {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
}

fn devices() {
    ip("link add eth1 type veth peer name eth2");
}

/// Without who owns it, which differs from run to run.
fn listing(table: &str) -> String {
    let text = nft(&format!("list table {table}"));
    let lines = text.lines().filter(|line| !line.contains("flags"));
    lines.map(|line| format!("{}\n", line.split(" # ").next().unwrap())).collect()
}

#[test]
fn both_tables_read_as_they_were_meant() {
    for name in ["blocked-plain", "connected-full", "blocked-nothing"] {
        let case = samples::cases().into_iter().find(|case| case.name == name).unwrap();
        in_namespace(move || {
            devices();
            let guard = guard(&case);
            let mut keeper = Keeper::open().unwrap();
            assert_eq!(keeper.hold(&guard.table()).unwrap(), Hold { owned: true, persist: true });
            let mut found = listing("inet vpnd_guard");
            if let Some(egress) = guard.egress() {
                keeper.hold(&egress).unwrap();
                found += &listing("netdev vpnd_egress");
            }
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join(format!("tests/golden/guard/{}.nft", case.name));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &found).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), found, "{}", case.name);
        });
    }
}

#[test]
fn a_table_is_replaced_kept_taken_over_and_removed() {
    in_namespace(|| {
        devices();
        let case = |name| guard(&samples::cases().into_iter().find(|case| case.name == name).unwrap());
        let (plain, full) = (case("blocked-plain"), case("blocked-full"));
        assert_eq!(standing().unwrap(), Standing::default());
        let mut first = Keeper::open().unwrap();
        first.remove_guard().unwrap();
        let held = Hold { owned: true, persist: true };
        let chains = |table: &str| nft(&format!("-a list table {table}"));
        assert_eq!(first.hold(&plain.table()).unwrap(), held);
        let before = chains("inet vpnd_guard");
        first.hold(&plain.table()).unwrap();
        assert_eq!(before, chains("inet vpnd_guard"), "the same is not sent again");
        first.hold(&full.table()).unwrap();
        assert!(chains("inet vpnd_guard").contains("239.35.0.0"));
        first.hold(&full.egress().unwrap()).unwrap();
        let both = Standing {
            guard: Some(held),
            egress: Some(held),
            devices: vec!["eth1".to_owned(), "eth2".to_owned()],
        };
        assert_eq!(standing().unwrap(), both);
        // Another process' socket, while this one lives.
        let mut other = Keeper::open().unwrap();
        assert!(matches!(other.hold(&plain.table()), Err(Error::Taken { .. })));
        assert!(matches!(other.remove_guard(), Err(Error::Taken { .. })));
        assert!(matches!(remove_left_over(), Err(Error::Taken { .. })));
        drop(first);
        let orphan = Some(Hold { owned: false, persist: true });
        // A test beside this one may have forked just now: its child has the socket until it execs.
        for _ in 0..100 {
            if standing().unwrap().guard == orphan {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(standing().unwrap(), Standing { guard: orphan, egress: orphan, ..both.clone() });
        // Whose listing confuses some an nft.
        for _ in 0..20 {
            assert_eq!(crate::firewall::Nft::new("nft".into()).in_force().unwrap(), None);
        }
        assert_eq!(other.hold(&plain.table()).unwrap(), held);
        assert!(!chains("inet vpnd_guard").contains("239.35.0.0"));
        other.hold(&full.egress().unwrap()).unwrap();
        assert_eq!(standing().unwrap(), both);
        // A device that is not there: refused as a whole, or (from Linux 6.16) waited for.
        let mut gone = full.clone();
        gone.uplinks.push(uplink("eth9"));
        let refused = other.hold(&gone.egress().unwrap()).err();
        assert!(matches!(refused, None | Some(Error::Refused { what: "adding a chain", .. })), "{refused:?}");
        assert_eq!(standing().unwrap(), both);
        drop(other);
        remove_left_over().unwrap();
        assert_eq!(standing().unwrap(), Standing::default());
        remove_left_over().unwrap();
        // Somebody's own, of other flags: ours now, too.
        nft("add table inet vpnd_guard");
        let mut third = Keeper::open().unwrap();
        assert_eq!(third.hold(&plain.table()).unwrap(), held);
    });
}

/// What happens on kernels before 6.9, which refuse `persist`.
#[test]
fn without_persist_it_goes_with_its_owner_and_the_rules_stay() {
    in_namespace(|| {
        let case = samples::cases().into_iter().find(|case| case.name == "blocked-plain").unwrap();
        let rules = crate::firewall::Nft::new("nft".into());
        rules
            .apply(&crate::firewall::compile(&compose(&case.stance, &case.settings, &case.facts).unwrap()))
            .unwrap();
        let mut keeper = Keeper::open().unwrap();
        let hold = keeper.install(&guard(&case).table(), message::OWNER, false).unwrap();
        assert_eq!(hold, Hold { owned: true, persist: false });
        assert_eq!(standing().unwrap().guard, Some(hold));
        // Whoever flushes takes the rules only.
        nft("flush ruleset");
        assert_eq!((standing().unwrap().guard, rules.in_force().unwrap()), (Some(hold), None));
        rules
            .apply(&crate::firewall::compile(&compose(&case.stance, &case.settings, &case.facts).unwrap()))
            .unwrap();
        drop(keeper);
        let gone = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            standing().unwrap() == Standing::default()
        });
        assert!(gone);
        assert!(rules.in_force().unwrap().is_some());
    });
}
