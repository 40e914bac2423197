//! Rows 3.3 and 3.4: into the tunnel, and back out of it.

use ipnet::IpNet;

use crate::policy::Way::{
    ForwardedSyn, LanToTunnel, RouterToTunnel, TunnelDestinationNat, TunnelSourceNat, TunnelToLan,
    TunnelToRouter,
};
use crate::policy::clause::{Action, Family, Match, Proto};
use crate::policy::compose::Composer;
use crate::policy::draft::{act, allow, host};
use crate::policy::row::Row;
use crate::policy::stance::TunnelStance;

pub fn both_ways(c: &mut Composer<'_>, tunnel: &TunnelStance) {
    into(c, tunnel);
    out_of(c);
    forwards(c, tunnel);
    super::source::tunnel_own(c, tunnel);
}

fn into(c: &mut Composer<'_>, tunnel: &TunnelStance) {
    c.add(allow(Row::IntoTunnel, "the router sends into the tunnel").on(RouterToTunnel));
    c.add(allow(Row::IntoTunnel, "the LAN sends into the tunnel").on(LanToTunnel));
    // The relay knows the tunnel's address only. Where fw4 masquerades too, the first one to do
    // it wins, with the same result.
    c.add(
        act(Action::Masquerade, Row::IntoTunnel, "the LAN leaves with the tunnel's address")
            .on(TunnelSourceNat),
    );
    for direction in [Match::Out(vec![tunnel.device.clone()]), Match::In(vec![tunnel.device.clone()])] {
        c.add(
            act(Action::ClampMss, Row::IntoTunnel, "TCP segments fit the tunnel")
                .on(ForwardedSyn)
                .matching(direction),
        );
    }
}

fn out_of(c: &mut Composer<'_>) {
    c.add(
        allow(Row::FromTunnel, "answers come out of the tunnel")
            .on(TunnelToLan)
            .on(TunnelToRouter)
            .matching(Match::Established)
            .reply(),
    );
    c.add(
        allow(Row::FromTunnel, "ICMP errors come out of the tunnel")
            .on(TunnelToLan)
            .on(TunnelToRouter)
            .proto(Proto::AnyIcmp)
            .matching(Match::Related),
    );
}

/// Listed port forwards: translated, then let through. Their answers go by row 3.3.
fn forwards(c: &mut Composer<'_>, tunnel: &TunnelStance) {
    for forward in &c.settings.allow_tunnel_forward {
        let family = Family::of(forward.to.ip());
        let own = tunnel.addresses.iter().filter(|net| family.holds(net));
        let own: Vec<IpNet> = own.map(|net| host(net.addr())).collect();
        c.add(
            act(Action::SendTo(forward.to), Row::FromTunnel, "a listed port is handed on")
                .on(TunnelDestinationNat)
                .to(own)
                .proto(forward.proto.into())
                .dest_port(forward.port),
        );
        c.add(
            allow(Row::FromTunnel, "a listed port reaches its LAN host")
                .on(TunnelToLan)
                .proto(forward.proto.into())
                .towards(forward.to)
                .matching(Match::Translated),
        );
    }
}
