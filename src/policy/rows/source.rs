//! Row 3.7: a packet's source belongs to the device it leaves by, and the tunnel's address is
//! reached through the tunnel only.

use ipnet::IpNet;

use crate::policy::Way::{ArrivingFromLan, ArrivingFromWan, ForeignSource};
use crate::policy::clause::{allow, drop_silently, host};
use crate::policy::compose::Composer;
use crate::policy::nets::{
    ALL_MLDV2_ROUTERS, ALL_ROUTERS, BROADCAST, MULTICAST_V6, SOLICITED_NODE, UNSPECIFIED_V4, UNSPECIFIED_V6,
};
use crate::policy::row::Row;
use crate::policy::stance::Stance;
use crate::policy::zones::tunnel_of;

/// Before conntrack, which would translate them back to a LAN host (CVE-2019-14899 on a router).
/// In every state that knows the address: the device may outlive the tunnel.
pub fn tunnel_address(c: &mut Composer<'_>, stance: &Stance) {
    let configured = c.settings.tunnel.iter().flat_map(|tunnel| &tunnel.addresses);
    let standing = tunnel_of(stance).into_iter().flat_map(|tunnel| &tunnel.addresses);
    let addresses: Vec<IpNet> = configured.chain(standing).map(|net| host(net.addr())).collect();
    c.add(
        drop_silently(Row::Source, "the tunnel's address is reached through the tunnel only")
            .on(ArrivingFromLan)
            .on(ArrivingFromWan)
            .to(addresses),
    );
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
            .from_port(68)
            .to_port(67),
    );
    c.add(
        allow(Row::NeighbourDiscovery, "neighbours are looked for without an address")
            .on(ForeignSource)
            .from([UNSPECIFIED_V6])
            .to([ALL_ROUTERS, SOLICITED_NODE, ALL_MLDV2_ROUTERS])
            .icmpv6(&[133, 135, 143]),
    );
    c.add(
        allow(Row::NeighbourDiscovery, "an MLD report without an address")
            .on(ForeignSource)
            .from([UNSPECIFIED_V6])
            .to([MULTICAST_V6])
            .icmpv6(&[131]),
    );
    c.add(drop_silently(Row::Source, "a source address of another device").on(ForeignSource));
}
