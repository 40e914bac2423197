//! Which connections of the kernel's table fit a stance: the flows of contract section 3. Pure.
//!
//! A conntrack entry has addresses but no devices, so a flow is judged by where its packets go on
//! the wire: from the initiator (`original.source`) to the responder as it really is
//! (`reply.source`), who answers to `reply.destination`, the initiator as the responder sees it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Settings, TunnelSettings};

use super::{Facts, Stance};

const TCP: u8 = 6;
const UDP: u8 = 17;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;

/// One direction of a connection. Ports are 0 where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
}

/// An entry of the connection tracking table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    pub original: Tuple,
    pub reply: Tuple,
    /// IP protocol number.
    pub protocol: u8,
    /// The connection's mark, 0 where the kernel has none.
    pub mark: u32,
    /// `enum ip_conntrack_status` of linux/netfilter/nf_conntrack_common.h.
    pub status: u32,
    pub zone: u16,
}

/// Whether `flow` may stay under `stance`; false: it must be deleted. With `spare_tunnel`, flows
/// through the tunnel of the stance stay; flows through any other tunnel never do.
#[must_use]
pub fn fits(flow: &Flow, stance: &Stance, settings: &Settings, facts: &Facts, spare_tunnel: bool) -> bool {
    let view = View { flow, settings, facts };
    if *stance == Stance::Open {
        return view.stays_at_home() || !(view.of_configured_tunnel() || view.of_no_device());
    }
    if view.stays_at_home() {
        return true;
    }
    match stance.tunnel().filter(|tunnel| view.through(&addresses(&tunnel.addresses))) {
        Some(_) => spare_tunnel,
        None => {
            !view.of_configured_tunnel()
                && (view.is_lease()
                    || (view.is_listed_wan() && !view.of_no_device())
                    || view.is_wan_service()
                    || (asks_api_outside(stance) && view.is_api()))
        }
    }
}

fn asks_api_outside(stance: &Stance) -> bool {
    matches!(stance, Stance::Blocked { api: true } | Stance::Connecting { .. })
}

fn addresses(nets: &[IpNet]) -> Vec<IpAddr> {
    nets.iter().map(IpNet::addr).collect()
}

struct View<'a> {
    flow: &'a Flow,
    settings: &'a Settings,
    facts: &'a Facts,
}

impl View<'_> {
    fn initiator(&self) -> IpAddr {
        self.flow.original.source
    }
    fn responder(&self) -> IpAddr {
        self.flow.reply.source
    }
    fn ends(&self) -> [IpAddr; 4] {
        let Flow { original, reply, .. } = self.flow;
        [original.source, original.destination, reply.source, reply.destination]
    }

    /// Contract 2.1, 2.2, 2.7: nothing of the flow goes beyond router and LAN, or beyond a link.
    fn stays_at_home(&self) -> bool {
        let Flow { original, reply, .. } = self.flow;
        let wire = [original.source, reply.source, reply.destination];
        let untranslated = original.source == reply.destination;
        let with_itself = untranslated && original.source == reply.source;
        with_itself
            || wire.iter().all(IpAddr::is_loopback)
            || wire.iter().all(|end| self.is_lan(*end))
            || (untranslated && wire.iter().all(|end| is_link_local(*end)))
            || (untranslated && is_to_all(original.destination))
    }

    fn is_lan(&self, address: IpAddr) -> bool {
        let lan = &self.settings.lan;
        let configured = lan.devices.iter().flat_map(|device| &device.prefixes);
        let behind = lan.routes.iter().map(|route| &route.prefix);
        let known = lan.devices.iter().filter_map(|d| self.facts.lan_prefixes.get(&d.name));
        configured.chain(behind).chain(known.flatten()).any(|prefix| prefix.contains(&address))
    }

    fn is_wan(&self, address: IpAddr) -> bool {
        self.facts.wan.iter().flat_map(|wan| &wan.prefixes).any(|p| p.contains(&address))
    }

    /// Out of the tunnel, translated to its address or from a socket that has it; or into it, to
    /// a forwarded port.
    fn through(&self, tunnel: &[IpAddr]) -> bool {
        self.ends().iter().any(|end| tunnel.contains(end))
    }

    fn of_configured_tunnel(&self) -> bool {
        let tunnel: &Option<TunnelSettings> = &self.settings.tunnel;
        tunnel.as_ref().is_some_and(|tunnel| self.through(&addresses(&tunnel.addresses)))
    }

    /// The source on the wire is an address of no device: a tunnel's address from before it was
    /// changed, to which the flow is translated or its socket still bound.
    fn of_no_device(&self) -> bool {
        let source = self.flow.reply.destination;
        let translated = source != self.initiator();
        let foreign = |address| !self.is_lan(address) && !self.is_wan(address);
        let inbound = self.is_lan(self.responder()) || self.is_wan(self.responder());
        foreign(source) && (translated || !inbound)
    }

    /// Contract 2.3. The router's own: a LAN host's packets to the server are not.
    fn is_lease(&self) -> bool {
        let Flow { original, reply, protocol, .. } = self.flow;
        let ports = (original.source_port, original.destination_port);
        let (server, client) = match ports {
            (DHCP_CLIENT, DHCP_SERVER) => (original.destination, original.source),
            (DHCP_SERVER, DHCP_CLIENT) => (original.source, original.destination),
            _ => return false,
        };
        *protocol == UDP
            && original.source == reply.destination
            && original.destination == reply.source
            && !self.is_lan(client)
            && self.facts.wan.iter().any(|wan| wan.lease_server.map(IpAddr::V4) == Some(server))
    }

    /// Contract 2.8.
    fn is_listed_wan(&self) -> bool {
        let listed = &self.settings.allow_wan_private;
        listed.iter().any(|prefix| prefix.contains(&self.responder()))
    }

    /// Contract 2.9: only the firewall's mark tells a service's flow from one that a LAN host has
    /// with the same port elsewhere.
    fn is_wan_service(&self) -> bool {
        let Flow { original, reply, protocol, mark, .. } = self.flow;
        let service = self.settings.mark.service();
        mark & service.mask() == service.value()
            && original.destination == reply.source
            && self.settings.allow_wan_service.iter().any(|service| {
                let proto = match service.proto {
                    crate::config::PortProto::Tcp => TCP,
                    crate::config::PortProto::Udp => UDP,
                };
                proto == *protocol
                    && service.port == original.destination_port
                    && service.source.is_none_or(|prefix| prefix.contains(&original.source))
            })
    }

    /// Contract 3.2: the router's own.
    fn is_api(&self) -> bool {
        let Flow { original, reply, protocol, .. } = self.flow;
        *protocol == TCP
            && original.source == reply.destination
            && original.destination == reply.source
            && !self.is_lan(original.source)
            && self
                .settings
                .api
                .iter()
                .any(|api| api.ip() == original.destination && api.port() == original.destination_port)
    }
}

/// Packets to these leave no link that they were not sent on.
fn is_to_all(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
