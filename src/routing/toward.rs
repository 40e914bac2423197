//! Which way the barrier sends a packet: what `plan.rs` comes to, for a question asked before
//! anything is sent. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::IfName;
use crate::policy::{Family, Policy};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toward {
    Lan(IfName),
    /// By whatever route the `main` table has: the prefix is listed (contract 2.8).
    Wan,
    Tunnel(IfName),
    /// `unreachable`.
    Nowhere,
}

/// Where an unmarked packet to `to` is routed while the barrier stands and the policy's devices
/// are up. `listed`: the prefixes behind the WAN that router and LAN may reach.
#[must_use]
pub fn toward(policy: &Policy, listed: &[IpNet], to: IpAddr) -> Toward {
    let zones = policy.zones();
    let on_lan = zones.lan.iter().flat_map(|zone| zone.reachable().map(move |net| (net, &zone.device)));
    let narrowest = on_lan.filter(|(net, _)| net.contains(&to)).max_by_key(|(net, _)| net.prefix_len());
    if let Some((_, device)) = narrowest {
        return Toward::Lan(device.clone());
    }
    if listed.iter().any(|net| net.prefix_len() != 0 && net.contains(&to)) {
        return Toward::Wan;
    }
    match &zones.tunnel {
        Some(tunnel) if !policy.unrouted().contains(&Family::of(to)) => Toward::Tunnel(tunnel.clone()),
        _ => Toward::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Stance, TunnelStance, compose, samples};
    use crate::routing::plan::{self, TABLE_LAN, TABLE_TUNNEL};
    use crate::routing::rule::Action;
    use crate::routing::snapshot::{Link, Snapshot};

    fn link(index: u32, name: &str) -> Link {
        let (loopback, port, group, mtu) = (false, false, 0, 1500);
        Link {
            index,
            name: name.to_owned(),
            up: true,
            loopback,
            port,
            beneath: None,
            group,
            mtu,
            addresses: Vec::new(),
        }
    }

    /// What the barrier's own rules and routes do with a packet that is forwarded.
    fn by_plan(case: &samples::Case, tunnel: Option<&TunnelStance>, to: IpAddr) -> Toward {
        let names = ["br-lan", "br-guest", "eth7", "eth1", "vpnd0"];
        let snapshot = Snapshot { links: (1..).zip(names).map(|(index, name)| link(index, name)).collect() };
        let name = |index: u32| names[index as usize - 1].parse::<IfName>().unwrap();
        let rules = plan::rules(&case.settings, &case.facts, false);
        let routes = plan::routes(&case.settings, &case.facts, tunnel, &snapshot);
        let of_family = |rule: &&crate::routing::rule::Rule| rule.family == plan::Family::of_address(to);
        for rule in rules.iter().filter(of_family) {
            let narrowed = rule.mark.is_some() || rule.out.is_some() || rule.protocol.is_some();
            if narrowed || rule.from_router || rule.to.is_some_and(|net| !net.contains(&to)) {
                continue;
            }
            let Action::Lookup(table) = rule.action else { return Toward::Nowhere };
            if ![TABLE_LAN, TABLE_TUNNEL].contains(&table) {
                return Toward::Wan;
            }
            let fitting = routes.iter().filter(|route| route.table == table && route.to.contains(&to));
            // The narrowest; of those the one with the least metric.
            let Some(best) = fitting.max_by_key(|route| (route.to.prefix_len(), !route.metric)) else {
                continue;
            };
            return match &best.hop {
                None => Toward::Nowhere,
                Some(hop) if table == TABLE_LAN => Toward::Lan(name(hop.device)),
                Some(hop) => Toward::Tunnel(name(hop.device)),
            };
        }
        Toward::Nowhere
    }

    #[test]
    fn it_is_the_barriers_own_plan() {
        let mut seen = std::collections::BTreeMap::new();
        let mut cases = samples::cases();
        cases.retain(|case| !case.name.ends_with("nothing"));
        // A tunnel of one family.
        let v4 = TunnelStance { addresses: vec!["10.64.10.20/32".parse().unwrap()], ..samples::tunnel() };
        let relay = "203.0.113.1:51820".parse().unwrap();
        let stance = Stance::Connected { relay, listen_port: 51820, tunnel: v4.clone() };
        cases.push(samples::Case {
            name: "IPv4 only",
            stance,
            settings: samples::full(),
            facts: samples::full_facts(),
        });
        for case in &cases {
            let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
            let whole = || if case.name == "IPv4 only" { v4.clone() } else { samples::tunnel() };
            let tunnel = policy.zones().tunnel.is_some().then(whole);
            // At boot nothing is asked of the kernel, and no barrier stands yet.
            if case.name.starts_with("boot") {
                continue;
            }
            for to in [
                "192.168.1.20",
                "192.168.2.9",
                "192.168.3.9",
                "192.168.7.1",
                "10.9.3.3",
                "192.168.100.1",
                "10.64.0.1",
                "1.1.1.1",
                "198.51.100.1",
                "fd00:1::20",
                "fd00:2::1",
                "fd00:dead::9",
                "2001:db8:203::1",
                "2606:4700::1111",
            ] {
                let to: IpAddr = to.parse().unwrap();
                let found = toward(&policy, &case.settings.allow_wan_private, to);
                assert_eq!(found, by_plan(case, tunnel.as_ref(), to), "{}: {to}", case.name);
                *seen.entry(format!("{found:?}")).or_insert(0) += 1;
            }
        }
        // Every kind was among them.
        assert!(seen.len() >= 5, "{seen:?}");
    }
}
