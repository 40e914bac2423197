//! Row 2.8: prefixes and multicast groups behind the WAN that the user listed.

use crate::policy::Way::{LanToWan, RouterToWan, WanToLan, WanToRouter};
use crate::policy::clause::{Match, Proto, allow};
use crate::policy::compose::Composer;
use crate::policy::nets::LOCAL_MULTICAST_V4;
use crate::policy::row::Row;

/// A modem's page, say: asked by router and LAN, and only answers come back.
pub fn prefixes(c: &mut Composer<'_>) {
    let prefixes = &c.settings.allow_wan_private;
    if prefixes.is_empty() {
        return;
    }
    c.add(
        allow(Row::ListedWan, "a listed prefix behind the WAN is reached")
            .on(RouterToWan)
            .on(LanToWan)
            .to(prefixes.iter().copied()),
    );
    c.add(
        allow(Row::ListedWan, "a listed prefix behind the WAN answers")
            .on(WanToRouter)
            .on(WanToLan)
            .from(prefixes.iter().copied())
            .matching(Match::Established)
            .reply(),
    );
    c.add(
        allow(Row::ListedWan, "ICMP errors from a listed prefix behind the WAN")
            .on(WanToRouter)
            .on(WanToLan)
            .from(prefixes.iter().copied())
            .proto(Proto::AnyIcmp)
            .matching(Match::Related),
    );
}

/// IPTV: its groups, and the membership protocol that asks for them (MLD is in row 2.5).
pub fn multicast(c: &mut Composer<'_>) {
    let groups = &c.settings.allow_wan_multicast;
    if groups.is_empty() {
        return;
    }
    c.add(
        allow(Row::ListedWan, "a listed multicast group, both ways")
            .on(RouterToWan)
            .on(LanToWan)
            .on(WanToRouter)
            .on(WanToLan)
            .to(groups.iter().copied())
            .udp(),
    );
    membership(c);
}

/// Queries and reports are the WAN's routers' and ours, on its link only.
fn membership(c: &mut Composer<'_>) {
    let groups = &c.settings.allow_wan_multicast;
    let igmp = |what| allow(Row::ListedWan, what).proto(Proto::Igmp);
    if groups.iter().any(|group| group.addr().is_ipv4()) {
        // 224.0.0.2 (leave) and 224.0.0.22 (IGMPv3 report) are in the local block.
        let v4 = groups.iter().filter(|group| group.addr().is_ipv4()).copied();
        c.add(igmp("IGMP membership of a listed group").on(RouterToWan).to(v4.chain([LOCAL_MULTICAST_V4])));
        c.add(igmp("IGMP query").on(WanToRouter).ipv4());
    }
}
