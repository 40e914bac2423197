//! Random words of a person, relays that fail, rules that are flushed: under a flood, and not one
//! unlisted frame.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::blocked;
use crate::flood::Flood;
use crate::town::{LONG, Mood, Town};

/// Shards of a whole run of 300 transitions.
pub(crate) const PARTS: u64 = 12;
pub(crate) const EACH: usize = 25;

/// All shards (`HOME_ALL` set), or two that the seed chooses: one for each of two guests.
pub(crate) fn parts(seed: u64) -> Vec<u64> {
    if std::env::var_os("HOME_ALL").is_some() {
        return (1..=PARTS).collect();
    }
    vec![1 + seed % PARTS, 1 + (seed + PARTS / 2) % PARTS]
}

pub(crate) fn transitions(town: &mut Town, seed: u64) -> Result<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    town.start()?;
    // Enforcing from here on: nothing that follows opens.
    town.does(&["lockdown", "on"])?;
    town.until_word("blocked", LONG)?;
    let states = [town.tunnelled(), blocked()].concat();
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    let mut told = Vec::new();
    let mut verified = 0;
    let mut result = Ok(());
    for _ in 0..EACH {
        let (word, outcome) = step(town, &mut random)?;
        told.push(word);
        result = outcome;
        if result.is_err() {
            break;
        }
        verified += usize::from(town.word()?.0 == "connected");
    }
    let last = told.last().cloned().unwrap_or_default();
    let flown = flood.stop(&town.wan, position)?;
    result.map_err(|e: anyhow::Error| {
        e.context(format!("after {} transitions, the last '{last}'", told.len()))
    })?;
    let tally = town.judged(position, &states)?;
    ensure!(verified > 0, "never once connected in {told:?}");
    for relay in 0..3 {
        town.mood(relay, Mood::Well)?;
    }
    Ok(format!(
        "{verified} times connected; {flown}; {} frames, none unlisted",
        tally.0.values().sum::<usize>()
    ))
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
    let (word, outcome) = match random.u32(0..10) {
        0..=3 => (format!("connect {name}"), done(town, &["connect", &name, "--no-wait"])),
        4 => ("connect".into(), done(town, &["connect", "--wait", "5"])),
        5 => ("disconnect".into(), done(town, &["disconnect"])),
        6 => ("reconnect".into(), done(town, &["reconnect"])),
        7 => {
            let mood = if random.bool() { Mood::Dead } else { Mood::Well };
            (format!("{name} {mood:?}"), town.mood(relay, mood))
        }
        8 => ("reload".into(), done(town, &["reload"])),
        _ => {
            town.kill()?;
            ("kill".into(), town.start_as_it_is())
        }
    };
    std::thread::sleep(Duration::from_millis(random.u64(0..400)));
    Ok((word, outcome))
}
