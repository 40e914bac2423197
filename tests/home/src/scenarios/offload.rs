//! Flows that were offloaded before a transition: they pass no chain of a firewall, and deleting them
//! takes time. A software flowtable as fw4 makes it, UDP and TCP, IPv4 and IPv6; what counts is the
//! moment at which the kernel committed the rules, not that at which a program returned.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use vpnd::config::{self, IfName, Settings};
use vpnd::firewall::{Nft, compile, conntrack};
use vpnd::policy::{self, Entrances, Facts, Policy, Stance};
use vpnd::routing::Router;

use super::{Scenario, blocked, connect};
use crate::commits::Commits;
use crate::house::{House, at, ip};
use crate::packets::Seen;
use crate::services::ECHO;
use crate::town::{LONG, SOON, Town};

pub(crate) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("offloaded flows: what stops them, each layer alone", alone),
        ("offloaded flows end with the commit of lockdown", locked),
        ("offloaded flows end with the commit of connect, and of a change of relay", tunnelled),
        ("offloaded flows: a stop on a device that is missing is left out at once", missing),
        ("offloading in hardware is named by status, in software it is not", hardware),
    ]
}

/// Where fw4 puts the flowtable: on a bridge's ports, or where it does not look below, on the bridge.
const PORTS: &str = "lan1, guest1, wan, vpnd0";
const BRIDGES: &str = "br-lan, br-guest, wan";
/// `IPS_OFFLOAD` of linux/netfilter/nf_conntrack_common.h.
const OFFLOADED: u32 = 1 << 14;
/// Flows that talk: each protocol and family.
const FLOWS: usize = 4;
/// Connections beside them, so that listing and deleting takes a while.
const OTHERS: u16 = 400;

/// fw4 with `flow_offloading`: the statement is the first of its forward chain.
fn offloading(house: &House, devices: &str) -> Result<()> {
    house.router.nft(&format!(
        "table inet fw4 {{\n flowtable ft {{\n hook ingress priority 0\n devices = {{ {devices} }}\n }}\n }}\n\
         insert rule inet fw4 forward meta l4proto {{ tcp, udp }} flow add @ft\n"
    ))
}

/// Four flows between the television and the internet that talk without a pause until dropped.
struct Talk {
    /// Datagrams sent so far, in each family.
    sent: Vec<Arc<AtomicU32>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Talk {
    fn start(house: &House) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut sent) = (Vec::new(), Vec::new());
        for address in at::INTERNET.map(ip) {
            let (udp, tcp) = house.tv.enter(|| {
                let udp = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                udp.connect((address, ECHO))?;
                let tcp = TcpStream::connect((address, ECHO))?;
                tcp.set_nodelay(true)?;
                tcp.set_nonblocking(true)?;
                udp.set_nonblocking(true)?;
                Ok((udp, tcp))
            })?;
            let count = Arc::<AtomicU32>::default();
            for mut flow in [Flow::Udp(udp, Arc::clone(&count)), Flow::Tcp(tcp)] {
                let stop = Arc::clone(&stop);
                threads.push(std::thread::spawn(move || {
                    while !stop.load(Ordering::SeqCst) {
                        flow.talk();
                        std::thread::sleep(Duration::from_millis(15));
                    }
                }));
            }
            sent.push(count);
        }
        Ok(Self { sent, stop, threads })
    }

    /// Waits until as many more datagrams were sent in each family, however slow the machine is.
    fn goes_on(&self, more: u32) -> Result<()> {
        let sent = || self.sent.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
        let (before, end) = (sent(), Instant::now() + LONG);
        while sent().iter().zip(&before).any(|(now, before)| now - before < more) {
            ensure!(Instant::now() < end, "the flows do not talk: {before:?}, {:?}", sent());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Until the kernel has offloaded all of them.
    fn started(house: &House) -> Result<Self> {
        let talk = Self::start(house)?;
        let end = Instant::now() + LONG;
        loop {
            let offloaded = offloaded(house)?;
            if offloaded == FLOWS {
                return Ok(talk);
            }
            ensure!(Instant::now() < end, "control: {offloaded} of {FLOWS} flows are offloaded");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

enum Flow {
    Udp(UdpSocket, Arc<AtomicU32>),
    Tcp(TcpStream),
}

impl Flow {
    /// Whatever comes of it.
    fn talk(&mut self) {
        let mut buffer = [0; 2048];
        match self {
            Self::Udp(socket, sent) => {
                if socket.send(b"still here").is_ok() {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                while socket.recv(&mut buffer).is_ok() {}
            }
            Self::Tcp(stream) => {
                let _ = stream.write(b"still here");
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
            }
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Flows to the internet's echo service that are in the flowtable.
fn offloaded(house: &House) -> Result<usize> {
    let flows = house.router.enter(|| conntrack::flows().map_err(|error| anyhow!("{error}")))?;
    let to_echo = |flow: &&policy::flows::Flow| {
        flow.original.destination_port == ECHO && at::INTERNET.map(ip).contains(&flow.original.destination)
    };
    Ok(flows.iter().filter(to_echo).filter(|flow| flow.status & OFFLOADED != 0).count())
}

/// Connections of the television's that have no answer, so that they are not offloaded.
fn others(house: &House) -> Result<()> {
    house.tv.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for port in 0..OTHERS {
            let _ = socket.send_to(b"x", (ip(at::INTERNET[0]), 10_000 + port));
        }
        Ok(())
    })
}

/// Frames of the flows on the WAN's wire at and after a time, by IPv4 UDP, TCP, IPv6 UDP, TCP.
fn after(town: &Town, position: usize, time: SystemTime) -> Result<[usize; FLOWS]> {
    town.wan.assert_complete()?;
    let mut counts = [0; FLOWS];
    for frame in town.wan.since(position).iter().filter(|frame| frame.at >= time) {
        let Some(seen) = frame.bytes.get(14..).and_then(Seen::parse) else { continue };
        let family = at::INTERNET.map(ip).iter().position(|internet| *internet == seen.to);
        let (Some(family), Some((_, ECHO)), 6 | 17) = (family, seen.ports, seen.proto) else { continue };
        counts[family * 2 + usize::from(seen.proto == 6)] += 1;
    }
    Ok(counts)
}

/// A router that is open, with four flows that are offloaded and others that are not.
fn talking(town: &mut Town, devices: &str) -> Result<Talk> {
    // No packet of vpnd's own flows for a device that is not there yet.
    let devices: Vec<&str> = devices.split(", ").filter(|name| *name != "vpnd0" || has(town, name)).collect();
    offloading(&town.house, &devices.join(", "))?;
    let talk = Talk::started(&town.house)?;
    others(&town.house)?;
    let (position, now) = (town.wan.position(), SystemTime::now());
    talk.goes_on(50)?;
    let counts = after(town, position, now)?;
    ensure!(counts.iter().all(|count| *count > 5), "control: {counts:?} frames go out");
    Ok(talk)
}

fn has(town: &Town, device: &str) -> bool {
    town.house.router.run("ip", &["link", "show", device]).is_ok()
}

/// What ends the flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The rules, which do not.
    Rules,
    Stop,
    Routes,
}

/// Rules that block, and for a while nothing else but what is to be tried; then the deletion.
fn alone(town: &mut Town) -> Result<String> {
    let mut said = Vec::new();
    for devices in [PORTS, BRIDGES] {
        for by in [By::Rules, By::Stop, By::Routes] {
            town.fresh()?;
            let talk = talking(town, devices)?;
            let position = town.wan.position();
            let (committed, deleted) = block(town, &talk, by)?;
            talk.goes_on(30)?;
            let between = after(town, position, committed)?;
            // What was on its way when the deletion returned has long arrived.
            let late = after(town, position, deleted)?;
            ensure!(late == [0; FLOWS], "{by:?} on {devices}: {late:?} frames after the flows were deleted");
            match by {
                By::Rules => ensure!(
                    between.iter().all(|count| *count > 5),
                    "control: {between:?} frames after the commit of rules alone"
                ),
                By::Stop => ensure!(between == [0; FLOWS], "{devices}: {between:?} frames after the commit"),
                By::Routes => {}
            }
            said.push(format!("{by:?} {between:?}"));
        }
    }
    Ok(said.join(", "))
}

/// When the kernel committed the rules, and when the flows were deleted.
fn block(town: &Town, talk: &Talk, by: By) -> Result<(SystemTime, SystemTime)> {
    let settings = settings(town)?;
    let policy = blocking(&settings)?;
    let stop = policy::stop(&policy, &settings, &entrances(&["br-guest", "br-lan", "guest1", "lan1"])?);
    ensure!(stop.is_some(), "nothing to stop");
    let commits = Commits::watch(&town.house.router)?;
    town.house.router.enter(|| {
        let nft = Nft::new("nft".into());
        let (_, missing) = nft.apply_stopping(&compile(&policy), stop.as_ref().filter(|_| by == By::Stop))?;
        ensure!(missing.is_none(), "{missing:?}");
        let mut counts_from = commits.first("nft")?;
        if by == By::Routes {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new()
                .block_on(&runtime, async { Router::open()?.end_offloading().await })?;
            counts_from = SystemTime::now();
        }
        talk.goes_on(60)?;
        let stance = Stance::Blocked { api: true };
        conntrack::delete_unfit(|flow| {
            policy::flows::fits(flow, &stance, &settings, &Facts::default(), false)
        })?;
        let deleted = SystemTime::now();
        nft.end_stop()?;
        Ok((counts_from, deleted))
    })
}

fn settings(town: &Town) -> Result<Settings> {
    let dir = town.dir.join("config");
    town.config.write(&dir)?;
    let loaded = config::load_from(&dir.join("vpnd"), &dir);
    ensure!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    Ok(loaded.settings)
}

fn blocking(settings: &Settings) -> Result<Policy> {
    policy::compose(&Stance::Blocked { api: true }, settings, &Facts::default()).context("no policy")
}

fn entrances(names: &[&str]) -> Result<Entrances> {
    let name = |text: &&str| text.parse::<IfName>().map_err(|error| anyhow!("{text}: {error}"));
    Ok(Entrances { devices: names.iter().map(name).collect::<Result<_>>()?, own: Vec::new() })
}

fn locked(town: &mut Town) -> Result<String> {
    let mut said = Vec::new();
    for devices in [PORTS, BRIDGES] {
        town.fresh()?;
        town.start()?;
        let talk = talking(town, devices)?;
        let commits = Commits::watch(&town.house.router)?;
        let position = town.wan.position();
        town.does(&["lockdown", "on"])?;
        let (returned, quiet) = (SystemTime::now(), town.wan.position());
        talk.goes_on(60)?;
        let committed = commits.first("nft")?;
        let counts = after(town, position, committed)?;
        ensure!(counts == [0; FLOWS], "{devices}: {counts:?} frames after the commit");
        ensure!(offloaded(&town.house)? == 0, "flows are still offloaded");
        town.judged(quiet, &blocked())?;
        let tables = town.house.router.run("nft", &["list", "tables"])?;
        ensure!(!tables.contains("vpnd_stop"), "the stop stayed: {tables}");
        let (begun, ended) = (commits.first("nft")?, commits.last("vpnd")?);
        let milliseconds =
            |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default().as_millis();
        said.push(format!(
            "stopped for {} ms, told after {} ms",
            milliseconds(begun, ended),
            milliseconds(begun, returned)
        ));
    }
    Ok(said.join("; "))
}

fn tunnelled(town: &mut Town) -> Result<String> {
    town.start()?;
    let talk = talking(town, PORTS)?;
    let commits = Commits::watch(&town.house.router)?;
    let position = town.wan.position();
    connect(town, "r1")?;
    talk.goes_on(30)?;
    let counts = after(town, position, commits.first("nft")?)?;
    ensure!(counts == [0; FLOWS], "{counts:?} frames in plaintext after the commit");
    drop((talk, commits));
    // In the tunnel, flows are offloaded as well: of a change of relay the wire may show nothing.
    offloading(&town.house, "lan1, guest1, vpnd0, wan").or_else(|_| offloading(&town.house, "lan1"))?;
    let _talk = Talk::start(&town.house)?;
    std::thread::sleep(SOON);
    let inside = offloaded(&town.house)?;
    let position = town.wan.position();
    let stops = Chains::watch(town)?;
    connect(town, "r2")?;
    connect(town, "r1")?;
    ensure!(!stops.named("vpnd_stop")?, "the LAN was stopped over a change of relay");
    town.does(&["lockdown", "on"])?;
    town.does(&["disconnect"])?;
    town.until_word("blocked", LONG)?;
    ensure!(stops.named("vpnd_stop")?, "the LAN was not stopped as it was blocked");
    std::thread::sleep(Duration::from_millis(500));
    town.judged(position, &town.tunnelled_or_blocked())?;
    Ok(format!("{inside} flows were offloaded into the tunnel"))
}

/// `nft monitor`: the chains that come. Not tables: each transaction adds that of the stop, to delete it.
struct Chains(std::process::Child, std::path::PathBuf);

impl Chains {
    fn watch(town: &Town) -> Result<Self> {
        let file = town.dir.join("chains");
        let mut nft = std::process::Command::new("nft");
        nft.args(["monitor", "new", "chains"]).stdout(std::fs::File::create(&file)?);
        let watching = Self(town.house.router.spawn(&mut nft)?, file);
        // A table of its own shows when it listens.
        let seen = |town: &Town| {
            town.house
                .router
                .nft("add table inet shown\nadd chain inet shown c\ndelete table inet shown\n")?;
            watching.named("shown")
        };
        town.until("nft monitor listens", LONG, seen)?;
        Ok(watching)
    }

    fn named(&self, table: &str) -> Result<bool> {
        Ok(std::fs::read_to_string(&self.1)?.contains(table))
    }
}

impl Drop for Chains {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Before 6.16 the kernel refuses the batch.
fn missing(town: &mut Town) -> Result<String> {
    let settings = settings(town)?;
    let policy = blocking(&settings)?;
    let stop = policy::stop(&policy, &settings, &entrances(&["br-lan", "away0"])?).context("no stop")?;
    town.house.router.enter(|| {
        let (in_force, why) = Nft::new("nft".into()).apply_stopping(&compile(&policy), Some(&stop))?;
        ensure!(in_force.hash == compile(&policy).hash()?, "other rules are in force");
        let why = why.context("the kernel took a device that is missing")?;
        Ok(format!("refused: {}", why.chars().take(120).collect::<String>()))
    })
}

fn hardware(town: &mut Town) -> Result<String> {
    town.start()?;
    let named =
        |town: &Town| Ok::<_, anyhow::Error>(town.say(&["status"])?.out.contains("hardware flow offloading"));
    offloading(&town.house, PORTS.trim_end_matches(", vpnd0"))?;
    ensure!(!named(town)?, "a flowtable in software is named");
    // Without devices, as no device here can do it: the flag is what counts.
    town.house.router.nft(
        "add table inet hard\nadd flowtable inet hard ft { hook ingress priority 0 ; flags offload ; }\n",
    )?;
    ensure!(named(town)?, "status does not name it");
    Ok(String::new())
}
