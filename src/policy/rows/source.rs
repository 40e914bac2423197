//! Row 3.7: a packet's source belongs to the device it leaves by, and the tunnel's address is
//! reached through the tunnel only.

use ipnet::IpNet;

use crate::policy::Way::{ArrivingFromLan, ArrivingFromWan, ForeignSource, LeavingByTunnel};
use crate::policy::compose::Composer;
use crate::policy::draft::{allow, drop_silently, host};
use crate::policy::nets::{
    ALL_MLDV2_ROUTERS, ALL_ROUTERS, BROADCAST, MULTICAST_V6, SOLICITED_NODE, UNSPECIFIED_V4, UNSPECIFIED_V6,
};
use crate::policy::row::Row;
use crate::policy::stance::{Stance, TunnelStance};

use super::neighbours::{
    MLD_REPORT, MLDV2_REPORT, NEIGHBOUR_SOLICITATION, ROUTER_SOLICITATION, discovery, mld,
};

/// Before conntrack, which would translate them back to a LAN host (CVE-2019-14899 on a router).
/// In every state that knows the address: the device may outlive the tunnel.
pub fn tunnel_address(c: &mut Composer<'_>, stance: &Stance) {
    let configured = c.settings.tunnel.iter().flat_map(|tunnel| &tunnel.addresses);
    let standing = stance.tunnel().into_iter().flat_map(|tunnel| &tunnel.addresses);
    let addresses: Vec<IpNet> = configured.chain(standing).map(|net| host(net.addr())).collect();
    c.add(
        drop_silently(Row::Source, "the tunnel's address is reached through the tunnel only")
            .on(ArrivingFromLan)
            .on(ArrivingFromWan)
            .to(addresses),
    );
}

/// What nearly every packet in the tunnel has; others' sources are looked up, which takes longer.
pub fn tunnel_own(c: &mut Composer<'_>, tunnel: &TunnelStance) {
    let own = tunnel.addresses.iter().map(|net| host(net.addr()));
    c.add(allow(Row::Source, "the tunnel's own address").on(LeavingByTunnel).from(own));
}

/// Who has no address yet may ask for one (2.3), look whether it is taken, and say which groups
/// it listens to (2.5).
pub fn unspecified(c: &mut Composer<'_>) {
    c.add(
        allow(Row::DhcpV4Client, "a lease is asked for without an address")
            .on(ForeignSource)
            .from([UNSPECIFIED_V4])
            .to([BROADCAST])
            .udp()
            .source_port(68)
            .dest_port(67),
    );
    let nobody = |what| allow(Row::NeighbourDiscovery, what).on(ForeignSource).from([UNSPECIFIED_V6]);
    for (group, types) in [(ALL_ROUTERS, ROUTER_SOLICITATION), (SOLICITED_NODE, NEIGHBOUR_SOLICITATION)] {
        let what = "neighbours are looked for without an address";
        c.add(discovery(nobody(what).to([group]), types));
    }
    for (group, types) in [(ALL_MLDV2_ROUTERS, MLDV2_REPORT), (MULTICAST_V6, MLD_REPORT)] {
        c.add(mld(nobody("an MLD report without an address").to([group]), types));
    }
    c.add(drop_silently(Row::Source, "a source address of another device").on(ForeignSource));
}
