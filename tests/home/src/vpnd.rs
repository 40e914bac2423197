//! The program under test, as a program: its path and its verbs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::classify::{State, Uplink};
use crate::house::{MAC_ROUTER_WAN, at, ip, link_local};

/// The policies that a firewall-only test loads. `Bare` and `Open` are the positive controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// No table at all, not even fw4's.
    Bare,
    /// fw4 alone: vpnd absent.
    Open,
    Boot,
    Blocked,
    Connecting,
    Connected,
}

impl Policy {
    pub const ALL: [Self; 6] =
        [Self::Bare, Self::Open, Self::Boot, Self::Blocked, Self::Connecting, Self::Connected];

    #[must_use]
    pub fn enforcing(self) -> bool {
        self >= Self::Boot
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Open => "open",
            Self::Boot => "boot",
            Self::Blocked => "blocked",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        }
    }

    /// What the contract's second reading is to judge by.
    #[must_use]
    pub fn state(self, relay: usize) -> State {
        let relay = relay_endpoint(relay);
        match self {
            Self::Bare | Self::Open => State::Open,
            Self::Boot => State::Boot,
            Self::Blocked => State::Blocked { api: true },
            Self::Connecting => State::Connecting { relays: vec![relay] },
            Self::Connected => State::Connected { relay },
        }
    }
}

/// The endpoint of relay `n` (0 and 1 over IPv4, 2 over IPv6).
#[must_use]
pub fn relay_endpoint(n: usize) -> std::net::SocketAddr {
    let family = usize::from(n == 2);
    std::net::SocketAddr::new(ip(at::RELAYS[n % 3][family]), at::RELAY_PORT)
}

/// The uplink as the configuration of [`crate::config::Config::on_paper`] describes it.
#[must_use]
pub fn uplink() -> Uplink {
    let net = |text: &str| text.parse().ok();
    Uplink {
        own: vec![ip(at::ROUTER_WAN[0]), ip(at::ROUTER_WAN[1]), link_local(MAC_ROUTER_WAN)],
        connected: ["203.0.113.0/24", "2001:db8:203::/64"].into_iter().filter_map(net).collect(),
        lease_server: at::ISP[0].parse().ok(),
        tunnel_port: Some(LISTEN_PORT),
        allow_private: ["192.168.100.0/24", "fd00:100::/64"].into_iter().filter_map(net).collect(),
        allow_multicast: ["239.1.0.0/16"].into_iter().filter_map(net).collect(),
        services: vec![(6, 2222), (17, 2223)],
        api: at::API.iter().map(|a| std::net::SocketAddr::new(ip(a), 443)).collect(),
        vlans: Vec::new(),
        pppoe: false,
    }
}

/// The tunnel socket's port in firewall-only tests.
pub const LISTEN_PORT: u16 = 51820;
pub const MARK: u32 = 0x6d6f_6c65;

/// Where the rules of a policy come from.
pub trait Rules {
    /// The rules for `policy` with relay `relay`, as JSON that `nft -j -f -` takes.
    ///
    /// # Errors
    /// When they cannot be had.
    fn of(&self, policy: Policy, relay: usize) -> Result<String>;
}

/// Rules that the program under test compiled.
#[derive(Debug, Clone)]
pub struct Vpnd {
    pub program: PathBuf,
    pub config_dir: PathBuf,
}

impl Rules for Vpnd {
    fn of(&self, policy: Policy, relay: usize) -> Result<String> {
        let wan = format!("wan={},{}", "203.0.113.0/24", "2001:db8:203::/64");
        let apis = uplink().api.into_iter().flat_map(|api| ["--api".to_owned(), api.to_string()]);
        let output = Command::new(&self.program)
            .args(["ruleset", "--state", policy.word(), "--format", "json"])
            .arg("--config-dir")
            .arg(&self.config_dir)
            .args(["--relay", &format!("r{}", relay + 1), "--listen-port", &LISTEN_PORT.to_string()])
            .args(apis)
            .args(["--wan", &wan, "--lease", "wan=203.0.113.1"])
            .output()
            .with_context(|| format!("running {}", self.program.display()))?;
        if !output.status.success() || output.stdout.is_empty() {
            bail!(
                "{} ruleset --state {}: {}: {}",
                self.program.display(),
                policy.word(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
