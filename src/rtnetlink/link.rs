//! A device (`struct ifinfomsg` of linux/rtnetlink.h, `IFLA_*` of linux/if_link.h). Pure.

use super::{Request, fixed, word};
use crate::netlink::attribute::{attributes, ne32, nested, string, text};

const FIXED: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LinkMessage {
    pub index: u32,
    /// `IFF_*` of linux/if.h.
    pub flags: u32,
    pub name: String,
    /// "bridge", "vlan", ...; empty for hardware.
    pub kind: String,
    /// Index of the device that it stands on, or of its other end.
    pub link: u32,
    /// That index is one of another network namespace.
    pub elsewhere: bool,
    /// Index of the bridge, bond or VRF that it is in.
    pub master: u32,
    pub group: u32,
    /// Bytes.
    pub mtu: Option<u32>,
}

impl LinkMessage {
    /// None: it is about something else.
    pub fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let (header, rest) = fixed::<FIXED>(body).filter(|_| kind == libc::RTM_NEWLINK)?;
        let mut link = Self { index: word(header, 4), flags: word(header, 8), ..Self::default() };
        for (kind, value) in attributes(rest) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_MTU => link.mtu = ne32(value),
                IFLA_LINK => link.link = ne32(value).unwrap_or(0),
                IFLA_MASTER => link.master = ne32(value).unwrap_or(0),
                IFLA_GROUP => link.group = ne32(value).unwrap_or(0),
                IFLA_LINK_NETNSID => link.elsewhere = true,
                IFLA_LINKINFO => {
                    let mut info = attributes(value);
                    link.kind = info
                        .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                        .map_or_else(String::new, |i| text(i.1));
                }
                _ => {}
            }
        }
        Some(link)
    }

    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }

    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// For a dump of all.
    pub fn list() -> Request {
        request(libc::RTM_GETLINK, 0, 0)
    }

    pub fn named(name: &str) -> Request {
        let mut request = request(libc::RTM_GETLINK, 0, 0);
        string(&mut request.body, IFLA_IFNAME, name);
        request
    }

    pub fn add(name: &str, kind: &str) -> Request {
        let mut request = request(libc::RTM_NEWLINK, 0, 0);
        string(&mut request.body, IFLA_IFNAME, name);
        nested(&mut request.body, IFLA_LINKINFO, |info| string(info, IFLA_INFO_KIND, kind));
        request
    }

    pub fn delete(index: u32) -> Request {
        request(libc::RTM_DELLINK, index, 0)
    }

    pub fn set_up(index: u32) -> Request {
        request(libc::RTM_SETLINK, index, libc::IFF_UP as u32)
    }

    pub fn set_mtu(index: u32, mtu: u32) -> Request {
        let mut request = request(libc::RTM_SETLINK, index, 0);
        request.number(IFLA_MTU, mtu);
        request
    }

    /// With the index, or the kernel would take the group for a choice of devices.
    pub fn set_group(index: u32, group: u32) -> Request {
        let mut request = request(libc::RTM_SETLINK, index, 0);
        request.number(IFLA_GROUP, group);
        request
    }
}

/// `flags`: which `IFF_*` are to be set.
fn request(kind: u16, index: u32, flags: u32) -> Request {
    let mut header = [0; FIXED];
    // Behind family, padding and hardware type: the index, the flags, and which of them are meant.
    for (at, value) in [(4, index), (8, flags), (12, flags)] {
        header[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    Request::new(kind, &header)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_for_reads_as_it_was_meant() {
        let read = |request: &Request| LinkMessage::read(libc::RTM_NEWLINK, &request.body).unwrap();
        let added = read(&LinkMessage::add("vpnd0", "wireguard"));
        assert_eq!((added.name.as_str(), added.kind.as_str(), added.is_up()), ("vpnd0", "wireguard", false));
        let up = read(&LinkMessage::set_up(7));
        assert!(up.index == 7 && up.is_up() && !up.is_loopback());
        let changed = read(&LinkMessage::set_mtu(7, 1380));
        assert_eq!((changed.index, changed.mtu, changed.group), (7, Some(1380), 0));
        let grouped = read(&LinkMessage::set_group(7, 7651));
        assert_eq!((grouped.index, grouped.mtu, grouped.group), (7, None, 7651));
        assert_eq!(LinkMessage::read(libc::RTM_DELLINK, &LinkMessage::add("a", "b").body), None);
    }

    /// netlink-packet-route 0.21 gave up the whole dump over the like of these.
    #[test]
    fn an_attribute_that_nobody_can_read_hides_no_device() {
        let mut request = LinkMessage::add("eth0", "bridge");
        for (kind, value) in
            [(47, &b"x"[..]), (26, b"\0"), (IFLA_MTU, b"abc"), (20, b""), (5, b"\x03\0\0\0\0")]
        {
            crate::netlink::attribute::put(&mut request.body, kind, value);
        }
        request.number(IFLA_GROUP, 9);
        let link = LinkMessage::read(libc::RTM_NEWLINK, &request.body).unwrap();
        assert_eq!((link.name.as_str(), link.mtu, link.link, link.group), ("eth0", None, 0, 9));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = LinkMessage::read(libc::RTM_NEWLINK, &bytes);
        }
    }
}
