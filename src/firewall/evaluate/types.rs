//! What goes into an evaluation and what comes out of it.

use std::net::IpAddr;

use crate::config::IfName;
use crate::policy::Family;

/// What a rule can look at of the packet itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    /// Of the source's family.
    pub destination: IpAddr,
    /// IANA number, after IPv6 extension headers (meta l4proto).
    pub protocol: u8,
    /// The transport header and what follows it, in network order. Empty for a fragment that is
    /// not the first: no rule can look into it (`nft_payload_eval`).
    pub transport: Vec<u8>,
    pub hop_limit: u8,
    pub mark: u32,
}

impl Packet {
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.destination)
    }
}

/// By name; None where the hook has no such device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Devices {
    pub iif: Option<IfName>,
    pub oif: Option<IfName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowState {
    New,
    Established,
    Related,
    Untracked,
    Invalid,
}

/// Conntrack's word about the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub state: FlowState,
    /// Against the direction of the flow's first packet.
    pub reply: bool,
    pub mark: u32,
    /// The flow's destination was translated.
    pub dnat: bool,
    /// The flow's source was translated to the address of the device it leaves by.
    pub masqueraded: bool,
    /// Nat chains see a flow's first packet only (`nf_nat_inet_fn`).
    pub first: bool,
}

impl Flow {
    /// A flow's first packet.
    #[must_use]
    pub fn new() -> Self {
        Self { state: FlowState::New, reply: false, mark: 0, dnat: false, masqueraded: false, first: true }
    }

    /// Not the first packet of a flow without translation and mark.
    #[must_use]
    pub fn later(state: FlowState, reply: bool) -> Self {
        Self { state, reply, first: false, ..Self::new() }
    }

    /// Has the packet a conntrack entry?
    #[must_use]
    pub fn tracked(&self) -> bool {
        !matches!(self.state, FlowState::Untracked | FlowState::Invalid)
    }
}

impl Default for Flow {
    fn default() -> Self {
        Self::new()
    }
}

/// The kernel's kinds of routes (linux/rtnetlink.h, `RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RouteType {
    Unspecified = 0,
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Anycast = 4,
    Multicast = 5,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
}

/// What rules ask the kernel beyond the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// `fib daddr type`.
    pub destination: RouteType,
    /// `fib daddr oif`: is there a device to which the router would send?
    pub routed: bool,
    /// `fib saddr . oif type`, as long as the source is not translated.
    pub source: RouteType,
    /// The output device's own address of the packet's family; without one, masquerading drops
    /// (`nf_nat_masquerade_ipv4`).
    pub own_address: Option<IpAddr>,
    /// The dynamic sets' contents: who sent something, on which device.
    pub spoke: Vec<(IfName, IpAddr)>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            destination: RouteType::Unicast,
            routed: true,
            source: RouteType::Local,
            own_address: None,
            spoke: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Of one device, ahead of everything else. On no [`Path`]: only the stop is there.
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// Through which hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    Input,
    Output,
    Forward,
}

impl Path {
    #[must_use]
    pub fn hooks(self) -> &'static [Hook] {
        match self {
            Self::Input => &[Hook::Prerouting, Hook::Input],
            Self::Output => &[Hook::Output, Hook::Postrouting],
            Self::Forward => &[Hook::Prerouting, Hook::Forward, Hook::Postrouting],
        }
    }
}

/// How a refusal is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// TCP reset.
    Reset,
    /// ICMP or ICMPv6 administratively prohibited.
    Prohibited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    /// Silently.
    Drop,
    Reject(Refusal),
}

/// A rule that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Index into [`super::super::Ruleset::rules`].
    pub rule: u32,
    /// The statement that did not match; None: all did, and the rule did what it says.
    pub failed: Option<u8>,
}

/// What the rules did to a packet or its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    pub mark: bool,
    pub flow_mark: bool,
    pub untracked: bool,
    pub dnat: bool,
    pub masqueraded: bool,
    pub segment_size: bool,
    /// Source and device were put into a dynamic set.
    pub remembered: bool,
}

/// What one hook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// The rule that decided, as an index into [`super::super::Ruleset::rules`]: the one that
    /// refused, or else the last that accepted. None: a base chain's policy.
    pub rule: Option<u32>,
    /// The chain of that rule, or the base chain.
    pub chain: String,
    /// All rules that were looked at, in order.
    pub steps: Vec<Step>,
    pub changes: Changes,
}

/// What the hooks of a path say, as far as the packet came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    pub verdict: Verdict,
    pub hooks: Vec<(Hook, Decision)>,
}

impl Journey {
    /// The decision that says why: the hook that refused, else input, output or forward.
    #[must_use]
    pub fn decisive(&self) -> Option<&Decision> {
        let filter = |hook: &Hook| matches!(hook, Hook::Input | Hook::Output | Hook::Forward);
        let found = match self.verdict {
            Verdict::Accept => self.hooks.iter().find(|(hook, _)| filter(hook)),
            _ => self.hooks.last(),
        };
        found.map(|(_, decision)| decision)
    }
}
