//! Rows 3.1 to 3.7: the tunnel, outside and inside.

use vpnd::policy::Row;

use super::{Family, Ports, marked, on, ping, quote, syn, udp, unbound};
use crate::house::{at, ip};
use crate::packets::Packet;
use crate::probes::{CONTROLS, Case, ENFORCING, Place, Step, TUNNELLED, UNTUNNELLED};
use crate::raw::Binding;
use crate::vpnd::Policy::{Bare, Blocked, Boot, Connected, Connecting, Open};
use crate::vpnd::{LISTEN_PORT, relay_endpoint};

pub(crate) fn cases(f: Family, ports: &mut Ports) -> Vec<Case> {
    let mut cases = outer_out(f, ports);
    cases.extend(outer_in(f, ports));
    cases.extend(api(f, ports));
    cases.extend(into_tunnel(f, ports));
    cases.extend(from_tunnel(f, ports));
    cases.extend(dns(f, ports));
    cases.extend(past_the_tunnel(f, ports));
    cases.extend(tunnel_address(f, ports));
    cases
}

fn relay_of(f: Family) -> usize {
    if f.is_v4() { 0 } else { 2 }
}

fn outer_out(f: Family, ports: &mut Ports) -> Vec<Case> {
    let relay = relay_of(f);
    let (own, to) = (f.of(at::ROUTER_WAN), relay_endpoint(relay));
    let row = Row::TunnelOuter;
    let case = |what: &str, packet, binding| {
        Case::new(row, f.name(what), Step::Router(packet, binding), Place::Wan).passes(&CONTROLS).relay(relay)
    };
    let outer = || udp(own, to.ip(), (LISTEN_PORT, to.port()));
    let other_mark = Binding { device: None, mark: Some(0x6d6f_6c64) };
    let other_relay = f.of(at::RELAYS[1]);
    vec![
        case("outer packet, marked", outer(), marked()).passes(&TUNNELLED).blocked(&UNTUNNELLED),
        case("outer packet, unmarked", outer(), unbound()).blocked(&ENFORCING),
        case("outer packet, unmarked, bound to the WAN", outer(), on("wan")).blocked(&ENFORCING),
        case("outer packet, another mark", outer(), other_mark).blocked(&ENFORCING),
        case("marked, to the relay's other port", udp(own, to.ip(), (LISTEN_PORT, ports.next())), marked())
            .blocked(&ENFORCING),
        case("marked, to the relay by TCP", syn(own, to.ip(), (LISTEN_PORT, to.port())), marked())
            .blocked(&ENFORCING),
        case("marked, to another host", udp(own, f.of(at::INTERNET), (LISTEN_PORT, to.port())), marked())
            .blocked(&ENFORCING),
        case("marked, to another relay", udp(own, other_relay, (LISTEN_PORT, to.port())), marked())
            .blocked(&ENFORCING),
        case("marked, ping to the relay", ping(own, to.ip(), ports.next()), marked()).blocked(&ENFORCING),
    ]
}

fn outer_in(f: Family, ports: &mut Ports) -> Vec<Case> {
    let relay = relay_of(f);
    let (own, from) = (f.of(at::ROUTER_WAN), relay_endpoint(relay));
    let case = |what: &str, packet| {
        Case::new(Row::TunnelOuter, f.name(what), Step::Wan(packet), Place::Router)
            .passes(&[Bare])
            .relay(relay)
    };
    vec![
        case("outer packet from the relay", udp(from.ip(), own, (from.port(), LISTEN_PORT)))
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        case("from the relay to another port", udp(from.ip(), own, (from.port(), ports.next())))
            .blocked(&ENFORCING),
        case("from the relay's other port", udp(from.ip(), own, (ports.next(), LISTEN_PORT)))
            .blocked(&ENFORCING),
        case(
            "from another host to the tunnel's port",
            udp(f.of(at::INTERNET), own, (from.port(), LISTEN_PORT)),
        )
        .blocked(&ENFORCING),
        case("from the relay by TCP", syn(from.ip(), own, (from.port(), LISTEN_PORT))).blocked(&ENFORCING),
    ]
}

fn api(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (own, api) = (f.of(at::ROUTER_WAN), f.of(at::API));
    let case = |what: &str, step| Case::new(Row::Api, f.name(what), step, Place::Wan).passes(&CONTROLS);
    vec![
        case("API from vpnd's socket", Step::Router(syn(own, api, (ports.next(), 443)), marked()))
            .passes(&[Blocked, Connecting])
            .blocked(&[Boot, Connected]),
        case("API, unmarked", Step::Router(syn(own, api, (ports.next(), 443)), unbound()))
            .blocked(&ENFORCING),
        case("API's other port", Step::Router(syn(own, api, (ports.next(), 80)), marked()))
            .blocked(&ENFORCING),
        case("API by UDP", Step::Router(udp(own, api, (ports.next(), 443)), marked())).blocked(&ENFORCING),
        Case::new(
            Row::RelayFromLan,
            f.name("LAN -> API"),
            Step::Tv(syn(f.of(at::TV), api, (ports.next(), 443))),
            Place::Wan,
        )
        .passes(&CONTROLS)
        .blocked(&ENFORCING)
        .refused(),
    ]
}

fn into_tunnel(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, own, far) = (f.of(at::TV), f.of(at::TUNNEL), f.of(at::THROUGH_TUNNEL));
    let case = |what: &str, step| {
        Case::new(Row::IntoTunnel, f.name(what), step, Place::Tunnel)
            .passes(&CONTROLS)
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED)
    };
    vec![
        case("LAN -> tunnel, UDP", Step::Tv(udp(tv, far, (ports.next(), 9)))).refused(),
        case("LAN -> tunnel, TCP", Step::Tv(syn(tv, far, (ports.next(), 80)))).refused(),
        case("LAN -> tunnel, ping", Step::Tv(ping(tv, far, ports.next()))).refused(),
        case("guest -> tunnel, UDP", Step::Guest(udp(f.of(at::GUEST), far, (ports.next(), 9)))).refused(),
        case("router -> tunnel, UDP", Step::Router(udp(own, far, (ports.next(), 9)), unbound())),
        case("router -> tunnel, TCP", Step::Router(syn(own, far, (ports.next(), 80)), unbound())),
        case("router -> tunnel, ping", Step::Router(ping(own, far, ports.next()), unbound())),
    ]
}

fn from_tunnel(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, own, far) = (f.of(at::TV), f.of(at::TUNNEL), f.of(at::THROUGH_TUNNEL));
    let row = Row::FromTunnel;
    let case = |what: &str, packet, place| Case::new(row, f.name(what), Step::Tunnel(packet), place);
    let asked = udp(tv, far, (ports.next(), 9));
    let mut as_seen = asked.clone();
    as_seen.from = own;
    let own_question = udp(own, far, (ports.next(), 9));
    let pinged = udp(tv, far, (ports.next(), 9));
    let mut ping_seen = pinged.clone();
    ping_seen.from = own;
    let unreachable = if f.is_v4() { (3, 1) } else { (1, 0) };
    let mut cases = vec![
        case("new from the tunnel -> router, UDP", udp(far, own, (ports.next(), 53)), Place::Router)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        case("new from the tunnel -> router, TCP", syn(far, own, (ports.next(), 22)), Place::Router)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        case("new from the tunnel -> router, ping", ping(far, own, ports.next()), Place::Router)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        case("new from the tunnel -> LAN host", udp(far, tv, (ports.next(), 9)), Place::Tv)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        case("new from the tunnel -> WAN", udp(far, f.of(at::INTERNET), (ports.next(), 9)), Place::Wan)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        case("the answer to a LAN host", as_seen.reply(), Place::Tv)
            .after([Step::Tv(asked)])
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        case("the answer to the router", own_question.reply(), Place::Router)
            .after([Step::Router(own_question, unbound())])
            .passes(&[Bare])
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        case(
            "an ICMP error about a LAN host's packet",
            quote(f.of(at::RESOLVER), own, unreachable, ping_seen),
            Place::Tv,
        )
        .after([Step::Tv(pinged)])
        .passes(&TUNNELLED)
        .blocked(&UNTUNNELLED),
    ];
    let (forward, beside) = match f {
        Family::V4 => (syn(far, own, (ports.next(), 8443)), syn(far, own, (ports.next(), 8445))),
        Family::V6 => (udp(far, own, (ports.next(), 8444)), udp(far, own, (ports.next(), 8445))),
    };
    cases.push(case("a listed port forward", forward, Place::Tv).passes(&TUNNELLED).blocked(&UNTUNNELLED));
    cases.push(case("a port that is not forwarded", beside, Place::Tv).blocked(&ENFORCING));
    cases
}

fn dns(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, own, resolver) = (f.of(at::TV), f.of(at::TUNNEL), f.of(at::RESOLVER));
    let (far, outside) = (f.of(at::THROUGH_TUNNEL), f.of(["198.51.100.53", "2001:db8:100::53"]));
    let case = |what: &str, step, place| Case::new(Row::Dns, f.name(what), step, place).passes(&CONTROLS);
    let wan = f.of(at::ROUTER_WAN);
    let no_upstream = [Boot, Blocked, Connecting];
    vec![
        case(
            "DNS: router -> the in-tunnel resolver, UDP",
            Step::Router(udp(own, resolver, (ports.next(), 53)), unbound()),
            Place::Tunnel,
        )
        .passes(&[Connected])
        .blocked(&no_upstream),
        case(
            "DNS: router -> the in-tunnel resolver, TCP",
            Step::Router(syn(own, resolver, (ports.next(), 53)), unbound()),
            Place::Tunnel,
        )
        .passes(&[Connected])
        .blocked(&no_upstream),
        case(
            "DNS: router -> another resolver in the tunnel",
            Step::Router(udp(own, far, (ports.next(), 53)), unbound()),
            Place::Tunnel,
        )
        .blocked(&ENFORCING),
        case(
            "DNS: router -> another resolver in the tunnel, TCP",
            Step::Router(syn(own, far, (ports.next(), 53)), unbound()),
            Place::Tunnel,
        )
        .blocked(&ENFORCING),
        case(
            "DNS: LAN -> another resolver in the tunnel",
            Step::Tv(udp(tv, far, (ports.next(), 53))),
            Place::Tunnel,
        )
        .blocked(&ENFORCING)
        .refused(),
        case(
            "DNS: LAN -> another resolver in the tunnel, TCP",
            Step::Tv(syn(tv, far, (ports.next(), 53))),
            Place::Tunnel,
        )
        .blocked(&ENFORCING)
        .refused(),
        case("DNS: LAN -> a resolver outside", Step::Tv(udp(tv, outside, (ports.next(), 53))), Place::Wan)
            .blocked(&ENFORCING)
            .refused(),
        case(
            "DNS: router -> a resolver outside",
            Step::Router(udp(wan, outside, (ports.next(), 53)), unbound()),
            Place::Wan,
        )
        .blocked(&ENFORCING),
        case(
            "DNS: router -> the ISP's resolver, bound to the WAN",
            Step::Router(udp(wan, f.of(at::ISP), (ports.next(), 53)), on("wan")),
            Place::Wan,
        )
        .blocked(&ENFORCING),
        case(
            "DNS: router -> a resolver in the LAN",
            Step::Router(udp(f.of(at::ROUTER_LAN), tv, (ports.next(), 53)), unbound()),
            Place::Tv,
        )
        .passes(&ENFORCING),
    ]
}

fn past_the_tunnel(f: Family, ports: &mut Ports) -> Vec<Case> {
    let relay = relay_of(f);
    let (tv, to) = (f.of(at::TV), relay_endpoint(relay));
    let case = |what: &str, packet| {
        Case::new(Row::RelayFromLan, f.name(what), Step::Tv(packet), Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
            .refused()
            .relay(relay)
    };
    let forged = udp(to.ip(), f.of(at::ROUTER_WAN), (to.port(), LISTEN_PORT));
    let spoofed = udp(to.ip(), f.of(at::INTERNET), (to.port(), LISTEN_PORT));
    let mut cases = vec![
        case("LAN -> the relay's address and port", udp(tv, to.ip(), (ports.next(), to.port()))),
        case("LAN, from the tunnel's port -> the relay", udp(tv, to.ip(), (LISTEN_PORT, to.port()))),
        case("LAN -> the relay by TCP", syn(tv, to.ip(), (ports.next(), to.port()))),
        case("LAN -> the relay, ping", ping(tv, to.ip(), ports.next())),
    ];
    let mut spoof = case("LAN in the relay's name -> internet", spoofed);
    spoof.refused = false;
    cases.push(spoof);
    let mut forge = case("LAN in the relay's name -> the tunnel's port", forged);
    forge.refused = false;
    forge.seen = Place::Router;
    forge.blocked = TUNNELLED.to_vec();
    cases.push(forge);
    cases
}

/// CVE-2019-14899, also where NAT would hand the packet on to a LAN host; and sources.
fn tunnel_address(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, own, far) = (f.of(at::TV), f.of(at::TUNNEL), f.of(at::THROUGH_TUNNEL));
    let row = Row::Source;
    let guess = |packet| Step::Wan(packet);
    let asked = udp(tv, far, (ports.next(), 9));
    let mut as_seen = asked.clone();
    as_seen.from = own;
    let own_question = udp(own, far, (ports.next(), 9));
    let tunnel_source = |packet: Packet| Step::Router(packet, on("wan"));
    let mut cases = vec![
        Case::new(
            row,
            f.name("WAN -> the tunnel's address, UDP"),
            guess(udp(far, own, (ports.next(), 9))),
            Place::Router,
        )
        .passes(&[Bare])
        .blocked(&ENFORCING),
        Case::new(
            row,
            f.name("WAN -> the tunnel's address, ping"),
            guess(ping(f.of(at::ISP), own, ports.next())),
            Place::Router,
        )
        .passes(&[Bare])
        .blocked(&ENFORCING),
        Case::new(
            row,
            f.name("LAN -> the tunnel's address"),
            Step::Tv(udp(tv, own, (ports.next(), 9))),
            Place::Router,
        )
        .passes(&CONTROLS)
        .blocked(&TUNNELLED),
        Case::new(
            row,
            f.name("WAN guesses a router's flow in the tunnel"),
            guess(own_question.reply()),
            Place::Router,
        )
        .after([Step::Router(own_question, unbound())])
        .passes(&CONTROLS)
        .blocked(&ENFORCING),
        Case::new(
            row,
            f.name("WAN guesses a LAN host's flow in the tunnel (de-NAT)"),
            guess(as_seen.reply()),
            Place::Tv,
        )
        .after([Step::Tv(asked)])
        .blocked(&ENFORCING),
    ];
    // To a listed prefix, so that only the source is wrong; v4 is masqueraded by fw4 instead.
    if f == Family::V6 {
        let modem = f.of(at::MODEM);
        for (what, source) in [
            ("the tunnel's", own),
            ("the LAN's", f.of(at::ROUTER_LAN)),
            ("a stranger's", ip("2001:db8:666::1")),
        ] {
            cases.push(
                Case::new(
                    row,
                    f.name(&format!("router in {what} name -> the modem")),
                    tunnel_source(udp(source, modem, (ports.next(), 80))),
                    Place::Wan,
                )
                .passes(&[Bare, Open])
                .blocked(&ENFORCING),
            );
        }
    }
    cases
}
