//! Guard table and egress hook with the real daemon and the real tunnel, on kernels with the flag
//! `persist` and without.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Scenario, Way, connected, expect};
use crate::flood::Flood;
use crate::house::{MAC_ISP, MAC_ROUTER_WAN, at, ip};
use crate::layers::{Layer, install, remove};
use crate::packets::{Body, Kind, Marker, Packet, Seen, ethernet};
use crate::services::ECHO;
use crate::town::{LONG, Town};
use crate::wire::transmit;

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("every nftables table flushed: the guard holds bound sockets, the egress hook raw ones", flushed),
        ("offloaded flows pass the guard, and end at the egress hook alone", offloaded),
        ("a WAN device made anew at once is held by the egress hook again", made_anew),
        ("the daemon is killed: what stands on this kernel, and the next one takes over", killed),
    ]
}

/// All of `fw4 flush`, then what a person would type.
const FLUSH: &str = "nft list tables | while read -r table; do nft delete $table; done; nft flush ruleset";

/// Linux 6.9 and later know the flag.
pub(super) fn persists() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    let mut next =
        || numbers.next().and_then(Result::ok).with_context(|| format!("a kernel called {release}"));
    Ok((next()?, next()?) >= (6, 9))
}

fn layer(town: &Town, name: &str) -> Result<Value> {
    Ok(town.status()?["layers"][name].clone())
}

/// Owned by the daemon, and kept by the kernel as far as it can.
fn held(town: &Town) -> Result<()> {
    let persist = persists()?;
    let (guard, egress) = (layer(town, "guard")?, layer(town, "egress")?);
    ensure!(guard == json!({ "owned": true, "persist": persist }), "the guard: {guard}");
    ensure!(
        egress == json!({ "owned": true, "persist": persist, "devices": ["wan"] }),
        "the egress hook: {egress}"
    );
    let said = town.say(&["status"])?.out;
    ensure!(said.contains("missing layer: guard") != persist, "what is missing is not said: {said}");
    Ok(())
}

/// Whether a raw frame of the router's comes out at the ISP's end.
fn raw_leaves(town: &Town, id: u32) -> Result<bool> {
    let marker = Marker { kind: Kind::Probe, id, seq: 0 };
    let packet = Packet::new(ip(at::ROUTER_WAN[0]), ip(at::INTERNET[0]), Body::Udp { from: 4000, to: 9999 });
    let frame = ethernet(MAC_ISP, MAC_ROUTER_WAN, 0x0800, &packet.bytes(marker));
    let position = town.wan.position();
    // The egress hook says so to the sender.
    let _ = transmit(&town.house.router, "wan", [&frame[..]]);
    Ok(town.wan.wait(position, Duration::from_secs(1), |f| f.marker == Some(marker)).is_some())
}

fn flushed(town: &mut Town) -> Result<String> {
    ensure!(raw_leaves(town, 1)?, "control: a raw frame leaves without vpnd");
    connected(town, "r1")?;
    held(town)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 200)?;
    for _ in 0..3 {
        town.house.router.run("sh", &["-c", FLUSH])?;
        std::thread::sleep(Duration::from_secs(1));
        ensure!(!raw_leaves(town, 2)?, "a raw frame left");
    }
    held(town)?;
    town.connect("r2")?;
    town.until_word("connected", LONG)?;
    let flown = flood.stop(&town.wan, position)?;
    town.judged(position, &town.tunnelled())?;
    town.house.fw4()?;
    expect(&town.house.tv, Way::Relay(1))?;
    town.does(&["disconnect"])?;
    town.until_word("open", LONG)?;
    ensure!(layer(town, "guard")?.is_null() && layer(town, "egress")?.is_null(), "left when open");
    ensure!(raw_leaves(town, 3)?, "control: it was the egress hook");
    Ok(format!("{flown}, none readable on the WAN, bound sockets included"))
}

/// `IPS_OFFLOAD` of linux/netfilter/nf_conntrack_common.h.
const OFFLOADED: u32 = 1 << 14;

/// UDP flows of the television's, one of each family, that talk for as long as this lives.
struct Talk(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Drop for Talk {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn talk(town: &Town) -> Result<Talk> {
    let talk = Talk(std::sync::Arc::default());
    for address in at::INTERNET.map(ip) {
        let socket = town.house.tv.enter(|| {
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect((address, ECHO))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })?;
        let stop = std::sync::Arc::clone(&talk.0);
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = socket.send(b"still here");
                while socket.recv(&mut [0; 64]).is_ok() {}
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    Ok(talk)
}

/// How many of their packets leave in half a second, IPv4 and IPv6.
fn talked(town: &Town) -> [usize; 2] {
    let position = town.wan.position();
    std::thread::sleep(Duration::from_millis(500));
    at::INTERNET.map(ip).map(|to| {
        let theirs = |seen: Seen| seen.to == to && seen.ports.is_some_and(|(_, port)| port == ECHO);
        town.wan.select(position, |f| f.bytes.get(14..).and_then(Seen::parse).is_some_and(theirs)).len()
    })
}

fn offloaded(town: &mut Town) -> Result<String> {
    let router = &town.house.router;
    router.nft(
        "table inet fw4 {\n flowtable ft {\n hook ingress priority 0\n devices = { lan1, wan }\n }\n }\n\
         insert rule inet fw4 forward meta l4proto udp flow add @ft\n",
    )?;
    let talk = talk(town)?;
    town.until("both flows are offloaded", LONG, |town| {
        let flows = town.house.router.enter(|| Ok(vpnd::firewall::conntrack::flows()?))?;
        Ok(flows.iter().filter(|flow| flow.status & OFFLOADED != 0).count() == 2)
    })?;
    let before = talked(town);
    let guard = install(router, &[Layer::Guard])?;
    let past_guard = talked(town);
    let egress = install(router, &[Layer::Egress])?;
    std::thread::sleep(Duration::from_millis(100));
    let held = talked(town);
    drop(talk);
    // What a dead owner left goes with the other.
    drop(guard);
    remove(egress)?;
    let passes = |counts: [usize; 2]| counts.iter().all(|count| *count > 10);
    ensure!(passes(before) && passes(past_guard), "control: {before:?}, then {past_guard:?} left");
    ensure!(held == [0, 0], "{held:?} left");
    Ok(format!("{before:?} in half a second, {past_guard:?} with the guard, {held:?} with the egress hook"))
}

/// Nothing but its index tells the new device from the old.
fn made_anew(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    held(town)?;
    for _ in 0..3 {
        town.house.router.ip("link del wan")?;
        town.house.wan()?;
        town.wan = crate::wire::Capture::start(&town.house.isp, "cpe", crate::wire::Take::Arriving)?;
        town.until("raw frames are held", LONG, |town| Ok(!raw_leaves(town, 5)?))?;
        town.until("status says so", LONG, |town| Ok(held(town).is_ok()))?;
    }
    town.until_word("connected", LONG * 2)?;
    Ok(String::new())
}

fn killed(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    held(town)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 200)?;
    town.kill()?;
    let left = town.status()?["layers"].clone();
    let orphan = |name: &str| left[name]["owned"] == false && left[name]["persist"] == true;
    let words = if persists()? {
        ensure!(orphan("guard") && orphan("egress"), "not what should be left: {left}");
        ensure!(!raw_leaves(town, 4)?, "a raw frame left");
        "both stand without it"
    } else {
        ensure!(left["guard"].is_null() && left["egress"].is_null(), "not what should be left: {left}");
        "both went with it"
    };
    ensure!(left["rules"] == true, "the rules are gone: {left}");
    std::thread::sleep(Duration::from_secs(2));
    town.start_as_it_is()?;
    town.until_word("connected", LONG * 2)?;
    held(town)?;
    let flown = flood.stop(&town.wan, position)?;
    town.judged(position, &town.tunnelled_or_blocked())?;
    expect(&town.house.tv, Way::Relay(town.relay()?.trim_start_matches('r').parse::<usize>()? - 1))?;
    Ok(format!("{words}; {flown}"))
}
