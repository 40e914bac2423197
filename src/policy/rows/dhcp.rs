//! Rows 2.3 and 2.4: the router's own leases from the WAN.

use crate::policy::Way::{RouterToWan, WanToRouter};
use crate::policy::clause::{allow, host};
use crate::policy::compose::Composer;
use crate::policy::nets::{ALL_DHCP_AGENTS, ALL_DHCP_SERVERS, BROADCAST, LINK_LOCAL_V6};
use crate::policy::row::Row;

pub fn client(c: &mut Composer<'_>) {
    v4(c);
    v6(c);
}

fn v4(c: &mut Composer<'_>) {
    c.add(
        allow(Row::DhcpV4Client, "a lease is asked for")
            .on(RouterToWan)
            .to([BROADCAST])
            .udp()
            .from_port(68)
            .to_port(67),
    );
    for wan in &c.facts.wan {
        let Some(server) = wan.lease_server else { continue };
        c.add(
            allow(Row::DhcpV4Client, "the lease's own server is asked to renew it")
                .on(RouterToWan)
                .leaving_by(&wan.name)
                .to([host(server.into())])
                .udp()
                .from_port(68)
                .to_port(67),
        );
    }
    c.add(
        allow(Row::DhcpV4Client, "a lease is offered").on(WanToRouter).ipv4().udp().from_port(67).to_port(68),
    );
}

fn v6(c: &mut Composer<'_>) {
    c.add(
        allow(Row::DhcpV6Client, "a lease or prefix is asked for")
            .on(RouterToWan)
            .from([LINK_LOCAL_V6])
            .to([ALL_DHCP_AGENTS, ALL_DHCP_SERVERS])
            .udp()
            .from_port(546)
            .to_port(547),
    );
    // Some providers' servers answer from global addresses.
    c.add(
        allow(Row::DhcpV6Client, "a lease or prefix is offered")
            .on(WanToRouter)
            .to([LINK_LOCAL_V6])
            .udp()
            .from_port(547)
            .to_port(546),
    );
}
