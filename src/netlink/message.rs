//! The messages of a datagram (`struct nlmsghdr` of linux/netlink.h). Their header is in the machine's byte order. Pure.

const HEADER: usize = 16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

/// One message, less its header's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// Netlink port: the addressee's in an answer; in a notification that of who made the change.
    pub port: u32,
    pub body: &'a [u8],
}

impl Message<'_> {
    /// Where it ends an answer (`NLMSG_ERROR`, which is also a yes, and `NLMSG_DONE`): 0, or an errno.
    pub fn end(&self) -> Option<i32> {
        let code = self.body.first_chunk().map(|code| i32::from_ne_bytes(*code).wrapping_neg());
        match self.kind {
            ERROR => Some(code.unwrap_or(libc::EPROTO)),
            DONE => Some(code.unwrap_or(0)),
            _ => None,
        }
    }
}

/// The messages of a datagram, up to the first malformed one.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (message, rest) = first(bytes)?;
        bytes = rest;
        Some(message)
    })
}

/// The first one, and what follows it.
fn first(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = word(0)? as usize;
    let body = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, port: word(12)?, body }, rest))
}

/// Adds a request. `flags` (`NLM_F_*`): beside `NLM_F_REQUEST`.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u16, flags: i32, sequence: u32, body: &[u8]) {
    let length = (HEADER + body.len()) as u32;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // From whom the kernel knows.
    bytes.extend([0; 4]);
    bytes.extend(body);
    // Messages in one datagram start at multiples of four (NLMSG_ALIGN).
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_is_cut_into_what_it_was_put_together_from() {
        let mut bytes = Vec::new();
        put(&mut bytes, 20, libc::NLM_F_DUMP, 1, &[1, 2, 3]);
        put(&mut bytes, ERROR, 0, 2, &(-libc::ENOENT).to_ne_bytes());
        put(&mut bytes, DONE, 0, 3, &[]);
        let cut: Vec<Message<'_>> = messages(&bytes).collect();
        assert_eq!((cut[0].kind, cut[0].flags, cut[0].body), (20, 0x301, &[1, 2, 3][..]));
        let ends: Vec<_> = cut.iter().map(|message| (message.sequence, message.end())).collect();
        assert_eq!(ends, [(1, None), (2, Some(libc::ENOENT)), (3, Some(0))]);
        // Cut off anywhere: the whole ones before.
        for length in 0..bytes.len() {
            assert!(messages(&bytes[..length]).count() < 3, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let read: usize = messages(&bytes).map(|message| HEADER + message.body.len()).sum();
            prop_assert!(read <= bytes.len());
            for message in messages(&bytes) {
                let _ = message.end();
            }
        }
    }
}
