//! What each state allows, asked of the composed policy itself.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::samples::{self, Case};
use super::{Action, Clause, Facts, Family, Match, Policy, PolicyState, Row, Stance, Way, compose};

fn policies() -> Vec<(&'static str, Policy)> {
    let composed = |case: Case| (case.name, compose(&case.stance, &case.settings, &case.facts).unwrap());
    samples::cases().into_iter().map(composed).collect()
}

fn policy(name: &str) -> Policy {
    policies().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn opens(clause: &Clause) -> bool {
    !matches!(clause.action, Action::Drop | Action::Refuse | Action::Remember(_))
}

fn allows(policy: &Policy, row: Row) -> bool {
    policy.clauses().iter().any(|clause| clause.row == row && opens(clause))
}

fn tos(clause: &Clause) -> Vec<IpNet> {
    let nets = clause.matches.iter().filter_map(|found| match found {
        Match::To(nets) => Some(nets.clone()),
        _ => None,
    });
    nets.flatten().collect()
}

#[test]
fn open_has_no_policy() {
    assert_eq!(compose(&Stance::Open, &samples::full(), &samples::full_facts()), None);
}

#[test]
fn the_state_survives_as_text() {
    for state in PolicyState::ALL {
        assert_eq!(state.to_string().parse(), Ok(*state));
    }
    assert!("open".parse::<PolicyState>().is_err());
}

/// The contract's section 3, as a table.
#[test]
fn rows_of_section_3_by_state() {
    let rows = [Row::TunnelOuter, Row::Api, Row::IntoTunnel, Row::FromTunnel];
    for (name, wanted) in [
        ("boot-full", [false, false, false, false]),
        ("blocked-plain", [false, false, false, false]),
        ("blocked-full", [false, true, false, false]),
        ("connecting-plain", [true, false, false, false]),
        ("connecting-device", [true, false, true, true]),
        ("connecting-full", [true, true, true, true]),
        ("connected-full", [true, false, true, true]),
    ] {
        let policy = policy(name);
        assert_eq!(rows.map(|row| allows(&policy, row)), wanted, "{name}");
    }
}

/// Section 2 holds in every enforcing state; what is listed, where it is listed.
#[test]
fn rows_of_section_2_in_every_state() {
    for (name, policy) in policies() {
        for row in [Row::LanSide, Row::DhcpV4Client, Row::DhcpV6Client, Row::NeighbourDiscovery] {
            assert!(allows(&policy, row), "{name}: {row:?}");
        }
        let full = name.ends_with("-full");
        for row in [Row::ListedWan, Row::WanService] {
            assert_eq!(allows(&policy, row), full, "{name}: {row:?}");
        }
        assert_eq!(allows(&policy, Row::LanToLan), !name.ends_with("-nothing"), "{name}");
    }
}

#[test]
fn boot_asks_nothing_of_the_kernel() {
    let with = compose(&Stance::Boot, &samples::full(), &samples::full_facts());
    let without = compose(&Stance::Boot, &samples::full(), &Facts::default());
    assert_eq!(with, without);
}

/// No clause that opens a way towards WAN is without an address, a mark, or a protocol.
#[test]
fn nothing_opens_the_wan_at_large() {
    for (name, policy) in policies() {
        for way in [Way::RouterToWan, Way::LanToWan] {
            for clause in policy.on(way).filter(|clause| opens(clause)) {
                let narrow = clause
                    .matches
                    .iter()
                    .any(|found| matches!(found, Match::To(_) | Match::NotTo(_) | Match::SpokeFirst(_)));
                let answers = clause.matches.contains(&Match::Reply);
                let server = clause.what == "DHCPv4 server";
                assert!(narrow || answers || server, "{name}: {clause:?}");
            }
        }
        for clause in policy.on(Way::WanToLan).filter(|clause| opens(clause)) {
            assert_eq!(clause.row, Row::ListedWan, "{name}: {clause:?}");
        }
    }
}

/// An exception for the router is never one for forwarding.
#[test]
fn relay_and_api_are_not_forwarded_to() {
    for (name, policy) in policies() {
        for clause in policy.clauses().iter().filter(|clause| opens(clause)) {
            if matches!(clause.row, Row::TunnelOuter | Row::Api | Row::OuterErrors) {
                let router = [Way::ArrivingFromWan, Way::LeavingRouter, Way::RouterToWan, Way::WanToRouter];
                assert!(router.contains(&clause.way), "{name}: {clause:?}");
            }
        }
    }
}

/// Row 3.6 before 2.8: a listed prefix that covers the relay or the API does not open the way.
#[test]
fn refusals_come_before_listed_prefixes() {
    for (name, policy) in policies() {
        for way in [Way::RouterToWan, Way::LanToWan] {
            let at = |wanted: &dyn Fn(&Clause) -> bool| {
                policy
                    .on(way)
                    .enumerate()
                    .filter(|(_, clause)| wanted(clause))
                    .map(|(at, _)| at)
                    .collect::<Vec<_>>()
            };
            let listed = at(&|clause| clause.row == Row::ListedWan);
            let refused = at(&|clause| clause.action == Action::Refuse);
            if let (Some(first), Some(last)) = (listed.first(), refused.last()) {
                assert!(last < first, "{name} {way:?}");
            }
        }
    }
}

#[test]
fn the_relay_is_reached_with_the_mark_only() {
    let policy = policy("connecting-full");
    let mark = samples::full().mark;
    let mut relays = 0;
    for clause in policy.clauses() {
        if clause.row == Row::TunnelOuter && matches!(clause.way, Way::RouterToWan) {
            assert!(clause.matches.contains(&Match::Marked(mark)), "{clause:?}");
            relays += 1;
        }
    }
    assert_eq!(relays, 2, "the old relay and the next");
}

#[test]
fn names_are_asked_in_the_tunnel_only() {
    let resolvers = |policy: &Policy, way| {
        let dns = policy.on(way).filter(|clause| clause.row == Row::Dns && opens(clause));
        dns.flat_map(tos).map(|net| net.to_string()).collect::<Vec<_>>()
    };
    let plain = policy("connected-plain");
    assert_eq!(resolvers(&plain, Way::LanToTunnel), ["10.64.0.1/32"]);
    assert_eq!(resolvers(&plain, Way::RouterToTunnel), ["10.64.0.1/32"]);
    // The user's, without the one in the LAN and the router's own.
    let full = policy("connected-full");
    assert_eq!(resolvers(&full, Way::LanToTunnel), ["10.64.0.7/32"]);
    // Not before the tunnel is verified, but in a switch.
    assert!(resolvers(&policy("connecting-device"), Way::LanToTunnel).is_empty());
    assert_eq!(resolvers(&policy("connecting-full"), Way::LanToTunnel), ["10.64.0.7/32"]);
    for (name, policy) in policies() {
        assert!(resolvers(&policy, Way::RouterToWan).is_empty(), "{name}");
        assert!(resolvers(&policy, Way::LanToWan).is_empty(), "{name}");
    }
}

#[test]
fn a_device_with_a_gateway_on_it_is_not_forwarded() {
    for (name, policy) in policies().iter().filter(|(name, _)| name.ends_with("-full")) {
        let zones = policy.zones();
        let named =
            |devices: Vec<crate::config::IfName>| devices.iter().any(|device| device.as_str() == "eth7");
        assert!(named(zones.lan_devices()) && !named(zones.forwarding()), "{name}");
    }
}

/// A device that outlives its tunnel gets none of WAN's exceptions.
#[test]
fn the_group_is_never_wan_nor_lan() {
    let mut settings = samples::plain();
    let mut odd = settings.lan.devices[0].clone();
    odd.name = "vpnd0".parse().unwrap();
    settings.lan.devices.push(odd);
    let stance = Stance::Blocked { api: false };
    let policy = compose(&stance, &settings, &samples::plain_facts()).unwrap();
    let group: Vec<&str> = policy.zones().group.iter().map(|name| name.as_str()).collect();
    assert_eq!(group, ["vpnd0", "vpnd1"]);
    assert!(!policy.zones().lan_devices().iter().any(|name| name.as_str() == "vpnd0"));
    assert_eq!(policy.zones().tunnel, None);
}

/// The tunnel's address is guarded while blocked, too: its device may still be there.
#[test]
fn the_tunnels_address_is_guarded_in_every_state_that_knows_it() {
    for (name, policy) in policies() {
        for way in [Way::ArrivingFromLan, Way::ArrivingFromWan] {
            let guarded: Vec<String> = policy
                .on(way)
                .filter(|clause| clause.row == Row::Source && clause.action == Action::Drop)
                .flat_map(tos)
                .map(|net| net.to_string())
                .collect();
            if name.ends_with("-nothing") {
                assert!(guarded.is_empty(), "{name}");
            } else {
                let both = ["10.64.10.20/32", "fc00:bbbb:bbbb:bb01::1:a14/128"];
                assert_eq!(guarded, both, "{name} {way:?}");
            }
        }
    }
}

/// A clause never mixes families: its addresses, its ICMP and its pinned family agree.
#[test]
fn families_are_not_mixed() {
    for (name, policy) in policies() {
        for clause in policy.clauses() {
            let mut families: Vec<Family> = clause.matches.iter().filter_map(family).collect();
            families.sort();
            families.dedup();
            assert!(families.len() <= 1, "{name}: {clause:?}");
        }
    }
}

fn family(found: &Match) -> Option<Family> {
    match found {
        Match::From(nets) | Match::To(nets) | Match::NotTo(nets) => {
            let first = nets.first().map(|net| Family::of(net.addr()));
            assert!(nets.iter().all(|net| Some(Family::of(net.addr())) == first));
            first
        }
        Match::Icmp(_) => Some(Family::V4),
        Match::Icmpv6(_) | Match::Icmpv6Code0 | Match::HopLimit(_) => Some(Family::V6),
        Match::Family(family) | Match::SpokeFirst(family) => Some(*family),
        Match::Quotes(quoted) => Some(Family::of(SocketAddr::ip(&quoted.to))),
        _ => None,
    }
}

/// A prefix of everything is no address at all, and an empty list of a family nothing.
#[test]
fn prefixes_of_all_and_of_none() {
    let mut settings = samples::plain();
    settings.allow_wan_private = vec!["0.0.0.0/0".parse().unwrap()];
    let stance = Stance::Blocked { api: false };
    let policy = compose(&stance, &settings, &samples::plain_facts()).unwrap();
    let listed: Vec<&Clause> =
        policy.on(Way::LanToWan).filter(|clause| clause.row == Row::ListedWan).collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].matches, [Match::Family(Family::V4)]);
}
