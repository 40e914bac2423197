//! One text file per case: what `vpnd ruleset` prints. `UPDATE_GOLDEN=1` writes them anew.

use std::fs;
use std::path::PathBuf;

use crate::firewall::compile;
use crate::policy::{compose, samples};

#[test]
fn rulesets_read_as_written_down() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ruleset");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in samples::cases() {
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        let text = compile(&policy).to_string();
        let path = folder.join(format!("{}.nft", case.name));
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            wrong.push(case.name);
        }
    }
    assert!(wrong.is_empty(), "these differ from tests/golden/ruleset: {wrong:?}");
}

/// Sets of flags have no order of their own.
#[test]
fn the_same_policy_gives_the_same_bytes() {
    for case in samples::cases() {
        let json =
            || compile(&compose(&case.stance, &case.settings, &case.facts).unwrap()).to_json().unwrap();
        let first = json();
        assert!((0..8).all(|_| json() == first), "{}", case.name);
    }
}

/// What an established packet passes on its way from LAN into the tunnel and back: at most 8 rules.
#[test]
fn an_established_packet_passes_few_rules() {
    let case = samples::cases().into_iter().find(|case| case.name == "connected-full").unwrap();
    let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
    let ruleset = compile(&policy);
    let all = |chain: &str| ruleset.rules().iter().filter(|rule| rule.chain == chain).count();
    let until = |chain: &str, text: &str| {
        let mut rules = ruleset.rules().iter().filter(|rule| rule.chain == chain);
        1 + rules
            .position(|rule| rule.comment.as_ref().is_some_and(|comment| comment.contains(text)))
            .unwrap()
    };
    // A verdict map in prerouting_raw and forward.
    let frame = until("prerouting_raw", "by zone") + until("forward", "by zones");
    assert_eq!(frame, 2);
    // Leaving by the tunnel, one test of the source for each family.
    let leaving = 1 + all("leaving_by_tunnel");
    let out = frame + all("arriving_from_lan") + until("lan_to_tunnel", "3.3") + leaving;
    let back = frame + until("tunnel_to_lan", "3.4 answers") + all("postrouting_late");
    assert_eq!((out, back), (10, 6));
}
