//! Rows 2.1, 2.2 and 2.7: the router and its LAN.

use vpnd::policy::Row;

use super::{Family, Ports, icmp, on, ping, raw, syn, udp, unbound};
use crate::house::{MAC_ROUTER_LAN, MAC_TV, at, ip, link_local};
use crate::packets::octets;
use crate::probes::{CONTROLS, Case, ENFORCING, Place, Step};
use crate::vpnd::Policy::Bare;

pub(crate) fn cases(f: Family, ports: &mut Ports) -> Vec<Case> {
    let mut cases = loopback(f, ports);
    cases.extend(into_router(f, ports));
    cases.extend(out_to_lan(f, ports));
    cases.extend(replies(f, ports));
    cases.extend(lan_to_lan(f, ports));
    cases.extend(if f.is_v4() { dhcp_server(ports) } else { router_advertisements() });
    cases
}

fn loopback(f: Family, ports: &mut Ports) -> Vec<Case> {
    let me = f.of(["127.0.0.1", "::1"]);
    let own = f.of(at::ROUTER_LAN);
    let case = |what: &str, packet| {
        Case::new(Row::Loopback, f.name(what), Step::Router(packet, unbound()), Place::Router)
            .passes(&CONTROLS)
            .passes(&ENFORCING)
    };
    vec![
        case("router -> its loopback, UDP", udp(me, me, (ports.next(), 53))),
        case("router -> its own LAN address, UDP", udp(own, own, (ports.next(), 53))),
    ]
}

fn into_router(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, router) = (f.of(at::TV), f.of(at::ROUTER_LAN));
    let case = |what: &str, step| {
        Case::new(Row::LanSide, f.name(what), step, Place::Router).passes(&CONTROLS).passes(&ENFORCING)
    };
    let wan_in = |what: &str, packet| {
        Case::new(Row::LanSide, f.name(what), Step::Wan(packet), Place::Router)
            .passes(&[Bare])
            .blocked(&ENFORCING)
    };
    vec![
        case("LAN -> router, TCP 22", Step::Tv(syn(tv, router, (ports.next(), 22)))),
        case("LAN -> router, UDP 53", Step::Tv(udp(tv, router, (ports.next(), 53)))),
        case("LAN -> router, ping", Step::Tv(ping(tv, router, ports.next()))),
        case(
            "guest -> router, UDP 53",
            Step::Guest(udp(f.of(at::GUEST), f.of(at::ROUTER_GUEST), (ports.next(), 53))),
        ),
        wan_in(
            "WAN -> router's LAN services, TCP 22",
            syn(f.of(at::INTERNET), f.of(at::ROUTER_WAN), (ports.next(), 22)),
        ),
        wan_in(
            "WAN in a LAN host's name -> router, UDP 53",
            udp(tv, f.of(at::ROUTER_WAN), (ports.next(), 53)),
        ),
    ]
}

fn out_to_lan(f: Family, ports: &mut Ports) -> Vec<Case> {
    let case = |what: &str, packet, binding, place| {
        Case::new(Row::LanSide, f.name(what), Step::Router(packet, binding), place)
            .passes(&CONTROLS)
            .passes(&ENFORCING)
    };
    let (own, tv) = (f.of(at::ROUTER_LAN), f.of(at::TV));
    let mut cases = vec![
        case("router -> LAN, UDP", udp(own, tv, (ports.next(), 9)), unbound(), Place::Tv),
        case("router -> LAN, TCP", syn(own, tv, (ports.next(), 9)), unbound(), Place::Tv),
        case("router -> LAN, ping", ping(own, tv, ports.next()), unbound(), Place::Tv),
        case(
            "router -> guest network, UDP",
            udp(f.of(at::ROUTER_GUEST), f.of(at::GUEST), (ports.next(), 9)),
            unbound(),
            Place::Guest,
        ),
        case(
            "router -> listed network behind the LAN",
            udp(own, f.of(at::BEHIND_TV), (ports.next(), 9)),
            unbound(),
            Place::Tv,
        ),
        case(
            "router -> multicast on the LAN",
            udp(own, f.of(["224.0.0.251", "ff02::fb"]), (5353, 5353)),
            on("br-lan"),
            Place::Tv,
        ),
    ];
    if f.is_v4() {
        cases.push(case(
            "router -> broadcast on the LAN",
            udp(own, ip("192.168.1.255"), (ports.next(), 9)),
            on("br-lan"),
            Place::Tv,
        ));
        cases.push(case(
            "router -> LAN, IGMP query",
            raw(own, ip("224.0.0.1"), 2).hops(1),
            on("br-lan"),
            Place::Tv,
        ));
    } else {
        let (own, tv) = (link_local(MAC_ROUTER_LAN), link_local(MAC_TV));
        cases.push(case(
            "router -> LAN, link-local",
            udp(own, tv, (ports.next(), 9)),
            on("br-lan"),
            Place::Tv,
        ));
    }
    cases
}

/// Replies go out by device and conntrack direction alone, whoever the asker claims to be.
fn replies(f: Family, ports: &mut Ports) -> Vec<Case> {
    let stranger = f.of(["192.168.78.7", "fd00:78::7"]);
    let router = f.of(at::ROUTER_LAN);
    let question = udp(stranger, router, (ports.next(), 53));
    let answer = Step::Router(question.reply(), on("br-lan"));
    let unasked =
        Step::Router(udp(router, f.of(["192.168.78.8", "fd00:78::8"]), (53, ports.next())), on("br-lan"));
    vec![
        Case::new(
            Row::LanSide,
            f.name("router's reply on the LAN to an address of no LAN prefix"),
            answer,
            Place::Tv,
        )
        .after([Step::Tv(question)])
        .passes(&CONTROLS)
        .passes(&ENFORCING),
        Case::new(
            Row::LanSide,
            f.name("router, unasked, on the LAN to an address of no LAN prefix"),
            unasked,
            Place::Tv,
        )
        .passes(&CONTROLS)
        .blocked(&ENFORCING),
    ]
}

fn lan_to_lan(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, guest) = (f.of(at::TV), f.of(at::GUEST));
    let passes = |what: &str, step, place| {
        Case::new(Row::LanToLan, f.name(what), step, place).passes(&CONTROLS).passes(&ENFORCING)
    };
    let unlisted = Step::Tv(udp(tv, f.of(["192.168.77.9", "fd00:77::9"]), (ports.next(), 9)));
    vec![
        passes("LAN -> guest network, UDP", Step::Tv(udp(tv, guest, (ports.next(), 9))), Place::Guest),
        passes("LAN -> guest network, TCP", Step::Tv(syn(tv, guest, (ports.next(), 9))), Place::Guest),
        passes("guest network -> LAN, ping", Step::Guest(ping(guest, tv, ports.next())), Place::Tv),
        passes(
            "guest network -> listed network behind the LAN",
            Step::Guest(udp(guest, f.of(at::BEHIND_TV), (ports.next(), 9))),
            Place::Tv,
        ),
        Case::new(
            Row::LanToLan,
            f.name("LAN -> unlisted network behind the guest network"),
            unlisted,
            Place::Guest,
        )
        .passes(&CONTROLS)
        .blocked(&ENFORCING)
        .refused(),
    ]
}

fn dhcp_server(ports: &mut Ports) -> Vec<Case> {
    let ask = udp(ip("0.0.0.0"), ip("255.255.255.255"), (68, 67));
    let give = udp(ip(at::ROUTER_LAN[0]), ip("255.255.255.255"), (67, 68));
    let outward = udp(ip(at::ROUTER_WAN[0]), ip("255.255.255.255"), (67, 68));
    let odd = udp(ip(at::ROUTER_WAN[0]), ip("255.255.255.255"), (ports.next(), 9));
    let case = |what: &str, step, place| Case::new(Row::LanSide, what, step, place).passes(&CONTROLS);
    vec![
        case("DHCP: a LAN host asks", Step::Tv(ask), Place::Router).passes(&ENFORCING),
        case("DHCP: the router answers by broadcast", Step::Router(give, on("br-lan")), Place::Tv)
            .passes(&ENFORCING),
        case("DHCP: the router as a server on the WAN", Step::Router(outward, on("wan")), Place::Wan)
            .blocked(&ENFORCING),
        case("router -> broadcast on the WAN", Step::Router(odd, on("wan")), Place::Wan).blocked(&ENFORCING),
    ]
}

fn router_advertisements() -> Vec<Case> {
    let own = link_local(MAC_ROUTER_LAN);
    let tv = link_local(MAC_TV);
    let all_nodes = ip("ff02::1");
    let out = |what: &str, packet| {
        Case::new(Row::LanSide, what, Step::Router(packet, on("br-lan")), Place::Tv)
            .passes(&CONTROLS)
            .passes(&ENFORCING)
    };
    let target = |address| octets(address);
    let mut cases = vec![
        out("LAN: router advertisement", icmp(own, all_nodes, 134, 0, vec![0; 8]).hops(255)),
        out(
            "LAN: neighbour solicitation",
            icmp(own, ip("ff02::1:ff00:20"), 135, 0, target(ip(at::TV[1]))).hops(255),
        ),
        out("LAN: neighbour advertisement", icmp(own, tv, 136, 0, target(own)).hops(255)),
        out("LAN: MLD query", icmp(own, all_nodes, 130, 0, vec![0; 16]).hops(1)),
    ];
    let solicit = icmp(tv, ip("ff02::2"), 133, 0, Vec::new()).hops(255);
    cases.push(
        Case::new(
            Row::LanSide,
            "LAN: a host's router solicitation comes in",
            Step::Tv(solicit),
            Place::Router,
        )
        .passes(&CONTROLS)
        .passes(&ENFORCING),
    );
    cases
}
