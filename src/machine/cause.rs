//! Why there is no tunnel. Always shown.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The configuration cannot be used; one line for each thing wrong with it.
    Config(Vec<String>),
    NoTunnel,
    /// No relay fits what was asked for.
    NoRelay(Option<String>),
    Offline,
    /// Every relay that fits was tried and none answered a probe.
    NoAnswer,
    Device(String),
    Routing(String),
    Firewall(String),
    Flows(String),
}

impl Cause {
    /// Whether time alone may cure it. The others wait for the configuration or a person.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Config(_) | Self::NoTunnel | Self::NoRelay(_))
    }

    /// Pause before try number `tries` (from 0): 2 s doubled each time, 60 s at the most.
    #[must_use]
    pub fn backoff(tries: u32) -> Duration {
        Duration::from_secs(60.min(2_u64 << tries.min(5)))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(lines) => {
                write!(f, "the configuration cannot be used: {}", lines.join("; "))
            }
            Self::NoTunnel => {
                f.write_str("no tunnel is configured: import a .conf file or add a 'config tunnel' section")
            }
            Self::NoRelay(None) => {
                f.write_str("no relay is configured: import a .conf file or add a 'config relay' section")
            }
            Self::NoRelay(Some(name)) => {
                write!(f, "no relay, city or country is called '{name}': see 'vpnd relays'")
            }
            Self::Offline => f.write_str("offline: no route to any relay"),
            Self::NoAnswer => f.write_str("no relay answers"),
            Self::Device(error) => write!(f, "the tunnel device failed: {error}"),
            Self::Routing(error) => write!(f, "routing failed: {error}"),
            Self::Firewall(error) => write!(f, "the firewall failed: {error}"),
            Self::Flows(error) => write!(f, "old flows could not be deleted: {error}"),
        }
    }
}
