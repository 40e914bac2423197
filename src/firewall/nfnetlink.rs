//! The few things that are asked of nf_tables over netlink and not through `nft`: what must be
//! quick, or would take a process for one bit.
//!
//! Messages: linux/netfilter/nfnetlink.h and nf_tables.h; how they are answered:
//! net/netfilter/nfnetlink.c and nf_tables_api.c. Headers are in the machine's byte order (netlink
//! is), what is inside attributes in network order.

use std::io;

use super::conntrack::{datagram, open, send};

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `enum nf_tables_msg_types`.
const DELETE_TABLE: u16 = NFTABLES << 8 | 2;
const NEW_FLOWTABLE: u16 = NFTABLES << 8 | 22;
const GET_FLOWTABLE: u16 = NFTABLES << 8 | 23;
/// `NFTA_TABLE_NAME`.
const TABLE_NAME: u16 = 1;
/// `enum nft_flowtable_attributes`.
const FLOWTABLE_TABLE: u16 = 1;
const FLOWTABLE_NAME: u16 = 2;
const FLOWTABLE_FLAGS: u16 = 7;
/// `NFT_FLOWTABLE_HW_OFFLOAD`.
const HARDWARE: u32 = 1;
/// `NFPROTO_UNSPEC`, `NFPROTO_INET`.
const ANY_FAMILY: u8 = 0;
const INET: u8 = 1;
/// linux/netlink.h.
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// Less NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;
/// `struct nlmsghdr`, `struct nfgenmsg`, `struct nlattr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Deletes a table of family inet with all that is in it; fine when it is absent.
///
/// # Errors
/// The kernel's refusal.
pub fn delete_table(name: &str) -> io::Result<()> {
    let socket = open()?;
    let mut batch = message(BATCH_BEGIN, REQUEST, ANY_FAMILY, NFTABLES, &[]);
    batch.extend(message(DELETE_TABLE, REQUEST | ACK, INET, 0, &text_attribute(TABLE_NAME, name)));
    batch.extend(message(BATCH_END, REQUEST, ANY_FAMILY, NFTABLES, &[]));
    send(&socket, &batch)?;
    loop {
        for (kind, body) in messages(&datagram(&socket)?) {
            if kind == MESSAGE_ERROR {
                return match error_of(body) {
                    0 | libc::ENOENT => Ok(()),
                    errno => Err(io::Error::from_raw_os_error(errno)),
                };
            }
        }
    }
}

/// Flowtables that may hand flows to the network hardware ("TABLE NAME"), where packets pass no hook
/// at all: in every table, whoever made it. Empty where the kernel has no nf_tables.
///
/// # Errors
/// When the kernel does not list them.
pub fn hardware_flowtables() -> io::Result<Vec<String>> {
    let socket = open()?;
    send(&socket, &message(GET_FLOWTABLE, REQUEST | DUMP, ANY_FAMILY, 0, &[]))?;
    let mut found = Vec::new();
    loop {
        for (kind, body) in messages(&datagram(&socket)?) {
            match kind {
                NEW_FLOWTABLE => found.extend(in_hardware(body)),
                MESSAGE_DONE => return Ok(found),
                MESSAGE_ERROR => {
                    return match error_of(body) {
                        0 | libc::EINVAL | libc::EOPNOTSUPP => Ok(found),
                        errno => Err(io::Error::from_raw_os_error(errno)),
                    };
                }
                _ => {}
            }
        }
    }
}

/// The flowtable's name, if it is one for hardware. `body`: the message after its header.
fn in_hardware(body: &[u8]) -> Option<String> {
    let text = |value: &[u8]| {
        let words = value.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(words).into_owned()
    };
    let (mut table, mut name, mut flags) = (String::new(), String::new(), 0);
    for (kind, value) in attributes(body.get(GENERIC_HEADER..)?) {
        match kind {
            FLOWTABLE_TABLE => table = text(value),
            FLOWTABLE_NAME => name = text(value),
            FLOWTABLE_FLAGS => flags = u32::from_be_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    (flags & HARDWARE != 0).then(|| format!("{table} {name}"))
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + GENERIC_HEADER + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port id: the socket asks one thing.
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// Ends with a zero, and at a multiple of four (NLA_ALIGN).
fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_HEADER + text.len() + 1).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The errno of an answer, 0 for a plain yes.
fn error_of(body: &[u8]) -> i32 {
    body.first_chunk().map_or(libc::EBADMSG, |code| i32::from_ne_bytes(*code).saturating_neg())
}

/// Type and what follows the header, of each message in a datagram.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number32(bytes, 0), number16(bytes, 4)) {
        let Some(body) = usize::try_from(length).ok().and_then(|end| bytes.get(HEADER..end)) else { break };
        found.push((kind, body));
        bytes = bytes.get((HEADER + body.len()).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number16(bytes, 0), number16(bytes, 2)) {
        let Some(value) = bytes.get(ATTRIBUTE_HEADER..usize::from(length)) else { break };
        found.push((kind & TYPE_MASK, value));
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flowtable(flags: Option<u32>) -> Vec<u8> {
        let mut list = text_attribute(FLOWTABLE_TABLE, "fw4");
        list.extend(text_attribute(FLOWTABLE_NAME, "ft"));
        if let Some(flags) = flags {
            list.extend(8_u16.to_ne_bytes());
            list.extend(FLOWTABLE_FLAGS.to_ne_bytes());
            list.extend(flags.to_be_bytes());
        }
        message(NEW_FLOWTABLE, 0, INET, 0, &list)
    }

    #[test]
    fn only_flowtables_for_hardware_are_named() {
        let wanted = Some("fw4 ft".to_owned());
        for (flags, named) in
            [(None, None), (Some(0), None), (Some(2), None), (Some(1), wanted.clone()), (Some(3), wanted)]
        {
            let mut datagram = message(NEW_FLOWTABLE, 0, INET, 0, &[]);
            datagram.extend(flowtable(flags));
            let found: Vec<String> =
                messages(&datagram).into_iter().filter_map(|(_, body)| in_hardware(body)).collect();
            assert_eq!(found, named.into_iter().collect::<Vec<_>>(), "{flags:?}");
        }
    }

    #[test]
    fn an_answer_says_yes_or_why_not() {
        assert_eq!(error_of(&0_i32.to_ne_bytes()), 0);
        assert_eq!(error_of(&(-libc::ENOENT).to_ne_bytes()), libc::ENOENT);
        assert_eq!(error_of(&[]), libc::EBADMSG);
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for (_, body) in messages(&bytes) {
                let _ = (in_hardware(body), error_of(body));
            }
        }
    }
}
