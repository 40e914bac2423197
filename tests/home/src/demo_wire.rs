//! The WAN wire as the demo tells of it: every captured frame, judged by what could be in force
//! at its time, and counted by the step of the story.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use vpnd::policy::Row;

use crate::classify::{Class, State, Tally, Uplink, classify};
use crate::wire::Capture;

/// From `from` on, a frame belongs to `step` and is judged by `states`.
struct Epoch {
    from: SystemTime,
    step: usize,
    states: Vec<State>,
}

/// A frame that no row lists.
pub struct Leak {
    pub at: SystemTime,
    pub step: usize,
    pub states: String,
    pub reading: String,
}

pub struct Ledger {
    epochs: Vec<Epoch>,
    steps: Vec<Tally>,
    pub leaks: Vec<Leak>,
    judged: usize,
}

/// A packet that passed the hooks just before a transaction may still be in a queue.
const IN_FLIGHT: Duration = Duration::from_millis(20);

impl Ledger {
    /// Frames before the first epoch belong to it.
    #[must_use]
    pub fn new() -> Self {
        Self { epochs: Vec::new(), steps: Vec::new(), leaks: Vec::new(), judged: 0 }
    }

    /// A new step begins now, and any of `states` may be in force from now on. Frames that were
    /// on their way belong to the step before.
    pub fn step(&mut self, states: &[State]) {
        let in_flight = if self.steps.is_empty() { Duration::ZERO } else { IN_FLIGHT };
        self.steps.push(Tally::default());
        self.epoch(SystemTime::now() + in_flight, states);
    }

    /// Within a step: from now on any of `states`.
    pub fn may_be(&mut self, states: &[State]) {
        self.epoch(SystemTime::now(), states);
    }

    /// Within a step: from now on only `states`.
    pub fn settled(&mut self, states: &[State]) {
        self.epoch(SystemTime::now() + IN_FLIGHT, states);
    }

    fn epoch(&mut self, from: SystemTime, states: &[State]) {
        self.epochs.push(Epoch { from, step: self.steps.len().saturating_sub(1), states: states.to_vec() });
    }

    /// Judges what was captured since the last call.
    ///
    /// # Errors
    /// When the capture lost frames.
    pub fn judge(&mut self, wan: &Capture, uplink: &Uplink) -> Result<()> {
        wan.assert_complete()?;
        let frames = wan.since(self.judged);
        self.judged += frames.len();
        for frame in frames {
            let at = self.epochs.iter().rposition(|e| e.from <= frame.at).unwrap_or(0);
            let Some(epoch) = self.epochs.get(at) else { continue };
            let class = classify(&frame.bytes, frame.vlan, &epoch.states, uplink);
            if let Class::Unlisted(reading) = &class {
                let states: Vec<String> = epoch.states.iter().map(ToString::to_string).collect();
                let (step, states) = (epoch.step, states.join(" or "));
                self.leaks.push(Leak { at: frame.at, step, states, reading: reading.clone() });
            }
            if let Some(tally) = self.steps.get_mut(epoch.step) {
                tally.add(class);
            }
        }
        Ok(())
    }

    /// Frames of the latest step, in words.
    #[must_use]
    pub fn told(&self) -> String {
        let counts = self.steps.last().map(by_name).unwrap_or_default();
        let words: Vec<String> = counts.iter().map(|(name, n)| format!("{n} x {name}")).collect();
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }

    #[must_use]
    pub fn unlisted(&self) -> usize {
        self.steps.iter().map(Tally::unlisted).sum()
    }

    /// How many frames of the latest step left while nothing was in force and no row lists them.
    #[must_use]
    pub fn open_in_step(&self) -> usize {
        self.steps.last().and_then(|t| t.0.get(&Class::Open)).copied().unwrap_or(0)
    }

    /// Class by step, with `heads` as the steps' names; lines of at most 100 columns for up to
    /// seven steps.
    #[must_use]
    pub fn table(&self, heads: &[&str]) -> Vec<String> {
        let counts: Vec<BTreeMap<String, usize>> = self.steps.iter().map(by_name).collect();
        let mut names: Vec<String> = counts.iter().flat_map(|c| c.keys().cloned()).collect();
        names.sort();
        names.dedup();
        // What must be zero is shown as zero.
        names.retain(|n| n != UNLISTED);
        names.push(UNLISTED.to_owned());
        let row = |name: &str, cells: Vec<String>| {
            let cells: String = cells.iter().map(|c| format!("{c:>9}")).collect();
            format!("{name:<27}{cells}")
        };
        let mut lines = vec![row("frames on the WAN wire", heads.iter().map(|h| (*h).to_owned()).collect())];
        for name in &names {
            let cells = counts.iter().map(|c| c.get(name).copied().unwrap_or(0).to_string()).collect();
            lines.push(row(name, cells));
        }
        lines
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

pub const UNLISTED: &str = "UNLISTED";

fn by_name(tally: &Tally) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (class, n) in &tally.0 {
        *counts.entry(name(class)).or_default() += n;
    }
    counts
}

fn name(class: &Class) -> String {
    match class {
        Class::Open => "open: in plaintext".to_owned(),
        Class::Unlisted(_) => UNLISTED.to_owned(),
        Class::Listed(row) => format!("{} {}", row.number(), short(*row)),
    }
}

fn short(row: Row) -> &'static str {
    match row {
        Row::DhcpV4Client => "DHCP",
        Row::DhcpV6Client => "DHCPv6",
        Row::NeighbourDiscovery => "IPv6 neighbours",
        Row::WanLayer2 => "ARP",
        Row::TunnelOuter => "to the relay",
        Row::Api => "provider's API",
        Row::ListedWan => "listed prefixes",
        Row::WanService => "listed services",
        _ => "",
    }
}
