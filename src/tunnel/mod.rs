//! The kernel's WireGuard device `vpnd0`, and whether what goes into it is answered.
//!
//! | file | holds |
//! |---|---|
//! | `device.rs` | the device itself: create, adopt, MTU, destroy |
//! | `addresses.rs` | the device's addresses: new ones first, then the old ones go |
//! | `peer.rs` | the one peer, replaced in place, and the device's counters |
//! | `wireguard.rs`, `wireguard_message.rs` | what is asked of the kernel's WireGuard, and its bytes |
//! | `echo.rs` | ICMP and ICMPv6 echo packets, bytes only |
//! | `pinger.rs` | raw sockets bound to the device |
//! | `liveness.rs` | when to ping and when the tunnel is dead; pure |
//! | `probe.rs` | the task that verifies the tunnel and then watches it |
//! | `path_mtu.rs` | finds the size that the path carries when nobody says so |
//!
//! Health is never the link state: a WireGuard device is up with a dead relay, too.

mod addresses;
mod device;
mod echo;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod liveness;
mod path_mtu;
mod peer;
mod pinger;
mod probe;
mod wireguard;
mod wireguard_message;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::TunnelSettings;

pub use device::{Spec, create, destroy, set_mtu, stripped};
pub use error::Error;
pub use liveness::{Liveness, Step};
pub use path_mtu::find_mtu;
pub use peer::{Stats, clear_peer, set_peer, stats};
pub use probe::{ProbeEvent, probe};

/// The tunnel device's name.
pub const DEVICE: &str = "vpnd0";

/// Largest MTU a tunnel gets, bytes: 1500 less 80, what fits any Ethernet path with a relay of
/// either family.
pub const MAX_MTU: u32 = 1420;
/// Smallest MTU with IPv6 inside, bytes (RFC 8200 section 5: IPv6 needs 1280 of every link; the
/// kernel takes a device's IPv6 addresses away below it).
pub const MIN_MTU_V6: u32 = 1280;
/// Smallest MTU without IPv6 inside, bytes (RFC 1122 section 3.3.2: every host reassembles 576).
pub const MIN_MTU_V4: u32 = 576;

/// IPv4 header 20 + UDP 8 + WireGuard's transport header 16 and authentication tag 16, bytes.
const OVERHEAD_V4: u32 = 60;
/// The same with an IPv6 header of 40.
const OVERHEAD_V6: u32 = 80;

/// The MTU of the tunnel device in bytes, for a path to `relay` that carries `path_mtu` bytes.
#[must_use]
pub fn mtu_for(path_mtu: u32, relay: SocketAddr, has_v6: bool) -> u32 {
    let overhead = match relay.ip().to_canonical() {
        IpAddr::V4(_) => OVERHEAD_V4,
        IpAddr::V6(_) => OVERHEAD_V6,
    };
    let least = if has_v6 { MIN_MTU_V6 } else { MIN_MTU_V4 };
    path_mtu.saturating_sub(overhead).clamp(least, MAX_MTU)
}

/// Asked when the configuration names neither probe targets nor resolvers: a public resolver
/// (Quad9) that answers echo requests from anywhere, of either family. It sees the relay's
/// address, not the router's, as the requests are sent inside the tunnel only.
pub const FALLBACK_TARGETS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)), IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe))];

/// What to probe: the listed hosts, else the in-tunnel resolvers, else [`FALLBACK_TARGETS`];
/// only of families that the tunnel has an address of.
#[must_use]
pub fn probe_targets(tunnel: &TunnelSettings) -> Vec<IpAddr> {
    let has = |v4: bool| tunnel.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
    let reachable =
        |list: &[IpAddr]| -> Vec<IpAddr> { list.iter().copied().filter(|ip| has(ip.is_ipv4())).collect() };
    [&tunnel.probe[..], &tunnel.dns[..], &FALLBACK_TARGETS[..]]
        .into_iter()
        .map(reachable)
        .find(|targets| !targets.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WireguardKey;

    #[test]
    fn mtu_is_the_path_less_the_overhead_within_bounds() {
        let v4: SocketAddr = "198.51.100.1:51820".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::1]:51820".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:198.51.100.1]:51820".parse().unwrap();
        for (path, relay, has_v6, want) in [
            (1500, v4, true, 1420),
            (1500, v6, true, 1420),
            (1492, v4, true, 1420),
            (1492, v6, true, 1412),
            (1480, v4, false, 1420),
            (1400, v4, true, 1340),
            (1400, mapped, true, 1340),
            (1400, v6, true, 1320),
            (1300, v4, true, 1280),
            (1300, v4, false, 1240),
            (576, v4, false, 576),
            (0, v6, false, 576),
            (65535, v4, true, 1420),
            (u32::MAX, v6, false, 1420),
        ] {
            assert_eq!(mtu_for(path, relay, has_v6), want, "{path} {relay} {has_v6}");
        }
    }

    #[test]
    fn targets_are_the_listed_ones_then_resolvers_then_the_fallback() {
        let mut tunnel = TunnelSettings {
            private_key: WireguardKey::new([1; 32]),
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
            dns: vec!["10.64.0.1".parse().unwrap()],
            mtu: None,
            probe: vec!["10.64.0.9".parse().unwrap()],
        };
        assert_eq!(probe_targets(&tunnel), tunnel.probe);
        tunnel.probe.clear();
        assert_eq!(probe_targets(&tunnel), tunnel.dns);
        tunnel.dns.clear();
        assert_eq!(probe_targets(&tunnel), FALLBACK_TARGETS);
        tunnel.addresses.pop();
        assert_eq!(probe_targets(&tunnel), FALLBACK_TARGETS[..1]);
        // A listed host of a family that the tunnel does not have cannot answer.
        tunnel.probe = vec!["fd64::9".parse().unwrap()];
        assert_eq!(probe_targets(&tunnel), FALLBACK_TARGETS[..1]);
    }
}
