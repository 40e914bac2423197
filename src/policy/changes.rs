//! What changed settings change in terms of traffic, in sentences, and whether they could cut off
//! who asks for them. Pure.

mod lists;
mod risk;
mod tunnel;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{LanDevice, LanRoute, PortProto, Settings, TunnelForward, WanService};

use super::difference::without;
use lists::{listed, many, only_in, texts};

pub use risk::{Asker, risks};

/// One sentence for each thing that changes, in the order of the settings; empty: nothing does.
/// No key is ever in one.
#[must_use]
pub fn changes(old: &Settings, new: &Settings) -> Vec<String> {
    // A setting that is not dealt with does not compile.
    let Settings {
        enabled,
        auto_connect,
        lockdown,
        lan: _,
        lan_networks: _,
        wan_names,
        wan_pppoe,
        allow_wan_private: _,
        allow_wan_multicast: _,
        allow_wan_service: _,
        allow_tunnel_forward,
        resolvers: _,
        redirect_dns,
        mark,
        api,
        tunnel: _,
        relays: _,
    } = old;
    let mut out = Vec::new();
    switch(
        &mut out,
        *enabled,
        new.enabled,
        [
            "the daemon starts with the router",
            "the daemon does not start any more; an armed block stays, 'vpnd disarm' ends it",
        ],
    );
    switch(
        &mut out,
        *auto_connect,
        new.auto_connect,
        [
            "at its first start ever, vpnd connects by itself",
            "at its first start ever, vpnd does not connect by itself any more",
        ],
    );
    switch(
        &mut out,
        *lockdown,
        new.lockdown,
        [
            "lockdown: when disconnected, the router blocks instead of being open",
            "lockdown ends with the next 'vpnd disconnect' or 'vpnd lockdown off': disconnected is open then",
        ],
    );
    lan(&mut out, old, new);
    many(&mut out, only_in(&new.wan_names, wan_names), "WAN devices", |name| {
        format!(
            "WAN device {name} is expected: sockets of the router that are bound to it find its routes at once"
        )
    });
    many(&mut out, only_in(wan_names, &new.wan_names), "WAN devices", |name| {
        format!("WAN device {name} is not expected any more")
    });
    many(&mut out, only_in(&new.wan_pppoe, wan_pppoe), "WAN devices", |name| {
        format!("PPPoE may leave by WAN device {name}")
    });
    many(&mut out, only_in(wan_pppoe, &new.wan_pppoe), "WAN devices", |name| {
        format!("PPPoE may no longer leave by WAN device {name}")
    });
    listed_wan(&mut out, old, new);
    services(&mut out, old, new);
    let forwards = |out: &mut Vec<String>, these: &[TunnelForward], others: &[TunnelForward], how: &str| {
        many(out, only_in(these, others), "port forwards", |forward| {
            let TunnelForward { proto, port, to } = forward;
            format!("{} port {port} of the tunnel's address is {how} handed on to {to}", word(*proto))
        });
    };
    forwards(&mut out, &new.allow_tunnel_forward, allow_tunnel_forward, "now");
    forwards(&mut out, allow_tunnel_forward, &new.allow_tunnel_forward, "no longer");
    tunnel::resolvers(&mut out, old, new);
    switch(
        &mut out,
        *redirect_dns,
        new.redirect_dns,
        [
            "LAN hosts that ask another resolver on port 53 are answered by the router",
            "LAN hosts that ask another resolver on port 53 are no longer answered by the router",
        ],
    );
    if *mark != new.mark {
        out.push(format!(
            "vpnd's own packets are marked 0x{:x}/0x{:x} instead of 0x{:x}/0x{:x}: the router's own firewall rules must follow",
            new.mark.value(), new.mark.mask(), mark.value(), mark.mask()
        ));
    }
    for (these, others, how) in [(&new.api, api, "now also"), (api, &new.api, "no longer")] {
        let fresh = only_in(these, others);
        if !fresh.is_empty() {
            out.push(format!("vpnd itself may {how} reach the provider's API at {}", listed(&texts(&fresh))));
        }
    }
    tunnel::tunnel(&mut out, old.tunnel.as_ref(), new.tunnel.as_ref());
    tunnel::relays(&mut out, &old.relays, &new.relays);
    out
}

fn switch(out: &mut Vec<String>, old: bool, new: bool, [on, off]: [&str; 2]) {
    if old != new {
        out.push(if new { on } else { off }.to_owned());
    }
}

fn word(proto: PortProto) -> &'static str {
    match proto {
        PortProto::Tcp => "tcp",
        PortProto::Udp => "udp",
    }
}

fn lan(out: &mut Vec<String>, old: &Settings, new: &Settings) {
    let named = |all: &[LanDevice], device: &LanDevice| all.iter().any(|other| other.name == device.name);
    let (before, after) = (&old.lan.devices, &new.lan.devices);
    let added: Vec<_> = after.iter().filter(|device| !named(before, device)).collect();
    many(out, added, "LAN devices", |device| {
        let private = listed(&texts(&new.allow_wan_private.iter().collect::<Vec<_>>()));
        let also = if private.is_empty() {
            String::new()
        } else {
            format!("; it may also reach {private} behind the WAN")
        };
        if device.forward {
            format!(
                "LAN device {} is now protected: what comes from it goes into the tunnel or nowhere{also}",
                device.name
            )
        } else {
            format!("LAN device {} is now known, and nothing is forwarded for it", device.name)
        }
    });
    let removed: Vec<_> = before.iter().filter(|device| !named(after, device)).collect();
    many(out, removed, "LAN devices", |device| {
        format!("LAN device {} is no longer protected: what comes from it counts as WAN", device.name)
    });
    for device in after {
        if let Some(known) = before.iter().find(|known| known.name == device.name) {
            same_device(out, known, device);
        }
    }
    let route = |route: &LanRoute, how: &str| {
        let LanRoute { prefix, gateway, device } = route;
        format!("router and LAN may {how} reach {prefix} behind {gateway} on LAN device {device}")
    };
    many(out, only_in(&new.lan.routes, &old.lan.routes), "LAN routes", |r| route(r, "now also"));
    many(out, only_in(&old.lan.routes, &new.lan.routes), "LAN routes", |r| route(r, "no longer"));
}

fn same_device(out: &mut Vec<String>, old: &LanDevice, new: &LanDevice) {
    let name = &new.name;
    switch(
        out,
        old.forward,
        new.forward,
        [
            &format!("packets are forwarded to and from LAN device {name} again"),
            &format!("nothing is forwarded to or from LAN device {name} any more"),
        ],
    );
    let more = uncovered(&new.prefixes, &old.prefixes);
    if !more.is_empty() {
        out.push(format!("router and LAN may now also reach {} on LAN device {name}", listed(&more)));
    }
    let less = uncovered(&old.prefixes, &new.prefixes);
    if !less.is_empty() {
        out.push(format!(
            "router and LAN may no longer reach {} on LAN device {name}, unless it still has such an address",
            listed(&less)
        ));
    }
}

/// The part of these prefixes that the others do not cover.
fn uncovered(these: &[IpNet], others: &[IpNet]) -> Vec<String> {
    without(&texts(these).join(" "), &texts(others).join(" "))
}

fn listed_wan(out: &mut Vec<String>, old: &Settings, new: &Settings) {
    for (these, others, how, lan) in
        [(new, old, "now also", lan_words(new)), (old, new, "no longer", lan_words(old))]
    {
        let prefixes = uncovered(&these.allow_wan_private, &others.allow_wan_private);
        if !prefixes.is_empty() {
            let past = if how == "no longer" { "" } else { ", past the tunnel" };
            out.push(format!("{lan} may {how} reach {} behind the WAN{past}", listed(&prefixes)));
        }
    }
    for (these, others, how) in [(new, old, "now also"), (old, new, "no longer")] {
        let groups = uncovered(&these.allow_wan_multicast, &others.allow_wan_multicast);
        if !groups.is_empty() {
            let groups = listed(&groups);
            out.push(format!("multicast {groups} may {how} pass between the WAN and router and LAN"));
        }
    }
}

/// Who a listed prefix is for.
fn lan_words(settings: &Settings) -> String {
    let devices: Vec<_> =
        settings.lan.devices.iter().filter(|d| d.forward).map(|d| d.name.as_str()).collect();
    match devices.as_slice() {
        [] => "the router".to_owned(),
        [one] => format!("LAN device {one} and the router"),
        [_, _] | [_, _, _] => format!("LAN devices {} and the router", devices.join(", ")),
        all => format!("all {} LAN devices and the router", all.len()),
    }
}

fn services(out: &mut Vec<String>, old: &Settings, new: &Settings) {
    let mut doors: Vec<(PortProto, u16)> = Vec::new();
    for service in old.allow_wan_service.iter().chain(&new.allow_wan_service) {
        if !doors.contains(&(service.proto, service.port)) {
            doors.push((service.proto, service.port));
        }
    }
    let before = out.len();
    for (proto, port) in doors {
        let sources = |settings: &Settings| sources(&settings.allow_wan_service, proto, port);
        let ((any_before, before), (any_after, after)) = (sources(old), sources(new));
        let name = service_name(proto, port);
        if any_after && !any_before {
            out.push(format!("{name} may now be reached from any address on the WAN"));
        } else if any_before && !any_after {
            let but = if after.is_empty() {
                String::new()
            } else {
                format!(" but {}", listed(&uncovered(&after, &[])))
            };
            out.push(format!("{name} may no longer be reached from any address on the WAN{but}"));
        } else if !any_after {
            for (how, these, others) in [("now", &after, &before), ("no longer", &before, &after)] {
                let fresh = uncovered(these, others);
                if !fresh.is_empty() {
                    out.push(format!("{name} may {how} be reached from {} on the WAN", listed(&fresh)));
                }
            }
        }
    }
    lists::shorten(out, before, "services of the router");
}

/// Whether any address may, and which.
fn sources(services: &[WanService], proto: PortProto, port: u16) -> (bool, Vec<IpNet>) {
    let these = services.iter().filter(|service| service.proto == proto && service.port == port);
    let any = these.clone().any(|service| service.source.is_none());
    (any, these.filter_map(|service| service.source).collect())
}

/// By the port's usual service (IANA), and always its number.
fn service_name(proto: PortProto, port: u16) -> String {
    let known = match (proto, port) {
        (PortProto::Tcp, 22) => "SSH",
        (PortProto::Tcp, 80) => "web page",
        (PortProto::Tcp, 443) => "encrypted web page",
        (PortProto::Udp, 1194) => "OpenVPN",
        (PortProto::Udp, 51820) => "WireGuard",
        _ => return format!("the router's {} port {port}", word(proto)),
    };
    format!("the router's {known} ({} {port})", word(proto))
}

/// Whether `services` let this host ask this TCP port.
fn lets_in(services: &[WanService], address: IpAddr, port: u16) -> bool {
    services.iter().any(|service| {
        service.proto == PortProto::Tcp
            && service.port == port
            && service.source.is_none_or(|source| source.contains(&address))
    })
}

#[cfg(test)]
mod tests;
