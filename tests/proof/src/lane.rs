//! A lane: what is fixed while classes are told apart. Path, devices, family, protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vpnd::config::IfName;
use vpnd::firewall::evaluate::{Devices, Flow, FlowState, Packet, Path, RouteType, World};
use vpnd::policy::Family;

use crate::dims::{Atoms, Cover, DIMS, Dim, Set};

/// The protocol, and how much of its header there is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
    Tcp,
    Udp,
    /// ICMP in IPv4, ICMPv6 in IPv6; with a quoted packet inside.
    Icmp,
    /// Eight bytes of it.
    ShortIcmp,
    /// The other family's.
    StrayIcmp,
    Igmp,
    /// SCTP, which has ports where TCP has them.
    Other,
    /// Not the first fragment: no header.
    TcpFragment,
    UdpFragment,
}

pub const SHAPES: [Shape; 9] = [
    Shape::Tcp,
    Shape::Udp,
    Shape::Icmp,
    Shape::ShortIcmp,
    Shape::StrayIcmp,
    Shape::Igmp,
    Shape::Other,
    Shape::TcpFragment,
    Shape::UdpFragment,
];

impl Shape {
    pub fn protocol(self, family: Family) -> u8 {
        match (self, family) {
            (Self::Tcp | Self::TcpFragment, _) => 6,
            (Self::Udp | Self::UdpFragment, _) => 17,
            (Self::Icmp | Self::ShortIcmp, Family::V4) | (Self::StrayIcmp, Family::V6) => 1,
            (Self::Icmp | Self::ShortIcmp, Family::V6) | (Self::StrayIcmp, Family::V4) => 58,
            (Self::Igmp, _) => 2,
            (Self::Other, _) => 132,
        }
    }

    fn has(self, dim: Dim) -> bool {
        match dim {
            Dim::SourcePort | Dim::DestPort => matches!(self, Self::Tcp | Self::Udp | Self::Other),
            Dim::Flags => self == Self::Tcp,
            Dim::Type | Dim::Code => matches!(self, Self::Icmp | Self::ShortIcmp | Self::StrayIcmp),
            Dim::QuotedVersion | Dim::QuotedProtocol | Dim::QuotedDestination | Dim::QuotedPorts => {
                self == Self::Icmp
            }
            _ => true,
        }
    }
}

/// Conntrack's words, as [`Dim::Flow`] counts them.
pub const FLOWS: [(FlowState, bool, bool); 8] = [
    (FlowState::New, false, true),
    // The same, sent again: nat chains are not asked.
    (FlowState::New, false, false),
    (FlowState::Established, false, false),
    (FlowState::Established, true, false),
    (FlowState::Related, false, false),
    (FlowState::Related, true, false),
    (FlowState::Untracked, false, false),
    (FlowState::Invalid, false, false),
];

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    pub path: Path,
    pub iif: Option<IfName>,
    pub oif: Option<IfName>,
    pub family: Family,
    pub shape: Shape,
    /// Has the output device an address of the family?
    pub addressed: bool,
}

/// A value for each dimension, and the atom it lies in.
#[derive(Clone, Copy)]
pub struct Point {
    pub atoms: [u16; DIMS],
    pub values: [u128; DIMS],
}

impl Point {
    pub fn value(&self, dim: Dim) -> u128 {
        self.values[dim as usize]
    }
    pub fn atom(&self, dim: Dim) -> Set {
        Set::one(usize::from(self.atoms[dim as usize]))
    }
}

/// An address of a lane's family.
pub fn address(family: Family, value: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(value as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(value).into(),
    }
}

const ROUTE_TYPES: [RouteType; 9] = [
    RouteType::Unspecified,
    RouteType::Unicast,
    RouteType::Local,
    RouteType::Broadcast,
    RouteType::Anycast,
    RouteType::Multicast,
    RouteType::Blackhole,
    RouteType::Unreachable,
    RouteType::Prohibit,
];

impl Lane {
    /// All classes of this lane.
    pub fn everything(&self, atoms: &Atoms) -> Cover {
        let mut cover = Cover([Set::one(0); DIMS]);
        for dim in crate::dims::ALL {
            if self.has(dim) {
                cover.0[dim as usize] = Set::first(atoms.of(dim).len());
            }
        }
        if self.has(Dim::DestinationType) {
            // What the path says already.
            let kinds: &[(u128, u128)] = match self.path {
                Path::Input => &[(2, 5)],
                _ => &[(0, 1), (3, 8)],
            };
            cover.keep(Dim::DestinationType, atoms.within(Dim::DestinationType, kinds));
        }
        cover
    }

    pub fn has(&self, dim: Dim) -> bool {
        match dim {
            Dim::HopLimit => self.family == Family::V6,
            // Only asked of what arrives.
            Dim::DestinationType | Dim::Routed => self.path != Path::Output,
            // Only where something leaves.
            Dim::SourceType | Dim::Masqueraded | Dim::Spoke => self.path != Path::Input,
            _ => self.shape.has(dim),
        }
    }

    pub fn devices(&self) -> Devices {
        Devices { iif: self.iif.clone(), oif: self.oif.clone() }
    }

    pub fn packet(&self, point: &Point) -> Packet {
        Packet {
            source: address(self.family, point.value(Dim::Source)),
            destination: address(self.family, point.value(Dim::Destination)),
            protocol: self.shape.protocol(self.family),
            transport: self.transport(point),
            hop_limit: if self.family == Family::V6 { point.value(Dim::HopLimit) as u8 } else { 64 },
            mark: point.value(Dim::Mark) as u32,
        }
    }

    fn transport(&self, point: &Point) -> Vec<u8> {
        let ports = || {
            let both = [point.value(Dim::SourcePort) as u16, point.value(Dim::DestPort) as u16];
            [both[0].to_be_bytes(), both[1].to_be_bytes()].concat()
        };
        let icmp = || vec![point.value(Dim::Type) as u8, point.value(Dim::Code) as u8, 0, 0, 0, 0, 0, 0];
        match self.shape {
            Shape::Tcp => {
                let mut header = ports();
                header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, point.value(Dim::Flags) as u8]);
                header.extend([0; 6]);
                header
            }
            Shape::Udp | Shape::Other => [ports(), vec![0, 8, 0, 0]].concat(),
            Shape::ShortIcmp | Shape::StrayIcmp => icmp(),
            Shape::Icmp => [icmp(), self.quoted(point)].concat(),
            Shape::Igmp => vec![0x16, 0, 0, 0, 0, 0, 0, 0],
            Shape::TcpFragment | Shape::UdpFragment => Vec::new(),
        }
    }

    /// The IP header and the first eight bytes of what was sent (RFC 792, RFC 4443).
    fn quoted(&self, point: &Point) -> Vec<u8> {
        let protocol = point.value(Dim::QuotedProtocol) as u8;
        let to = point.value(Dim::QuotedDestination);
        let (mut bytes, at, protocol_at) = match self.family {
            Family::V4 => (vec![0; 28], 16, 9),
            Family::V6 => (vec![0; 48], 24, 6),
        };
        bytes[0] = point.value(Dim::QuotedVersion) as u8;
        bytes[protocol_at] = protocol;
        let ports_at = bytes.len() - 8;
        match self.family {
            Family::V4 => bytes[at..at + 4].copy_from_slice(&(to as u32).to_be_bytes()),
            Family::V6 => bytes[at..at + 16].copy_from_slice(&to.to_be_bytes()),
        }
        let ports = (point.value(Dim::QuotedPorts) as u32).to_be_bytes();
        bytes[ports_at..ports_at + 4].copy_from_slice(&ports);
        bytes
    }

    pub fn flow(&self, point: &Point) -> Flow {
        let (state, reply, first) = FLOWS[point.value(Dim::Flow) as usize];
        Flow {
            state,
            reply,
            first,
            mark: point.value(Dim::FlowMark) as u32,
            dnat: point.value(Dim::Translated) == 1,
            masqueraded: point.value(Dim::Masqueraded) == 1,
        }
    }

    pub fn world(&self, point: &Point) -> World {
        let elsewhere = || "eth8".parse::<IfName>().ok();
        let to = address(self.family, point.value(Dim::Destination));
        let other = address(self.family, point.value(Dim::Destination) ^ 1);
        let spoke = match point.value(Dim::Spoke) {
            0 => None,
            1 => self.oif.clone().map(|device| (device, to)),
            2 => elsewhere().map(|device| (device, to)),
            _ => self.oif.clone().map(|device| (device, other)),
        };
        let own = match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 255, 255, 1)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd0f, 0, 0, 0, 0, 0, 0, 1)),
        };
        World {
            destination: ROUTE_TYPES[point.value(Dim::DestinationType) as usize],
            routed: point.value(Dim::Routed) == 1,
            source: ROUTE_TYPES[point.value(Dim::SourceType) as usize],
            own_address: self.addressed.then_some(own),
            spoke: spoke.into_iter().collect(),
        }
    }
}
