//! The tunnel from first start to disconnection, and relays that fail.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{Scenario, Way, blocked, connect, connected, expect};
use crate::flood::Flood;
use crate::house::{MAC_ROUTER_LAN, MAC_TV, at, ip};
use crate::packets::{Body, Kind, Marker, Packet, RST, SYN, Seen, ethernet};
use crate::services::{ask_udp, ping};
use crate::suite::Late;
use crate::town::{LONG, Mood, SOON, Town};
use crate::wire::{Capture, Take, transmit};

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("the first start is open", first_start),
        ("connected: LAN and router reach the internet through the tunnel only, IPv4 and IPv6", through),
        ("connected over an IPv6 endpoint", over_v6),
        ("a relay that dies is found dead and replaced", dies),
        ("a relay that only completes handshakes never becomes connected", hollow),
        ("a change of relay under a flood", change),
        ("disconnect under lockdown blocks", lockdown),
        ("disconnect opens only after the tunnel is gone", disconnect),
        ("flows through the tunnel do not go on in plaintext after a disconnect", flows_out),
        ("flows from before do not go on when the tunnel comes up", flows_in),
        ("large segments and packets fit the tunnel", sizes),
    ]
}

fn first_start(town: &mut Town) -> Result<String> {
    town.start()?;
    let (word, code) = town.word()?;
    ensure!((word.as_str(), code) == ("open", 4), "status {word}, exit {code}");
    let tables = town.house.router.run("nft", &["list", "tables"])?;
    ensure!(!tables.contains("inet vpnd"), "rules are in force: {tables}");
    expect(&town.house.tv, Way::Outside)?;
    expect(&town.house.router, Way::Outside)?;
    Ok(String::new())
}

fn through(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let (word, code) = town.word()?;
    ensure!((word.as_str(), code) == ("connected", 0), "status {word}, exit {code}");
    let position = town.wan.position();
    expect(&town.house.tv, Way::Relay(0))?;
    expect(&town.house.guest, Way::Relay(0))?;
    expect(&town.house.router, Way::Relay(0))?;
    for resolver in at::RESOLVER {
        ensure!(ping(&town.house.tv, ip(resolver), 3)?, "no answer inside the tunnel from {resolver}");
    }
    let tally = town.judged(position, &town.tunnelled())?;
    let outer = tally.of(vpnd::policy::Row::TunnelOuter);
    ensure!(outer > 10, "only {outer} outer packets: what did the questions go through?");
    Ok(format!("{outer} encrypted frames, none unlisted"))
}

fn over_v6(town: &mut Town) -> Result<String> {
    connected(town, "r3")?;
    let position = town.wan.position();
    expect(&town.house.tv, Way::Relay(2))?;
    town.judged(position, &town.tunnelled())?;
    Ok(String::new())
}

fn dies(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    // Any relay will do, so that another one may be taken.
    town.connect("")?;
    town.until_word("connected", LONG)?;
    let name = town.relay()?;
    let number = number_of(&name)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    town.mood(number, Mood::Dead)?;
    let since = Instant::now();
    town.until("another relay is connected", LONG * 2, |town| {
        Ok(town.word()?.0 == "connected" && town.relay()? != name)
    })?;
    let took = since.elapsed().as_secs_f32();
    let flown = flood.stop(&town.wan, position)?;
    town.judged(position, &town.tunnelled())?;
    expect(&town.house.tv, Way::Relay(number_of(&town.relay()?)?))?;
    Ok(format!("{name} was replaced after {took:.1} s; {flown}, none unlisted"))
}

/// Of the relay of that name. A daemon that is late has none any more, or none yet.
fn number_of(name: &str) -> Result<usize> {
    let Some(number) = name.strip_prefix('r').and_then(|digits| digits.parse::<usize>().ok()) else {
        bail!(Late(format!("it was connected a moment ago, and has no relay now: '{name}'")));
    };
    Ok(number - 1)
}

fn hollow(town: &mut Town) -> Result<String> {
    for relay in 0..3 {
        town.mood(relay, Mood::Hollow)?;
    }
    town.start()?;
    let position = town.wan.position();
    let said = town.say(&["connect", "r1", "--wait", "15"])?;
    ensure!(said.code != 0, "connect succeeded: {}", said.out);
    let (word, code) = town.word()?;
    ensure!(word != "connected" && code != 0, "status {word}, exit {code}");
    // The handshake itself went well: it is the missing answer that counts.
    let shaken = town.house.relays[0].run("wg", &["show", "wg0", "latest-handshakes"])?;
    ensure!(!shaken.trim().ends_with("\t0"), "no handshake was completed: {shaken}");
    expect(&town.house.tv, Way::Nowhere)?;
    town.judged(position + 1, &[town.tunnelled(), blocked(), vec![crate::classify::State::Open]].concat())?;
    Ok(format!("status {word}"))
}

fn change(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    for (name, number) in [("r2", 1), ("r3", 2), ("r1", 0)] {
        connect(town, name)?;
        let seen = ask_udp(&town.house.tv, ip(at::INTERNET[0]), SOON)?;
        ensure!(
            super::way(seen) == Way::Relay(number),
            "after the change to {name} the internet saw {seen:?}"
        );
    }
    let flown = flood.stop(&town.wan, position)?;
    let tally = town.judged(position, &town.tunnelled())?;
    Ok(format!("3 changes; {flown}; {} frames, none unlisted", tally.0.values().sum::<usize>()))
}

fn lockdown(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    town.does(&["lockdown", "on"])?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    town.does(&["disconnect"])?;
    town.until_word("blocked", LONG)?;
    let quiet = town.wan.position();
    let (_, code) = town.word()?;
    ensure!(code == 3, "exit {code}");
    expect(&town.house.tv, Way::Nowhere)?;
    expect(&town.house.router, Way::Nowhere)?;
    let flown = flood.stop(&town.wan, position)?;
    town.judged(position, &town.tunnelled_or_blocked())?;
    town.judged(quiet, &blocked())?;
    let heard = refused_fast(town)?;
    Ok(format!("{flown}, none unlisted; the LAN host hears {heard}"))
}

/// A LAN host hears at once that it is refused. Where the routing barrier answers before the
/// rules can, the kernel chooses the ICMP code and lets one answer a second through to a host
/// (ip_error in net/ipv4/route.c): hence the pauses.
fn refused_fast(town: &Town) -> Result<String> {
    let mut heard = Vec::new();
    let tv = Capture::start(&town.house.tv, "eth0", Take::Arriving)?;
    for family in 0..2 {
        let (from, to) = (ip(at::TV[family]), ip(at::INTERNET[family]));
        let kind = if family == 0 { 0x0800 } else { 0x86dd };
        for (seq, body) in [Body::Udp { from: 4001, to: 9999 }, Body::Tcp { from: 4002, to: 80, flags: SYN }]
            .into_iter()
            .enumerate()
        {
            std::thread::sleep(SOON / 2);
            let marker = Marker { kind: Kind::Probe, id: 50 + family as u32, seq: seq as u32 };
            let packet = Packet::new(from, to, body);
            transmit(
                &town.house.tv,
                "eth0",
                [&ethernet(MAC_ROUTER_LAN, MAC_TV, kind, &packet.bytes(marker))[..]],
            )?;
            let reset = |s: &Seen| seq == 1 && s.from == to && s.tcp_flags.is_some_and(|f| f & RST != 0);
            let answer = tv.wait(0, SOON, |f| {
                let seen = f.bytes.get(14..).and_then(Seen::parse);
                f.marker == Some(marker) || seen.as_ref().is_some_and(reset)
            });
            let seen = answer.as_ref().and_then(|f| f.bytes.get(14..)).and_then(Seen::parse);
            let Some(seen) = seen else { bail!("{packet:?}: the LAN host heard nothing within {SOON:?}") };
            let unreachable = matches!((seen.proto, seen.icmp), (1, Some((3, _))) | (58, Some((1, _))));
            ensure!(unreachable || reset(&seen), "the LAN host heard something else: {seen}");
            heard.push(seen.icmp.map_or("reset".to_owned(), |(kind, code)| format!("ICMP {kind}/{code}")));
        }
    }
    Ok(heard.join(", "))
}

fn disconnect(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    town.does(&["disconnect"])?;
    town.until_word("open", LONG)?;
    let links = town.house.router.run("ip", &["-o", "link", "show"])?;
    ensure!(!links.contains("vpnd0"), "open, and the tunnel is still there: {links}");
    drop(flood);
    for family in ["-4", "-6"] {
        let rules = town.house.router.run("ip", &[family, "rule", "show"])?;
        let usual =
            |line: &str| ["local", "main", "default"].iter().any(|table| line.trim().ends_with(table));
        ensure!(rules.lines().all(usual), "ip rules are left over:\n{rules}");
    }
    // Nothing in plaintext before the last outer packet.
    let frames = town.wan.since(position);
    let classes: Vec<_> = frames
        .iter()
        .map(|f| crate::classify::classify(&f.bytes, f.vlan, &town.tunnelled(), &town.uplink))
        .collect();
    let outer = crate::classify::Class::Listed(vpnd::policy::Row::TunnelOuter);
    let last = classes.iter().rposition(|c| *c == outer).unwrap_or(0);
    let plain = classes.iter().position(|c| matches!(c, crate::classify::Class::Unlisted(_)));
    ensure!(
        plain.is_some_and(|first| first > last),
        "plaintext at frame {plain:?}, the tunnel's last at {last}"
    );
    expect(&town.house.tv, Way::Outside)?;
    Ok(String::new())
}

/// A TCP connection and a UDP flow opened in the tunnel.
fn flows_out(town: &mut Town) -> Result<String> {
    use crate::services::{ECHO, talk};
    connected(town, "r1")?;
    let (mut tcp, udp) = town.house.tv.enter(|| {
        let tcp = std::net::TcpStream::connect((ip(at::INTERNET[0]), ECHO))?;
        let udp = std::net::UdpSocket::bind("0.0.0.0:0")?;
        udp.connect((ip(at::INTERNET[0]), ECHO))?;
        udp.set_read_timeout(Some(SOON))?;
        Ok((tcp, udp))
    })?;
    ensure!(
        super::way(talk(&mut tcp, SOON)) == Way::Relay(0),
        "the connection did not go through the tunnel"
    );
    udp.send(b"who")?;
    udp.recv(&mut [0; 100])?;
    town.does(&["lockdown", "on"])?;
    town.does(&["disconnect"])?;
    town.until_word("blocked", LONG)?;
    let position = town.wan.position();
    for _ in 0..20 {
        let _ = udp.send(b"who");
        let _ = std::io::Write::write(&mut tcp, b"who");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    town.judged(position, &blocked())?;
    // And when it opens: the old flow was NATed to the tunnel's address, which must not get out.
    let position = town.wan.position();
    town.does(&["disarm", "--yes"])?;
    town.until_word("open", LONG)?;
    for _ in 0..20 {
        let _ = udp.send(b"who");
        let _ = std::io::Write::write(&mut tcp, b"who");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let tunnel = ip(at::TUNNEL[0]);
    let foreign = town.wan.select(position, |f| {
        f.bytes.get(14..).and_then(crate::packets::Seen::parse).is_some_and(|s| s.from == tunnel)
    });
    ensure!(foreign.is_empty(), "{} frames left in the tunnel address's name", foreign.len());
    Ok(String::new())
}

fn flows_in(town: &mut Town) -> Result<String> {
    use crate::services::{ECHO, talk};
    town.start()?;
    let (mut tcp, udp) = town.house.tv.enter(|| {
        let tcp = std::net::TcpStream::connect((ip(at::INTERNET[0]), ECHO))?;
        let udp = std::net::UdpSocket::bind("0.0.0.0:0")?;
        udp.connect((ip(at::INTERNET[0]), ECHO))?;
        udp.set_read_timeout(Some(SOON))?;
        Ok((tcp, udp))
    })?;
    ensure!(super::way(talk(&mut tcp, SOON)) == Way::Outside, "the control connection did not go outside");
    udp.send(b"who")?;
    udp.recv(&mut [0; 100])?;
    connect(town, "r1")?;
    let position = town.wan.position();
    for _ in 0..20 {
        let _ = udp.send(b"who");
        let _ = std::io::Write::write(&mut tcp, b"who");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    town.judged(position, &town.tunnelled())?;
    udp.send(b"who")?;
    let mut buffer = [0; 100];
    let got = udp.recv(&mut buffer)?;
    let seen = std::str::from_utf8(&buffer[..got])?.parse().ok();
    ensure!(super::way(seen) == Way::Relay(0), "the UDP flow goes on by {seen:?}");
    Ok(String::new())
}

fn sizes(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    let link = town.house.router.run("ip", &["-o", "link", "show", "vpnd0"])?;
    let mtu: u32 =
        link.split_whitespace().skip_while(|w| *w != "mtu").nth(1).and_then(|m| m.parse().ok()).unwrap_or(0);
    ensure!((1280..=1440).contains(&mtu), "MTU {mtu}: {link}");
    let position = town.wan.position();
    // Segments as large as the client's own link allows: clamping must make them fit.
    for address in at::INTERNET {
        let moved = town.house.tv.enter(|| crate::services::bulk(ip(address), 300_000))?;
        ensure!(moved == 300_000, "{moved} of 300000 bytes went through to {address}");
    }
    let tally = town.judged(position, &town.tunnelled())?;
    let outer = tally.of(vpnd::policy::Row::TunnelOuter);
    let largest = town.wan.since(position).iter().map(|f| f.bytes.len()).max().unwrap_or(0);
    ensure!(outer > 100 && largest <= 1514, "{outer} outer frames, the largest {largest} bytes");
    Ok(format!("MTU {mtu}; {outer} outer frames, the largest {largest} bytes, no fragment"))
}
