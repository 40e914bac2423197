//! What changes in the tunnel, its relays and its resolvers.

use std::net::IpAddr;

use crate::config::{Relay, Settings, TunnelSettings};

use super::lists::{listed, many, only_in, texts};
use super::uncovered;

pub fn resolvers(out: &mut Vec<String>, old: &Settings, new: &Settings) {
    for (these, others, how) in [(new, old, "now"), (old, new, "no longer")] {
        many(out, only_in(&these.resolvers, &others.resolvers), "resolvers", |resolver| {
            format!("names may {how} be asked of {resolver}{}", place(these, **resolver))
        });
    }
    match (old.resolvers.is_empty(), new.resolvers.is_empty()) {
        (true, false) => out.push("names may no longer be asked of the tunnel's own resolvers".to_owned()),
        (false, true) => out.push("names may now be asked of the tunnel's own resolvers".to_owned()),
        _ => {}
    }
}

/// Contract 3.5: inside the tunnel, unless connected on a LAN device.
fn place(settings: &Settings, resolver: IpAddr) -> &'static str {
    if resolver.is_loopback() {
        " on the router itself"
    } else if settings.lan.connects(&resolver) {
        " in the LAN"
    } else {
        ", inside the tunnel"
    }
}

pub fn tunnel(out: &mut Vec<String>, old: Option<&TunnelSettings>, new: Option<&TunnelSettings>) {
    let (old, new) = match (old, new) {
        (None, None) => return,
        (None, Some(_)) => return out.push("a tunnel is configured: vpnd can connect".to_owned()),
        (Some(_), None) => {
            return out.push("no tunnel is configured any more: vpnd cannot connect".to_owned());
        }
        (Some(old), Some(new)) => (old, new),
    };
    let TunnelSettings { private_key, addresses, dns, mtu, probe } = old;
    if *private_key != new.private_key {
        out.push("the tunnel has another private key, and is built anew".to_owned());
    }
    for (these, others, how) in [(&new.addresses, addresses, "now"), (addresses, &new.addresses, "no longer")]
    {
        many(out, only_in(these, others), "tunnel addresses", |address| {
            format!("the router {how} has the address {address} in the tunnel")
        });
    }
    for (these, others, how) in [(&new.dns, dns, "now"), (dns, &new.dns, "no longer")] {
        many(out, only_in(these, others), "resolvers", |resolver| {
            format!("{resolver}, inside the tunnel, is {how} a resolver of the tunnel's own")
        });
    }
    if *mtu != new.mtu {
        out.push(match new.mtu {
            Some(bytes) => format!("packets in the tunnel have at most {bytes} bytes"),
            None => "the size of packets in the tunnel comes from the path again".to_owned(),
        });
    }
    for (these, others, how) in [(&new.probe, probe, "now"), (probe, &new.probe, "no longer")] {
        many(out, only_in(these, others), "probes", |host| {
            format!("{host}, inside the tunnel, is {how} pinged to verify it")
        });
    }
}

pub fn relays(out: &mut Vec<String>, old: &[Relay], new: &[Relay]) {
    let find = |all: &'_ [Relay], relay: &Relay| all.iter().position(|known| known.name == relay.name);
    let added: Vec<_> = new.iter().filter(|relay| find(old, relay).is_none()).collect();
    many(out, added, "relays", |relay| {
        format!("relay {} may now be chosen: encrypted packets may go to {}", relay.name, relay.endpoint)
    });
    let removed: Vec<_> = old.iter().filter(|relay| find(new, relay).is_none()).collect();
    many(out, removed, "relays", |relay| {
        format!("relay {} ({}) may no longer be chosen", relay.name, relay.endpoint)
    });
    let before = out.len();
    let mut order = Vec::new();
    for relay in new {
        let Some(at) = find(old, relay) else { continue };
        order.push(at);
        if let Some(known) = old.get(at).filter(|known| *known != relay) {
            same_relay(out, known, relay);
        }
    }
    super::lists::shorten(out, before, "changes of relays");
    if !order.is_sorted() {
        out.push("relays are tried in another order".to_owned());
    }
}

fn same_relay(out: &mut Vec<String>, old: &Relay, new: &Relay) {
    let Relay { name, endpoint, public_key, preshared_key, allowed_ips, country, city } = old;
    if *endpoint != new.endpoint {
        out.push(format!("relay {name} is now at {} instead of {endpoint}", new.endpoint));
    }
    if *public_key != new.public_key {
        out.push(format!("relay {name} has another public key"));
    }
    if *preshared_key != new.preshared_key {
        let how = match (preshared_key, &new.preshared_key) {
            (None, _) => "now has a preshared key",
            (_, None) => "has no preshared key any more",
            _ => "has another preshared key",
        };
        out.push(format!("relay {name} {how}"));
    }
    for (these, others, how) in
        [(&new.allowed_ips, allowed_ips, "now also"), (allowed_ips, &new.allowed_ips, "no longer")]
    {
        let fresh = uncovered(these, others);
        if !fresh.is_empty() {
            out.push(format!("relay {name} {how} carries packets for {}", listed(&fresh)));
        }
    }
    if (country, city) != (&new.country, &new.city) {
        let place: Vec<_> = [&new.city, &new.country].into_iter().filter(|p| !p.is_empty()).collect();
        let place = if place.is_empty() {
            "without a place".to_owned()
        } else {
            format!("in {}", texts(&place).join(", "))
        };
        out.push(format!("relay {name} is now listed {place}"));
    }
}
