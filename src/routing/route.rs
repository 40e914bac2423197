//! One route in a table of ours (`struct rtmsg` and RTA_* of linux/rtnetlink.h).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::plan::Family;
use crate::rtnetlink::{Request, RouteMessage};

/// `RTNH_F_ONLINK` of linux/rtnetlink.h.
const ONLINK: u32 = 4;

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
        let mut message = RouteMessage {
            destination_length: self.to.prefix_len(),
            destination: (self.to.prefix_len() != 0).then(|| self.to.network()),
            table: self.table,
            metric: self.metric,
            protocol: libc::RTPROT_STATIC,
            kind: libc::RTN_UNICAST,
            ..question(Family::of_address(self.to.addr()))
        };
        let Some(hop) = &self.hop else {
            message.kind = libc::RTN_UNREACHABLE;
            return message;
        };
        message.device = Some(hop.device);
        message.preferred_source = hop.source.map(IpAddr::V4);
        message.gateway = hop.gateway;
        if hop.gateway.is_some() {
            // The gateway lies in a prefix of this device (config saw to that): no look-up
            // through the very rules that are being set is needed to know it.
            message.flags = ONLINK;
        } else {
            message.scope = libc::RT_SCOPE_LINK;
        }
        message
    }

    /// As a request of type `kind`: RTM_NEWROUTE or RTM_DELROUTE.
    pub(super) fn request(&self, kind: u16) -> Request {
        self.to_message().request(kind)
    }

    /// None for a route that says anything which no route of ours says.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let family = Family::of(message.family)?;
        if message.source_length != 0 || message.tos != 0 || message.hops.is_some() || message.more {
            return None;
        }
        let source = match message.preferred_source {
            Some(IpAddr::V6(_)) => return None,
            Some(IpAddr::V4(source)) => Some(source),
            None => None,
        };
        let hop = match message.kind {
            libc::RTN_UNICAST => Some(Hop { device: message.device?, gateway: message.gateway, source }),
            // IPv6 reports the loopback device here.
            libc::RTN_UNREACHABLE => None,
            _ => return None,
        };
        let destination = message.destination.unwrap_or(family.unspecified());
        let to = IpNet::new(destination, message.destination_length).ok()?;
        Some(Self { table: message.table, to, hop, metric: message.metric })
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

/// A message that asks for all routes of one family.
pub(super) fn question(family: Family) -> RouteMessage {
    RouteMessage { family: family.number(), ..RouteMessage::default() }
}

impl Family {
    pub(super) fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}
