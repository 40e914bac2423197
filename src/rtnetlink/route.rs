//! A route (`struct rtmsg` and `RTA_*` of linux/rtnetlink.h). Pure.

use std::net::IpAddr;

use super::{INET, INET6, Request, fixed, word};
use crate::netlink::attribute::{address, attributes, ip, ne32};

const FIXED: usize = 12;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_MARK: u16 = 16;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
/// `RTAX_MTU`, inside RTA_METRICS.
const RTAX_MTU: u16 = 2;
/// Bytes of `struct rtnexthop`, inside RTA_MULTIPATH.
const NEXT_HOP: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteMessage {
    /// `AF_*`.
    pub family: u8,
    pub destination_length: u8,
    pub source_length: u8,
    pub tos: u8,
    /// Its number, also one above 255.
    pub table: u32,
    /// `RTPROT_*`, `RT_SCOPE_*`, `RTN_*`, `RTNH_F_*`.
    pub protocol: u8,
    pub scope: u8,
    pub kind: u8,
    pub flags: u32,
    pub destination: Option<IpAddr>,
    pub metric: u32,
    /// Interface index.
    pub device: Option<u32>,
    pub gateway: Option<IpAddr>,
    pub preferred_source: Option<IpAddr>,
    pub mark: Option<u32>,
    /// Bytes; of the route itself, not of its device.
    pub mtu: Option<u32>,
    /// Interface indices of several next hops. None: it has not several.
    pub hops: Option<Vec<u32>>,
    /// It has a source, a gateway of another family or an encapsulation, or something that cannot be read.
    pub more: bool,
}

impl RouteMessage {
    /// None: it is about something else.
    pub fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let (header, rest) = fixed::<FIXED>(body).filter(|_| kind == libc::RTM_NEWROUTE)?;
        let [family, destination_length, source_length, tos, table, protocol, scope, kind, ..] = *header;
        let flags = word(header, 8);
        let mut route = Self {
            family,
            destination_length,
            source_length,
            tos,
            table: table.into(),
            protocol,
            scope,
            kind,
            flags,
            ..Self::default()
        };
        for (kind, value) in attributes(rest) {
            route.more |= route.attribute(kind, value).is_none();
        }
        Some(route)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let address = || ip(value).filter(|ip| self.family == if ip.is_ipv4() { INET } else { INET6 });
        match kind {
            RTA_DST => self.destination = Some(address()?),
            RTA_GATEWAY => self.gateway = Some(address()?),
            RTA_PREFSRC => self.preferred_source = Some(address()?),
            RTA_OIF => self.device = Some(ne32(value)?),
            RTA_PRIORITY => self.metric = ne32(value)?,
            RTA_TABLE => self.table = ne32(value)?,
            RTA_MARK => self.mark = Some(ne32(value)?),
            RTA_METRICS => {
                self.mtu =
                    attributes(value).find(|(kind, _)| *kind == RTAX_MTU).and_then(|(_, mtu)| ne32(mtu));
            }
            RTA_MULTIPATH => self.hops = Some(hops(value)),
            RTA_SRC | RTA_VIA | RTA_ENCAP => return None,
            // Cache info, preference, expiry, a next hop object's number: no part of what the route says.
            _ => {}
        }
        Some(())
    }

    /// As a request of type `kind`: RTM_NEWROUTE, RTM_DELROUTE or RTM_GETROUTE. Several next hops and an MTU of its own
    /// are nothing that vpnd asks for.
    pub fn request(&self, kind: u16) -> Request {
        let small = u8::try_from(self.table).unwrap_or(0);
        let [a, b, c, d] = self.flags.to_ne_bytes();
        let lengths = [self.family, self.destination_length, self.source_length, self.tos];
        let rest = [small, self.protocol, self.scope, self.kind, a, b, c, d];
        let mut request = Request::new(kind, &[&lengths[..], &rest[..]].concat());
        let addresses =
            [(RTA_DST, self.destination), (RTA_GATEWAY, self.gateway), (RTA_PREFSRC, self.preferred_source)];
        for (attribute, value) in addresses {
            if let Some(value) = value {
                address(&mut request.body, attribute, value);
            }
        }
        let table = Some(self.table).filter(|table| *table != 0);
        let metric = Some(self.metric).filter(|metric| *metric != 0);
        let numbers =
            [(RTA_TABLE, table), (RTA_PRIORITY, metric), (RTA_OIF, self.device), (RTA_MARK, self.mark)];
        for (attribute, value) in numbers {
            if let Some(value) = value {
                request.number(attribute, value);
            }
        }
        request
    }
}

/// Interface indices of `struct rtnexthop`s, up to the first malformed one.
fn hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut hops = Vec::new();
    while let Some((hop, _)) = bytes.split_first_chunk::<NEXT_HOP>() {
        hops.push(word(hop, 4));
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
        if length < NEXT_HOP {
            break;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::attribute::{nested, put};

    fn sample() -> RouteMessage {
        RouteMessage {
            family: INET,
            destination_length: 24,
            table: 7651,
            protocol: libc::RTPROT_STATIC,
            kind: libc::RTN_UNICAST,
            flags: 4,
            destination: Some([192, 168, 7, 0].into()),
            metric: 9,
            device: Some(3),
            gateway: Some([192, 168, 1, 2].into()),
            preferred_source: Some([192, 168, 1, 1].into()),
            mark: Some(0x6d6f_6c65),
            ..RouteMessage::default()
        }
    }

    #[test]
    fn a_route_is_read_as_it_is_written() {
        let v6 = RouteMessage {
            family: INET6,
            table: 254,
            destination: Some("fd00::".parse().unwrap()),
            gateway: None,
            preferred_source: None,
            ..sample()
        };
        for route in [sample(), v6, RouteMessage { kind: libc::RTN_UNREACHABLE, ..RouteMessage::default() }] {
            let request = route.request(libc::RTM_NEWROUTE);
            assert_eq!(RouteMessage::read(request.kind, &request.body), Some(route));
        }
    }

    #[test]
    fn metrics_and_next_hops_are_read_and_what_is_more_is_said() {
        let mut body = RouteMessage { family: INET, ..RouteMessage::default() }.request(0).body;
        nested(&mut body, RTA_METRICS, |metrics| put(metrics, RTAX_MTU, &1280_u32.to_ne_bytes()));
        let hop = |index: u8| {
            [&16_u16.to_ne_bytes()[..], &[0, 0], &u32::from(index).to_ne_bytes(), &[0; 8]].concat()
        };
        put(&mut body, RTA_MULTIPATH, &[hop(3), hop(7)].concat());
        let read = |body: &[u8]| RouteMessage::read(libc::RTM_NEWROUTE, body).unwrap();
        let route = read(&body);
        assert_eq!((route.mtu, route.hops, route.more), (Some(1280), Some(vec![3, 7]), false));
        for (kind, value) in
            [(RTA_VIA, &[0; 18][..]), (RTA_SRC, &[0; 4]), (RTA_DST, &[0; 16]), (RTA_OIF, &[1])]
        {
            let mut body = body.clone();
            put(&mut body, kind, value);
            assert!(read(&body).more, "{kind}");
        }
        assert_eq!(hops(&[0; 64]), [0]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = RouteMessage::read(libc::RTM_NEWROUTE, &bytes);
        }
    }
}
