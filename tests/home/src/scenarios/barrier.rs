//! Layers alone: the routing barrier without any table, and the WAN coming and going under it.

use anyhow::{Result, ensure};

use super::{Scenario, Way, blocked, connected, expect};
use crate::flood::Flood;
use crate::house::{at, ip};
use crate::packets::{Kind, Marker};
use crate::town::{LONG, Town};

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("nft flush ruleset: the barrier holds, and the rules are back by themselves", flushed),
        (
            "the routing barrier holds alone, with the daemon dead and every table gone, against option-121 routes",
            alone,
        ),
        ("option-121 routes do not lead traffic past the tunnel", option_121),
        ("a DHCP renewal under the barrier: the WAN's routes can be set again", renewal),
        ("strict rp_filter on the WAN does not cut the tunnel", strict),
        ("the WAN's cable is pulled and put back", flap),
        ("the WAN's device vanishes and is made again", recreated),
        ("no default route at all", no_route),
    ]
}

/// Without a table the barrier still holds the LAN, until the watcher has put it back.
fn flushed(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    town.house.router.nft("flush ruleset")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let (lan, router) = (lan_frames(town, position), router_frames(town, position));
    town.until("the rules are back by themselves", LONG, |town| {
        Ok(town.house.router.run("nft", &["list", "tables"])?.contains("inet vpnd"))
    })?;
    let (word, _) = town.word()?;
    town.connect("r2")?;
    town.until_word("connected", LONG)?;
    let flown = flood.stop(&town.wan, position)?;
    let lan = lan + lan_frames(town, position);
    ensure!(lan == 0 && router == 0, "{lan} frames of the LAN and {router} of the router left in plaintext");
    town.house.fw4()?;
    expect(&town.house.tv, Way::Relay(1))?;
    Ok(format!("meanwhile status {word}; {flown}"))
}

/// Frames of the LAN's flood that can be read on the WAN.
pub(super) fn lan_frames(town: &Town, position: usize) -> usize {
    town.wan.select(position, |f| f.marker.is_some_and(|m| m.kind == Kind::LanFlood)).len()
}

/// Frames of the router's flood, sockets bound to the WAN over IPv4 left out: no ip rule stops
/// those (contract, section 3).
pub(super) fn router_frames(town: &Town, position: usize) -> usize {
    let unbound = |m: Marker| m.kind == Kind::RouterFlood && m.seq % 2 == 0;
    town.wan
        .select(position, |f| {
            let v6 = f.bytes.get(12..14) == Some(&[0x86, 0xdd]);
            f.marker.is_some_and(|m| unbound(m) || (v6 && m.kind == Kind::RouterFlood))
        })
        .len()
}

fn alone(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    town.kill()?;
    let router = &town.house.router;
    router.nft("flush ruleset")?;
    router.ip("route add 198.51.100.0/24 via 203.0.113.1 dev wan onlink
         route add 0.0.0.0/1 via 203.0.113.1 dev wan onlink
         route add 128.0.0.0/1 via 203.0.113.1 dev wan onlink
         route add 2001:db8:100::/64 via 2001:db8:203::1 dev wan onlink
         route add ::/1 via 2001:db8:203::1 dev wan onlink")?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 200)?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let first = flood.flown();
    // And without the tunnel: nothing to go to at all.
    town.house.router.ip("link del vpnd0")?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    let flown = flood.stop(&town.wan, position)?;
    ensure!(flown.lan > first.lan, "the flood stopped");
    let (lan, router) = (lan_frames(town, position), router_frames(town, position));
    ensure!(lan == 0 && router == 0, "{lan} frames of the LAN and {router} of the router left in plaintext");
    Ok(format!("{flown}, none on the WAN but of IPv4 sockets bound to it"))
}

fn option_121(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    town.house.router.ip("route add 198.51.100.0/24 via 203.0.113.1 dev wan
         route add 0.0.0.0/1 via 203.0.113.1 dev wan
         route add 128.0.0.0/1 via 203.0.113.1 dev wan
         route add 2001:db8:100::/64 via 2001:db8:203::1 dev wan")?;
    expect(&town.house.tv, Way::Relay(0))?;
    expect(&town.house.router, Way::Relay(0))?;
    town.judged(position, &town.tunnelled())?;
    Ok(String::new())
}

fn renewal(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let router = &town.house.router;
    let position = town.wan.position();
    // What netifd does: address and routes away and back, without `onlink`.
    router.ip("route del default via 203.0.113.1 dev wan
         addr del 203.0.113.2/24 dev wan
         addr add 203.0.113.2/24 dev wan
         route add default via 203.0.113.1 dev wan")?;
    town.does(&["lease", "wan", at::ISP[0]])?;
    let marker = Marker { kind: Kind::Control, id: 77, seq: 0 };
    town.uplink.lease_server = at::ISP[0].parse().ok();
    // As udhcpc renews: a socket with the lease's address, bound to no device.
    let left = |town: &Town| {
        town.house.router.enter(|| {
            let socket = std::net::UdpSocket::bind((ip(at::ROUTER_WAN[0]), 68))?;
            let _ = socket.send_to(&marker.bytes(), (ip(at::ISP[0]), 67));
            Ok(())
        })?;
        Ok(town
            .wan
            .wait(position, std::time::Duration::from_millis(300), |f| f.marker == Some(marker))
            .is_some())
    };
    town.until("an unbound renewal reaches the lease's server", LONG, left)?;
    town.until_word("connected", LONG)?;
    expect(&town.house.tv, Way::Relay(0))?;
    town.judged(position, &town.tunnelled())?;
    town.uplink.lease_server = None;
    Ok(String::new())
}

fn strict(town: &mut Town) -> Result<String> {
    town.house.router.sysctl("net/ipv4/conf/wan/rp_filter", "1")?;
    let result = connected(town, "r1").and_then(|()| expect(&town.house.tv, Way::Relay(0)));
    town.house.router.sysctl("net/ipv4/conf/wan/rp_filter", "0")?;
    result.map(|()| String::new())
}

fn flap(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    town.house.router.ip("link set wan down")?;
    town.until("it is noticed", LONG, |town| Ok(town.word()?.0 != "connected"))?;
    // The flood's control frames cannot leave meanwhile: it ends here.
    let flown = flood.flown();
    drop(flood);
    let _ = expect(&town.house.tv, Way::Nowhere);
    town.house.router.ip("link set wan up
         addr replace 2001:db8:203::2/64 dev wan nodad")?;
    town.house.default_route()?;
    town.until_word("connected", LONG * 2)?;
    town.until("the LAN is through again", LONG, |town| {
        Ok(super::all_ways(&town.house.tv)?.0.iter().all(|w| matches!(w, Way::Relay(_))))
    })?;
    town.judged(position, &town.tunnelled_or_blocked())?;
    Ok(flown.to_string())
}

fn recreated(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    town.house.router.ip("link del wan")?;
    town.until("it is noticed", LONG, |town| Ok(town.word()?.0 != "connected"))?;
    town.house.wan()?;
    town.wan = crate::wire::Capture::start(&town.house.isp, "cpe", crate::wire::Take::Arriving)?;
    town.until_word("connected", LONG * 2)?;
    expect(&town.house.tv, Way::Relay(town.relay()?.trim_start_matches('r').parse::<usize>()? - 1))?;
    town.judged(0, &town.tunnelled_or_blocked())?;
    Ok(String::new())
}

fn no_route(town: &mut Town) -> Result<String> {
    for family in ["-4", "-6"] {
        town.house.router.run("ip", &[family, "route", "del", "default"])?;
    }
    town.start()?;
    let _ = town.say(&["connect", "--wait", "5"])?;
    town.until_word("blocked", LONG)?;
    let position = town.wan.position();
    expect(&town.house.tv, Way::Nowhere)?;
    town.judged(position, &blocked())?;
    let said = town.say(&["status"])?;
    ensure!(
        said.out.contains("offline") || said.out.contains("route"),
        "the cause is not shown: {}",
        said.out
    );
    town.house.default_route()?;
    town.until_word("connected", LONG * 2)?;
    Ok(said.out.lines().next().unwrap_or_default().to_owned())
}
