//! `home bench`: vpnd and wg-quick side by side, in the same home and run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::house::{at, ip};
use crate::ns::Netns;
use crate::packets::Kind;
use crate::services::{ECHO, ask_once};
use crate::town::{LONG, Town};
use crate::vpnd::relay_endpoint;

const ROUNDS: usize = 5;

/// Prints the table; true when what is promised was measured.
///
/// # Errors
/// When a measurement cannot be made.
pub fn run(vpnd: &Path) -> Result<bool> {
    let mut town = Town::build(vpnd)?;
    let mut rows = vec![["".into(), "vpnd".into(), "wg-quick".into()]];
    let mut connects = [Vec::new(), Vec::new()];
    let mut changes: [Vec<Change>; 2] = [Vec::new(), Vec::new()];
    let mut memory = 0;
    // In turns, so that both meet the same machine.
    for _ in 0..ROUNDS {
        town.fresh()?;
        town.start()?;
        connects[0].push(first_reply(&town, |town| town.connect("r1"))?);
        changes[0].push(change(&mut town, |town| town.connect("r2"))?);
        memory = memory.max(resident(&town)?);
        town.fresh()?;
        let confs = [conf(&town, 0)?, conf(&town, 1)?];
        masquerade(&town.house.router)?;
        connects[1].push(first_reply(&town, |town| quick(town, "up", &confs[0]))?);
        changes[1].push(change(&mut town, |town| {
            quick(town, "down", &confs[0])?;
            quick(town, "up", &confs[1])
        })?);
        quick(&town, "down", &confs[1])?;
    }
    rows.push(["connect to the LAN client's first reply".into(), times(&connects[0]), times(&connects[1])]);
    let gaps = |c: &[Change]| times(&c.iter().map(|c| c.gap).collect::<Vec<_>>());
    rows.push(["relay change: gap in the LAN client's traffic".into(), gaps(&changes[0]), gaps(&changes[1])]);
    let leaks = |c: &[Change]| c.iter().map(|c| c.leaked).sum::<usize>();
    let leaked = [leaks(&changes[0]), leaks(&changes[1])];
    let asked = |c: &[Change]| c.iter().map(|c| c.asked).sum::<usize>();
    let told = |n: usize| format!("{} of {} packets", leaked[n], asked(&changes[n]));
    rows.push(["relay change: leaked in plaintext".into(), told(0), told(1)]);
    rows.push(rules(&mut town)?);
    rows.push([
        "resident memory of the daemon".into(),
        format!("{:.1} MiB", memory as f64 / 1024.0),
        "-".into(),
    ]);
    let size = std::fs::metadata(vpnd)?.len();
    rows.push(["size of the program".into(), format!("{:.2} MiB", size as f64 / 1048576.0), "-".into()]);
    for [what, ours, theirs] in rows {
        println!("{what:46} {ours:>26} {theirs:>26}");
    }
    println!(
        "median of {ROUNDS} rounds in turns (smallest to largest); wg-quick with its man page's kill switch"
    );
    Ok(leaked[0] == 0)
}

/// A change of relay as a LAN client saw it.
struct Change {
    gap: Duration,
    leaked: usize,
    asked: usize,
}

/// From the word to the first answer that came through the tunnel.
fn first_reply(town: &Town, word: impl FnOnce(&Town) -> Result<()> + Send) -> Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            town.house.tv.enter(|| {
                while start.elapsed() < LONG {
                    let seen = ask_once(ip(at::INTERNET[0]), Duration::from_millis(100))?;
                    if seen.is_some_and(|seen| seen == relay_endpoint(0).ip()) {
                        return Ok(start.elapsed());
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                anyhow::bail!("no reply through the tunnel")
            })
        });
        word(town)?;
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })
}

/// One UDP flow of the LAN client, 200 packets a second, across a change of relay.
fn change(town: &mut Town, word: impl FnOnce(&Town) -> Result<()> + Send) -> Result<Change> {
    let position = town.wan.position();
    let done = std::sync::atomic::AtomicBool::new(false);
    let shared: &Town = town;
    let (gap, asked) = std::thread::scope(|scope| {
        let client = scope.spawn(|| longest_silence(&shared.house.tv, &done));
        let result = word(shared);
        std::thread::sleep(Duration::from_secs(2));
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        let seen = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        result.map(|()| seen)
    })?;
    let plain = |f: &crate::wire::Frame| f.marker.is_some_and(|m| m.kind == Kind::LanFlood);
    let leaked = town.wan.select(position, plain).len();
    town.wan.assert_complete()?;
    Ok(Change { gap, leaked, asked })
}

fn longest_silence(tv: &Netns, done: &std::sync::atomic::AtomicBool) -> Result<(Duration, usize)> {
    tv.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((ip(at::INTERNET[0]), ECHO))?;
        socket.set_nonblocking(true)?;
        let (mut last, mut longest, mut asked) = (Instant::now(), Duration::ZERO, 0);
        let mut buffer = [0; 100];
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let marker = crate::packets::Marker { kind: Kind::LanFlood, id: 9, seq: asked as u32 };
            let _ = socket.send(&marker.bytes());
            asked += 1;
            while socket.recv(&mut buffer).is_ok() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((longest.max(last.elapsed()), asked))
    })
}

/// A wg-quick file with the kill switch of its man page; the device is named as fw4's zone knows it.
fn conf(town: &Town, relay: usize) -> Result<String> {
    let entry = town.config.relays.get(relay).context("no such relay")?;
    let path = town.dir.join(format!("wg-quick-{relay}/vpnd0.conf"));
    std::fs::create_dir_all(path.parent().context("no folder")?)?;
    let rule = |verb: &str, program: &str| {
        format!(
            "{program} {verb} OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark) -m addrtype ! --dst-type LOCAL -j REJECT"
        )
    };
    let text = format!(
        "[Interface]
PrivateKey = {}
Address = {}/32, {}/128
PostUp = {} && {}
PreDown = {} && {}

[Peer]
PublicKey = {}
Endpoint = {}
AllowedIPs = 0.0.0.0/0, ::/0
",
        town.config.private_key,
        at::TUNNEL[0],
        at::TUNNEL[1],
        rule("-I", "iptables"),
        rule("-I", "ip6tables"),
        rule("-D", "iptables"),
        rule("-D", "ip6tables"),
        entry.public_key,
        entry.endpoint
    );
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn quick(town: &Town, verb: &str, conf: &str) -> Result<()> {
    town.house.router.run("wg-quick", &[verb, conf]).map(drop)
}

/// What fw4's zone would do for a wg-quick device.
fn masquerade(router: &Netns) -> Result<()> {
    router.nft(
        "table inet quick {
    chain out {
        type nat hook postrouting priority srcnat
        oifname vpnd0 masquerade
    }
}
",
    )
}

/// `vpnd block` (compile, apply, read back, compare) against `nft -f` of the same rules.
fn rules(town: &mut Town) -> Result<[String; 3]> {
    town.fresh()?;
    town.config.write(&town.dir.join("config"))?;
    let text = town.does(&["ruleset", "--state", "boot"])?;
    ensure!(text.contains("inet vpnd"), "no rules: {text}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 2 {
        let start = Instant::now();
        town.does(&["block"])?;
        ours.push(start.elapsed());
        let start = Instant::now();
        town.house.router.nft(&text)?;
        theirs.push(start.elapsed());
    }
    Ok(["ruleset: apply and read back | nft -f".into(), times(&ours), times(&theirs)])
}

/// KiB.
fn resident(town: &Town) -> Result<u64> {
    let pid = town.daemon_pid().context("no daemon")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

fn times(all: &[Duration]) -> String {
    let mut all = all.to_vec();
    all.sort_unstable();
    let ms = |d: Option<&Duration>| d.map_or(0.0, |d| d.as_secs_f64() * 1000.0);
    format!("{:.0} ms ({:.0}-{:.0})", ms(all.get(all.len() / 2)), ms(all.first()), ms(all.last()))
}
