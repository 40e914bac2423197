//! Rows 2.3 to 2.6, 2.8 and 2.9: what the router itself may say on the WAN.

use vpnd::policy::Row;

use super::{Family, Ports, icmp, marked, on, ping, quote, raw, syn, udp, unbound};
use crate::house::{MAC_ISP, MAC_ROUTER_WAN, at, ip, link_local};
use crate::packets::Packet;
use crate::packets::octets;
use crate::probes::{CONTROLS, Case, ENFORCING, Place, Step, TUNNELLED, UNTUNNELLED};
use crate::vpnd::Policy::{self, Bare, Blocked, Boot, Connected, Connecting, Open};
use crate::vpnd::{LISTEN_PORT, relay_endpoint};

/// The states whose rules know the WAN's addresses.
const INFORMED: [Policy; 3] = [Blocked, Connecting, Connected];

pub(crate) fn cases(f: Family, ports: &mut Ports) -> Vec<Case> {
    let mut cases = if f.is_v4() { dhcp_v4(ports) } else { dhcp_v6(ports) };
    if f == Family::V6 {
        cases.extend(discovery_out());
        cases.extend(discovery_in());
        cases.extend(listeners());
    }
    cases.extend(listed_wan(f, ports));
    cases.extend(service(f, ports));
    cases.extend(errors(f, ports));
    cases
}

fn out(row: Row, what: &str, packet: Packet) -> Case {
    Case::new(row, what, Step::Router(packet, on("wan")), Place::Wan).passes(&CONTROLS)
}

fn incoming(row: Row, what: &str, packet: Packet) -> Case {
    Case::new(row, what, Step::Wan(packet), Place::Router).passes(&[Bare])
}

fn dhcp_v4(ports: &mut Ports) -> Vec<Case> {
    let own = ip(at::ROUTER_WAN[0]);
    let row = Row::DhcpV4Client;
    let to = |address: &str, pair| udp(own, ip(address), pair);
    let tv = |address: &str| Step::Tv(udp(ip(at::TV[0]), ip(address), (68, 67)));
    let v6 = udp(ip(at::ROUTER_WAN[1]), ip(at::ISP[1]), (68, 67));
    let answer = udp(ip(at::ISP[0]), own, (67, 68));
    vec![
        out(row, "DHCP: discover", to("255.255.255.255", (68, 67))).passes(&ENFORCING),
        out(row, "DHCP: renewal to the lease's server", to(at::ISP[0], (68, 67))).passes(&INFORMED),
        out(row, "DHCP: to a stranger on the WAN", to("203.0.113.9", (68, 67))).blocked(&ENFORCING),
        out(row, "DHCP: to a stranger on the internet", to(at::INTERNET[0], (68, 67))).blocked(&ENFORCING),
        out(row, "DHCP: from another port", to("255.255.255.255", (ports.next(), 67))).blocked(&ENFORCING),
        out(row, "DHCP: to another port", to(at::ISP[0], (68, 53))).blocked(&ENFORCING),
        out(row, "DHCP: ports 68 and 67 over IPv6", v6).blocked(&ENFORCING),
        Case::new(row, "DHCP: LAN 68 -> anywhere 67", tv(at::INTERNET[0]), Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
            .refused(),
        Case::new(row, "DHCP: LAN 68 -> the lease's server", tv(at::ISP[0]), Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
            .refused(),
        incoming(row, "DHCP: the server's answer", answer).passes(&[Open]).passes(&ENFORCING),
        incoming(row, "DHCP: in to another port", udp(ip(at::ISP[0]), own, (67, ports.next())))
            .blocked(&ENFORCING),
        incoming(row, "DHCP: in from another port", udp(ip(at::ISP[0]), own, (ports.next(), 68)))
            .blocked(&ENFORCING),
        incoming(
            row,
            "DHCP: ports 67 and 68 in over IPv6",
            udp(ip(at::ISP[1]), ip(at::ROUTER_WAN[1]), (67, 68)),
        )
        .blocked(&ENFORCING),
    ]
}

fn dhcp_v6(ports: &mut Ports) -> Vec<Case> {
    let own = link_local(MAC_ROUTER_WAN);
    let row = Row::DhcpV6Client;
    let global = ip(at::ROUTER_WAN[1]);
    let isp = link_local(MAC_ISP);
    let v4 = udp(ip(at::ROUTER_WAN[0]), ip(at::ISP[0]), (546, 547));
    vec![
        out(row, "DHCPv6: to ff02::1:2", udp(own, ip("ff02::1:2"), (546, 547))).passes(&ENFORCING),
        out(row, "DHCPv6: to ff05::1:3", udp(own, ip("ff05::1:3"), (546, 547))).passes(&ENFORCING),
        out(row, "DHCPv6: from a global address", udp(global, ip("ff02::1:2"), (546, 547)))
            .blocked(&ENFORCING),
        out(row, "DHCPv6: to a host on the WAN", udp(own, isp, (546, 547))).blocked(&ENFORCING),
        out(row, "DHCPv6: to another port", udp(own, ip("ff02::1:2"), (546, ports.next())))
            .blocked(&ENFORCING),
        out(row, "DHCPv6: ports 546 and 547 over IPv4", v4).blocked(&ENFORCING),
        incoming(row, "DHCPv6: answer from a link-local address", udp(isp, own, (547, 546)))
            .passes(&[Open])
            .passes(&ENFORCING),
        incoming(row, "DHCPv6: answer from a global address", udp(ip(at::ISP[1]), own, (547, 546)))
            .passes(&[Open])
            .passes(&ENFORCING),
        incoming(row, "DHCPv6: answer to a global address", udp(isp, global, (547, 546))).blocked(&ENFORCING),
        incoming(row, "DHCPv6: from another port", udp(isp, own, (ports.next(), 546))).blocked(&ENFORCING),
        incoming(
            row,
            "DHCPv6: ports 547 and 546 in over IPv4",
            udp(ip(at::ISP[0]), ip(at::ROUTER_WAN[0]), (547, 546)),
        )
        .blocked(&ENFORCING),
    ]
}

fn discovery_out() -> Vec<Case> {
    let own = link_local(MAC_ROUTER_WAN);
    let global = ip(at::ROUTER_WAN[1]);
    let isp = link_local(MAC_ISP);
    let row = Row::NeighbourDiscovery;
    let about = |to: &str, kind, target: &str| icmp(global, ip(to), kind, 0, octets(ip(target))).hops(255);
    let solicit = |to: &str| icmp(own, ip(to), 133, 0, Vec::new()).hops(255);
    vec![
        out(row, "ND: router solicitation", solicit("ff02::2")).passes(&ENFORCING),
        out(row, "ND: router solicitation to a host", solicit(at::ISP[1])).blocked(&ENFORCING),
        out(row, "ND: router solicitation, hop limit 64", solicit("ff02::2").hops(64)).blocked(&ENFORCING),
        out(
            row,
            "ND: router advertisement on the WAN",
            icmp(own, ip("ff02::1"), 134, 0, vec![0; 8]).hops(255),
        )
        .blocked(&ENFORCING),
        out(row, "ND: solicitation, multicast", about("ff02::1:ff00:1", 135, at::ISP[1])).passes(&ENFORCING),
        out(row, "ND: solicitation, link-local", icmp(own, isp, 135, 0, octets(isp)).hops(255))
            .passes(&ENFORCING),
        out(row, "ND: solicitation, WAN prefix", about(at::ISP[1], 135, at::ISP[1])).passes(&INFORMED),
        out(row, "ND: solicitation to the internet", about(at::INTERNET[1], 135, at::INTERNET[1]))
            .blocked(&ENFORCING),
        out(row, "ND: solicitation with a code", icmp(own, isp, 135, 1, octets(isp)).hops(255))
            .blocked(&ENFORCING),
        out(row, "ND: solicitation, hop limit 64", about("ff02::1:ff00:1", 135, at::ISP[1]).hops(64))
            .blocked(&ENFORCING),
        out(row, "ND: advertisement to all nodes", about("ff02::1", 136, at::ROUTER_WAN[1]))
            .passes(&ENFORCING),
        out(row, "ND: advertisement, unicast", about(at::ISP[1], 136, at::ROUTER_WAN[1])).passes(&ENFORCING),
        out(row, "ND: advertisement, hop limit 64", about(at::ISP[1], 136, at::ROUTER_WAN[1]).hops(64))
            .blocked(&ENFORCING),
        out(row, "ND: redirect out", icmp(own, isp, 137, 0, vec![0; 32]).hops(255)).blocked(&ENFORCING),
    ]
}

fn discovery_in() -> Vec<Case> {
    let own = link_local(MAC_ROUTER_WAN);
    let isp = link_local(MAC_ISP);
    let global = ip(at::ROUTER_WAN[1]);
    let row = Row::NeighbourDiscovery;
    let solicit = |from| icmp(from, ip("ff02::1:ff00:2"), 135, 0, octets(global)).hops(255);
    vec![
        incoming(row, "ND: router advertisement in", icmp(isp, ip("ff02::1"), 134, 0, vec![0; 8]).hops(255))
            .passes(&ENFORCING),
        incoming(
            row,
            "ND: router advertisement in from a global address",
            icmp(ip(at::ISP[1]), ip("ff02::1"), 134, 0, vec![0; 8]).hops(255),
        )
        .blocked(&ENFORCING),
        incoming(
            row,
            "ND: router advertisement in, hop limit 64",
            icmp(isp, ip("ff02::1"), 134, 0, vec![0; 8]).hops(64),
        )
        .blocked(&ENFORCING),
        incoming(row, "ND: solicitation in", solicit(ip(at::ISP[1]))).passes(&ENFORCING),
        incoming(row, "ND: solicitation in, duplicate address detection", solicit(ip("::")))
            .passes(&ENFORCING),
        incoming(row, "ND: advertisement in", icmp(isp, global, 136, 0, octets(isp)).hops(255))
            .passes(&ENFORCING),
        incoming(row, "ND: redirect in", icmp(isp, own, 137, 0, vec![0; 32]).hops(255)).blocked(&ENFORCING),
        incoming(row, "ND: router solicitation in", icmp(isp, ip("ff02::2"), 133, 0, Vec::new()).hops(255))
            .blocked(&ENFORCING),
    ]
}

/// Multicast listener discovery: with a hop-by-hop header and hop limit 1 (RFC 3810).
fn listeners() -> Vec<Case> {
    let own = link_local(MAC_ROUTER_WAN);
    let row = Row::NeighbourDiscovery;
    let mld = |to: &str, kind| {
        let mut packet = icmp(own, ip(to), kind, 0, vec![0; 16]).hops(1);
        packet.extension = Some(0);
        packet
    };
    let mut query = icmp(link_local(MAC_ISP), ip("ff02::1"), 130, 0, vec![0; 16]).hops(1);
    query.extension = Some(0);
    vec![
        out(row, "MLD: report v2", mld("ff02::16", 143)).passes(&ENFORCING),
        out(row, "MLD: report v1", mld("ff02::1:ff00:2", 131)).passes(&ENFORCING),
        out(row, "MLD: done", mld("ff02::2", 132)).passes(&ENFORCING),
        out(row, "MLD: report v2 to a host", mld(at::ISP[1], 143)).blocked(&ENFORCING),
        out(row, "MLD: query out", mld("ff02::1", 130)).blocked(&ENFORCING),
        incoming(row, "MLD: query in", query).passes(&ENFORCING),
    ]
}

fn listed_wan(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, own, modem) = (f.of(at::TV), f.of(at::ROUTER_WAN), f.of(at::MODEM));
    let row = Row::ListedWan;
    let router = |what: &str, packet| {
        Case::new(row, f.name(what), Step::Router(packet, unbound()), Place::Wan).passes(&CONTROLS)
    };
    let lan =
        |what: &str, packet| Case::new(row, f.name(what), Step::Tv(packet), Place::Wan).passes(&CONTROLS);
    let beside = f.of(["192.168.101.1", "fd00:101::1"]);
    let mut cases = vec![
        router("router -> the modem's page", syn(own, modem, (ports.next(), 80))).passes(&INFORMED),
        lan("LAN -> an unlisted private prefix behind the WAN", syn(tv, beside, (ports.next(), 80)))
            .blocked(&ENFORCING)
            .refused(),
        router("router -> an unlisted private prefix behind the WAN", syn(own, beside, (ports.next(), 80)))
            .blocked(&ENFORCING),
        lan("LAN -> the ISP's gateway", syn(tv, f.of(at::ISP), (ports.next(), 80)))
            .blocked(&ENFORCING)
            .refused(),
        Case::new(
            Row::Dns,
            f.name("router -> the modem as a resolver"),
            Step::Router(udp(own, modem, (ports.next(), 53)), unbound()),
            Place::Wan,
        )
        .passes(&CONTROLS)
        .blocked(&ENFORCING),
        Case::new(
            Row::Dns,
            f.name("LAN -> the modem as a resolver"),
            Step::Tv(udp(tv, modem, (ports.next(), 53))),
            Place::Wan,
        )
        .passes(&CONTROLS)
        .blocked(&ENFORCING)
        .refused(),
    ];
    for packet in [syn(tv, modem, (ports.next(), 80)), ping(tv, modem, ports.next())] {
        // fw4 masquerades IPv4 only, unless told so; without, the source is not the WAN's.
        cases.push(if f.is_v4() {
            lan("LAN -> the modem", packet).passes(&INFORMED)
        } else {
            let name = f.name("LAN -> the modem, not masqueraded");
            Case::new(Row::Source, name, Step::Tv(packet), Place::Wan).passes(&CONTROLS).blocked(&ENFORCING)
        });
    }
    if f.is_v4() {
        let stream = |group: &str| Step::Wan(udp(ip(at::ISP[0]), ip(group), (5000, 5000)));
        cases.push(
            Case::new(row, "a listed multicast group comes in", stream("239.1.2.3"), Place::Router)
                .passes(&CONTROLS)
                .passes(&INFORMED),
        );
        cases.push(
            Case::new(row, "an unlisted multicast group comes in", stream("239.2.2.3"), Place::Router)
                .passes(&CONTROLS)
                .blocked(&ENFORCING),
        );
        let join = Step::Router(raw(own, ip("239.1.2.3"), 2).hops(1), on("wan"));
        cases.push(
            Case::new(row, "IGMP report for a listed group", join, Place::Wan)
                .passes(&CONTROLS)
                .passes(&INFORMED),
        );
        let join = Step::Router(raw(own, ip("239.2.2.3"), 2).hops(1), on("wan"));
        cases.push(
            Case::new(row, "IGMP report for an unlisted group", join, Place::Wan)
                .passes(&CONTROLS)
                .blocked(&ENFORCING),
        );
    }
    cases
}

/// Contract 2.9, as listed: TCP 2222 for 198.51.100.0/24, UDP 2223 for that and 2001:db8:100::/64.
fn service(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (own, client) = (f.of(at::ROUTER_WAN), f.of(at::INTERNET));
    let row = Row::WanService;
    let ask = |from, port| udp(from, own, (port, 2223));
    let question = ask(client, ports.next());
    let answer = Step::Router(question.reply(), on("wan"));
    let unasked = Step::Router(ask(client, ports.next()).reply(), on("wan"));
    let stranger = f.of(["203.0.113.9", "2001:db8:203::9"]);
    let other = syn(client, own, (ports.next(), 2223));
    let tcp = incoming(
        row,
        &f.name("listed service: a connection comes in"),
        syn(client, own, (ports.next(), 2222)),
    )
    .passes(&[Open]);
    let tcp = if f.is_v4() { tcp.passes(&INFORMED) } else { tcp.blocked(&ENFORCING) };
    vec![
        tcp,
        incoming(row, &f.name("listed service: the question comes in"), question.clone())
            .passes(&[Open])
            .passes(&INFORMED),
        Case::new(row, f.name("listed service: the answer goes out"), answer, Place::Wan)
            .after([Step::Wan(question)])
            .passes(&CONTROLS)
            .passes(&INFORMED),
        Case::new(row, f.name("listed service: an answer to nobody"), unasked, Place::Wan)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        incoming(row, &f.name("listed service: from an unlisted source"), ask(stranger, ports.next()))
            .passes(&[Open])
            .blocked(&ENFORCING),
        incoming(row, &f.name("listed service: by another protocol"), other).blocked(&ENFORCING),
    ]
}

/// 2.6: errors about the tunnel's own outer packets, in both families of the relay.
fn errors(f: Family, ports: &mut Ports) -> Vec<Case> {
    let relay = if f.is_v4() { 0 } else { 2 };
    let endpoint = relay_endpoint(relay);
    let (own, hop) = (f.of(at::ROUTER_WAN), f.of(["192.0.2.1", "2001:db8:51::1"]));
    let outer = udp(own, endpoint.ip(), (LISTEN_PORT, endpoint.port()));
    let row = Row::OuterErrors;
    let error = |what: &str, kind: (u8, u8), about: &Packet| {
        incoming(row, &f.name(what), quote(hop, own, kind, about.clone())).relay(relay)
    };
    let [unreachable, too_big, exceeded] = match f {
        Family::V4 => [(3, 1), (3, 4), (11, 0)],
        Family::V6 => [(1, 0), (2, 0), (3, 0)],
    };
    let elsewhere = udp(own, endpoint.ip(), (LISTEN_PORT, ports.next()));
    let other_port = udp(own, endpoint.ip(), (ports.next(), endpoint.port()));
    let api = syn(own, f.of(at::API), (ports.next(), 443));
    let redirect = if f.is_v4() { (5, 1) } else { (4, 0) };
    vec![
        error("an error about the outer flow: unreachable", unreachable, &outer)
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        error("an error about the outer flow: too big", too_big, &outer)
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        error("an error about the outer flow: time exceeded", exceeded, &outer)
            .passes(&TUNNELLED)
            .blocked(&UNTUNNELLED),
        error("an error about a packet to another port", unreachable, &elsewhere).blocked(&ENFORCING),
        error("an error about a packet from another port", unreachable, &other_port).blocked(&ENFORCING),
        error("another ICMP message about the outer flow", redirect, &outer).blocked(&ENFORCING),
        Case::new(
            row,
            f.name("an error about the API's flow"),
            Step::Wan(quote(hop, own, unreachable, api.clone())),
            Place::Router,
        )
        .after([Step::Router(api, marked())])
        .passes(&CONTROLS)
        .passes(&[Blocked, Connecting])
        .blocked(&[Boot, Connected]),
    ]
}
