//! What the kernel says of devices, as far as a policy or a relay's path depends on it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteType};

use crate::config::{IfName, Mark, Settings};
use crate::policy::{Facts, WanDevice};

use super::Error;
use super::netlink::Netlink;
use super::plan::Family;
use super::route;
use super::snapshot::{Snapshot, is_link_local};

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
    leases: &BTreeMap<IfName, Ipv4Addr>,
) -> Result<Facts, Error> {
    Ok(from_snapshot(&Snapshot::take(netlink).await?, settings, tunnel, leases))
}

/// A device whose name no [`IfName`] can hold is left out: rules match WAN by what it is not.
pub(super) fn from_snapshot(
    snapshot: &Snapshot,
    settings: &Settings,
    tunnel: &IfName,
    leases: &BTreeMap<IfName, Ipv4Addr>,
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
    facts.wan.sort_by(|a, b| a.name.cmp(&b.name));
    facts
}

pub(super) async fn route_to(netlink: &Netlink, to: IpAddr, mark: Mark) -> Result<Option<Path>, Error> {
    let mut question = route::question(Family::of_address(to));
    question.header.destination_prefix_length = IpNet::from(to).prefix_len();
    question.attributes.push(RouteAttribute::Destination(to.into()));
    question.attributes.push(RouteAttribute::Mark(mark.value()));
    let what = || format!("asking for the route to {to} with mark {:#x}", mark.value());
    let answer = match netlink.ask(RouteNetlinkMessage::GetRoute(question), what).await {
        Ok(answer) => answer,
        Err(error) if error.errno().is_some_and(is_no_route) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(RouteNetlinkMessage::NewRoute(answer)) = answer else {
        return Ok(None);
    };
    let Some((index, route_mtu)) = hop(&answer) else {
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
    if answer.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut device, mut mtu) = (None, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    device.map(|device| (device, mtu))
}

/// What `fib_props` (net/ipv4/fib_semantics.c) makes of unreachable, prohibit, blackhole, throw.
fn is_no_route(errno: i32) -> bool {
    [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EAGAIN].contains(&errno)
}
