//! The barrier's rules and routes, as values: what contract section 3 comes to. Pure.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::config::{IfName, PortProto, Settings};
use crate::policy::{Facts, TUNNEL_GROUP, TunnelStance};
use crate::sorted;

use super::route::{Hop, Route};
use super::rule::{Action, Rule};
use super::snapshot::{Link, Snapshot};

/// Every ip rule with one of these priorities is ours: whatever else stands there is deleted when
/// the barrier is raised or lowered. The range lies before `main` (32766) and before the rules
/// that other packages let the kernel number, and after `local` (0).
pub const PRIORITIES: RangeInclusive<u32> = 100..=199;
/// Networks behind LAN devices.
pub const TABLE_LAN: u32 = 7651;
/// The default routes into the tunnel.
pub const TABLE_TUNNEL: u32 = 7652;
/// `RT_TABLE_MAIN` of linux/rtnetlink.h, where netifd keeps the WAN's routes.
pub(super) const TABLE_MAIN: u32 = 254;
/// LAN devices that were in group 0 are in this interface group (`ip link set group`) while the
/// barrier stands, and nothing else is: whatever else is found in it goes back to 0.
pub const GROUP_LAN: u32 = 7651;
/// `INIT_NETDEV_GROUP` of linux/netdevice.h: where the kernel puts each new device, so also a WAN
/// device that nobody has seen yet.
pub(super) const GROUP_NEW: u32 = 0;

/// Contract 3.1 and 3.2: the tunnel's own socket and vpnd's.
const PRIORITY_MARK: u32 = 100;
/// Contract 2.9: replies that the firewall has marked.
const PRIORITY_SERVICE_MARK: u32 = 101;
/// Contract 2.2 and 2.7. Ahead of everything that looks at `main`, so that no route of the WAN
/// takes LAN addresses away.
const PRIORITY_LAN: u32 = 110;
/// Contract 2.2 with a dead or hung daemon. A LAN device that goes down and up, or whose address is
/// changed, loses its routes in [`TABLE_LAN`], but the kernel and netifd put them into `main`
/// again. So the router's own packets (never forwarded ones) may go by a route of `main` that is
/// not over a device of [`GROUP_NEW`], that is: by one over a LAN device, however specific the
/// routes of the WAN are, and never by a default route. See `group` for when this rule is left out.
///
/// `suppress_*` holds for routes that lead somewhere. One of `main` that refuses (unreachable,
/// prohibit, blackhole; no DHCP option or router advertisement makes these) does so for the
/// router's own packets even where the tunnel would take them. It opens nothing.
const PRIORITY_LAN_IN_MAIN: u32 = 111;
/// Contract 2.3: renewing the lease.
const PRIORITY_LEASE: u32 = 120;
/// Contract 2.8.
const PRIORITY_WAN_PRIVATE: u32 = 130;
/// Contract 2.9: replies of a service are routed before the firewall can mark them.
const PRIORITY_SERVICE: u32 = 135;
/// Sockets bound to a WAN device, IPv4: netifd could set no route otherwise.
const PRIORITY_WAN_BOUND: u32 = 140;
const PRIORITY_TUNNEL: u32 = 150;
const PRIORITY_UNREACHABLE: u32 = 199;

/// `IP6_RT_PRIO_USER` of linux/ipv6_route.h: what IPv6 makes of metric 0.
const METRIC_V6: u32 = 1024;
/// Behind any route that somebody may add to the tunnel's table.
const METRIC_LAST: u32 = 0xffff_fff0;
const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "IPv4" } else { "IPv6" })
    }
}

/// The rules of both families, in order of priority. `lan_in_main`: whether
/// [`PRIORITY_LAN_IN_MAIN`] is safe, see `group::tells_lan`.
pub(super) fn rules(settings: &Settings, facts: &Facts, lan_in_main: bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> =
        Family::ALL.into_iter().flat_map(|family| family_rules(family, settings, facts)).collect();
    if lan_in_main {
        rules.extend(Family::ALL.map(|family| Rule {
            from_router: true,
            suppress_length: Some(0),
            suppress_group: Some(GROUP_NEW),
            ..Rule::new(family, PRIORITY_LAN_IN_MAIN, Action::Lookup(TABLE_MAIN))
        }));
    }
    sorted::sort_by(&mut rules, |a, b| a.priority.cmp(&b.priority));
    rules
}

fn family_rules(family: Family, settings: &Settings, facts: &Facts) -> Vec<Rule> {
    let to_main = |priority| Rule::new(family, priority, Action::Lookup(TABLE_MAIN));
    // Exceptions for the router are never exceptions for forwarding: hence `iif lo`.
    let own_to_main = |priority| Rule { from_router: true, ..to_main(priority) };
    let mark = settings.mark;
    let mut rules = vec![
        Rule { mark: Some((mark.value(), mark.mask())), ..own_to_main(PRIORITY_MARK) },
        Rule { mark: Some((mark.service().value(), mark.mask())), ..own_to_main(PRIORITY_SERVICE_MARK) },
        Rule {
            from_router: no_lan_known(settings),
            ..Rule::new(family, PRIORITY_LAN, Action::Lookup(TABLE_LAN))
        },
        Rule::new(family, PRIORITY_TUNNEL, Action::Lookup(TABLE_TUNNEL)),
        Rule::new(family, PRIORITY_UNREACHABLE, Action::Unreachable),
    ];
    let of_family = |prefix: &IpNet| Family::of_address(prefix.addr()) == family;
    for prefix in settings.allow_wan_private.iter().filter(|p| of_family(p) && p.prefix_len() != 0) {
        rules.push(Rule { to: Some(prefix.trunc()), ..to_main(PRIORITY_WAN_PRIVATE) });
    }
    for service in &settings.allow_wan_service {
        if service.source.as_ref().is_some_and(|source| !of_family(source)) {
            continue;
        }
        let protocol = match service.proto {
            PortProto::Tcp => libc::IPPROTO_TCP,
            PortProto::Udp => libc::IPPROTO_UDP,
        };
        rules.push(Rule {
            protocol: u8::try_from(protocol).ok(),
            source_port: Some(service.port),
            to: service.source.map(|source| source.trunc()).filter(|to| to.prefix_len() != 0),
            ..own_to_main(PRIORITY_SERVICE)
        });
    }
    if family == Family::V4 {
        rules.extend(wan_rules(settings, facts, &own_to_main));
    }
    let mut once: Vec<Rule> = Vec::with_capacity(rules.len());
    for rule in rules {
        if !once.contains(&rule) {
            once.push(rule);
        }
    }
    once
}

/// What a WAN device needs of IPv4 to have its lease and its routes. IPv6 needs nothing: the
/// kernel looks for a global gateway in the route's own table, neighbour discovery and router
/// solicitation are not routed, multicast is in the `local` table.
///
/// netifd sets the default route as soon as a device appears, and the kernel refuses it where it
/// cannot look up the gateway ("Nexthop has invalid gateway"): so devices that configuration names
/// have their rule before they exist. The kernel ties a rule to its device by name.
fn wan_rules(settings: &Settings, facts: &Facts, own_to_main: &impl Fn(u32) -> Rule) -> Vec<Rule> {
    let mut rules = Vec::new();
    for device in &facts.wan {
        if let Some(server) = device.lease_server {
            rules.push(Rule {
                to: Some(IpAddr::V4(server).into()),
                protocol: u8::try_from(libc::IPPROTO_UDP).ok(),
                source_port: Some(DHCP_CLIENT),
                destination_port: Some(DHCP_SERVER),
                ..own_to_main(PRIORITY_LEASE)
            });
        }
    }
    for name in facts.wan.iter().map(|device| &device.name).chain(&settings.wan_names) {
        rules.push(Rule { out: Some(name.as_str().to_owned()), ..own_to_main(PRIORITY_WAN_BOUND) });
    }
    rules
}

/// The routes of both tables, as far as their devices exist and are up: the others come when the
/// devices do. Connected networks come before what lies behind them.
pub(super) fn routes(
    settings: &Settings,
    facts: &Facts,
    tunnel: Option<&TunnelStance>,
    snapshot: &Snapshot,
) -> Vec<Route> {
    let up = |name: &IfName| snapshot.link(name.as_str()).filter(|link| link.up);
    let mut routes = Vec::new();
    for device in &settings.lan.devices {
        let Some(link) = up(&device.name) else {
            continue;
        };
        let known = facts.lan_prefixes.get(&device.name).map_or(&[][..], Vec::as_slice);
        // The kernel's include fe80::/64 wherever IPv6 is on.
        let mut prefixes = link.prefixes();
        prefixes.extend(known.iter().chain(&device.prefixes).map(IpNet::trunc));
        prefixes.retain(|prefix| prefix.prefix_len() != 0);
        routes.extend(prefixes.into_iter().map(|prefix| connected(prefix, link)));
    }
    if no_lan_known(settings) {
        routes.extend(on_link(snapshot));
    }
    for route in &settings.lan.routes {
        let Some(link) = up(&route.device) else {
            continue;
        };
        let hop = Hop { device: link.index, gateway: Some(route.gateway), source: None };
        routes.push(self::route(TABLE_LAN, route.prefix.trunc(), Some(hop)));
    }
    if let Some(tunnel) = tunnel {
        routes.extend(tunnel_routes(tunnel, up(&tunnel.device)));
    }
    for family in Family::ALL {
        let metric = METRIC_LAST;
        routes.push(Route { metric, ..route(TABLE_TUNNEL, default_of(family), None) });
    }
    let mut once: Vec<Route> = Vec::with_capacity(routes.len());
    for route in routes {
        // One gateway or device for each prefix on a device: the first wins.
        if !once.contains(&route) {
            once.push(route);
        }
    }
    once
}

/// Contract, section 0: neither a config nor a kept list tells which device is LAN.
fn no_lan_known(settings: &Settings) -> bool {
    settings.lan.devices.is_empty()
}

/// The owner is on the link of some device, and must be answered; for the router only (`iif lo`),
/// and never by a route of `main`, so that nothing beyond these links is reached. The firewall
/// lets nothing out there but answers.
fn on_link(snapshot: &Snapshot) -> impl Iterator<Item = Route> + '_ {
    let ours = |link: &&Link| {
        let name = &link.name;
        link.up && !link.loopback && !link.port && !TUNNEL_GROUP.contains(&name.as_str())
    };
    let narrow = |prefix: &IpNet| {
        // An uplink can claim any network (LocalNet of TunnelCrack); as wide as these is no LAN.
        prefix.prefix_len() >= if prefix.addr().is_ipv4() { 8 } else { 7 }
    };
    snapshot.links.iter().filter(ours).flat_map(move |link| {
        link.prefixes().into_iter().filter(narrow).map(|prefix| connected(prefix, link))
    })
}

/// Default routes of the families that the tunnel has addresses of, and nothing else.
fn tunnel_routes(tunnel: &TunnelStance, link: Option<&Link>) -> Vec<Route> {
    let Some(link) = link else { return Vec::new() };
    let has = |family| tunnel.addresses.iter().any(|address| Family::of_address(address.addr()) == family);
    Family::ALL
        .into_iter()
        .filter(|family| has(*family))
        .map(|family| {
            let hop = Hop { device: link.index, gateway: None, source: None };
            route(TABLE_TUNNEL, default_of(family), Some(hop))
        })
        .collect()
}

fn connected(prefix: IpNet, link: &Link) -> Route {
    let source = link.addresses.iter().find_map(|address| match address.local {
        IpAddr::V4(local) if prefix.contains(&address.local) => Some(local),
        _ => None,
    });
    route(TABLE_LAN, prefix, Some(Hop { device: link.index, gateway: None, source }))
}

fn route(table: u32, to: IpNet, hop: Option<Hop>) -> Route {
    let metric = if to.addr().is_ipv6() { METRIC_V6 } else { 0 };
    Route { table, to, hop, metric }
}

fn default_of(family: Family) -> IpNet {
    IpNet::new_assert(family.unspecified(), 0)
}
