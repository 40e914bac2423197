//! What is asked and answered; the JSON of docs/cli.md is the serde form of these, and
//! `from_json!` reads it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Serialize;
use tokio::sync::oneshot;

use crate::config::{IfName, RelayName};
use crate::from_json::from_json;
use crate::policy::PolicyState;
use crate::policy::reason::Zone;

/// One request, checked: no text in it that is not of its type's alphabet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Status,
    /// `relay`: a relay's name, a city or a country, of [`RelayName`]'s alphabet; None: any.
    Connect {
        relay: Option<String>,
    },
    Disconnect,
    Reconnect,
    Lockdown {
        on: bool,
    },
    Disarm,
    /// Open for so many seconds, 1 to [`PAUSE_MAX`].
    Pause {
        seconds: u32,
    },
    /// `filter`: part of a name, country or city; any text of at most 64 characters.
    Relays {
        filter: Option<String>,
    },
    /// The last blocked packets.
    Blocked,
    /// Read the configuration again.
    Reload,
    /// Take changed settings.
    Apply(Apply),
    /// Keep settings that are on trial.
    Confirm,
    /// Go back from settings that are on trial.
    Undo,
    /// The DHCP client on `device` has a lease from `server` (contract 2.3); None: it lost it.
    Lease {
        device: IfName,
        server: Option<Ipv4Addr>,
    },
}

/// Seconds of a pause at the most: a day.
pub const PAUSE_MAX: u32 = 86_400;

/// How changed settings are to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Apply {
    /// Only say what would change.
    pub dry_run: bool,
    /// On trial in any case, for so many seconds: 1 to 3600. None: 60, and only where needed.
    pub confirm_within: Option<u16>,
    /// Where the person's session comes from; None: not known.
    pub address: Option<IpAddr>,
    /// Of a link-local address.
    pub device: Option<IfName>,
    /// The TCP port of the router that the session goes to.
    pub port: Option<u16>,
}

from_json!(strict struct Apply { dry_run or default, confirm_within, address, device, port });

/// What changed settings change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// In terms of traffic, one sentence each.
    pub changes: Vec<String>,
    /// Why they need a confirmation.
    pub reasons: Vec<String>,
    /// Seconds for it; None: they stay without.
    pub trial_s: Option<u16>,
    pub notes: Vec<String>,
}

from_json!(struct Applied { changes, reasons, trial_s, notes });

/// A request on its way to the daemon. Dropping `reply` unanswered answers "unavailable"; nobody
/// receives it any more once the daemon's time is over.
pub struct Call {
    pub request: Request,
    pub reply: oneshot::Sender<Result<Reply, Refusal>>,
}

/// What the daemon answers when it did what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Status(Box<Status>),
    Relays(Vec<RelayStatus>),
    Applied(Box<Applied>),
    Blocked(BlockedList),
    /// `notes`: what the person should know though it worked ("blocked again after reboot: …").
    Done {
        notes: Vec<String>,
    },
}

/// Why the daemon did not do what was asked, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request makes no sense here (no such relay): HTTP 409.
    Impossible,
    /// It was tried and failed (the marker cannot be removed): HTTP 500.
    Failed,
    /// The daemon is busy or going down: HTTP 503.
    Unavailable,
}

impl Refusal {
    #[must_use]
    pub fn impossible(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Impossible, message: message.into() }
    }
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Failed, message: message.into() }
    }
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Unavailable, message: message.into() }
    }
}

/// The states of contract section 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelState {
    Disconnected,
    Connecting,
    Connected,
    Disconnecting,
    Error,
}

from_json!(
    enum TunnelState {
        Disconnected = "disconnected",
        Connecting = "connecting",
        Connected = "connected",
        Disconnecting = "disconnecting",
        Error = "error",
    }
);

impl std::fmt::Display for TunnelState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnecting => "disconnecting",
            Self::Error => "error",
        })
    }
}

/// What the daemon says of itself. Every field but the first three may be missing in an older
/// daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub state: TunnelState,
    /// "Always require VPN", as in force now.
    pub lockdown: bool,
    /// The marker of contract section 1 is there.
    pub armed: bool,
    /// Why the state is error, or what the last attempt failed at.
    pub cause: Option<String>,
    /// Seconds since this state was entered.
    pub since_s: u64,
    pub wanted: Option<WantedStatus>,
    /// The relay in use or being tried.
    pub relay: Option<RelayStatus>,
    /// The rules as the daemon last put them and read them back.
    pub policy: Option<PolicyStatus>,
    pub device: Option<DeviceStatus>,
    /// Settings wait for a confirmation.
    pub trial: Option<TrialStatus>,
    /// Seconds until a router that was opened for a while closes again.
    pub open_for_s: Option<u64>,
    /// Contract 2.9: services open to the WAN, as the configuration lists them.
    pub wan_services: Vec<String>,
    /// Layers of blocking that could not be put in place ("routing barrier: …").
    pub missing_layers: Vec<String>,
    pub warnings: Vec<String>,
    /// What others changed of vpnd's since the daemon started, and how often; the latest first.
    pub incidents: Vec<IncidentStatus>,
    pub incident_count: u64,
    pub version: String,
    pub pid: u32,
}

from_json!(struct Status {
    state, lockdown, armed, cause, since_s or default, wanted, relay, policy, device, trial,
    open_for_s, wan_services or default, missing_layers or default, warnings or default,
    incidents or default, incident_count or default, version or default, pid or default,
});

/// Something of vpnd's that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncidentStatus {
    /// Of the last one alike, in seconds since boot.
    pub uptime_s: u64,
    /// The same in seconds since 1970, by a clock that may be wrong.
    pub clock: u64,
    pub what: String,
    /// None: the kernel does not tell.
    pub process: Option<String>,
    pub pid: Option<u32>,
    /// How often, one soon after the other.
    pub count: u64,
    /// Milliseconds from hearing of it until it was as before; of several, the longest.
    pub mended_ms: Option<u64>,
    /// Why it is not as before.
    pub error: Option<String>,
}

from_json!(struct IncidentStatus { uptime_s, clock, what, process, pid, count, mended_ms, error });

impl std::fmt::Display for IncidentStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        match (&self.process, self.pid) {
            (Some(process), Some(pid)) => write!(f, " by {process} (pid {pid})")?,
            (None, Some(pid)) => write!(f, " by pid {pid}")?,
            _ => {}
        }
        if self.count > 1 {
            write!(f, ", {} times", self.count)?;
        }
        match (&self.error, self.mended_ms) {
            (Some(error), _) => write!(f, ": NOT put back: {error}"),
            (None, Some(ms)) => write!(f, ": put back within {ms} ms"),
            (None, None) => Ok(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WantedStatus {
    pub connect: bool,
    pub relay: Option<RelayName>,
}

from_json!(struct WantedStatus { connect, relay });

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayStatus {
    pub name: RelayName,
    pub endpoint: SocketAddr,
    pub country: String,
    pub city: String,
}

from_json!(struct RelayStatus { name, endpoint, country or default, city or default });

impl RelayStatus {
    /// Whether `filter` is part of the name, country or city, case aside.
    #[must_use]
    pub fn matches(&self, filter: &str) -> bool {
        // Letter by letter: what str's own adds (a sigma's form at a word's end) takes tables along.
        let small = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<String>();
        let wanted = small(filter);
        [self.name.as_str(), &self.country, &self.city].iter().any(|text| small(text).contains(&wanted))
    }
}

impl From<&crate::config::Relay> for RelayStatus {
    fn from(relay: &crate::config::Relay) -> Self {
        Self {
            name: relay.name.clone(),
            endpoint: relay.endpoint,
            country: relay.country.clone(),
            city: relay.city.clone(),
        }
    }
}

/// What was blocked lately, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct BlockedList {
    pub blocked: Vec<BlockedStatus>,
    /// Why nothing is heard of blocked packets.
    pub trouble: Option<String>,
}

from_json!(struct BlockedList { blocked, trouble });

/// Packets alike in all but their count and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockedStatus {
    pub from: Zone,
    pub to: Zone,
    /// Device names.
    pub input: Option<String>,
    pub output: Option<String>,
    /// The sender's Ethernet address, where it has one.
    pub mac: Option<String>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IANA's number.
    pub protocol: u8,
    /// Destination port; of ICMP(v6) the type.
    pub port: Option<u16>,
    /// The state whose rules blocked it.
    pub state: PolicyState,
    /// The contract's row, by number.
    pub row: String,
    pub why: String,
    pub remedy: String,
    /// At least so many: in a flood not all are heard of.
    pub count: u64,
    /// Seconds since the first and the last of them.
    pub first_s: u64,
    pub last_s: u64,
}

from_json!(struct BlockedStatus {
    from, to, input, output, mac, source, destination, protocol, port, state, row, why, remedy,
    count, first_s, last_s,
});

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialStatus {
    /// Seconds until the former settings come back.
    pub left_s: u64,
}

from_json!(struct TrialStatus { left_s });

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    /// "boot", "blocked", "connecting", "connected".
    pub state: String,
    pub hash: String,
    /// None: it could not be noted.
    pub generation: Option<u32>,
}

from_json!(struct PolicyStatus { state, hash, generation });

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceStatus {
    pub name: String,
    /// Seconds; None: never.
    pub handshake_age_s: Option<u64>,
    /// Bytes.
    pub rx: u64,
    /// Bytes.
    pub tx: u64,
    /// Bytes.
    pub mtu: u32,
}

from_json!(struct DeviceStatus { name, handshake_age_s, rx, tx, mtu or default });
