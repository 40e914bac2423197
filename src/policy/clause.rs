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
