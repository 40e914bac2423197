//! WAN of every kind under the real daemon: leases kept by the real DHCP clients, uplinks that come,
//! go and change their names and addresses. While LAN and router send all they can, nothing
//! leaves that the contract does not list: captured at the ISP's end. Needs root; no WireGuard: the router is
//! blocked throughout, or has the rules of another state.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../netns/mod.rs"]
mod netns;

mod change;
mod lease;
mod lease6;
mod router;

/// The internet's addresses, of both families.
fn both() -> Vec<std::net::IpAddr> {
    [netns::INTERNET, netns::INTERNET6].map(|address| address.parse().unwrap()).to_vec()
}
