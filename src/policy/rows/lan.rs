//! Rows 2.2 and 2.7: the LAN side of the router, and LAN to LAN.

use crate::policy::Way::{LanToLan, LanToRouter, RouterToLan};
use crate::policy::clause::{Proto, allow};
use crate::policy::compose::Composer;
use crate::policy::nets::{BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6};
use crate::policy::row::Row;

/// Router solicitation and advertisement, neighbour solicitation and advertisement, redirect
/// (RFC 4861).
const NEIGHBOUR_DISCOVERY: &[u8] = &[133, 134, 135, 136, 137];

/// The router's own firewall decides after us.
pub fn router_from_lan(c: &mut Composer<'_>) {
    c.add(allow(Row::LanSide, "the LAN reaches the router, as fw4 lets it").on(LanToRouter));
}

/// By conntrack's direction alone: also at boot, with a dead daemon, or after the LAN's address
/// was changed.
pub fn replies(c: &mut Composer<'_>) {
    c.add(allow(Row::LanSide, "answers to what came in").on(RouterToLan).reply());
}

pub fn router_to_lan(c: &mut Composer<'_>) {
    let to_lan = |what| allow(Row::LanSide, what).on(RouterToLan);
    for zone in &c.zones.lan {
        c.add(
            to_lan("networks connected there, and listed behind it")
                .leaving_by(&zone.device)
                .to(zone.reachable()),
        );
    }
    c.add(to_lan("link-local, multicast, broadcast").to([
        LINK_LOCAL_V4,
        LINK_LOCAL_V6,
        MULTICAST_V4,
        MULTICAST_V6,
        BROADCAST,
    ]));
    c.add(to_lan("DHCPv4 server").ipv4().udp().from_port(67).to_port(68));
    c.add(to_lan("DHCPv6 server").ipv6().udp().from_port(547).to_port(546));
    c.add(
        to_lan("router advertisements and neighbour discovery")
            .matching(crate::policy::Match::HopLimit(255))
            .icmpv6(NEIGHBOUR_DISCOVERY),
    );
    c.add(to_lan("IGMP").ipv4().proto(Proto::Igmp));
}

/// To what is connected on the device it leaves by; which zones may talk is fw4's.
pub fn lan_to_lan(c: &mut Composer<'_>) {
    for zone in c.zones.lan.iter().filter(|zone| zone.forward) {
        c.add(
            allow(Row::LanToLan, "one LAN network to another, as fw4 lets it")
                .on(LanToLan)
                .leaving_by(&zone.device)
                .to(zone.reachable()),
        );
    }
}
