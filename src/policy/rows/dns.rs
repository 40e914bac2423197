//! Row 3.5: DNS on port 53.

use std::net::IpAddr;

use crate::policy::Way::{LanToTunnel, LanToWan, RouterToLan, RouterToTunnel, RouterToWan};
use crate::policy::clause::{allow, host, refuse};
use crate::policy::compose::Composer;
use crate::policy::nets::LINK_LOCAL_V6;
use crate::policy::row::Row;

const PORT: u16 = 53;

/// In-tunnel resolvers are reached, all others refused.
pub fn inside_the_tunnel(c: &mut Composer<'_>) {
    let resolvers: Vec<_> = resolvers(c).into_iter().map(host).collect();
    c.add(
        allow(Row::Dns, "the in-tunnel resolver is asked")
            .on(RouterToTunnel)
            .on(LanToTunnel)
            .to(resolvers)
            .tcp_or_udp()
            .to_port(PORT),
    );
    nowhere(c);
}

/// The tunnel's own resolvers, or the user's, without those that live in the LAN.
fn resolvers(c: &Composer<'_>) -> Vec<IpAddr> {
    let tunnels = c.settings.tunnel.iter().flat_map(|tunnel| tunnel.dns.iter().copied());
    let listed = &c.settings.resolvers;
    let wanted: Vec<IpAddr> = if listed.is_empty() { tunnels.collect() } else { listed.clone() };
    let elsewhere = |addr: &IpAddr| !addr.is_loopback() && !c.zones.connected_on_lan(*addr);
    wanted.into_iter().filter(elsewhere).collect()
}

/// No resolver inside the tunnel.
pub fn nowhere(c: &mut Composer<'_>) {
    c.add(
        refuse(Row::Dns, "no other resolver inside the tunnel")
            .on(RouterToTunnel)
            .on(LanToTunnel)
            .tcp_or_udp()
            .to_port(PORT),
    );
}

/// Outside the tunnel only to a resolver connected on a LAN device. A private address is not
/// enough (it may be the ISP's box), so this comes before listed prefixes (2.8) and LAN routes.
pub fn outside_the_tunnel(c: &mut Composer<'_>) {
    for zone in &c.zones.lan {
        let mut connected = zone.connected.clone();
        connected.push(LINK_LOCAL_V6);
        c.add(
            allow(Row::Dns, "a resolver in the LAN is asked")
                .on(RouterToLan)
                .leaving_by(&zone.device)
                .to(connected)
                .tcp_or_udp()
                .to_port(PORT),
        );
    }
    c.add(
        refuse(Row::Dns, "no resolver outside the tunnel")
            .on(RouterToLan)
            .on(RouterToWan)
            .on(LanToWan)
            .tcp_or_udp()
            .to_port(PORT),
    );
}
