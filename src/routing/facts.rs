//! What the kernel says of devices, as far as a policy or a relay's path depends on it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::config::{IfName, Mark, Settings};
use crate::policy::{Entrances, Facts, WanDevice};
use crate::rtnetlink::RouteMessage;
use crate::sorted::{self, Map};

use super::Error;
use super::netlink::Netlink;
use super::plan::Family;
use super::route;
use super::snapshot::{Link, Snapshot, is_link_local};

/// The way that a marked packet takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub device: IfName,
    /// Bytes of the largest IP packet: the route's, where path MTU discovery or an administrator
    /// set one, otherwise the device's.
    pub mtu: u32,
}

pub(super) async fn read(
    netlink: &Netlink,
    settings: &Settings,
    tunnel: &IfName,
    leases: &Map<IfName, Ipv4Addr>,
) -> Result<(Facts, Entrances), Error> {
    let snapshot = Snapshot::take(netlink).await?;
    Ok((from_snapshot(&snapshot, settings, tunnel, leases), entrances(&snapshot, settings)))
}

/// The LAN devices that exist, and all that is below them, as far as a name can be said.
pub(super) fn entrances(snapshot: &Snapshot, settings: &Settings) -> Entrances {
    let is_lan = |name: &str| settings.lan.devices.iter().any(|device| device.name.as_str() == name);
    let mut found: Vec<&Link> = snapshot.links.iter().filter(|link| is_lan(&link.name)).collect();
    let mut at = 0;
    while let Some(upper) = found.get(at).copied() {
        let below = |link: &&Link| link.above == Some(upper.index) || upper.carrier == Some(link.index);
        for link in snapshot.links.iter().filter(below) {
            // Each once: the kernel lets no device be below itself, but an index may be used anew.
            if !found.iter().any(|known| known.index == link.index) {
                found.push(link);
            }
        }
        at += 1;
    }
    let devices = sorted::each_once(found.iter().filter_map(|link| link.name.parse().ok()));
    let links = snapshot.links.iter().filter(|link| !link.loopback);
    let own = links.flat_map(|link| link.addresses.iter().map(|address| address.local)).collect();
    Entrances { devices, own }
}

/// A device whose name no [`IfName`] can hold is left out: rules match WAN by what it is not.
pub(super) fn from_snapshot(
    snapshot: &Snapshot,
    settings: &Settings,
    tunnel: &IfName,
    leases: &Map<IfName, Ipv4Addr>,
) -> Facts {
    let global = |mut prefixes: Vec<IpNet>| {
        prefixes.retain(|prefix| !is_link_local(prefix));
        prefixes
    };
    let is_lan = |name: &IfName| settings.lan.devices.iter().any(|device| device.name == *name);
    let mut facts = Facts::default();
    for link in &snapshot.links {
        let Ok(name) = link.name.parse::<IfName>() else {
            continue;
        };
        let prefixes = global(link.prefixes());
        if is_lan(&name) {
            facts.lan_prefixes.insert(name, prefixes);
        } else if !link.loopback && !link.port && name != *tunnel {
            let lease_server = leases.get(&name).copied();
            facts.wan.push(WanDevice { name, prefixes, lease_server });
        }
    }
    sorted::sort_by(&mut facts.wan, |a, b| a.name.cmp(&b.name));
    facts
}

pub(super) async fn route_to(netlink: &Netlink, to: IpAddr, mark: Mark) -> Result<Option<Path>, Error> {
    let question = RouteMessage {
        destination_length: IpNet::from(to).prefix_len(),
        destination: Some(to),
        mark: Some(mark.value()),
        ..route::question(Family::of_address(to))
    };
    let what = || format!("asking for the route to {to} with mark {:#x}", mark.value());
    let answer = match netlink.ask(&question.request(libc::RTM_GETROUTE), &what, RouteMessage::read).await {
        Ok(answer) => answer,
        Err(error) if error.errno().is_some_and(is_no_route) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((index, route_mtu)) = answer.and_then(|answer| hop(&answer)) else {
        return Ok(None);
    };
    let snapshot = Snapshot::take(netlink).await?;
    Ok(snapshot.links.iter().find(|link| link.index == index && !link.loopback).and_then(|link| {
        let mtu = route_mtu.filter(|mtu| *mtu != 0).map_or(link.mtu, |mtu| mtu.min(link.mtu));
        Some(Path { device: link.name.parse().ok()?, mtu })
    }))
}

/// Device index and the route's own MTU; None when the answer is no way out. IPv6 says
/// "unreachable" by a route of that type, not by an error.
pub(super) fn hop(answer: &RouteMessage) -> Option<(u32, Option<u32>)> {
    if answer.kind != libc::RTN_UNICAST {
        return None;
    }
    answer.device.map(|device| (device, answer.mtu))
}

/// What `fib_props` (net/ipv4/fib_semantics.c) makes of unreachable, prohibit, blackhole, throw.
fn is_no_route(errno: i32) -> bool {
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EAGAIN].contains(&errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::samples;
    use crate::routing::snapshot::Address;

    /// br-lan is a VLAN of a bridge, one of whose ports is a VLAN of a bond; eth7 is a LAN by itself.
    #[test]
    fn the_lan_comes_in_by_all_that_is_below_it() {
        let link = |index, name: &str, above, carrier| Link {
            index,
            name: name.to_owned(),
            above,
            carrier,
            ..Link::default()
        };
        let mut snapshot = Snapshot {
            links: vec![
                Link { loopback: true, ..link(1, "lo", None, None) },
                link(2, "eth1", None, None),
                link(3, "switch", None, None),
                link(4, "br-lan", None, Some(3)),
                link(5, "lan1", Some(3), None),
                link(6, "bond.7", Some(3), Some(7)),
                link(7, "bond", None, None),
                link(8, "slave", Some(7), None),
                link(9, "eth7", None, None),
                link(10, "br-wan", None, None),
                link(11, "port", Some(10), None),
            ],
        };
        let address = |local: &str| Address {
            local: local.parse().unwrap(),
            connected: "192.0.2.0/24".parse().unwrap(),
        };
        snapshot.links[0].addresses = vec![address("127.0.0.1")];
        snapshot.links[1].addresses = vec![address("198.51.100.7"), address("2001:db8::7")];
        let found = entrances(&snapshot, &samples::full());
        let names: Vec<&str> = found.devices.iter().map(IfName::as_str).collect();
        assert_eq!(names, ["bond", "bond.7", "br-lan", "eth7", "lan1", "slave", "switch"]);
        assert_eq!(found.own, ["198.51.100.7".parse::<IpAddr>().unwrap(), "2001:db8::7".parse().unwrap()]);
    }
}
