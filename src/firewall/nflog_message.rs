//! nfnetlink_log on the wire, as far as hearing of blocked packets needs it
//! (linux/netfilter/nfnetlink_log.h, net/netfilter/nfnetlink_log.c). Pure.

use std::net::IpAddr;

use crate::policy::Row;

use super::base::{LOG_GROUP, LOG_PREFIX};
pub use super::evaluate::Hook;
use crate::netlink::attribute::{attributes, be16, be32, ip, put};
use crate::netlink::{message, messages};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_ULOG as u16) << 8;
/// `enum nfulnl_msg_types`.
const MSG_PACKET: u16 = SUBSYSTEM;
const MSG_CONFIG: u16 = SUBSYSTEM | 1;
/// `struct nfgenmsg`.
const GENERIC_HEADER: usize = 4;

/// `enum nfulnl_attr_type`.
const PACKET_HDR: u16 = 1;
const IFINDEX_INDEV: u16 = 4;
const IFINDEX_OUTDEV: u16 = 5;
const HWADDR: u16 = 8;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
/// `enum nfulnl_attr_config`.
const CFG_CMD: u16 = 1;
const CFG_MODE: u16 = 2;
const CFG_TIMEOUT: u16 = 4;
const CFG_QTHRESH: u16 = 5;
/// `NFULNL_CFG_CMD_BIND`.
const BIND: u8 = 1;
/// `NFULNL_COPY_PACKET`.
const COPY_PACKET: u8 = 2;

/// Bytes of each packet that are looked at: the headers that tell where it was going.
const SNAP: u32 = 96;
/// Packets, and hundredths of a second, that the kernel gathers into one datagram.
const GATHER: u32 = 32;
const GATHER_TIME: u32 = 50;

/// A packet that a rule of ours blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub row: Row,
    pub hook: Hook,
    /// Device indices.
    pub input: Option<u32>,
    pub output: Option<u32>,
    /// The sender's Ethernet address.
    pub mac: Option<[u8; 6]>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IANA's number; behind IPv6 extension headers, as far as those were heard.
    pub protocol: u8,
    /// Destination port; of ICMP(v6) the type. None: a later fragment, or no such thing.
    pub port: Option<u16>,
}

/// Asks for the packets of our group, each with its first bytes. Two messages, as the second
/// needs what the first makes.
#[must_use]
pub(super) fn bind() -> Vec<u8> {
    let (mut command, mut mode) = (Vec::new(), Vec::new());
    put(&mut command, CFG_CMD, &[BIND]);
    let [a, b, c, d] = SNAP.to_be_bytes();
    put(&mut mode, CFG_MODE, &[a, b, c, d, COPY_PACKET, 0]);
    put(&mut mode, CFG_TIMEOUT, &GATHER_TIME.to_be_bytes());
    put(&mut mode, CFG_QTHRESH, &GATHER.to_be_bytes());
    let mut bytes = Vec::new();
    for (sequence, attributes) in [(1_u32, command), (2, mode)] {
        let [high, low] = LOG_GROUP.to_be_bytes();
        // AF_UNSPEC, NFNETLINK_V0, the group.
        let body = [&[0, 0, high, low], &attributes[..]].concat();
        message::put(&mut bytes, MSG_CONFIG, libc::NLM_F_ACK, sequence, &body);
    }
    bytes
}

/// What a datagram says, as far as it makes sense.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heard {
    pub packets: Vec<Packet>,
    /// Answers to requests: 0 or an errno.
    pub answers: Vec<i32>,
}

/// Reads a datagram. Whatever is malformed, or was not logged by rules of ours, is left out; no
/// bytes can make it panic or hold more than the datagram did.
#[must_use]
pub fn read(bytes: &[u8]) -> Heard {
    let mut heard = Heard::default();
    for message in messages(bytes) {
        if message.kind == MSG_PACKET {
            heard.packets.extend(message.body.get(GENERIC_HEADER..).and_then(packet));
        } else {
            heard.answers.extend(message.end());
        }
    }
    heard
}

fn packet(bytes: &[u8]) -> Option<Packet> {
    let (mut hook, mut row, mut payload) = (None, None, None);
    let (mut input, mut output, mut mac) = (None, None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            PACKET_HDR => hook = value.get(2).copied().and_then(hook_of),
            IFINDEX_INDEV => input = be32(value),
            IFINDEX_OUTDEV => output = be32(value),
            HWADDR => mac = ethernet(value),
            PAYLOAD => payload = addressed(value),
            PREFIX => row = row_of(value),
            _ => {}
        }
    }
    let Headers { source, destination, protocol, port } = payload?;
    Some(Packet { row: row?, hook: hook?, input, output, mac, source, destination, protocol, port })
}

/// `enum nf_inet_hooks`.
fn hook_of(number: u8) -> Option<Hook> {
    const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    HOOKS.get(usize::from(number)).copied()
}

fn row_of(prefix: &[u8]) -> Option<Row> {
    let text = std::str::from_utf8(prefix).ok()?.trim_end_matches('\0');
    Row::of_number(text.strip_prefix(LOG_PREFIX)?)
}

/// `struct nfulnl_msg_packet_hw`.
fn ethernet(value: &[u8]) -> Option<[u8; 6]> {
    (be16(value.get(..2)?)? == 6).then(|| value.get(4..10)?.try_into().ok())?
}

/// Where a packet comes from and goes to.
struct Headers {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    port: Option<u16>,
}

/// RFC 791 and RFC 8200.
fn addressed(packet: &[u8]) -> Option<Headers> {
    let (source, destination, protocol, transport) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let first = be16(packet.get(6..8)?)? & 0x1fff == 0;
            let transport = if first { packet.get(header..) } else { None };
            (ip(packet.get(12..16)?)?, ip(packet.get(16..20)?)?, *packet.get(9)?, transport)
        }
        6 => {
            let (protocol, transport) = behind_extensions(*packet.get(6)?, packet.get(40..)?);
            (ip(packet.get(8..24)?)?, ip(packet.get(24..40)?)?, protocol, transport)
        }
        _ => return None,
    };
    let port = transport.and_then(|transport| port(protocol, transport));
    Some(Headers { source, destination, protocol, port })
}

/// The protocol behind hop-by-hop (0), routing (43), destination options (60) and fragment (44)
/// headers, and its bytes unless this is a later fragment.
fn behind_extensions(mut protocol: u8, mut rest: &[u8]) -> (u8, Option<&[u8]>) {
    while let (0 | 43 | 44 | 60, Some([next, length])) = (protocol, rest.first_chunk()) {
        if protocol == 44 && rest.get(2..4).and_then(be16).is_some_and(|offset| offset >= 8) {
            return (*next, None);
        }
        let bytes = if protocol == 44 { 8 } else { (usize::from(*length) + 1) * 8 };
        (protocol, rest) = (*next, rest.get(bytes..).unwrap_or_default());
    }
    (protocol, Some(rest))
}

/// Destination port of TCP, UDP, DCCP, SCTP, UDP-Lite; the type of ICMP and ICMPv6.
fn port(protocol: u8, transport: &[u8]) -> Option<u16> {
    match protocol {
        1 | 58 => transport.first().map(|kind| u16::from(*kind)),
        6 | 17 | 33 | 132 | 136 => transport.get(2..4).and_then(be16),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
