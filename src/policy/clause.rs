//! A policy's sentences: on this way, packets like these, this is done to them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{IfName, Mark, PortProto};

use super::row::Row;
use super::way::Way;

/// One sentence of a policy. On each way the first clause whose matches all hold decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    pub row: Row,
    /// Fixed text, never anything from a user or a relay.
    pub what: &'static str,
    pub way: Way,
    pub matches: Vec<Match>,
    pub action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    #[must_use]
    pub fn holds(self, net: &IpNet) -> bool {
        Self::of(net.addr()) == self
    }
}

/// Transport protocols, by IANA number where one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proto {
    Tcp,
    Udp,
    TcpOrUdp,
    /// IGMP, protocol 2.
    Igmp,
    /// ICMP (1) and ICMPv6 (58).
    AnyIcmp,
}

impl From<PortProto> for Proto {
    fn from(proto: PortProto) -> Self {
        match proto {
            PortProto::Tcp => Self::Tcp,
            PortProto::Udp => Self::Udp,
        }
    }
}

/// What a packet must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Family(Family),
    In(Vec<IfName>),
    Out(Vec<IfName>),
    /// All of one family; never empty.
    From(Vec<IpNet>),
    /// All of one family; never empty.
    To(Vec<IpNet>),
    /// All of one family; never empty.
    NotTo(Vec<IpNet>),
    Proto(Proto),
    SourcePort(Proto, u16),
    DestPort(Proto, u16),
    /// ICMP (IPv4) of one of these types (RFC 792).
    Icmp(&'static [u8]),
    /// ICMPv6 of one of these types (RFC 4443).
    Icmpv6(&'static [u8]),
    /// ICMPv6 code 0 (RFC 4861, section 7.1.1).
    Icmpv6Code0,
    HopLimit(u8),
    Marked(Mark),
    /// By the conntrack entry's mark.
    FlowMarked(Mark),
    /// Conntrack: against the direction of the flow's first packet.
    Reply,
    /// Conntrack state.
    Established,
    /// Conntrack state.
    Related,
    /// Conntrack: the flow's destination was translated (a port forward).
    Translated,
    /// An ICMP error whose quoted packet is our own.
    Quotes(Quoted),
    /// The destination has sent us something on this device (dynamic set).
    SpokeFirst(Family),
}

/// The packet inside an ICMP error, as we sent it (RFC 792, RFC 4443 section 3): IPv4 without
/// options or IPv6 without extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    pub proto: PortProto,
    pub source_port: Option<u16>,
    pub to: SocketAddr,
}

/// What is done to a packet that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Allow,
    /// Silently.
    Drop,
    /// At once and audibly: TCP reset, or ICMP(v6) admin-prohibited.
    Refuse,
    /// Takes the packet out of conntrack's sight.
    Untrack,
    /// Sets the packet's mark and takes it out of conntrack's sight.
    MarkAndUntrack(Mark),
    /// Sets the packet's mark.
    SetMark(Mark),
    /// Sets the conntrack entry's mark and allows the packet.
    AllowAndMarkFlow(Mark),
    /// Remembers device and source address for [`Match::SpokeFirst`]; decides nothing.
    Remember(Family),
    /// Lowers the TCP MSS to what the route carries.
    ClampMss,
    /// Destination NAT.
    SendTo(SocketAddr),
    /// Source NAT to the device's own address.
    Masquerade,
}

/// Builds clauses: `allow(row, "…").on(way).udp().to_port(53)`.
#[derive(Debug, Clone)]
#[must_use = "a draft does nothing until it is added to a policy"]
pub struct Draft {
    row: Row,
    what: &'static str,
    action: Action,
    ways: Vec<Way>,
    devices: Vec<Match>,
    family: Option<Family>,
    from: Option<Vec<IpNet>>,
    to: Option<Vec<IpNet>>,
    not_to: Option<Vec<IpNet>>,
    proto: Option<Proto>,
    rest: Vec<Match>,
}

pub fn act(action: Action, row: Row, what: &'static str) -> Draft {
    Draft {
        row,
        what,
        action,
        ways: Vec::new(),
        devices: Vec::new(),
        family: None,
        from: None,
        to: None,
        not_to: None,
        proto: None,
        rest: Vec::new(),
    }
}

pub fn allow(row: Row, what: &'static str) -> Draft {
    act(Action::Allow, row, what)
}

pub fn refuse(row: Row, what: &'static str) -> Draft {
    act(Action::Refuse, row, what)
}

pub fn drop_silently(row: Row, what: &'static str) -> Draft {
    act(Action::Drop, row, what)
}

impl Draft {
    pub fn on(mut self, way: Way) -> Self {
        self.ways.push(way);
        self
    }
    pub fn leaving_by(mut self, device: &IfName) -> Self {
        self.devices.push(Match::Out(vec![device.clone()]));
        self
    }
    pub fn ipv4(mut self) -> Self {
        self.family = Some(Family::V4);
        self
    }
    pub fn ipv6(mut self) -> Self {
        self.family = Some(Family::V6);
        self
    }
    pub fn from(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.from = Some(nets.into_iter().collect());
        self
    }
    pub fn to(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.to = Some(nets.into_iter().collect());
        self
    }
    pub fn not_to(mut self, nets: impl IntoIterator<Item = IpNet>) -> Self {
        self.not_to = Some(nets.into_iter().collect());
        self
    }
    pub fn proto(mut self, proto: Proto) -> Self {
        self.proto = Some(proto);
        self
    }
    pub fn udp(self) -> Self {
        self.proto(Proto::Udp)
    }
    pub fn tcp(self) -> Self {
        self.proto(Proto::Tcp)
    }
    pub fn tcp_or_udp(self) -> Self {
        self.proto(Proto::TcpOrUdp)
    }
    /// After the protocol: without one, UDP is meant.
    pub fn from_port(mut self, port: u16) -> Self {
        self.rest.push(Match::SourcePort(self.proto.unwrap_or(Proto::Udp), port));
        self
    }
    /// After the protocol: without one, UDP is meant.
    pub fn to_port(mut self, port: u16) -> Self {
        self.rest.push(Match::DestPort(self.proto.unwrap_or(Proto::Udp), port));
        self
    }
    /// Address and port; after the protocol.
    pub fn to_endpoint(self, endpoint: SocketAddr) -> Self {
        self.to([host(endpoint.ip())]).to_port(endpoint.port())
    }
    /// Address and port; after the protocol.
    pub fn from_endpoint(self, endpoint: SocketAddr) -> Self {
        self.from([host(endpoint.ip())]).from_port(endpoint.port())
    }
    pub fn icmp(mut self, types: &'static [u8]) -> Self {
        self.rest.push(Match::Icmp(types));
        self
    }
    pub fn icmpv6(mut self, types: &'static [u8]) -> Self {
        self.rest.push(Match::Icmpv6(types));
        self
    }
    pub fn matching(mut self, condition: Match) -> Self {
        self.rest.push(condition);
        self
    }
    pub fn marked(self, mark: Mark) -> Self {
        self.matching(Match::Marked(mark))
    }
    pub fn reply(self) -> Self {
        self.matching(Match::Reply)
    }

    /// One clause for each way and each family that the addresses leave possible. A list of
    /// addresses with none of a family means: nothing of that family.
    #[must_use]
    pub fn clauses(self) -> Vec<Clause> {
        let mut clauses = Vec::new();
        for way in &self.ways {
            for matches in self.match_lists() {
                let action = self.action.clone();
                clauses.push(Clause { row: self.row, what: self.what, way: *way, matches, action });
            }
        }
        clauses
    }

    fn match_lists(&self) -> Vec<Vec<Match>> {
        let named = [&self.from, &self.to, &self.not_to];
        if named.iter().all(|list| list.is_none()) {
            return vec![self.matches(self.family, Vec::new())];
        }
        let only = self.family.or_else(|| self.implied_family());
        let wanted = |family: &Family| only.is_none_or(|only| only == *family);
        let mut lists = Vec::new();
        for family in Family::BOTH.into_iter().filter(wanted) {
            let addresses = (
                narrowed(self.from.as_deref(), family),
                narrowed(self.to.as_deref(), family),
                narrowed(self.not_to.as_deref(), family),
            );
            // "Not to none of this family" holds always; "to none of it" never.
            let (Some(from), Some(to)) = (addresses.0, addresses.1) else { continue };
            let not_to = addresses.2.unwrap_or_default();
            if not_to.iter().any(|net| net.prefix_len() == 0) {
                continue;
            }
            let matches = [
                (!from.is_empty()).then(|| Match::From(from)),
                (!to.is_empty()).then(|| Match::To(to)),
                (!not_to.is_empty()).then(|| Match::NotTo(not_to)),
            ];
            lists.push(self.matches(Some(family), matches.into_iter().flatten().collect()));
        }
        lists
    }

    /// The family that the protocol has.
    fn implied_family(&self) -> Option<Family> {
        self.rest.iter().find_map(|condition| match condition {
            Match::Icmp(_) => Some(Family::V4),
            Match::Icmpv6(_) | Match::Icmpv6Code0 | Match::HopLimit(_) => Some(Family::V6),
            _ => None,
        })
    }

    fn matches(&self, family: Option<Family>, addresses: Vec<Match>) -> Vec<Match> {
        let mut matches = self.devices.clone();
        if let Some(family) = family {
            if addresses.is_empty() && self.implied_family().is_none() {
                matches.push(Match::Family(family));
            }
        }
        matches.extend(addresses);
        let has_port = |m: &Match| matches!(m, Match::SourcePort(..) | Match::DestPort(..));
        if let Some(proto) = self.proto {
            // A port says its protocol, unless it may be either's.
            if proto == Proto::TcpOrUdp || !self.rest.iter().any(has_port) {
                matches.push(Match::Proto(proto));
            }
        }
        matches.extend(self.rest.iter().cloned());
        matches
    }
}

/// The list's networks of one family, aggregated. None: there was a list, and it has none of this
/// family. Empty: no list, or everything of the family.
fn narrowed(nets: Option<&[IpNet]>, family: Family) -> Option<Vec<IpNet>> {
    let Some(nets) = nets else { return Some(Vec::new()) };
    let own: Vec<IpNet> = nets.iter().filter(|net| family.holds(net)).map(IpNet::trunc).collect();
    if own.is_empty() {
        return None;
    }
    let all = IpNet::aggregate(&own);
    if all.iter().any(|net| net.prefix_len() == 0) { Some(Vec::new()) } else { Some(all) }
}

/// A single address as a network.
#[must_use]
pub fn host(addr: IpAddr) -> IpNet {
    IpNet::from(addr)
}
