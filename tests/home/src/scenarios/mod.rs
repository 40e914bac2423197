//! Tests with the real daemon and the kernel's WireGuard.

mod attacks;
mod barrier;
mod clock;
mod control;
mod death;
mod faults;
mod inject;
mod layers;
mod offload;
mod openwrt;
mod packages;
pub mod pppoe;
mod random;
mod tunnel;
mod watch;

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::classify::State;
use crate::house::{at, ip};
use crate::ns::Netns;
use crate::services::{ask_tcp, ask_udp, ping};
use crate::suite::{Late, Test};
use crate::town::{SOON, Town};

/// What is tried on every processor (`home run router`): each step that the daemon's life has, and its memory.
pub const MAIN: [&str; 9] = [
    "connected: LAN and router reach",
    "a relay that dies is found dead",
    "a change of relay under a flood",
    "disconnect under lockdown blocks",
    "nft flush ruleset: the barrier holds",
    "the routing barrier holds alone",
    "a killed daemon leaves its policy",
    "the memory of a daemon",
    "the block at boot",
];

type Scenario = fn(&mut Town) -> Result<String>;

/// The scenarios; one town serves them all, and is built anew after a failure.
#[must_use]
pub fn tests(vpnd: PathBuf, seed: u64) -> Vec<Test> {
    let town: Rc<RefCell<Option<Town>>> = Rc::default();
    let mut all: Vec<(&str, Scenario)> = Vec::new();
    all.extend(tunnel::scenarios());
    all.extend(barrier::scenarios());
    all.extend(layers::scenarios());
    all.extend(attacks::scenarios());
    all.extend(control::scenarios());
    all.extend(offload::scenarios());
    all.extend(openwrt::scenarios());
    all.extend(pppoe::scenarios());
    all.extend(packages::scenarios());
    all.extend(watch::scenarios());
    all.extend(death::scenarios());
    all.extend(clock::scenarios());
    let mut tests: Vec<Test> = all
        .into_iter()
        .map(|(name, work)| {
            let (town, vpnd) = (Rc::clone(&town), vpnd.clone());
            Test::new(format!("guest: {name}"), move || in_town(&town, &vpnd, work))
        })
        .collect();
    for (name, work) in death::transitions(seed) {
        let (town, vpnd) = (Rc::clone(&town), vpnd.clone());
        tests.push(Test::new(format!("guest: {name}"), move || in_town(&town, &vpnd, work)));
    }
    for cell in faults::cells(seed) {
        let (town, vpnd) = (Rc::clone(&town), vpnd.clone());
        let name = format!("guest: {}", cell.name());
        tests.push(Test::new(name, move || in_town(&town, &vpnd, |town| cell.run(town))));
    }
    for call in inject::calls(seed) {
        let (town, vpnd) = (Rc::clone(&town), vpnd.clone());
        let name = format!("guest: each {}, under a flood", call.name);
        tests.push(Test::new(name, move || in_town(&town, &vpnd, |town| inject::each(town, call, seed))));
    }
    for part in random::parts(seed) {
        let (town, vpnd) = (Rc::clone(&town), vpnd.clone());
        let name =
            format!("guest: {} random transitions under a flood, part {part} (seed {seed})", random::EACH);
        tests.push(Test::new(name, move || {
            in_town(&town, &vpnd, |town| random::transitions(town, seed + part, random::EACH))
        }));
    }
    tests
}

/// `count` random transitions and faults in sequence.
#[must_use]
pub fn soak(vpnd: PathBuf, seed: u64, count: usize) -> Test {
    Test::new(
        format!("guest: {count} random transitions and faults under a flood (seed {seed})"),
        move || in_town(&RefCell::new(None), &vpnd, |town| random::transitions(town, seed, count)),
    )
}

/// Nothing happens for `time`, twice: best where idle time takes none (`tests/rig/run --skip-idle`).
#[must_use]
pub fn quiet(vpnd: PathBuf, time: Duration) -> Test {
    Test::new(
        format!("guest: {} s with nothing to do write no flash, and hardly wake it up", time.as_secs()),
        move || in_town(&RefCell::new(None), &vpnd, |town| openwrt::quiet(town, time)),
    )
}

/// What came too late is tried once more, in a new town, and told; whatever else failed has failed.
/// A frame that must not leave is never late.
fn in_town(
    town: &RefCell<Option<Town>>,
    vpnd: &std::path::Path,
    work: impl Fn(&mut Town) -> Result<String>,
) -> Result<String> {
    match once(town, vpnd, &work) {
        Err(error) if error.is::<Late>() => {
            println!("     late, tried once more: {error:#}");
            let seen = once(town, vpnd, &work)?;
            Ok(format!("at the second try; {seen}"))
        }
        ended => ended,
    }
}

fn once(
    town: &RefCell<Option<Town>>,
    vpnd: &std::path::Path,
    work: impl Fn(&mut Town) -> Result<String>,
) -> Result<String> {
    let mut kept = town.borrow_mut();
    let mut town = match kept.take() {
        Some(town) => town,
        None => Town::build(vpnd)?,
    };
    town.fresh().context("starting afresh")?;
    match work(&mut town) {
        Ok(seen) => {
            *kept = Some(town);
            Ok(seen)
        }
        Err(error) => {
            let told = format!("{error:#}\n    log: {}", town.log());
            if error.is::<Late>() { bail!(Late(told)) } else { bail!(told) }
        }
    }
}

/// Which way a client's question went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The internet saw relay `n`.
    Relay(usize),
    /// The internet saw the router's own address, or the client's: outside the tunnel.
    Outside,
    Nowhere,
}

fn way(seen: Option<IpAddr>) -> Way {
    let Some(seen) = seen else { return Way::Nowhere };
    at::RELAYS.iter().position(|pair| pair.iter().any(|a| ip(a) == seen)).map_or(Way::Outside, Way::Relay)
}

/// A host asks the internet at once by UDP and TCP, in both families, and pings it.
fn all_ways(ns: &Netns) -> Result<(Vec<Way>, Vec<bool>)> {
    let caught = |_| anyhow::anyhow!("a thread of the home panicked");
    std::thread::scope(|scope| {
        let mut asks = Vec::new();
        let mut pings = Vec::new();
        for address in at::INTERNET {
            asks.push(scope.spawn(move || ask_udp(ns, ip(address), SOON)));
            asks.push(scope.spawn(move || ask_tcp(ns, ip(address), SOON)));
            pings.push(scope.spawn(move || ping(ns, ip(address), 3)));
        }
        let ways = asks.into_iter().map(|t| t.join().map_err(caught)?.map(way)).collect::<Result<_>>()?;
        let pings = pings.into_iter().map(|t| t.join().map_err(caught)?).collect::<Result<_>>()?;
        Ok((ways, pings))
    })
}

fn expect(ns: &Netns, wanted: Way) -> Result<()> {
    let (ways, pings) = all_ways(ns)?;
    let answered = wanted != Way::Nowhere;
    if ways.iter().all(|w| *w == wanted) && pings.iter().all(|p| *p == answered) {
        return Ok(());
    }
    let told = format!(
        "{} reached the internet by {ways:?} (UDP and TCP over IPv4, then IPv6), wanted {wanted:?}; \
         pings over IPv4, IPv6 answered: {pings:?}",
        ns.name()
    );
    if answered && ways.iter().all(|w| *w == wanted || *w == Way::Nowhere) {
        bail!(Late(told));
    }
    bail!(told)
}

/// Connected to relay `name` and verified.
fn connected(town: &mut Town, name: &str) -> Result<()> {
    town.start()?;
    connect(town, name)
}

fn connect(town: &Town, name: &str) -> Result<()> {
    town.connect(name)
}

fn blocked() -> Vec<State> {
    vec![State::Blocked { api: false }]
}
