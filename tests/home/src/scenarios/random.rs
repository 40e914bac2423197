//! Random words of a person, relays that fail, faults of every kind: under a flood, and not one
//! unlisted frame.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::flood::{Flood, Flown};
use crate::town::{LONG, Mood, Town};

/// Shards of a run of 300 transitions and faults.
pub(crate) const PARTS: u64 = 12;
pub(crate) const EACH: usize = 25;

/// All shards (`HOME_ALL` set), or two that the seed chooses: one for each of two guests.
pub(crate) fn parts(seed: u64) -> Vec<u64> {
    if std::env::var_os("HOME_ALL").is_some() {
        return (1..=PARTS).collect();
    }
    vec![1 + seed % PARTS, 1 + (seed + PARTS / 2) % PARTS]
}

/// `count` transitions and faults, one after the other. After every [`EACH`] of them the wire's
/// frames are judged, and forgotten.
pub(crate) fn transitions(town: &mut Town, seed: u64, count: usize) -> Result<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    town.start()?;
    // Enforcing from here on: nothing that follows opens.
    town.does(&["lockdown", "on"])?;
    town.until_word("blocked", LONG)?;
    // What left before is an open router's (a relay of the last test, say, is told that nobody listens).
    town.wan.clear();
    let (mut verified, mut frames, mut lan, mut router) = (0, 0, 0, 0);
    let mut done = 0;
    while done < count {
        let steps = EACH.min(count - done);
        let seen = some(town, &mut random, steps).map_err(|error| {
            error.context(format!("in transitions {} to {} with seed {seed}", done + 1, done + steps))
        })?;
        town.wan.clear();
        (lan, router) = (lan + u64::from(seen.flown.lan), router + u64::from(seen.flown.router));
        frames += seen.frames;
        verified += seen.verified;
        done += steps;
        if count > EACH {
            println!("     {done} transitions: {verified} times connected, {frames} frames, none unlisted");
        }
    }
    ensure!(verified > 0, "never once connected");
    for relay in 0..3 {
        town.mood(relay, Mood::Well)?;
    }
    Ok(format!(
        "{verified} times connected; {lan} LAN packets and {router} of the router flew meanwhile; \
         {frames} frames, none unlisted"
    ))
}

/// What some steps came to.
struct Seen {
    flown: Flown,
    /// How often a tunnel was verified after a step.
    verified: usize,
    /// On the WAN's wire, each of them listed.
    frames: usize,
}

/// Some steps under one flood.
fn some(town: &mut Town, random: &mut fastrand::Rng, steps: usize) -> Result<Seen> {
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    let since = Instant::now();
    let mut told = Vec::new();
    let mut verified = 0;
    let mut result = Ok(());
    for _ in 0..steps {
        let at = since.elapsed().as_secs_f32();
        let (word, outcome) = step(town, random)?;
        told.push(format!("+{at:.3} s {word}"));
        result = outcome;
        if result.is_err() {
            break;
        }
        verified += usize::from(town.word()?.0 == "connected");
    }
    let flown = flood.stop(&town.wan, position);
    let states = town.tunnelled_or_blocked();
    // Whatever else failed: what left is the worse news.
    let frames = town.judged(0, &states).map(|tally| tally.0.values().sum::<usize>());
    let seen = frames.and_then(|frames| result.and_then(|()| Ok(Seen { flown: flown?, verified, frames })));
    seen.map_err(|error| error.context(format!("after {told:#?}")))
}

fn step(town: &mut Town, random: &mut fastrand::Rng) -> Result<(String, Result<()>)> {
    let relay = random.usize(0..3);
    let name = format!("r{}", relay + 1);
    let done = |town: &Town, words: &[&str]| {
        let said = town.say(words)?;
        // A refusal with words is fine (a relay that is dead); a crash is not.
        ensure!(said.code >= 0 && said.code < 100, "{words:?}: exit {}: {}{}", said.code, said.out, said.err);
        Ok(())
    };
    let (word, outcome) = match random.u32(0..13) {
        0..=3 => (format!("connect {name}"), done(town, &["connect", &name, "--no-wait"])),
        4 => ("connect".into(), done(town, &["connect", "--wait", "5"])),
        5 => ("disconnect".into(), done(town, &["disconnect"])),
        6 => ("reconnect".into(), done(town, &["reconnect"])),
        7 => {
            let mood = if random.bool() { Mood::Dead } else { Mood::Well };
            (format!("{name} {mood:?}"), town.mood(relay, mood))
        }
        8 => ("reload".into(), done(town, &["reload"])),
        10..13 => {
            let (name, outcome) = super::faults::any(town, random);
            (name.to_owned(), outcome)
        }
        _ => ("kill".into(), super::faults::killed(town)),
    };
    std::thread::sleep(Duration::from_millis(random.u64(0..400)));
    Ok((word, outcome))
}
