//! `home bench`: vpnd and wg-quick side by side, in the same house and the same run, taking turns.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use vpnd::config::Settings;
use vpnd::firewall::{self, Nft};
use vpnd::policy::{self, Facts, Stance, TunnelStance, WanDevice};

use crate::bench_quick::{Quick, finish};
use crate::bench_stream::{Stream, gap};
use crate::bench_table::{Series, line, ratio, verdict};
use crate::classify::{Class, State, classify};
use crate::house::{at, ip};
use crate::ns::Netns;
use crate::packets::Seen;
use crate::town::{LONG, Town};
use crate::vpnd::relay_endpoint;
use crate::wire::Frame;

/// Repetitions of what takes seconds, and of what does not.
const TURNS: usize = 5;
const SHORT_TURNS: usize = 15;
/// The ISP's link, each way.
const DELAY: &str = "10ms";
/// Between two measurements.
const SETTLE: Duration = Duration::from_millis(700);

#[derive(Default)]
struct Side {
    /// To the client's first answer through the tunnel.
    connect: Series,
    /// Until the command is done.
    command: Series,
    /// Between two of the client's packets at the internet host.
    traffic_gap: Series,
    /// Between two answers that the client gets.
    answer_gap: Series,
    leaked: Series,
    /// The next relay's handshake as the router saw it.
    handshake: Series,
}

#[derive(Default)]
struct Numbers {
    vpnd: Side,
    quick: Side,
    round_trip: Series,
    peer_set: Series,
    apply: Series,
    load_json: Series,
    load_text: Series,
}

/// True when nothing leaked where nothing may.
///
/// # Errors
/// When the home cannot be built, or a program fails.
pub fn run(vpnd: &Path) -> Result<bool> {
    println!("{TURNS} turns of each side, {SHORT_TURNS} of what is short; ISP link with {DELAY} each way.");
    println!("Times in ms: median (least-most). Ratios: vpnd to the other.\n");
    let mut town = Town::build(vpnd)?;
    for device in ["core", "cpe"] {
        town.house.isp.run("tc", &["qdisc", "add", "dev", device, "root", "netem", "delay", DELAY])?;
    }
    let mut numbers = Numbers::default();
    let settings = settings(&mut town)?;
    rules(&settings, &mut numbers)?;
    peer_set(&settings, &mut numbers)?;
    let quick = Quick::install(&town)?;
    let stream = Stream::start(&town.house)?;
    town.start()?;
    for _ in 0..TURNS {
        vpnd_turn(&town, vpnd, &stream, &mut numbers)?;
        quick_turn(&town, &quick, &stream, &mut numbers.quick)?;
    }
    town.does(&["connect", "r1"])?;
    std::thread::sleep(SETTLE);
    let memory = memory(&town)?;
    if let Some(out) = std::env::var_os("RIG_OUT") {
        std::fs::write(Path::new(&out).join("daemon.log"), town.log())?;
    }
    stream.stop()?;
    town.wan.assert_complete()?;
    print(&numbers, &memory, std::fs::metadata(vpnd)?.len());
    Ok(numbers.vpnd.leaked.sum() == 0.0)
}

fn settings(town: &mut Town) -> Result<Settings> {
    let dir = town.dir.join("config");
    town.config.write(&dir)?;
    let loaded = vpnd::config::load(&dir);
    if let Some(problem) = loaded.problems.first() {
        bail!("{problem}");
    }
    Ok(loaded.settings)
}

fn exit(relay: usize) -> Result<IpAddr> {
    Ok(ip(at::RELAYS.get(relay).context("no such relay")?[0]))
}

fn vpnd_turn(town: &Town, program: &Path, stream: &Stream, numbers: &mut Numbers) -> Result<()> {
    let side = &mut numbers.vpnd;
    let verb = |words: &[&str]| begin(town, program, words);
    connect(stream, side, || verb(&["connect", "r1"]))?;
    stream.clear();
    for trip in stream.round_trips() {
        numbers.round_trip.add(trip);
    }
    change(town, stream, side, || verb(&["connect", "r2"]))?;
    finish(verb(&["disconnect"])?)?;
    wait_for_own_way(stream)
}

/// Starts a verb of the program under test.
fn begin(town: &Town, program: &Path, words: &[&str]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(words);
    for (option, folder) in [("--config-dir", "config"), ("--run-dir", "run"), ("--state-dir", "state")] {
        command.arg(option).arg(town.dir.join(folder));
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    town.house.router.spawn(&mut command)
}

fn quick_turn(town: &Town, quick: &Quick, stream: &Stream, side: &mut Side) -> Result<()> {
    let router = &town.house.router;
    // The daemon would look at each of wg-quick's changes, at wg-quick's cost.
    town.signal(libc::SIGSTOP)?;
    connect(stream, side, || quick.up(router, 0))?;
    change(town, stream, side, || quick.change(router, 0, 1))?;
    finish(quick.down(router, 1)?)?;
    town.signal(libc::SIGCONT)?;
    wait_for_own_way(stream)
}

/// Until nothing is left of a tunnel.
fn wait_for_own_way(stream: &Stream) -> Result<()> {
    std::thread::sleep(SETTLE);
    stream.clear();
    stream.first_by(ip(at::ROUTER_WAN[0]), LONG).context("the client's own way did not come back")?;
    Ok(())
}

fn connect(stream: &Stream, side: &mut Side, start: impl FnOnce() -> Result<Child>) -> Result<()> {
    stream.clear();
    let (began, clock) = (SystemTime::now(), Instant::now());
    let child = start()?;
    let ended = std::thread::spawn(move || finish(child).map(|()| clock.elapsed()));
    let first = stream.first_by(exit(0)?, LONG).context("the client got no answer through r1")?;
    side.connect.add(first.duration_since(began)?);
    side.command.add(joined(ended)?);
    std::thread::sleep(SETTLE);
    Ok(())
}

/// From r1 to r2: the gap, and what left meanwhile.
fn change(
    town: &Town,
    stream: &Stream,
    side: &mut Side,
    start: impl FnOnce() -> Result<Child>,
) -> Result<()> {
    stream.clear();
    let position = town.wan.position();
    std::thread::sleep(SETTLE);
    let child = start()?;
    let ended = std::thread::spawn(move || finish(child).map(|()| Duration::ZERO));
    let next = exit(1)?;
    stream.first_by(next, LONG).context("the client got no answer through r2")?;
    joined(ended)?;
    std::thread::sleep(SETTLE);
    side.answer_gap.add(gap(&stream.answers(), next).context("no answers around the change")?);
    side.traffic_gap.add(gap(&stream.questions(), next).context("no questions around the change")?);
    let states = [State::Connecting { relays: vec![relay_endpoint(0), relay_endpoint(1)] }];
    let frames = town.wan.since(position);
    if let Some(took) = handshake(&frames, 1) {
        side.handshake.add(took);
    }
    let unlisted = frames
        .iter()
        .filter(|f| matches!(classify(&f.bytes, f.vlan, &states, &town.uplink), Class::Unlisted(_)))
        .count();
    side.leaked.count(unlisted);
    Ok(())
}

/// From the first initiation to relay `n` until the first packet of data to it.
fn handshake(frames: &[Frame], relay: usize) -> Option<Duration> {
    let relay = relay_endpoint(relay);
    // Message types: the WireGuard paper, section 5.4.
    let first = |kind: u8| {
        let is = |f: &&Frame| {
            f.bytes.get(14..).and_then(Seen::parse).is_some_and(|seen| {
                seen.to == relay.ip() && seen.proto == 17 && seen.payload.get(8..12) == Some(&[kind, 0, 0, 0])
            })
        };
        frames.iter().find(is).map(|f| f.at)
    };
    first(4)?.duration_since(first(1)?).ok()
}

fn joined(thread: std::thread::JoinHandle<Result<Duration>>) -> Result<Duration> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a waiting thread panicked"),
    }
}

/// Loading the connected policy's rules, in a namespace of its own.
fn rules(settings: &Settings, numbers: &mut Numbers) -> Result<()> {
    let scratch = Netns::new("scratch")?;
    let ruleset = firewall::compile(&connected(settings)?);
    let json = ruleset.to_json()?;
    let text = ruleset.to_string();
    let nft = Nft::new(PathBuf::from("nft"));
    for _ in 0..SHORT_TURNS {
        let apply = scratch.enter(|| {
            let start = Instant::now();
            nft.apply(&ruleset)?;
            Ok(start.elapsed())
        })?;
        numbers.apply.add(apply);
        for (series, args, input) in [
            (&mut numbers.load_json, &["-j", "-f", "-"][..], &json),
            (&mut numbers.load_text, &["-f", "-"][..], &text),
        ] {
            let start = Instant::now();
            scratch.pipe("nft", args, input)?;
            series.add(start.elapsed());
        }
    }
    Ok(())
}

fn connected(settings: &Settings) -> Result<policy::Policy> {
    let name = |text: &str| text.parse().map_err(|e| anyhow::anyhow!("{text}: {e}"));
    let nets = |texts: &[&str]| texts.iter().filter_map(|t| t.parse().ok()).collect();
    let tunnel = settings.tunnel.as_ref().context("no tunnel is configured")?;
    let stance = Stance::Connected {
        relay: relay_endpoint(0),
        listen_port: 51820,
        tunnel: TunnelStance { device: name("vpnd0")?, addresses: tunnel.addresses.clone() },
    };
    let facts = Facts {
        lan_prefixes: [
            ("br-lan", ["192.168.1.0/24", "fd00:1::/64"]),
            ("br-guest", ["192.168.2.0/24", "fd00:2::/64"]),
        ]
        .iter()
        .map(|(device, prefixes)| Ok((name(device)?, nets(prefixes))))
        .collect::<Result<_>>()?,
        wan: vec![WanDevice {
            name: name("wan")?,
            prefixes: nets(&["203.0.113.0/24", "2001:db8:203::/64"]),
            lease_server: None,
        }],
    };
    policy::compose(&stance, settings, &facts).context("no policy")
}

/// One peer-set call, on a device that nobody uses.
fn peer_set(settings: &Settings, numbers: &mut Numbers) -> Result<()> {
    let scratch = Netns::new("scratch")?;
    scratch.ip("link add vpnd0 type wireguard
         link set vpnd0 up")?;
    for n in 0..SHORT_TURNS {
        let relay = settings.relays.get(n % 2).context("no such relay")?;
        let took = scratch.enter(|| {
            let start = Instant::now();
            vpnd::tunnel::set_peer(relay)?;
            Ok(start.elapsed())
        })?;
        numbers.peer_set.add(took);
    }
    Ok(())
}

/// VmRSS, VmHWM, and what of the first is not the program's file, in KiB.
pub(crate) fn memory(town: &Town) -> Result<[u64; 3]> {
    let mut pid = None;
    town.until("the daemon says its pid", LONG, |town| {
        pid = town.status()?["daemon"]["status"]["pid"].as_u64();
        Ok(pid.is_some())
    })?;
    let pid = pid.context("the daemon does not say its pid")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name)).with_context(|| format!("no {name}"))?;
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).with_context(|| format!("'{line}'"))
    };
    Ok([field("VmRSS:")?, field("VmHWM:")?, field("RssAnon:")?])
}

fn print(numbers: &Numbers, memory: &[u64; 3], size: u64) {
    let Numbers { vpnd, quick, .. } = numbers;
    let both = |what: &str, one: &Series, other: &Series, wanted: &str| {
        line(what, &one.to_string(), &other.to_string(), &ratio(one, other), wanted);
    };
    let no_more = |one: &Series, other: Option<f64>| one.median().zip(other).is_some_and(|(a, b)| a <= b);
    line("", "vpnd", "wg-quick", "ratio", "wanted");
    let wanted = verdict(no_more(&vpnd.connect, quick.connect.median()), "no slower");
    both("connect to the client's first answer", &vpnd.connect, &quick.connect, &wanted);
    both("connect until the command is done", &vpnd.command, &quick.command, "");
    let limit = vpnd.handshake.median().zip(numbers.peer_set.median()).map(|(a, b)| a + b);
    let within = |series: &Series| match limit {
        // The stream's own spacing is no gap.
        Some(limit) => verdict(no_more(series, Some(limit + spacing())), &format!("<= {limit:.0} ms")),
        None => "no limit".to_owned(),
    };
    both("relay change: traffic gap", &vpnd.traffic_gap, &quick.traffic_gap, &within(&vpnd.traffic_gap));
    both("relay change: gap in answers", &vpnd.answer_gap, &quick.answer_gap, "");
    let wanted = verdict(vpnd.leaked.sum() == 0.0, "0");
    both("relay change: frames leaked", &vpnd.leaked, &quick.leaked, &wanted);
    both("  one round trip of it: the handshake", &vpnd.handshake, &quick.handshake, "");
    line("  one round trip of data, before it", &numbers.round_trip.to_string(), "", "", "");
    line("  one peer-set call", &numbers.peer_set.to_string(), "", "", "");
    println!();
    line("", "vpnd", "nft -f", "ratio", "");
    both("rules: apply, read back, compare", &numbers.apply, &numbers.load_text, "");
    both("rules: load alone (JSON)", &numbers.load_json, &numbers.load_text, "");
    println!();
    let [rss, most, anonymous] = *memory;
    let wanted = verdict(rss <= 4096, "<= 4096 KiB");
    line("daemon's memory (RSS), connected", &format!("{rss} KiB"), "", "", &wanted);
    line("  the most it ever was", &format!("{most} KiB"), "", "", &verdict(most <= 4096, "<= 4096 KiB"));
    line("  of it not the program's file", &format!("{anonymous} KiB"), "", "", "");
    line("static program, x86_64", &format!("{} KiB", size.div_ceil(1024)), "", "", "");
    println!(
        "
The client sends every {:.0} ms, which each gap holds once. Traffic: its packets at the internet
host; wanted is at most the next relay's handshake (one round trip with its cryptography) and one
peer-set call. Answers: those under way from the former relay are lost with its session, so
that their gap is one round trip longer.",
        spacing()
    );
}

fn spacing() -> f64 {
    crate::bench_stream::EVERY.as_secs_f64() * 1000.0
}
