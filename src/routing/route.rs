//! One route in a table of ours (`struct rtmsg` and RTA_* of linux/rtnetlink.h).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::plan::Family;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub table: u32,
    pub to: IpNet,
    /// None: unreachable.
    pub hop: Option<Hop>,
    pub metric: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    /// Interface index, of this moment.
    pub device: u32,
    pub gateway: Option<IpAddr>,
    /// IPv4 only: with two networks on one device, the kernel would take the first one's address.
    pub source: Option<Ipv4Addr>,
}

impl Route {
    pub(super) fn to_message(&self) -> RouteMessage {
        let mut message = question(Family::of_address(self.to.addr()));
        message.header.destination_prefix_length = self.to.prefix_len();
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = RouteScope::Universe;
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        if self.to.prefix_len() != 0 {
            attributes.push(RouteAttribute::Destination(self.to.network().into()));
        }
        if self.metric != 0 {
            attributes.push(RouteAttribute::Priority(self.metric));
        }
        let Some(hop) = &self.hop else {
            message.header.kind = RouteType::Unreachable;
            return message;
        };
        attributes.push(RouteAttribute::Oif(hop.device));
        if let Some(source) = hop.source {
            attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        match hop.gateway {
            Some(gateway) => {
                // The gateway lies in a prefix of this device (config saw to that): no look-up
                // through the very rules that are being set is needed to know it.
                message.header.flags = RouteFlags::Onlink;
                attributes.push(RouteAttribute::Gateway(gateway.into()));
            }
            None => message.header.scope = RouteScope::Link,
        }
        message
    }

    /// None for a route that says anything which no route of ours says.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let family = Family::of(header.address_family)?;
        if header.source_prefix_length != 0 || header.tos != 0 {
            return None;
        }
        let (mut destination, mut metric) = (family.unspecified(), 0);
        let (mut device, mut gateway, mut source) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = to_ip(address)?,
                RouteAttribute::Priority(value) => metric = *value,
                RouteAttribute::Oif(index) => device = Some(*index),
                RouteAttribute::Gateway(address) => gateway = Some(to_ip(address)?),
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
                RouteAttribute::MultiPath(_)
                | RouteAttribute::Via(_)
                | RouteAttribute::Source(_)
                | RouteAttribute::PrefSource(_)
                | RouteAttribute::Encap(_) => return None,
                // Table, cache info, preference, expiry: no part of what the route says.
                _ => {}
            }
        }
        let hop = match header.kind {
            RouteType::Unicast => Some(Hop { device: device?, gateway, source }),
            // IPv6 reports the loopback device here.
            RouteType::Unreachable => None,
            _ => return None,
        };
        let to = IpNet::new(destination, header.destination_prefix_length).ok()?;
        Some(Self { table: table_of(message), to, hop, metric })
    }
}

/// As `ip route` would say it, but for the device, which is an index.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hop {
            None => write!(f, "unreachable {}", self.to)?,
            Some(hop) => {
                write!(f, "{}", self.to)?;
                if let Some(gateway) = hop.gateway {
                    write!(f, " via {gateway}")?;
                }
                write!(f, " dev #{}", hop.device)?;
            }
        }
        write!(f, " table {}", self.table)
    }
}

/// A table's number, also one above 255.
pub(super) fn table_of(message: &RouteMessage) -> u32 {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or_else(|| message.header.table.into())
}

/// A message that asks for all routes of one family.
pub(super) fn question(family: Family) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family.address_family();
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message
}

pub(super) fn to_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

impl Family {
    pub(super) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}
