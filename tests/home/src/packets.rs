//! IP packets for probes, built byte by byte so that nothing is too odd to be sent.

use std::net::IpAddr;

/// What every packet of ours carries in its payload, so that it is known again wherever it comes
/// out, also after NAT and inside the quotation of an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    pub kind: Kind,
    pub id: u32,
    pub seq: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One packet of a test, from anywhere.
    Probe = b'P' as isize,
    /// A packet of a flood from the LAN.
    LanFlood = b'L' as isize,
    /// A packet of a flood from the router.
    RouterFlood = b'R' as isize,
    /// An allowed packet that the capture must hold.
    Control = b'C' as isize,
}

const MAGIC: &[u8; 8] = b"vpndHOME";

impl Marker {
    pub const LEN: usize = 17;

    #[must_use]
    pub fn bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8] = self.kind as u8;
        out[9..13].copy_from_slice(&self.id.to_be_bytes());
        out[13..].copy_from_slice(&self.seq.to_be_bytes());
        out
    }

    /// The first marker in these bytes.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let at = bytes.windows(MAGIC.len()).position(|w| w == MAGIC)?;
        let rest = bytes.get(at + 8..at + Self::LEN)?;
        let kind = match rest[0] {
            b'P' => Kind::Probe,
            b'L' => Kind::LanFlood,
            b'R' => Kind::RouterFlood,
            b'C' => Kind::Control,
            _ => return None,
        };
        let number = |part: &[u8]| part.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        Some(Self { kind, id: number(&rest[1..5]), seq: number(&rest[5..]) })
    }

    #[must_use]
    pub fn is_in(self, bytes: &[u8]) -> bool {
        bytes.windows(Self::LEN).any(|w| w == self.bytes())
    }
}

/// What a packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Udp {
        from: u16,
        to: u16,
    },
    Tcp {
        from: u16,
        to: u16,
        flags: u8,
    },
    /// ICMP or ICMPv6, by the packet's family. `rest`: the four bytes after the checksum.
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        data: Vec<u8>,
    },
    /// An error about another packet.
    Quote {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        about: Box<Packet>,
    },
    /// Any other protocol (ESP, GRE, 6in4, SCTP, ...).
    Raw {
        proto: u8,
        data: Vec<u8>,
    },
}

pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// An IP packet, v4 or v6 by its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub from: IpAddr,
    pub to: IpAddr,
    pub hops: u8,
    pub body: Body,
    /// Offset in units of eight bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    /// An IPv6 extension header before the body: 0 hop-by-hop, 60 destination options, 43 routing.
    pub extension: Option<u8>,
}

impl Packet {
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, body: Body) -> Self {
        Self { from, to, hops: 64, body, fragment: None, extension: None }
    }

    #[must_use]
    pub fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// The packet that answers this one.
    #[must_use]
    pub fn reply(&self) -> Self {
        let body = match &self.body {
            Body::Udp { from, to } => Body::Udp { from: *to, to: *from },
            Body::Tcp { from, to, .. } => Body::Tcp { from: *to, to: *from, flags: SYN | ACK },
            Body::Icmp { rest, .. } => Body::Icmp {
                kind: if self.from.is_ipv4() { 0 } else { 129 },
                code: 0,
                rest: *rest,
                data: Vec::new(),
            },
            other => other.clone(),
        };
        Self { from: self.to, to: self.from, hops: 64, body, fragment: None, extension: None }
    }

    /// The bytes on the wire from the IP header on, with the marker as the end of the payload.
    #[must_use]
    pub fn bytes(&self, marker: Marker) -> Vec<u8> {
        let (proto, payload) = self.payload(marker);
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut out = vec![0x45, 0, 0, 0, 0x12, 0x34, 0, 0, self.hops, proto, 0, 0];
                out[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
                if let Some((offset, more)) = self.fragment {
                    out[6..8].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
                }
                out.extend(from.octets());
                out.extend(to.octets());
                let sum = checksum(&[&out]);
                out[10..12].copy_from_slice(&sum);
                out.extend(payload);
                out
            }
            _ => {
                let mut middle = Vec::new();
                let mut next = proto;
                if let Some((offset, more)) = self.fragment {
                    let field = offset << 3 | u16::from(more);
                    middle = [&[next, 0], &field.to_be_bytes()[..], &[0, 0, 0x12, 0x34]].concat();
                    next = 44;
                }
                if let Some(kind) = self.extension {
                    // Six bytes of padding option; a routing header of type 4 with nothing left.
                    let options: [u8; 6] = if kind == 43 { [4, 0, 0, 0, 0, 0] } else { [1, 4, 0, 0, 0, 0] };
                    middle = [&[next, 0][..], &options, &middle].concat();
                    next = kind;
                }
                let length = (middle.len() + payload.len()) as u16;
                let mut out = vec![0x60, 0, 0, 0];
                out.extend(length.to_be_bytes());
                out.extend([next, self.hops]);
                out.extend(octets(self.from));
                out.extend(octets(self.to));
                out.extend(middle);
                out.extend(payload);
                out
            }
        }
    }

    fn payload(&self, marker: Marker) -> (u8, Vec<u8>) {
        let v4 = self.from.is_ipv4();
        let (proto, mut out, sum_at) = match &self.body {
            Body::Udp { from, to } => {
                let mut out = [from.to_be_bytes(), to.to_be_bytes(), [0; 2], [0; 2]].concat();
                out.extend(marker.bytes());
                let length = (out.len() as u16).to_be_bytes();
                out[4..6].copy_from_slice(&length);
                (17, out, Some(6))
            }
            Body::Tcp { from, to, flags } => {
                let mut out = [from.to_be_bytes(), to.to_be_bytes()].concat();
                // An answer's marker has the same id: it acknowledges the question.
                out.extend(marker.id.to_be_bytes());
                out.extend(if flags & ACK == 0 { 0 } else { marker.id + 1 }.to_be_bytes());
                out.extend([0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
                out.extend(marker.bytes());
                (6, out, Some(16))
            }
            Body::Icmp { kind, code, rest, data } => {
                let mut out = [&[*kind, *code, 0, 0], &rest[..], data].concat();
                if !v4 && (133..=137).contains(kind) {
                    // Options of neighbour discovery: one of a type that nobody knows.
                    out.extend([253, 3]);
                    out.extend(marker.bytes());
                    out.extend([0; 5]);
                } else {
                    out.extend(marker.bytes());
                }
                (if v4 { 1 } else { 58 }, out, Some(2))
            }
            Body::Quote { kind, code, rest, about } => {
                let out = [&[*kind, *code, 0, 0], &rest[..], &about.bytes(marker)].concat();
                (if v4 { 1 } else { 58 }, out, Some(2))
            }
            Body::Raw { proto, data } => (*proto, [&data[..], &marker.bytes()].concat(), None),
        };
        if let Some(at) = sum_at {
            let sum = if proto == 1 {
                checksum(&[&out])
            } else {
                let length = (out.len() as u32).to_be_bytes();
                checksum(&[&octets(self.from), &octets(self.to), &length, &[0, 0, 0, proto], &out])
            };
            out[at..at + 2].copy_from_slice(&sum);
        }
        (proto, out)
    }
}

/// An Ethernet frame around a packet.
#[must_use]
pub fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// An ARP packet: operation 1 asks, 2 answers.
#[must_use]
pub fn arp(operation: u16, sender: ([u8; 6], [u8; 4]), target: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    [&head[..], &operation.to_be_bytes(), &sender.0, &sender.1, &target.0, &target.1].concat()
}

#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// RFC 1071 over the concatenation; each part but the last must be even.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // An all-zero UDP checksum would mean "none".
    let sum = !(sum as u16);
    if sum == 0 { [0xff, 0xff] } else { sum.to_be_bytes() }
}

/// What a captured IP packet says, as far as the contract cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub from: IpAddr,
    pub to: IpAddr,
    pub hops: u8,
    /// The upper protocol, after IPv6 extension headers.
    pub proto: u8,
    /// IPv6 extension headers on the way, in order (44 = fragment).
    pub extensions: Vec<u8>,
    /// Any fragment but an unfragmented packet.
    pub fragment: bool,
    /// Source and destination port of TCP and UDP; type and code of ICMP(v6). None on later fragments.
    pub ports: Option<(u16, u16)>,
    pub icmp: Option<(u8, u8)>,
    pub tcp_flags: Option<u8>,
    /// From the upper header on.
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads an IP packet; None when it is none or is cut off.
    #[must_use]
    pub fn parse(ip: &[u8]) -> Option<Self> {
        let mut seen = match ip.first()? >> 4 {
            4 => Self::parse_v4(ip)?,
            6 => Self::parse_v6(ip)?,
            _ => return None,
        };
        let first = seen.tcp_flags.take().is_some();
        if first {
            let p = &seen.payload;
            let port = |at: usize| Some(u16::from_be_bytes([*p.get(at)?, *p.get(at + 1)?]));
            match seen.proto {
                6 | 17 | 132 => seen.ports = port(0).zip(port(2)),
                1 | 58 => seen.icmp = p.first().copied().zip(p.get(1).copied()),
                _ => {}
            }
            if seen.proto == 6 {
                seen.tcp_flags = p.get(13).copied();
            }
        }
        Some(seen)
    }

    // `tcp_flags` is Some(0) on a first fragment until `parse` is done with it.
    fn parse_v4(ip: &[u8]) -> Option<Self> {
        let header = usize::from(ip.first()? & 15) * 4;
        let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
        let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
        let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        Some(Self {
            from: address(12)?,
            to: address(16)?,
            hops: *ip.get(8)?,
            proto: *ip.get(9)?,
            extensions: Vec::new(),
            fragment: fragment != 0,
            ports: None,
            icmp: None,
            tcp_flags: (fragment & 0x1fff == 0).then_some(0),
            payload: ip.get(header..length.min(ip.len()))?.to_vec(),
        })
    }

    fn parse_v6(ip: &[u8]) -> Option<Self> {
        let length = 40 + usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
        let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
        let (mut proto, mut at) = (*ip.get(6)?, 40);
        let (mut extensions, mut fragment, mut first) = (Vec::new(), false, true);
        while matches!(proto, 0 | 43 | 44 | 60) && first {
            extensions.push(proto);
            let next = *ip.get(at)?;
            if proto == 44 {
                let field = u16::from_be_bytes([*ip.get(at + 2)?, *ip.get(at + 3)?]);
                fragment = true;
                first = field >> 3 == 0;
                at += 8;
            } else {
                at += 8 + usize::from(*ip.get(at + 1)?) * 8;
            }
            proto = next;
        }
        Some(Self {
            from: address(8)?,
            to: address(24)?,
            hops: *ip.get(7)?,
            proto,
            extensions,
            fragment,
            ports: None,
            icmp: None,
            tcp_flags: first.then_some(0),
            payload: ip.get(at..length.min(ip.len()))?.to_vec(),
        })
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let proto = match self.proto {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "icmpv6".to_owned(),
            other => format!("protocol {other}"),
        };
        let (from, to) = self
            .ports
            .map_or((String::new(), String::new()), |(a, b)| (format!(" port {a}"), format!(" port {b}")));
        write!(f, "{proto} {}{from} > {}{to}", self.from, self.to)?;
        if let Some((kind, code)) = self.icmp {
            write!(f, " type {kind} code {code}")?;
        }
        if let Some(flags) = self.tcp_flags {
            write!(f, " flags {flags:#04x}")?;
        }
        if !self.extensions.is_empty() {
            write!(f, " extension headers {:?}", self.extensions)?;
        }
        if self.fragment {
            write!(f, " fragment")?;
        }
        write!(f, " hops {} length {}", self.hops, self.payload.len())?;
        match Marker::find(&self.payload) {
            Some(m) => write!(f, " [ours: {:?} {}/{}]", m.kind, m.id, m.seq),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Marker = Marker { kind: Kind::Probe, id: 7, seq: 9 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_built_is_read_back() {
        for (a, b) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let bytes = Packet::new(ip(a), ip(b), Body::Udp { from: 1000, to: 53 }).bytes(M);
            let seen = Seen::parse(&bytes).unwrap();
            assert_eq!((seen.from, seen.to, seen.ports), (ip(a), ip(b), Some((1000, 53))));
            assert_eq!(Marker::find(&seen.payload), Some(M));
        }
    }

    #[test]
    fn ports_are_found_behind_extension_headers_and_not_in_later_fragments() {
        let mut packet = Packet::new(ip("2001:db8::1"), ip("2001:db8::2"), Body::Udp { from: 1, to: 2 });
        packet.extension = Some(60);
        let seen = Seen::parse(&packet.bytes(M)).unwrap();
        assert_eq!((seen.proto, seen.ports, seen.extensions), (17, Some((1, 2)), vec![60]));
        packet.fragment = Some((4, false));
        let seen = Seen::parse(&packet.bytes(M)).unwrap();
        assert_eq!((seen.fragment, seen.ports), (true, None));
        packet.fragment = Some((0, true));
        assert_eq!(Seen::parse(&packet.bytes(M)).unwrap().ports, Some((1, 2)));
    }

    #[test]
    fn cut_off_bytes_are_no_packet() {
        let bytes = Packet::new(ip("2001:db8::1"), ip("2001:db8::2"), Body::Udp { from: 1, to: 2 }).bytes(M);
        for end in 0..40 {
            assert_eq!(Seen::parse(&bytes[..end]), None);
        }
    }
}
