//! An address of a device (`struct ifaddrmsg` and `IFA_*` of linux/if_addr.h). Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{INET, INET6, Request, fixed, word};
use crate::netlink::attribute::{address, attributes, ip};

const FIXED: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AddressMessage {
    /// Of its device.
    pub index: u32,
    pub prefix_length: u8,
    pub local: Option<IpAddr>,
    /// On a point-to-point device the other end's.
    pub address: Option<IpAddr>,
    /// What the kernel said, to the byte.
    pub said: Vec<u8>,
}

impl AddressMessage {
    /// None: it is about something else.
    pub fn read(kind: u16, body: &[u8]) -> Option<Self> {
        let (header, rest) = fixed::<FIXED>(body).filter(|_| kind == libc::RTM_NEWADDR)?;
        let mut message =
            Self { index: word(header, 4), prefix_length: header[1], said: body.to_vec(), ..Self::default() };
        for (kind, value) in attributes(rest) {
            match kind {
                IFA_LOCAL => message.local = ip(value),
                IFA_ADDRESS => message.address = ip(value),
                _ => {}
            }
        }
        Some(message)
    }

    /// For a dump of all.
    pub fn list() -> Request {
        Request::new(libc::RTM_GETADDR, &[0; FIXED])
    }

    /// Without a route for its network.
    pub fn add(index: u32, net: IpNet) -> Request {
        let family = if net.addr().is_ipv4() { INET } else { INET6 };
        let [a, b, c, d] = index.to_ne_bytes();
        let mut request = Request::new(libc::RTM_NEWADDR, &[family, net.prefix_len(), 0, 0, a, b, c, d]);
        address(&mut request.body, IFA_ADDRESS, net.addr());
        address(&mut request.body, IFA_LOCAL, net.addr());
        if let IpNet::V4(net) = net {
            let host = u32::MAX.checked_shr(net.prefix_len().into()).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(net.addr()) | host);
            address(&mut request.body, IFA_BROADCAST, broadcast.into());
        }
        request.number(IFA_FLAGS, IFA_F_NOPREFIXROUTE);
        request
    }

    pub fn delete(&self) -> Request {
        Request::new(libc::RTM_DELADDR, &self.said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for net in ["10.64.0.2/32", "192.168.1.1/24", "10.0.0.1/0", "fd64::2/128", "2001:db8::1/64"] {
            let net: IpNet = net.parse().unwrap();
            let request = AddressMessage::add(0x0102_0304, net);
            let read = AddressMessage::read(libc::RTM_NEWADDR, &request.body).unwrap();
            assert_eq!((read.index, read.prefix_length), (0x0102_0304, net.prefix_len()));
            assert_eq!((read.local, read.address), (Some(net.addr()), Some(net.addr())));
            assert_eq!(read.delete(), Request { kind: libc::RTM_DELADDR, body: request.body });
        }
    }

    #[test]
    fn a_broadcast_address_has_all_host_bits() {
        let request = AddressMessage::add(1, "192.168.1.1/24".parse().unwrap());
        let broadcast = attributes(&request.body[FIXED..]).find(|(kind, _)| *kind == IFA_BROADCAST);
        assert_eq!(broadcast.unwrap().1, [192, 168, 1, 255]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = AddressMessage::read(libc::RTM_NEWADDR, &bytes);
        }
    }
}
