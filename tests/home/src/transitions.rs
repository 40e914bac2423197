//! Transitions under a flood, with the rules alone: every ruleset follows every other, and not one
//! frame beside the contract leaves.

use std::rc::Rc;
use std::time::SystemTime;

use anyhow::{Result, ensure};

use crate::classify::{Class, State, Tally, classify};
use crate::flood::Flood;
use crate::home::Home;
use crate::raw::forget_flows;
use crate::selftest::IN_FLIGHT;
use crate::suite::Test;
use crate::vpnd::{Policy, Rules, uplink};

#[must_use]
pub fn tests(rules: Rc<dyn Rules>, seed: u64) -> Vec<Test> {
    vec![Test::new(format!("300 transitions of the rules under a flood (seed {seed})"), move || {
        under_flood(&*rules, seed, 300)
    })]
}

fn under_flood(rules: &dyn Rules, seed: u64, count: usize) -> Result<String> {
    let home = Home::build()?;
    let mut random = fastrand::Rng::with_seed(seed);
    let enforcing = [Policy::Boot, Policy::Blocked, Policy::Connecting, Policy::Connected];
    let mut compiled = Vec::new();
    for policy in enforcing {
        for relay in 0..3 {
            compiled.push((policy, relay, rules.of(policy, relay)?));
        }
    }
    home.enter(Policy::Open, 0, rules)?;
    let start = home.wan.position();
    let flood = Flood::start(&home.house, 1000)?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    // What was in force, from when to when: a frame is judged by every state that its time meets.
    let mut held: Vec<(SystemTime, State)> = vec![(SystemTime::UNIX_EPOCH, State::Open)];
    for n in 0..count {
        let at = random.usize(0..compiled.len());
        let Some((policy, relay, json)) = compiled.get(at) else { continue };
        held.push((SystemTime::now(), policy.state(*relay)));
        home.load(json)?;
        held.push((SystemTime::now() + IN_FLIGHT, policy.state(*relay)));
        if n % 3 == 0 {
            forget_flows(&home.house.router)?;
        }
    }
    let flown = flood.stop(&home.wan, start)?;
    let mut tally = Tally::default();
    for frame in home.wan.since(start) {
        tally.add(classify(&frame.bytes, frame.vlan, &in_force(&held, frame.at), &uplink()));
    }
    let open = tally.0.get(&Class::Open).copied().unwrap_or(0);
    ensure!(open > 50, "only {open} frames left before the first blocking: no positive control");
    let leaks: Vec<_> = tally.0.iter().filter(|(c, _)| matches!(c, Class::Unlisted(_))).collect();
    ensure!(leaks.is_empty(), "{} unlisted frames: {leaks:?}", tally.unlisted());
    Ok(format!("{flown}; {} frames on the WAN, none unlisted", tally.0.values().sum::<usize>()))
}

/// The states that may have held at an instant. Entries come in pairs: a transition begins, and is
/// over; while one is under way, what was before counts too.
fn in_force(held: &[(SystemTime, State)], at: SystemTime) -> Vec<State> {
    let now = held.iter().rposition(|(since, _)| *since <= at).unwrap_or(0);
    let mut states = vec![held[now].1.clone()];
    // Odd entries are beginnings.
    if now % 2 == 1 {
        states.push(held[now - 1].1.clone());
    }
    states
}
