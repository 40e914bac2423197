//! Devices, addresses and routes over rtnetlink (linux/rtnetlink.h): exactly what `routing` and `tunnel` use of it.
//!
//! | file | holds |
//! |---|---|
//! | `link.rs`, `address.rs`, `route.rs` | one message each, read and written; pure |
//! | `connection.rs` | asks the kernel, with a time limit; a dump again where it was interrupted |
//!
//! Rules are read and written by `routing::rule` itself: there, whatever is not known has to count.
//! Attributes are in the machine's byte order, addresses in network order.

mod address;
mod connection;
mod link;
mod route;

#[cfg(test)]
mod tests;

use crate::netlink::attribute;

pub(crate) use address::AddressMessage;
pub(crate) use connection::{Connection, DUMP_TRIES, Error};
pub(crate) use link::LinkMessage;
pub(crate) use route::RouteMessage;

/// `AF_INET` and `AF_INET6` as the messages' headers have them.
pub(crate) const INET: u8 = libc::AF_INET as u8;
pub(crate) const INET6: u8 = libc::AF_INET6 as u8;

/// A question, or a change that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// `RTM_*`.
    pub kind: u16,
    /// The fixed part (`struct ifinfomsg`, ...) and the attributes.
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(kind: u16, fixed: &[u8]) -> Self {
        Self { kind, body: fixed.to_vec() }
    }

    pub fn number(&mut self, attribute: u16, value: u32) {
        attribute::native(&mut self.body, attribute, value);
    }
}

/// The fixed part of a message, and its attributes.
pub(crate) fn fixed<const LENGTH: usize>(body: &[u8]) -> Option<(&[u8; LENGTH], &[u8])> {
    body.split_first_chunk()
}

/// Four bytes of a fixed part, in the machine's order.
pub(crate) fn word<const LENGTH: usize>(fixed: &[u8; LENGTH], at: usize) -> u32 {
    fixed.get(at..at + 4).and_then(attribute::ne32).unwrap_or(0)
}
