//! The contract's cells: for each row the packets that must pass and those beside it that must
//! not, in every state, at every hook, in both families.

mod default;
mod lan;
mod tunnel;
mod wan;

use std::net::IpAddr;

use crate::house::ip;
use crate::packets::{Body, Packet, SYN, octets};
use crate::probes::Case;
use crate::raw::Binding;
use crate::vpnd::MARK;

/// Every case, with ports that no earlier one used (a flow of a former state would be
/// "established" in the next).
#[must_use]
pub fn all() -> Vec<Case> {
    let mut ports = Ports(fastrand::u16(20_000..40_000));
    let mut cases = Vec::new();
    for family in [Family::V4, Family::V6] {
        for group in [lan::cases, wan::cases, tunnel::cases, default::cases] {
            cases.extend(group(family, &mut ports));
        }
    }
    cases
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// The family's member of a pair of addresses.
    fn of(self, pair: [&str; 2]) -> IpAddr {
        ip(pair[self as usize])
    }
    fn name(self, what: &str) -> String {
        format!("{what} ({})", if self == Self::V4 { "IPv4" } else { "IPv6" })
    }
    fn is_v4(self) -> bool {
        self == Self::V4
    }
}

pub(crate) struct Ports(u16);

impl Ports {
    fn next(&mut self) -> u16 {
        self.0 += 1;
        self.0
    }
}

fn udp(from: IpAddr, to: IpAddr, ports: (u16, u16)) -> Packet {
    Packet::new(from, to, Body::Udp { from: ports.0, to: ports.1 })
}

fn syn(from: IpAddr, to: IpAddr, ports: (u16, u16)) -> Packet {
    Packet::new(from, to, Body::Tcp { from: ports.0, to: ports.1, flags: SYN })
}

fn ping(from: IpAddr, to: IpAddr, id: u16) -> Packet {
    let kind = if from.is_ipv4() { 8 } else { 128 };
    let [a, b] = id.to_be_bytes();
    Packet::new(from, to, Body::Icmp { kind, code: 0, rest: [a, b, 0, 1], data: Vec::new() })
}

fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, data: Vec<u8>) -> Packet {
    Packet::new(from, to, Body::Icmp { kind, code, rest: [0; 4], data })
}

fn quote(from: IpAddr, to: IpAddr, (kind, code): (u8, u8), about: Packet) -> Packet {
    Packet::new(from, to, Body::Quote { kind, code, rest: [0, 0, 5, 0], about: Box::new(about) })
}

fn raw(from: IpAddr, to: IpAddr, proto: u8) -> Packet {
    // Enough of a header for whoever looks into SCTP (an INIT, RFC 9260), GRE or ESP.
    let data = match proto {
        132 => [
            &[0x4e, 0x20, 0, 80][..],
            &[0; 8],
            &[1, 0, 0, 37],
            &[0, 0, 0, 1, 0, 0, 5, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        ]
        .concat(),
        _ => vec![0; 12],
    };
    Packet::new(from, to, Body::Raw { proto, data })
}

/// Another host of the same network: protocols without ports need a destination each, or two
/// probes were one flow.
fn beside(host: IpAddr, n: u16) -> IpAddr {
    let mut bytes = octets(host);
    if let Some(last) = bytes.last_mut() {
        *last = 10 + (n % 240) as u8;
    }
    match (<[u8; 4]>::try_from(&bytes[..]), <[u8; 16]>::try_from(&bytes[..])) {
        (Ok(v4), _) => v4.into(),
        (_, Ok(v6)) => v6.into(),
        _ => host,
    }
}

fn unbound() -> Binding {
    Binding::default()
}

fn on(device: &str) -> Binding {
    Binding { device: Some(device.to_owned()), mark: None }
}

fn marked() -> Binding {
    Binding { device: None, mark: Some(MARK) }
}
