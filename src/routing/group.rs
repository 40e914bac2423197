//! LAN devices in an interface group of their own, so that one rule can tell their routes in `main`
//! from the WAN's: [`plan`](super::plan), `PRIORITY_LAN_IN_MAIN`. Pure, but for [`grouped_devices`].
//!
//! The kernel drops what such a rule finds when the route's device is in the suppressed group. In
//! IPv6 that is the device that the packet would take (`fib6_rule_suppress`), in IPv4 the one of
//! the route's *first* next hop, whichever of them the packet takes (`fib4_rule_suppress`).
//!
//! Limits: a LAN device that is deleted and made anew is in group 0 until the barrier is raised
//! again; a route of the WAN that is as specific as the LAN's or more still takes its addresses
//! from the LAN in `main`, and is then dropped; what is put into a group while no daemon sees it
//! is followed.

use std::fs;
use std::net::IpAddr;

use crate::config::{IfName, Settings};
use crate::policy::{Facts, TUNNEL_GROUP};
use crate::rtnetlink::RouteMessage;

use super::plan::{Family, GROUP_LAN, GROUP_NEW};
use super::snapshot::{Link, Snapshot};

/// A route of `main` that leads somewhere: by which devices.
#[derive(Debug)]
pub(super) struct Way {
    family: Family,
    /// Interface indices of all next hops. Empty where the kernel does not tell (a next hop object
    /// with `nexthop_compat_mode` 0).
    devices: Vec<u32>,
}

impl Way {
    /// None for a route that leads nowhere, and for IPv6 link-local ones: whoever sends there names
    /// the device, and every port of a bridge may have one.
    pub(super) fn read(message: &RouteMessage) -> Option<Self> {
        let local = message.destination.is_some_and(|to| matches!(to, IpAddr::V6(to) if is_link_local(to)));
        if message.kind != libc::RTN_UNICAST || local {
            return None;
        }
        let devices = message.device.into_iter().chain(message.hops.iter().flatten().copied()).collect();
        Some(Self { family: Family::of(message.family)?, devices })
    }
}

fn is_link_local(address: std::net::Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Whether a route of `main` over a device that is not in [`GROUP_NEW`] leads to the LAN for sure.
/// Not while any other device is in a group, and not while an IPv4 route has next hops on both
/// sides. Without a LAN there is nothing to tell.
pub(super) fn tells_lan(settings: &Settings, snapshot: &Snapshot, main: &[Way]) -> bool {
    let carries = |link: &Link| main.iter().any(|way| way.devices.contains(&link.index));
    let strays = |link: &&Link| {
        link.group != GROUP_NEW
            && !link.loopback
            && !is_lan(settings, link)
            && !TUNNEL_GROUP.contains(&link.name.as_str())
            && (!link.port || carries(link))
    };
    let lan: Vec<u32> =
        snapshot.links.iter().filter(|link| is_lan(settings, link)).map(|link| link.index).collect();
    let mixed = |way: &&Way| {
        let on_lan = way.devices.iter().filter(|index| lan.contains(index)).count();
        way.devices.is_empty() || way.family == Family::V4 && on_lan != 0 && on_lan != way.devices.len()
    };
    !lan.is_empty() && !snapshot.links.iter().any(|link| strays(&link)) && !main.iter().any(|way| mixed(&way))
}

/// A device that configuration makes unfit (`forward` is false: a gateway, a default route or a WAN
/// port on it) may well be an uplink: its routes in `main` are no LAN's.
fn is_lan(settings: &Settings, link: &Link) -> bool {
    settings.lan.devices.iter().any(|device| device.forward && device.name.as_str() == link.name)
}

/// Which devices have to change their group, by index, and to which. A LAN device that is in a
/// group of its owner's is left there.
pub(super) fn moves(settings: &Settings, snapshot: &Snapshot) -> Vec<(u32, u32)> {
    let to = |link: &Link| match (is_lan(settings, link), link.group) {
        (true, GROUP_NEW) => Some(GROUP_LAN),
        (false, GROUP_LAN) => Some(GROUP_NEW),
        _ => None,
    };
    snapshot.links.iter().filter_map(|link| Some((link.index, to(link)?))).collect()
}

/// As [`moves`], for when the barrier is lowered.
pub(super) fn all_back(snapshot: &Snapshot) -> Vec<(u32, u32)> {
    let ours = snapshot.links.iter().filter(|link| link.group == GROUP_LAN);
    ours.map(|link| (link.index, GROUP_NEW)).collect()
}

/// WAN devices that somebody has put into an interface group: while there are any, a LAN whose
/// device goes down and up is answered again only when the daemon has seen it.
#[must_use]
pub fn grouped_devices(facts: &Facts) -> Vec<IfName> {
    let grouped = |name: &IfName| {
        let group = fs::read_to_string(format!("/sys/class/net/{name}/netdev_group"));
        group.is_ok_and(|group| group.trim() != "0")
    };
    facts.wan.iter().map(|device| &device.name).filter(|name| grouped(name)).cloned().collect()
}
