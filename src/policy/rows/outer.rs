//! Rows 3.1 and 2.6: the encrypted packets of the tunnel and the errors about them; row 3.6: they
//! are nobody else's.

use std::net::SocketAddr;

use crate::config::PortProto;
use crate::policy::Way::{ArrivingFromWan, LanToRouter, LanToWan, LeavingRouter, RouterToWan, WanToRouter};
use crate::policy::clause::{Action, Draft, Match, Proto, Quoted, act, allow, refuse};
use crate::policy::compose::Composer;
use crate::policy::row::Row;

/// ICMP errors (RFC 792): unreachable (too-big is one of its codes) and time-exceeded.
pub const ICMP_ERRORS: &[u8] = &[3, 11];
/// ICMPv6 errors (RFC 4443): unreachable, too-big, time-exceeded.
pub const ICMPV6_ERRORS: &[u8] = &[1, 2, 3];

pub fn to_relays(c: &mut Composer<'_>, relays: &[SocketAddr], listen_port: u16) {
    let mark = c.settings.mark;
    for relay in relays {
        // Conntrack sees neither direction: a table filled by a LAN flood must not kill the
        // tunnel. The mark on what comes in makes a reverse-path filter that heeds marks
        // (src_valid_mark) look where the answer would go, and lets other tables know our packets.
        c.add(
            act(Action::Untrack, Row::TunnelOuter, "the tunnel's packets are not tracked")
                .on(LeavingRouter)
                .udp()
                .to_endpoint(*relay)
                .marked(mark),
        );
        c.add(
            act(
                Action::MarkAndUntrack(mark),
                Row::TunnelOuter,
                "the relay's packets are marked and not tracked",
            )
            .on(ArrivingFromWan)
            .udp()
            .from_endpoint(*relay)
            .to_port(listen_port),
        );
        c.add(
            allow(Row::TunnelOuter, "the relay may be reached by the tunnel's socket")
                .on(RouterToWan)
                .udp()
                .to_endpoint(*relay)
                .marked(mark),
        );
        c.add(
            allow(Row::TunnelOuter, "the relay may reach the tunnel's own port")
                .on(WanToRouter)
                .udp()
                .from_endpoint(*relay)
                .to_port(listen_port),
        );
        errors(c, *relay, listen_port);
    }
}

/// Row 2.6. As the outer flow is not tracked, only the packet quoted inside tells whether an
/// error is about it.
fn errors(c: &mut Composer<'_>, relay: SocketAddr, listen_port: u16) {
    let about_us = Quoted { proto: PortProto::Udp, source_port: Some(listen_port), to: relay };
    c.add(
        quoting(
            act(
                Action::MarkAndUntrack(c.settings.mark),
                Row::OuterErrors,
                "errors about the tunnel's packets are marked and not tracked",
            ),
            about_us,
        )
        .on(ArrivingFromWan),
    );
    c.add(
        quoting(allow(Row::OuterErrors, "errors about the tunnel's packets come in"), about_us)
            .on(WanToRouter),
    );
}

/// Adds: is an ICMP error about this packet.
pub fn quoting(draft: Draft, quoted: Quoted) -> Draft {
    let draft = match quoted.to {
        SocketAddr::V4(_) => draft.icmp(ICMP_ERRORS),
        SocketAddr::V6(_) => draft.icmpv6(ICMPV6_ERRORS),
    };
    draft.matching(Match::Quotes(quoted))
}

/// Row 3.6. Before any prefix that a user listed (2.8) can open the way: the relay's address and
/// port outside the tunnel are for the tunnel's socket only, and its own port is not for the LAN
/// (which could claim to be the relay). TCP to the same port as well: a relay listens there too.
pub fn for_nobody_else(c: &mut Composer<'_>, relays: &[SocketAddr], listen_port: u16) {
    c.add(
        refuse(Row::RelayFromLan, "the tunnel's own port is not for the LAN")
            .on(LanToRouter)
            .udp()
            .to_port(listen_port),
    );
    for relay in relays {
        c.add(
            refuse(Row::RelayFromLan, "the relay is for the tunnel's socket only")
                .on(RouterToWan)
                .on(LanToWan)
                .proto(Proto::TcpOrUdp)
                .to_endpoint(*relay),
        );
    }
}

/// Row 3.6 for the relays that no policy is about now, where a listed prefix (2.8) would open the
/// way to them; the others are blocked like everything else.
pub fn listed_relays_for_nobody(c: &mut Composer<'_>) {
    let listed = &c.settings.allow_wan_private;
    for relay in &c.settings.relays {
        if listed.iter().any(|prefix| prefix.contains(&relay.endpoint.ip())) {
            c.add(
                refuse(Row::RelayFromLan, "a relay is for the tunnel's socket only")
                    .on(RouterToWan)
                    .on(LanToWan)
                    .proto(Proto::TcpOrUdp)
                    .to_endpoint(relay.endpoint),
            );
        }
    }
}
