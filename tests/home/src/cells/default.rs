//! Row 0.0: what is not listed is blocked, whatever it is made of.

use vpnd::policy::Row;

use super::{Family, Ports, beside, icmp, on, ping, raw, syn, udp, unbound};
use crate::house::at;
use crate::packets::Packet;
use crate::probes::{CONTROLS, Case, ENFORCING, Place, Step};
use crate::vpnd::Policy::Bare;

pub(crate) fn cases(f: Family, ports: &mut Ports) -> Vec<Case> {
    let mut cases = lan_out(f, ports);
    cases.extend(router_out(f, ports));
    cases.extend(wan_in(f, ports));
    cases.extend(new_device(f, ports));
    cases
}

/// One packet of every kind that could be forgotten.
fn kinds(from: std::net::IpAddr, to: std::net::IpAddr, ports: &mut Ports) -> Vec<(&'static str, Packet)> {
    let mut kinds = vec![
        ("UDP", udp(from, to, (ports.next(), 9999))),
        ("UDP 443 (QUIC)", udp(from, to, (ports.next(), 443))),
        ("UDP 123 (NTP)", udp(from, to, (ports.next(), 123))),
        ("TCP", syn(from, to, (ports.next(), 80))),
        ("TCP 853 (DNS over TLS)", syn(from, to, (ports.next(), 853))),
        ("ping", ping(from, to, ports.next())),
        ("ESP", raw(from, to, 50)),
        ("GRE", raw(from, to, 47)),
        ("SCTP", raw(from, to, 132)),
    ];
    if from.is_ipv4() {
        kinds.push(("6in4", raw(from, to, 41)));
        kinds.push(("timestamp request", icmp(from, to, 13, 0, vec![0; 12])));
    } else {
        kinds.push(("4in6", raw(from, to, 4)));
        for (what, kind) in [("UDP behind destination options", 60), ("UDP behind a hop-by-hop header", 0)] {
            let mut packet = udp(from, to, (ports.next(), 9));
            packet.extension = Some(kind);
            kinds.push((what, packet));
        }
    }
    kinds
}

fn lan_out(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (tv, far) = (f.of(at::TV), beside(f.of(at::INTERNET), 1));
    let mut cases: Vec<Case> = kinds(tv, far, ports)
        .into_iter()
        .map(|(what, packet)| {
            let name = f.name(&format!("LAN -> internet, {what}"));
            let case = Case::new(Row::Default, name, Step::Tv(packet), Place::Wan);
            let case = case.passes(&CONTROLS).blocked(&ENFORCING);
            // The kernel refuses a packet only after checking a checksum, which these have none
            // of (nf_reject_verify_csum): they are dropped.
            if matches!(what, "6in4" | "4in6") { case } else { case.refused() }
        })
        .collect();
    let guest = Step::Guest(udp(f.of(at::GUEST), far, (ports.next(), 9)));
    cases.push(
        Case::new(Row::Default, f.name("guest -> internet, UDP"), guest, Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
            .refused(),
    );
    let resolver = Step::Tv(udp(tv, f.of(at::ISP), (ports.next(), 9)));
    cases.push(
        Case::new(Row::Default, f.name("LAN -> the WAN's own subnet, UDP"), resolver, Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
            .refused(),
    );
    // A whole packet cut in two: conntrack puts it together, cuts it again on the way out.
    let mut head = udp(tv, far, (ports.next(), 9));
    head.fragment = Some((0, true));
    let tail = {
        let mut tail = raw(tv, far, 17);
        tail.fragment = Some((4, false));
        tail
    };
    let fragments = Case::new(Row::Default, f.name("LAN -> internet, fragments"), Step::Tv(tail), Place::Wan);
    cases.push(fragments.after([Step::Tv(head)]).blocked(&ENFORCING));
    cases
}

fn router_out(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (own, far) = (f.of(at::ROUTER_WAN), beside(f.of(at::INTERNET), 2));
    let case = |what: &str, packet, binding| {
        Case::new(Row::Default, f.name(what), Step::Router(packet, binding), Place::Wan)
            .passes(&CONTROLS)
            .blocked(&ENFORCING)
    };
    let mut cases: Vec<Case> = kinds(own, far, ports)
        .into_iter()
        .flat_map(|(what, packet)| {
            [
                case(&format!("router -> internet, {what}"), packet.clone(), unbound()),
                case(&format!("router, bound to the WAN -> internet, {what}"), packet, on("wan")),
            ]
        })
        .collect();
    // The second packet of a pair is the same flow as the first: fresh ports.
    for case in &mut cases {
        if let Some(Step::Router(packet, binding)) = case.steps.last_mut() {
            if binding.device.is_some() {
                freshen(packet, ports);
            }
        }
    }
    let group = f.of(["224.0.0.251", "ff02::fb"]);
    cases.push(case("router -> multicast on the WAN", udp(own, group, (5353, 5353)), on("wan")));
    let reset = {
        let mut packet = syn(own, far, (ports.next(), 80));
        if let crate::packets::Body::Tcp { flags, .. } = &mut packet.body {
            *flags = crate::packets::RST;
        }
        packet
    };
    let reset = Case::new(
        Row::Default,
        f.name("the router's own TCP reset on the WAN"),
        Step::Router(reset, unbound()),
        Place::Wan,
    );
    cases.push(reset.passes(&[Bare]).blocked(&ENFORCING));
    cases
}

fn freshen(packet: &mut Packet, ports: &mut Ports) {
    use crate::packets::Body;
    match &mut packet.body {
        Body::Udp { from, .. } | Body::Tcp { from, .. } => *from = ports.next(),
        Body::Icmp { rest, .. } => rest[..2].copy_from_slice(&ports.next().to_be_bytes()),
        Body::Quote { .. } | Body::Raw { .. } => packet.to = beside(packet.to, 3),
    }
}

fn wan_in(f: Family, ports: &mut Ports) -> Vec<Case> {
    let (far, own, tv) = (beside(f.of(at::INTERNET), 4), f.of(at::ROUTER_WAN), f.of(at::TV));
    let case = |what: &str, packet, place| {
        Case::new(Row::Default, f.name(what), Step::Wan(packet), place).passes(&[Bare]).blocked(&ENFORCING)
    };
    let mut cases: Vec<Case> = kinds(far, own, ports)
        .into_iter()
        .filter(|(what, _)| !what.contains("4in6"))
        .map(|(what, packet)| case(&format!("WAN -> router, {what}"), packet, Place::Router))
        .collect();
    cases.extend([
        case("WAN -> a LAN host's own address, UDP", udp(far, tv, (ports.next(), 9)), Place::Tv),
        case("WAN -> a LAN host's own address, TCP", syn(far, tv, (ports.next(), 9)), Place::Tv),
        case("WAN -> a LAN host's own address, ping", ping(far, tv, ports.next()), Place::Tv),
        case("WAN -> a LAN host's own address, ESP", raw(far, tv, 50), Place::Tv),
        case("WAN in a guest's name -> LAN host", udp(f.of(at::GUEST), tv, (ports.next(), 9)), Place::Tv),
        case(
            "WAN -> the router's LAN address",
            udp(far, f.of(at::ROUTER_LAN), (ports.next(), 53)),
            Place::Router,
        ),
    ]);
    cases
}

/// A USB tether plugged in at night is WAN.
fn new_device(f: Family, ports: &mut Ports) -> Vec<Case> {
    let far = f.of(at::USB);
    let own = f.of(["198.19.0.2", "2001:db8:1900::2"]);
    let lan = Step::Tv(udp(f.of(at::TV), far, (ports.next(), 9)));
    let router = Step::Router(udp(own, far, (ports.next(), 9)), unbound());
    let bound = Step::Router(udp(own, far, (ports.next(), 9)), on("usb0"));
    let inward = |to, port| Step::Usb(udp(far, to, (port, 9)));
    vec![
        Case::new(Row::Default, f.name("LAN -> a new device"), lan, Place::Usb)
            .passes(&[Bare])
            .blocked(&ENFORCING)
            .refused(),
        Case::new(Row::Default, f.name("router -> a new device"), router, Place::Usb)
            .passes(&CONTROLS)
            .blocked(&ENFORCING),
        Case::new(Row::Default, f.name("router, bound -> a new device"), bound, Place::Usb)
            .passes(&CONTROLS)
            .blocked(&ENFORCING),
        Case::new(Row::Default, f.name("a new device -> router"), inward(own, ports.next()), Place::Router)
            .passes(&[Bare])
            .blocked(&ENFORCING),
        Case::new(
            Row::Default,
            f.name("a new device -> LAN host"),
            inward(f.of(at::TV), ports.next()),
            Place::Tv,
        )
        .passes(&[Bare])
        .blocked(&ENFORCING),
    ]
}
