//! ctnetlink on the wire, as far as listing and deleting connections needs it.

use crate::netlink::attribute::{NESTED, attributes, be16, be32, ip, put};
use crate::policy::flows::{Flow, Tuple};

/// linux/netfilter/nfnetlink.h: the subsystem is the high byte of a message's type.
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
/// `enum cntl_msg_types` of linux/netfilter/nfnetlink_conntrack.h.
const MSG_NEW: u16 = SUBSYSTEM;
pub(super) const MSG_GET: u16 = SUBSYSTEM | 1;
pub(super) const MSG_DELETE: u16 = SUBSYSTEM | 2;
/// `struct nfgenmsg`: family, version, resource id.
pub(super) const GENERIC_HEADER: usize = 4;

/// `enum ctattr_type`.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
/// `enum ctattr_tuple`.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// `enum ctattr_ip`.
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
/// `enum ctattr_l4proto`.
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// A connection, and what the kernel needs to find it again: exactly what it said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// None when the entry does not say what a [`Flow`] needs.
    pub flow: Option<Flow>,
    family: u8,
    /// Payload of CTA_TUPLE_ORIG.
    original: Vec<u8>,
    /// Payloads of CTA_ID and CTA_ZONE, where given. The id keeps a successor with the same
    /// tuple from being deleted.
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

impl Entry {
    /// None: the message is about something else.
    pub(super) fn of_message(kind: u16, body: &[u8]) -> Option<Self> {
        let (generic, rest) = body.split_first_chunk::<GENERIC_HEADER>().filter(|_| kind == MSG_NEW)?;
        Some(Self::read(generic[0], rest))
    }

    /// The content of a [`MSG_DELETE`].
    pub(super) fn deletion(&self) -> Vec<u8> {
        // NFNETLINK_V0 and resource 0.
        let mut body = vec![self.family, 0, 0, 0];
        body.extend(self.delete_attributes());
        body
    }

    /// `bytes`: the message after `struct nfgenmsg`. Whatever is missing or malformed is left out.
    fn read(family: u8, bytes: &[u8]) -> Self {
        let mut entry = Self { family, ..Self::default() };
        let (mut original, mut reply) = (None, None);
        let (mut status, mut mark) = (0, 0);
        for (kind, value) in attributes(bytes) {
            match kind {
                CTA_TUPLE_ORIG => {
                    original = tuple(value);
                    entry.original = value.to_vec();
                }
                CTA_TUPLE_REPLY => reply = tuple(value),
                CTA_STATUS => status = be32(value).unwrap_or(0),
                CTA_MARK => mark = be32(value).unwrap_or(0),
                CTA_ID => entry.id = Some(value.to_vec()),
                CTA_ZONE => entry.zone = Some(value.to_vec()),
                _ => {}
            }
        }
        let zone = entry.zone.as_deref().and_then(be16).unwrap_or(0);
        if let (Some((protocol, original)), Some((_, reply))) = (original, reply) {
            entry.flow = Some(Flow { original, reply, protocol, mark, status, zone });
        }
        entry
    }

    fn delete_attributes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, CTA_TUPLE_ORIG | NESTED, &self.original);
        if let Some(zone) = &self.zone {
            put(&mut bytes, CTA_ZONE, zone);
        }
        if let Some(id) = &self.id {
            put(&mut bytes, CTA_ID, id);
        }
        bytes
    }
}

/// Protocol, addresses and ports of a CTA_TUPLE_*.
fn tuple(bytes: &[u8]) -> Option<(u8, Tuple)> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for (kind, value) in attributes(bytes) {
        match kind {
            CTA_TUPLE_IP => {
                for (kind, value) in attributes(value) {
                    match kind {
                        CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = ip(value),
                        CTA_IP_V4_DST | CTA_IP_V6_DST => destination = ip(value),
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_PROTO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        CTA_PROTO_NUM => protocol = value.first().copied(),
                        CTA_PROTO_SRC_PORT => source_port = be16(value)?,
                        CTA_PROTO_DST_PORT => destination_port = be16(value)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let tuple = Tuple { source: source?, destination: destination?, source_port, destination_port };
    Some((protocol?, tuple))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp_tuple(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let (mut ip, mut proto, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
        put(&mut ip, CTA_IP_V4_SRC, &source);
        put(&mut ip, CTA_IP_V4_DST, &destination);
        put(&mut proto, CTA_PROTO_NUM, &[17]);
        put(&mut proto, CTA_PROTO_SRC_PORT, &[0x12, 0x34]);
        put(&mut proto, CTA_PROTO_DST_PORT, &[0, 53]);
        put(&mut tuple, CTA_TUPLE_IP | NESTED, &ip);
        put(&mut tuple, CTA_TUPLE_PROTO | NESTED, &proto);
        tuple
    }

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, CTA_TUPLE_ORIG, &udp_tuple([192, 168, 1, 2], [198, 51, 100, 1]));
        put(&mut bytes, CTA_TUPLE_REPLY, &udp_tuple([198, 51, 100, 1], [10, 64, 0, 9]));
        put(&mut bytes, CTA_STATUS, &[0, 0, 1, 0x8e]);
        put(&mut bytes, CTA_MARK, &[0x6d, 0x6f, 0x6c, 0x64]);
        put(&mut bytes, CTA_ID, &[1, 2, 3, 4]);
        put(&mut bytes, CTA_ZONE, &[0, 7]);
        bytes
    }

    #[test]
    fn an_entry_is_read_in_network_byte_order() {
        let entry = Entry::read(2, &sample());
        let flow = entry.flow.clone().unwrap();
        assert_eq!(flow.original.source_port, 0x1234);
        assert_eq!(flow.original.destination_port, 53);
        assert_eq!(flow.reply.destination.to_string(), "10.64.0.9");
        assert_eq!((flow.protocol, flow.mark, flow.status, flow.zone), (17, 0x6d6f_6c64, 0x18e, 7));
        // What is sent back for deletion says the same tuple, zone and id.
        let again = Entry::read(2, &entry.delete_attributes());
        assert_eq!((again.original, again.id, again.zone), (entry.original, entry.id, entry.zone));
    }

    #[test]
    fn an_entry_cut_off_anywhere_is_read_without_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            let entry = Entry::read(2, &whole[..length]);
            assert!(entry.flow.is_none() || length > 90, "a flow out of {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Entry::read(2, &bytes);
        }
        #[test]
        fn no_damage_panics(at in 0usize..170, byte in any::<u8>()) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Entry::read(10, &bytes);
        }
    }
}
