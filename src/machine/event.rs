//! Everything that can happen to the machine.

use std::sync::Arc;

use serde::Serialize;

use crate::config::{RelayName, Settings};
use crate::from_json::from_json;
use crate::policy::Facts;

use super::effect::{Effect, Timer};

/// What survives a restart (contract, section 1: "the wanted state is stored").
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stored {
    /// True: a tunnel is wanted.
    pub connect: bool,
    /// The relay, city or country asked for; None: any.
    pub relay: Option<RelayName>,
    /// `vpnd lockdown` overrides the option of the same name until that option is changed.
    pub lockdown: Option<LockdownWord>,
    /// Lockdown was in force: it stays so until a person says `disconnect` (with the option off),
    /// `lockdown off` or `disarm`. An edited or unreadable file alone never opens the router.
    pub latched: bool,
}

from_json!(struct Stored { connect, relay, lockdown, latched or default });

impl Stored {
    /// Whether it keeps the router closed by itself, whatever the configuration says.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.connect || self.latched || self.lockdown.is_some_and(|word| word.on)
    }
}

/// A person's word on lockdown, with the option's value when it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LockdownWord {
    pub on: bool,
    pub option_then: bool,
}

from_json!(struct LockdownWord { on, option_then });

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The daemon is up. `stored` is None at the first start ever; what cannot be read is handed
    /// in as wanted (contract 4.5: unknown is closed). `seed` feeds the choice of ports.
    Start {
        stored: Option<Stored>,
        settings: Arc<Settings>,
        broken: Vec<String>,
        facts: Facts,
        online: bool,
        seed: u32,
    },
    /// The configuration was read again. `broken` is empty when it is good; otherwise `settings`
    /// is the fallback.
    Settings {
        settings: Arc<Settings>,
        broken: Vec<String>,
    },
    /// Devices or addresses changed.
    Facts(Facts),
    /// Whether a marked packet has a route to any relay.
    Online(bool),
    /// A person's words.
    Connect(Option<RelayName>),
    Disconnect,
    Reconnect,
    Lockdown(bool),
    Disarm,
    /// Open for a while; the wanted state and the marker stay. It ends with [`Event::Resume`], with a
    /// word that closes, or with one that opens for good.
    Pause,
    Resume,
    /// A probe sent inside the tunnel was answered.
    Verified,
    /// The tunnel carries nothing any more.
    Silent,
    /// Somebody deleted the tunnel device.
    TunnelGone,
    /// Somebody else changed vpnd's rules in the kernel.
    RulesChanged,
    TimerFired(Timer),
    /// From [`Effect::ReportDown`]. Comes before any event from outside.
    TunnelDown,
    /// An effect failed; `rest` are the effects after it in the same list, which were not run.
    /// Comes before any other event.
    Failed {
        effect: Box<Effect>,
        error: String,
        rest: Vec<Effect>,
    },
}
