//! What can go wrong with the tunnel device, and what to do about it.

use std::io;

use super::DEVICE;
use crate::rtnetlink;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel knows no such kind of device.
    #[error("creating {DEVICE}: this kernel has no WireGuard; install the package kmod-wireguard")]
    NoWireguard,
    /// Something else has the name. It is not ours to delete.
    #[error(
        "creating {DEVICE}: a device of that name and of kind '{kind}' is there already; rename or remove it"
    )]
    Foreign { kind: String },
    /// EADDRINUSE. Another port may do.
    #[error("opening UDP port {port} for {DEVICE}: another program listens on it; take another port")]
    PortTaken { port: u16 },
    /// Somebody deleted the device.
    #[error("{action}: {DEVICE} is not there; create it again")]
    Gone { action: &'static str },
    /// The kernel ignores a peer whose public key is the device's own.
    #[error(
        "setting the peer '{relay}' of {DEVICE}: the kernel did not take it; is its public key that of our own private key?"
    )]
    PeerRefused { relay: String },
    #[error("adding the address {address} to {DEVICE}: {source}{}", hint(address, source))]
    Address { address: ipnet::IpNet, source: io::Error },
    #[error("{action} {DEVICE}: {source}")]
    Kernel { action: &'static str, source: io::Error },
}

fn hint(address: &ipnet::IpNet, error: &io::Error) -> &'static str {
    let disabled = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EOPNOTSUPP | libc::EAFNOSUPPORT));
    if disabled && address.addr().is_ipv6() {
        "; IPv6 is switched off in this kernel: enable it, or take the address out of `config tunnel`"
    } else {
        ""
    }
}

impl Error {
    pub(super) fn kernel(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENODEV) => Self::Gone { action },
            _ => Self::Kernel { action, source },
        }
    }

    /// For calls that may open the UDP socket on `port`.
    pub(super) fn socket(action: &'static str, port: u16, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::PortTaken { port },
            _ => Self::kernel(action, source),
        }
    }

    pub(super) fn netlink(action: &'static str, source: rtnetlink::Error) -> Self {
        Self::kernel(action, source.into_io())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_tried() {
        let silent = Error::netlink("setting the MTU of", rtnetlink::Error::Silent);
        assert_eq!(silent.to_string(), "setting the MTU of vpnd0: timed out");

        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        assert!(matches!(Error::socket("x", 5, taken), Error::PortTaken { port: 5 }));
        let gone = io::Error::from_raw_os_error(libc::ENODEV);
        assert!(matches!(Error::socket("x", 5, gone), Error::Gone { action: "x" }));
        assert!(Error::NoWireguard.to_string().contains("kmod-wireguard"));

        let off = Error::Address {
            address: "fd64::2/128".parse().unwrap(),
            source: io::Error::from_raw_os_error(libc::EACCES),
        };
        assert!(off.to_string().contains("IPv6 is switched off"), "{off}");
    }
}
