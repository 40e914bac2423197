//! A door for `fuzz/`: the reader of echo replies, which come from whoever is in the tunnel.

use std::net::IpAddr;

use super::echo;

/// Id, sequence number and cookie.
pub type Repeated = (u16, u16, [u8; echo::COOKIE]);

/// What a packet from `from` repeats of a request.
#[must_use]
pub fn reply(from: IpAddr, packet: &[u8]) -> Option<Repeated> {
    echo::parse_reply(from, packet).map(|ids| (ids.id, ids.sequence, ids.cookie))
}

/// The request that such a reply answers, of `size` bytes with its IP header.
#[must_use]
pub fn request(to: IpAddr, (id, sequence, cookie): Repeated, size: usize) -> Vec<u8> {
    echo::request(to, &echo::Ids { id, sequence, cookie }, size)
}
