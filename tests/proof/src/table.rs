//! The language of the contract's table: entries that stand somewhere on a packet's way, and say
//! something of packets like these. It shares no code with the compiler.

use std::net::SocketAddr;

use ipnet::IpNet;
use vpnd::config::{IfName, Mark};
use vpnd::policy::{Family, Row};

use crate::dims::{Atoms, Dim, Interval, Set};
use crate::lane::Lane;

/// Where an entry is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum At {
    /// Arriving by LAN or WAN.
    Arriving,
    ArrivingWan,
    ServiceAsked,
    NoRoute,
    Redirected,
    Leaving,
    ServiceAnswers,
    InLan,
    InTunnel,
    InWan,
    OutLan,
    OutTunnel,
    OutWan,
    LanLan,
    LanTunnel,
    TunnelLan,
    LanWan,
    WanLan,
    /// Leaving by the tunnel.
    TunnelSource,
    /// Leaving with a source of another device.
    ForeignSource,
}

/// What an entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Say {
    Allow,
    /// Audibly.
    Refuse,
    Silent,
    /// And marks the flow.
    AllowAndMark(Mark),
    MarkAndUntrack(Mark),
    Untrack,
    Mark(Mark),
    SendTo(SocketAddr),
}

impl Say {
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::AllowAndMark(_))
    }
}

/// What packets an entry is about.
#[derive(Clone, PartialEq, Debug)]
pub enum Is {
    Family(Family),
    Protocol(Vec<u8>),
    To(Vec<IpNet>),
    From(Vec<IpNet>),
    NotTo(Vec<IpNet>),
    In(Dim, Vec<Interval>),
    /// Under a mask.
    Bits(Dim, u32, u32),
    /// Leaves by.
    Out(IfName),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub at: At,
    pub row: Row,
    pub say: Say,
    pub is: Vec<Is>,
}

/// An entry's condition, for one family and its atoms.
pub enum Test {
    Never,
    Protocol(Vec<u8>),
    Out(IfName),
    On(Dim, Set),
}

pub fn interval(net: &IpNet) -> Interval {
    let number = |addr: std::net::IpAddr| match addr {
        std::net::IpAddr::V4(addr) => u128::from(addr.to_bits()),
        std::net::IpAddr::V6(addr) => addr.to_bits(),
    };
    (number(net.network()), number(net.broadcast()))
}

/// Those of one family.
pub fn intervals(nets: &[IpNet], family: Family) -> Vec<Interval> {
    nets.iter().filter(|net| Family::of(net.addr()) == family).map(interval).collect()
}

impl Is {
    /// None: always holds.
    pub fn test(&self, family: Family, atoms: &Atoms) -> Option<Test> {
        let nets = |dim, nets: &[IpNet]| {
            let ranges = intervals(nets, family);
            if ranges.is_empty() { Test::Never } else { Test::On(dim, atoms.within(dim, &ranges)) }
        };
        Some(match self {
            Self::Family(wanted) if *wanted == family => return None,
            Self::Family(_) => Test::Never,
            Self::Protocol(numbers) => Test::Protocol(numbers.clone()),
            Self::To(list) => nets(Dim::Destination, list),
            Self::From(list) => nets(Dim::Source, list),
            Self::NotTo(list) => {
                let within = atoms.within(Dim::Destination, &intervals(list, family));
                let all = Set::first(atoms.of(Dim::Destination).len());
                Test::On(Dim::Destination, all.without(within))
            }
            Self::In(dim, ranges) => Test::On(*dim, atoms.within(*dim, ranges)),
            Self::Bits(dim, mask, value) => Test::On(*dim, atoms.masked(*dim, *mask, *value)),
            Self::Out(device) => Test::Out(device.clone()),
        })
    }

    /// Where its constants cut a dimension of one family.
    pub fn constants(&self, family: Family) -> Vec<(Dim, Interval)> {
        let nets = |dim: Dim, nets: &[IpNet]| {
            intervals(nets, family).into_iter().map(|range| (dim, range)).collect()
        };
        match self {
            Self::To(list) | Self::NotTo(list) => nets(Dim::Destination, list),
            Self::From(list) => nets(Dim::Source, list),
            Self::In(dim, ranges) => ranges.iter().map(|range| (*dim, *range)).collect(),
            _ => Vec::new(),
        }
    }
}

impl Test {
    /// Does it hold whatever the classes are? None: that depends on a dimension.
    pub fn on_lane(&self, lane: &Lane) -> Option<bool> {
        match self {
            Self::Never => Some(false),
            Self::Protocol(numbers) => Some(numbers.contains(&lane.shape.protocol(lane.family))),
            Self::Out(device) => Some(lane.oif.as_ref() == Some(device)),
            Self::On(dim, _) => (!lane.has(*dim)).then_some(false),
        }
    }
}
