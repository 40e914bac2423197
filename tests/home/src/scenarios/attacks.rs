//! The attacks of contract section 6 against the real tunnel.

use anyhow::{Context, Result, ensure};

use super::{Scenario, Way, connected, expect};
use crate::house::{MAC_ISP, MAC_ROUTER_WAN, at, ip};
use crate::packets::{Body, Kind, Marker, Packet, arp, ethernet};
use crate::town::{SOON, Town};
use crate::wire::{Capture, Take, transmit};

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("ARP for the tunnel's address on the WAN is not answered", arp_probe),
        ("TunnelCrack LocalNet: a WAN subnet that covers the internet", local_net),
        ("CVE-2019-14899: guesses from the WAN at flows in the tunnel", guesses),
        ("a LAN host's plaintext to the relay, and in the relay's name", to_relay),
        ("new flows from inside the tunnel do not come in", inbound),
    ]
}

fn who_has(town: &Town, address: &str) -> Result<bool> {
    let std::net::IpAddr::V4(target) = ip(address) else { return Ok(false) };
    let body = arp(1, (MAC_ISP, [203, 0, 113, 1]), ([0; 6], target.octets()));
    let position = town.wan.position();
    transmit(&town.house.isp, "cpe", [&ethernet([255; 6], MAC_ISP, 0x0806, &body)[..]])?;
    let answers = |f: &crate::wire::Frame| {
        f.bytes.get(12..14) == Some(&[8, 6])
            && f.bytes.get(21) == Some(&2)
            && f.bytes.get(28..32) == Some(&target.octets())
    };
    Ok(town.wan.wait(position, SOON / 3, answers).is_some())
}

fn arp_probe(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    ensure!(who_has(town, at::ROUTER_WAN[0])?, "the WAN's own address is not answered: no positive control");
    for address in [at::TUNNEL[0], at::ROUTER_LAN[0]] {
        ensure!(!who_has(town, address)?, "ARP for {address} was answered on the WAN");
    }
    Ok(String::new())
}

/// The ISP hands out a "local" network that covers the internet host.
fn local_net(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    town.house.router.ip("addr add 198.51.100.77/24 dev wan
         addr add 2001:db8:100::77/64 dev wan nodad
         neigh replace 198.51.100.1 lladdr 02:00:00:00:03:02 dev wan
         neigh replace 2001:db8:100::1 lladdr 02:00:00:00:03:02 dev wan")?;
    town.uplink.own.extend([ip("198.51.100.77"), ip("2001:db8:100::77")]);
    let result = expect(&town.house.tv, Way::Relay(0))
        .and_then(|()| expect(&town.house.router, Way::Relay(0)))
        .and_then(|()| town.judged(position, &town.tunnelled()));
    town.house.router.ip("addr del 198.51.100.77/24 dev wan
         addr del 2001:db8:100::77/64 dev wan")?;
    town.uplink.own.truncate(3);
    result.map(|_| String::new())
}

/// A LAN host has a flow in the tunnel; the WAN sends what its answer would look like.
fn guesses(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let tv = Capture::start(&town.house.tv, "eth0", Take::Arriving)?;
    for family in 0..2 {
        let (far, tunnel) = (ip(at::INTERNET[family]), ip(at::TUNNEL[family]));
        let socket = town.house.tv.enter(|| {
            let socket = std::net::UdpSocket::bind(if family == 0 { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect((far, 7))?;
            socket.send(b"who")?;
            Ok(socket)
        })?;
        let port = socket.local_addr()?.port();
        let guess = Packet::new(far, tunnel, Body::Udp { from: 7, to: port });
        // The real answer comes in: the flow that the WAN guesses at is there.
        socket.set_read_timeout(Some(SOON))?;
        let answered = socket.recv(&mut [0; 100]);
        ensure!(answered.is_ok(), "the answer from inside the tunnel was lost");
        let forged = Marker { kind: Kind::Probe, id: 2, seq: family as u32 };
        let kind = if family == 0 { 0x0800 } else { 0x86dd };
        for _ in 0..5 {
            let frame = ethernet(MAC_ROUTER_WAN, MAC_ISP, kind, &guess.bytes(forged));
            transmit(&town.house.isp, "cpe", [&frame[..]])?;
        }
        ensure!(
            tv.wait(0, SOON / 3, |f| f.marker == Some(forged)).is_none(),
            "the WAN's guess for {tunnel} was handed on to the LAN host"
        );
    }
    Ok(String::new())
}

fn to_relay(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    let tv = Capture::start(&town.house.tv, "eth0", Take::Arriving)?;
    let mut sent = 0;
    for family in 0..2 {
        let relay = ip(at::RELAYS[0][family]);
        let internet = ip(at::INTERNET[family]);
        for (from, to, ports) in [
            (ip(at::TV[family]), relay, (9999, at::RELAY_PORT)),
            (ip(at::TV[family]), relay, (at::RELAY_PORT, at::RELAY_PORT)),
            (relay, internet, (at::RELAY_PORT, 9999)),
            (relay, ip(at::ROUTER_WAN[family]), (at::RELAY_PORT, 9999)),
        ] {
            let packet = Packet::new(from, to, Body::Udp { from: ports.0, to: ports.1 });
            let marker = Marker { kind: Kind::LanFlood, id: 3, seq: sent };
            let kind = if family == 0 { 0x0800 } else { 0x86dd };
            let frame =
                ethernet(crate::house::MAC_ROUTER_LAN, crate::house::MAC_TV, kind, &packet.bytes(marker));
            transmit(&town.house.tv, "eth0", [&frame[..]])?;
            sent += 1;
        }
    }
    std::thread::sleep(SOON / 3);
    ensure!(!town.wan.has(position, |f| f.marker.is_some_and(|m| m.id == 3)), "plaintext left the WAN");
    town.judged(position, &town.tunnelled())?;
    tv.assert_complete()?;
    expect(&town.house.tv, Way::Relay(0))?;
    Ok(format!("{sent} packets, none on the WAN"))
}

fn inbound(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let tv = Capture::start(&town.house.tv, "eth0", Take::Arriving)?;
    let input = crate::raw::Input::watch(&town.house.router)?;
    let relay = town.house.relays.first().context("no relay")?;
    // The relay's operator routes LAN addresses into the tunnel.
    relay.ip("route replace 192.168.1.0/24 dev wg0
         route replace fd00:1::/64 dev wg0")?;
    let mut seq = 0;
    for family in 0..2 {
        for (to, port) in [(at::TUNNEL, 22), (at::TV, 80), (at::ROUTER_LAN, 53)] {
            let packet =
                Packet::new(ip(at::RESOLVER[family]), ip(to[family]), Body::Udp { from: 4000, to: port });
            let marker = Marker { kind: Kind::Probe, id: 4, seq };
            let socket =
                relay.enter(|| crate::raw::Socket::open(family == 0, &crate::raw::Binding::default()))?;
            // WireGuard itself refuses what is outside the peer's allowed IPs (ENOKEY).
            let _ = socket.send(&packet.bytes(marker), packet.to);
            seq += 1;
        }
    }
    std::thread::sleep(SOON / 3);
    for seq in 0..seq {
        let marker = Marker { kind: Kind::Probe, id: 4, seq };
        ensure!(!input.saw(marker), "the router took packet {seq} from inside the tunnel");
        ensure!(
            !tv.has(0, |f| f.marker == Some(marker)),
            "a LAN host got packet {seq} from inside the tunnel"
        );
    }
    Ok(String::new())
}
