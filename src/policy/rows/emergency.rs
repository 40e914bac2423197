//! Contract, section 0: with neither a config nor a kept LAN list nobody knows which device is
//! LAN. Forwarding is closed; the router answers hosts that spoke first, on the device they spoke
//! on, and gives out leases and advertisements.

use crate::policy::Way::{RouterToWan, WanToRouter};
use crate::policy::clause::{Action, Family, Match, act, allow};
use crate::policy::compose::Composer;
use crate::policy::nets::{LINK_LOCAL_V6, MULTICAST_V6};
use crate::policy::row::Row;

pub fn whoever_spoke_first(c: &mut Composer<'_>) {
    if !c.zones.emergency() {
        return;
    }
    for family in Family::BOTH {
        let what = "no LAN is known: who speaks is remembered";
        c.add(act(Action::Remember(family), Row::LanSide, what).on(WanToRouter));
        c.add(
            allow(Row::LanSide, "no LAN is known: who spoke first is answered")
                .on(RouterToWan)
                .matching(Match::SpokeFirst(family))
                .reply(),
        );
    }
    c.add(allow(Row::LanSide, "no LAN is known: the router is asked, as fw4 lets it").on(WanToRouter));
    let out = |what| allow(Row::LanSide, what).on(RouterToWan);
    c.add(out("DHCPv4 server").ipv4().udp().from_port(67).to_port(68));
    c.add(out("DHCPv6 server").from([LINK_LOCAL_V6]).to([LINK_LOCAL_V6]).udp().from_port(547).to_port(546));
    c.add(
        out("router advertisements")
            .from([LINK_LOCAL_V6])
            .to([LINK_LOCAL_V6, MULTICAST_V6])
            .matching(Match::HopLimit(255))
            .icmpv6(&[134]),
    );
}
