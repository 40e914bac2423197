//! One packet: where it comes from, and all that a rule can look at.

use std::net::IpAddr;

use crate::packets::{Kind, Marker, ethernet, octets};

/// Who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It arrives on this device of the router's.
    Device(&'static str),
    /// A socket of the router's, bound to a device or not, with a mark or 0.
    Router { device: Option<&'static str>, mark: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    pub origin: Origin,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
    /// The transport header, and what an ICMP error quotes; length and checksum are filled in.
    pub transport: Vec<u8>,
}

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// TCP flags, in byte 13 of its header.
pub const SYN: u8 = 2;
pub const ACK: u8 = 16;

impl Shot {
    #[must_use]
    pub fn v4(&self) -> bool {
        self.destination.is_ipv4()
    }

    /// A header of the least length for `protocol`; what is there stays.
    pub fn become_protocol(&mut self, protocol: u8) {
        self.protocol = protocol;
        let least = if protocol == TCP { 20 } else { 8 };
        if self.transport.len() < least {
            self.transport.resize(least, 0);
        }
        if protocol == TCP {
            self.transport[12] = 0x50;
        }
    }

    pub fn set_port(&mut self, at: usize, port: u16) {
        if self.transport.len() < 8 {
            self.transport.resize(8, 0);
        }
        self.transport[at..at + 2].copy_from_slice(&port.to_be_bytes());
    }

    #[must_use]
    pub fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.transport[at], self.transport[at + 1]])
    }

    /// From the IP header on, with the serial number as the end of the payload.
    #[must_use]
    pub fn bytes(&self, serial: u32) -> Vec<u8> {
        let payload = self.payload(serial);
        let length = payload.len() as u16;
        let mut out;
        if self.v4() {
            out = vec![0x45, 0, 0, 0, 0, 0, 0, 0, self.hops, self.protocol, 0, 0];
            out[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            out[4..6].copy_from_slice(&(serial as u16).to_be_bytes());
            out.extend(octets(self.source));
            out.extend(octets(self.destination));
            let sum = checksum(&[&out]);
            out[10..12].copy_from_slice(&sum);
        } else {
            out = vec![0x60, 0, 0, 0];
            out.extend(length.to_be_bytes());
            out.extend([self.protocol, self.hops]);
            out.extend(octets(self.source));
            out.extend(octets(self.destination));
        }
        out.extend(payload);
        out
    }

    fn payload(&self, serial: u32) -> Vec<u8> {
        let mut out = self.transport.clone();
        out.extend(Marker { kind: Kind::Probe, id: serial, seq: 0 }.bytes());
        let length = out.len() as u32;
        let at = match self.protocol {
            UDP => {
                out[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                6
            }
            TCP => 16,
            1 | 58 => 2,
            _ => return out,
        };
        out[at..at + 2].fill(0);
        let sum = if self.protocol == 1 {
            checksum(&[&out])
        } else {
            let (from, to) = (octets(self.source), octets(self.destination));
            checksum(&[&from, &to, &length.to_be_bytes(), &[0, 0, 0, self.protocol], &out])
        };
        out[at..at + 2].copy_from_slice(&sum);
        out
    }

    /// An Ethernet frame to the router's `mac`, or to all, as the destination wants.
    #[must_use]
    pub fn frame(&self, serial: u32, mac: [u8; 6]) -> Vec<u8> {
        let to = match self.destination {
            IpAddr::V4(to) if to.is_broadcast() => [0xff; 6],
            IpAddr::V4(to) if to.is_multicast() => {
                let [_, b, c, d] = to.octets();
                [1, 0, 0x5e, b & 0x7f, c, d]
            }
            IpAddr::V6(to) if to.is_multicast() => {
                let o = to.octets();
                [0x33, 0x33, o[12], o[13], o[14], o[15]]
            }
            _ => mac,
        };
        let kind = if self.v4() { 0x0800 } else { 0x86dd };
        ethernet(to, [2, 0, 0, 0, 7, 1], kind, &self.bytes(serial))
    }

    /// The ICMP error that `from` sends about this packet.
    #[must_use]
    pub fn error(&self, origin: Origin, from: IpAddr) -> Self {
        let (protocol, kind) = if self.v4() { (1, [3, 1]) } else { (58, [1, 0]) };
        let mut transport = vec![kind[0], kind[1], 0, 0, 0, 0, 0, 0];
        let quoted = self.bytes(0);
        // Without the quoted packet's own serial number.
        transport.extend(&quoted[..quoted.len() - Marker::LEN]);
        Self { origin, source: from, destination: self.source, protocol, hops: 64, transport }
    }
}

/// RFC 1071; each part but the last must be even.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !(sum as u16);
    if sum == 0 { [0xff, 0xff] } else { sum.to_be_bytes() }
}

impl std::fmt::Display for Shot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.origin {
            Origin::Device(device) => write!(f, "on {device}: ")?,
            Origin::Router { device, mark } => {
                write!(f, "from the router (bound to {}, mark {mark:#x}): ", device.unwrap_or("nothing"))?;
            }
        }
        write!(f, "{} > {} protocol {} hops {}", self.source, self.destination, self.protocol, self.hops)?;
        write!(f, " transport ")?;
        self.transport.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
