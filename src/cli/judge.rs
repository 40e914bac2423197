//! What is true of this router, out of three witnesses: the daemon, the kernel, the stored state.
//! Pure. The kernel is believed over the daemon.

use serde::Serialize;

use super::generations::{Standing, standing};
use super::text::span;
use crate::control::{Status, TunnelState};
use crate::firewall::RowCount;
use crate::firewall::guard::Standing as Guards;
use crate::machine::Stored;
use crate::policy::PolicyState;
use crate::state::{Boot, Generation};

/// WireGuard takes no packet of a session older than this (REJECT_AFTER_TIME, whitepaper section 6).
const SESSION_S: u64 = 180;
const NO_DAEMON: &str = "daemon not running";

/// The daemon's answer, or why there is none.
#[derive(Debug, Clone)]
pub enum Daemon {
    Answers(Box<Status>),
    Dead,
    /// Why, for a person, its pid in it.
    Hung(String),
}

/// What the kernel itself says, looked at by this process.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// None: no table. Err: could not be looked at.
    pub table: Result<Option<Table>, String>,
    pub device: Result<Option<Device>, String>,
    /// The routing barrier.
    pub barrier: Result<bool, String>,
    /// Guard table and egress hook.
    pub guards: Result<Guards, String>,
}

impl Kernel {
    /// What blocks beside the rules, and its verbs, for a sentence; None: nothing does.
    fn beside_the_rules(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let stands = |guards: &Guards| guards.guard.is_some() || guards.egress.is_some();
        let guard = self.guards.as_ref().is_ok_and(stands);
        match (self.barrier == Ok(true), guard) {
            (true, true) => Some(("the routing barrier and the guard table", "are", "block")),
            (true, false) => Some(("the routing barrier", "is", "blocks")),
            (false, true) => Some(("the guard table", "is", "blocks")),
            (false, false) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub state: PolicyState,
    pub hash: String,
    /// How often each row of the contract decided.
    pub rows: Vec<RowCount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Seconds; None: never.
    pub handshake_age_s: Option<u64>,
    pub rx: u64,
    pub tx: u64,
}

/// What the files say.
#[derive(Debug, Clone)]
pub struct Kept {
    pub armed: bool,
    pub wanted: Option<Stored>,
    /// Why the wanted state could not be read.
    pub trouble: Option<String>,
    /// The rulesets since boot, oldest first.
    pub generations: Vec<Generation>,
    /// Seconds since boot.
    pub uptime: u64,
    /// Settings wait for a confirmation.
    pub on_trial: bool,
    /// When the block of this boot stood; None: not known.
    pub boot: Option<Boot>,
    /// Seconds that the router is still to be open (`disarm --for`).
    pub pause_s: Option<u64>,
}

/// The verdict of `vpnd status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Connected,
    Connecting,
    Blocked,
    Open,
    Error,
}

impl Word {
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Connected => 0,
            Self::Blocked | Self::Connecting => 3,
            Self::Open => 4,
            Self::Error => 1,
        }
    }
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Blocked => "blocked",
            Self::Open => "open",
            Self::Error => "error",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub word: Word,
    /// What follows the word in the first line.
    pub why: String,
    /// The most pressing first.
    pub warnings: Vec<String>,
}

impl Report {
    fn new(word: Word, why: impl Into<String>) -> Self {
        Self { word, why: why.into(), warnings: Vec::new() }
    }
    fn warn(mut self, words: impl Into<String>) -> Self {
        self.warnings.push(words.into());
        self
    }
}

#[must_use]
pub fn judge(daemon: &Daemon, kernel: &Kernel, kept: &Kept) -> Report {
    let mut report = match &kernel.table {
        Err(why) => Report::new(Word::Error, format!("cannot tell what the kernel enforces: {why}")),
        Ok(None) => without_table(daemon, kernel, kept),
        Ok(Some(table)) => match daemon {
            Daemon::Answers(status) => with_daemon(status, table, kernel),
            Daemon::Dead => on_its_own(table, kernel, kept, NO_DAEMON),
            Daemon::Hung(_) => on_its_own(table, kernel, kept, "daemon hung"),
        },
    };
    if let Daemon::Hung(why) = daemon {
        report = report.warn(format!("{why}; 'service vpnd restart' ends it and keeps blocking"));
    }
    report.warnings.extend(beside(daemon, kernel, kept));
    report
}

/// No table: open, and the question is whether that is what a person wanted.
fn without_table(daemon: &Daemon, kernel: &Kernel, kept: &Kept) -> Report {
    let promised = match daemon {
        Daemon::Answers(status) if status.state == TunnelState::Disconnected && !status.lockdown => None,
        Daemon::Answers(status) => Some(format!("the daemon says {}", status.state)),
        _ if kept.armed => Some("the router is armed".to_owned()),
        _ => None,
    };
    match (promised, kernel.beside_the_rules()) {
        (Some(who), Some(still)) => Report::new(
            Word::Error,
            format!("{who}, but THE RULES ARE GONE (no table inet vpnd); only {} still {}", still.0, still.2),
        )
        .warn("'vpnd block' blocks again at once"),
        (Some(who), None) => Report::new(
            Word::Open,
            format!("NOT PROTECTED: {who}, but there are no rules and no routing barrier"),
        )
        .warn("'vpnd block' blocks again at once"),
        (None, Some((still, are, _))) => {
            Report::new(Word::Error, format!("not armed, but {still} {are} still there"))
                .warn("'vpnd disarm' removes what is left")
        }
        (None, None) => Report::new(
            Word::Open,
            match daemon {
                Daemon::Answers(status) if status.open_for_s.is_some() => {
                    "for a while ('vpnd disarm --for'), then blocked again; 'vpnd connect' ends it now"
                }
                Daemon::Answers(_) => "disconnected, lockdown off: as if vpnd were not there",
                Daemon::Dead => "not armed; daemon not running: as if vpnd were not there",
                Daemon::Hung(_) => "not armed; daemon hung: as if vpnd were not there",
            },
        ),
    }
}

/// The daemon answers: connected only if the kernel agrees on every count.
fn with_daemon(status: &Status, table: &Table, kernel: &Kernel) -> Report {
    let stated = status.policy.as_ref();
    if table.state == PolicyState::Boot && stated.is_none_or(|policy| policy.hash != table.hash) {
        let why = format!(
            "the boot policy is in force ('vpnd block'); the daemon ({}) puts its own back",
            status.state
        );
        return Report::new(Word::Blocked, why);
    }
    if stated.is_some_and(|policy| policy.hash != table.hash) || stated.is_none() {
        let words = match stated {
            Some(policy) => format!("the daemon put {} ({})", policy.hash, policy.state),
            None => "the daemon put none".to_owned(),
        };
        return Report::new(
            Word::Error,
            format!(
                "the daemon says {}, but the kernel enforces other rules: {} ({}); {words}",
                status.state, table.hash, table.state
            ),
        );
    }
    match status.state {
        TunnelState::Connected if table.state != PolicyState::Connected => Report::new(
            Word::Error,
            format!("the daemon says connected, but the rules in force are those of {}", table.state),
        ),
        TunnelState::Connected => match &kernel.device {
            // Verified means that there was a handshake with this very peer.
            Ok(Some(Device { handshake_age_s: None, .. })) => Report::new(
                Word::Error,
                "the daemon says connected, but the tunnel has no session with any relay; nothing leaves",
            )
            .warn("'vpnd reconnect' builds the tunnel anew"),
            Ok(Some(_)) => Report::new(Word::Connected, "verified by a probe inside the tunnel"),
            Ok(None) => Report::new(
                Word::Error,
                "the daemon says connected, but the tunnel device is gone; nothing leaves",
            ),
            Err(why) => Report::new(
                Word::Error,
                format!("the daemon says connected, but the tunnel device cannot be looked at: {why}"),
            ),
        },
        TunnelState::Disconnected if status.lockdown => {
            Report::new(Word::Blocked, "disconnected, lockdown on")
        }
        TunnelState::Disconnected => Report::new(
            Word::Error,
            format!("the daemon says disconnected, but rules ({}) are still in force", table.state),
        )
        .warn("'vpnd disarm' removes what is left"),
        other if table.state == PolicyState::Connected => Report::new(
            Word::Error,
            format!("the daemon says {other}, but the rules in force are those of connected"),
        ),
        TunnelState::Connecting => Report::new(
            Word::Connecting,
            with_cause("nothing leaves but into the tunnel, which is not verified yet", status),
        ),
        TunnelState::Disconnecting => Report::new(Word::Blocked, "disconnecting"),
        TunnelState::Error => {
            Report::new(Word::Blocked, status.cause.as_deref().unwrap_or("error, cause unknown"))
        }
    }
}

fn with_cause(words: &str, status: &Status) -> String {
    status.cause.as_ref().map_or_else(|| words.to_owned(), |cause| format!("{words}: {cause}"))
}

/// The kernel alone: what stands, stands without a daemon.
fn on_its_own(table: &Table, kernel: &Kernel, kept: &Kept, who: &str) -> Report {
    // With nobody to ask, rules that vpnd never put are not to be vouched for.
    if let Standing::Foreign(newest) = standing(&kernel.table, &kept.generations) {
        let why = format!(
            "{who}; the kernel enforces rules that are none of vpnd's: {} ({}); its last were {} ({})",
            table.hash, table.state, newest.hash, newest.state
        );
        return Report::new(Word::Error, why).warn("'vpnd block' blocks again at once");
    }
    let table_words = format!("table {} ({}) in force", table.hash, table.state);
    let rules = format!("{who}; {table_words}");
    if table.state != PolicyState::Connected {
        return Report::new(Word::Blocked, rules);
    }
    let age = match &kernel.device {
        Ok(Some(device)) => device.handshake_age_s,
        Ok(None) => return Report::new(Word::Blocked, format!("{rules}, but the tunnel device is gone")),
        Err(why) => {
            return Report::new(
                Word::Blocked,
                format!("{rules}; the tunnel device cannot be looked at: {why}"),
            );
        }
    };
    match age {
        Some(age) if age <= SESSION_S => {
            let who = if who == NO_DAEMON { "no daemon" } else { who };
            Report::new(Word::Connected, format!("not verified: {who}; {table_words}"))
                .warn(format!("nobody checks the tunnel; its last handshake is {age} s old"))
        }
        _ => Report::new(
            Word::Blocked,
            format!("{rules}, but the tunnel has been silent for over {SESSION_S} s"),
        ),
    }
}

/// What is worth saying whatever the word is.
fn beside(daemon: &Daemon, kernel: &Kernel, kept: &Kept) -> Vec<String> {
    let mut out = Vec::new();
    let stands = matches!(kernel.table, Ok(Some(_)));
    // A daemon that answers has said which rules it put.
    let alone = !matches!(daemon, Daemon::Answers(_));
    if let (true, older @ Standing::Older(..)) = (alone, standing(&kernel.table, &kept.generations)) {
        out.extend(older.trouble());
    }
    let booting = matches!(&kernel.table, Ok(Some(table)) if table.state == PolicyState::Boot);
    if stands && !booting && kernel.barrier == Ok(false) {
        out.push("the routing barrier is missing: only the rules block".to_owned());
    }
    if let Err(why) = &kernel.guards {
        out.push(format!("guard and egress hook cannot be looked at: {why}"));
    }
    if let Err(why) = &kernel.barrier {
        out.push(format!("the routing barrier cannot be looked at: {why}"));
    }
    if stands && !kept.armed {
        out.push("the marker is missing: the router would be OPEN after a reboot".to_owned());
    }
    if let (false, Some(left)) = (matches!(daemon, Daemon::Answers(_)), kept.pause_s) {
        out.push(format!(
            "opened by 'vpnd disarm --for' for {} more, but only a daemon blocks again: 'service vpnd start'",
            span(left)
        ));
    }
    if let Some(early) = kept.boot.as_ref().filter(|boot| boot.early() > 0) {
        out.push(format!("frames left by the WAN before the block stood: {}", early.words()));
    }
    if let Some(trouble) = &kept.trouble {
        out.push(trouble.clone());
    }
    if let Daemon::Answers(status) = daemon {
        out.extend(status.missing_layers.iter().map(|layer| format!("missing layer: {layer}")));
        out.extend(status.warnings.iter().cloned());
    }
    out
}

#[cfg(test)]
pub mod tests;
