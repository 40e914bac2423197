//! Row 2.5: neighbour discovery (RFC 4861) and MLD (RFC 2710, RFC 3810) on WAN. Redirect (137) is
//! not here: a router has no use for it.

use crate::policy::Way::{RouterToWan, WanToRouter};
use crate::policy::clause::Match;
use crate::policy::compose::Composer;
use crate::policy::draft::{Draft, allow};
use crate::policy::nets::{
    ALL_MLDV2_ROUTERS, ALL_NODES, ALL_ROUTERS, LINK_LOCAL_V6, MULTICAST_V6, SOLICITED_NODE,
};
use crate::policy::row::Row;

pub const ROUTER_SOLICITATION: &[u8] = &[133];
const ROUTER_ADVERTISEMENT: &[u8] = &[134];
pub const NEIGHBOUR_SOLICITATION: &[u8] = &[135];
const NEIGHBOUR_ADVERTISEMENT: &[u8] = &[136];
const MLD_QUERY: &[u8] = &[130];
pub const MLD_REPORT: &[u8] = &[131];
const MLD_DONE: &[u8] = &[132];
pub const MLDV2_REPORT: &[u8] = &[143];

pub fn on_wan(c: &mut Composer<'_>) {
    outgoing(c);
    incoming(c);
    multicast_listeners(c);
}

/// From this link only: hop limit 255 cannot have been forwarded (RFC 4861, section 3.1).
pub fn discovery(draft: Draft, types: &'static [u8]) -> Draft {
    draft.matching(Match::HopLimit(255)).icmpv6(types).matching(Match::Icmpv6Code0)
}

/// MLD is sent with hop limit 1 (RFC 2710, section 3; RFC 3810, section 5).
pub fn mld(draft: Draft, types: &'static [u8]) -> Draft {
    draft.matching(Match::HopLimit(1)).icmpv6(types).matching(Match::Icmpv6Code0)
}

fn outgoing(c: &mut Composer<'_>) {
    let out = |what| allow(Row::NeighbourDiscovery, what).on(RouterToWan);
    c.add(discovery(out("routers are asked for").to([ALL_ROUTERS]), ROUTER_SOLICITATION));
    c.add(discovery(
        out("neighbours are asked for").to([SOLICITED_NODE, LINK_LOCAL_V6]),
        NEIGHBOUR_SOLICITATION,
    ));
    for wan in &c.facts.wan {
        let connected = wan.prefixes.iter().filter(|net| net.addr().is_ipv6()).copied();
        c.add(discovery(
            out("neighbours on a connected network are asked for").leaving_by(&wan.name).to(connected),
            NEIGHBOUR_SOLICITATION,
        ));
    }
    c.add(discovery(out("all nodes are told").to([ALL_NODES]), NEIGHBOUR_ADVERTISEMENT));
    c.add(discovery(out("neighbours are answered").not_to([MULTICAST_V6]), NEIGHBOUR_ADVERTISEMENT));
}

fn incoming(c: &mut Composer<'_>) {
    let come_in = |what| allow(Row::NeighbourDiscovery, what).on(WanToRouter);
    c.add(discovery(come_in("routers advertise").from([LINK_LOCAL_V6]), ROUTER_ADVERTISEMENT));
    // From anybody, also `::` (duplicate address detection).
    c.add(discovery(come_in("neighbours ask"), NEIGHBOUR_SOLICITATION));
    c.add(discovery(come_in("neighbours answer"), NEIGHBOUR_ADVERTISEMENT));
}

fn multicast_listeners(c: &mut Composer<'_>) {
    let out = |what| allow(Row::NeighbourDiscovery, what).on(RouterToWan);
    c.add(mld(out("MLD report").to([MULTICAST_V6]), MLD_REPORT));
    c.add(mld(out("MLD done").to([ALL_ROUTERS]), MLD_DONE));
    c.add(mld(out("MLDv2 report").to([ALL_MLDV2_ROUTERS]), MLDV2_REPORT));
    c.add(mld(allow(Row::NeighbourDiscovery, "MLD query").on(WanToRouter), MLD_QUERY));
}
