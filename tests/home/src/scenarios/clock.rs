//! A clock that is behind: the relay takes handshakes for replays (WireGuard whitepaper, section
//! 5.1), until the clock passes the last one or vpnd's own files say better.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Scenario, Way, expect};
use crate::house::at;
use crate::town::{LONG, Town};

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![(
        "a relay that saw a later timestamp refuses until the clock has passed it; vpnd's files lift the clock",
        in_true_time,
    )]
}

const DAY: u64 = 86_400;

/// The clock of the whole guest, moved by so many seconds from the true time.
struct Clock {
    start: Instant,
    truth: u64,
}

impl Clock {
    fn set(&self, town: &Town, ahead: u64) -> Result<()> {
        let time = self.truth + self.start.elapsed().as_secs() + ahead;
        town.house.router.run("date", &["-s", &format!("@{time}")]).map(drop)
    }
}

fn now() -> Result<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(now.context("the clock is before 1970")?.as_secs())
}

fn in_true_time(town: &mut Town) -> Result<String> {
    let clock = Clock { start: Instant::now(), truth: now()? };
    let result = replays(town, &clock);
    town.kill()?;
    clock.set(town, 0)?;
    forgive(town)?;
    result
}

/// The relays forget what time they saw: others come to them with the true one.
fn forgive(town: &Town) -> Result<()> {
    let allowed =
        at::TUNNEL.map(|address| format!("{address}{}", if address.contains(':') { "/128" } else { "/32" }));
    for relay in &town.house.relays {
        let peer = relay.run("wg", &["show", "wg0", "peers"])?;
        let set = ["set", "wg0", "peer", peer.trim()];
        relay.run("wg", &[&set[..], &["remove"]].concat())?;
        relay.run("wg", &[&set[..], &["allowed-ips", &allowed.join(",")]].concat())?;
    }
    Ok(())
}

/// The daemon's files as if they had been written now.
fn touch(town: &Town) -> Result<()> {
    town.house.router.run("sh", &["-c", &format!("touch {}/*", town.dir.join("state").display())]).map(drop)
}

/// No daemon, and no session with any relay.
fn power_cut(town: &mut Town) -> Result<()> {
    town.kill()?;
    town.house.router.ip("link del vpnd0")
}

fn replays(town: &mut Town, clock: &Clock) -> Result<String> {
    clock.set(town, DAY)?;
    town.start()?;
    town.does(&["lockdown", "on"])?;
    town.connect("r1")?;
    power_cut(town)?;
    clock.set(town, 0)?;
    // As after weeks without a write: no file knows of the last handshake.
    touch(town)?;
    let position = town.wan.position();
    town.start_as_it_is()?;
    town.until("the relay refuses, and status says why", LONG * 2, |town| {
        let said = town.say(&["status"])?.out;
        Ok(said.contains("no relay answers") && said.contains("relays take handshakes for replays"))
    })?;
    expect(&town.house.tv, Way::Nowhere)?;
    let answered = town.status()?["kernel"]["tunnel"]["handshake_age_s"].is_u64();
    ensure!(!answered, "the relay took a handshake that was older than its last");
    clock.set(town, DAY + 600)?;
    let passed = Instant::now();
    town.until_word("connected", LONG * 3)?;
    let took = passed.elapsed();
    expect(&town.house.tv, Way::Relay(0))?;

    power_cut(town)?;
    touch(town)?;
    clock.set(town, 0)?;
    town.start_as_it_is()?;
    ensure!(now()? >= clock.truth + DAY, "the clock was left behind the daemon's own files");
    town.until_word("connected", LONG)?;
    let said = town.say(&["status"])?.out;
    ensure!(said.contains("the clock was at"), "status does not say that the clock was set: {said}");
    // Once more, a year ahead of anything credible: no floor.
    town.kill()?;
    let file = town.dir.join("state/wanted.json").display().to_string();
    town.house.router.run("touch", &["-d", "2099-01-01", &file])?;
    town.start_as_it_is()?;
    ensure!(now()? < clock.truth + 2 * DAY, "a file from the far future moved the clock");
    town.judged(position, &town.tunnelled_or_blocked())?;
    Ok(format!("connected {:.0} s after the clock had passed", Duration::as_secs_f32(&took)))
}
