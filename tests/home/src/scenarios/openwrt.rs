//! OpenWrt's own services beside the daemon: fw4's file and dnsmasq's servers go by the state, and are
//! what they were when the router is open.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Scenario, connect, connected};
use crate::house::at;
use crate::town::{LONG, SOON, Town};

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("fw4's file and dnsmasq's servers follow the state, and are given back", follow),
        ("the memory of a daemon that has connected, and changed its relay", memory),
        ("the block at boot, beside nft -f of the same rules", block),
    ]
}

/// How often the daemon's threads gave the processor back so far: each began with a wake-up.
fn wakeups(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the daemon's threads")? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.context("no count of switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// A file's name, inode, size and time of change.
type Entry = (String, u64, u64, (i64, i64));

/// Every file in flash.
fn flash(town: &Town) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for folder in ["config", "state"] {
        for entry in fs::read_dir(town.dir.join(folder))? {
            let entry = entry?;
            let meta = entry.metadata()?;
            found.push((
                entry.path().display().to_string(),
                meta.ino(),
                meta.size(),
                (meta.ctime(), meta.ctime_nsec()),
            ));
        }
    }
    found.sort();
    Ok(found)
}

/// How often it woke up while nothing happened for so long; nothing is written meanwhile.
fn quietly(town: &Town, pid: u32, time: Duration) -> Result<u64> {
    let (before, from) = (flash(town)?, wakeups(pid)?);
    std::thread::sleep(time);
    let count = wakeups(pid)? - from;
    ensure!(flash(town)? == before, "flash was written: {before:?}, then {:?}", flash(town)?);
    Ok(count)
}

/// Nothing happens any more: the search for the path's MTU and the generation's record are done by then.
const SETTLED: Duration = Duration::from_secs(30);
/// At least so long from one wake-up to the next, on the whole.
const REST: u64 = 5;

/// Flash that wears out is written for a person's words and a tunnel's changes only, and a processor
/// with nothing to do sleeps; for `time` while blocked and once more while connected.
pub(super) fn quiet(town: &mut Town, time: Duration) -> Result<String> {
    town.config.write(&town.dir.join("config"))?;
    town.start_as_it_is()?;
    // The control: what a person says is written, and wakes it.
    let (before, pid) = (flash(town)?, town.daemon_pid().context("no daemon")?);
    let counted = wakeups(pid)?;
    town.does(&["lockdown", "on"])?;
    ensure!(flash(town)? != before, "a word of a person's was not written");
    ensure!(wakeups(pid)? > counted, "a word of a person's woke nobody up");
    std::thread::sleep(SETTLED);
    let blocked = quietly(town, pid, time)?;
    connect(town, "r1")?;
    std::thread::sleep(SETTLED);
    let connected = quietly(town, pid, time)?;
    let most = time.as_secs() / REST;
    ensure!(
        blocked.max(connected) <= most,
        "woke up {blocked} times while blocked, {connected} while connected"
    );
    Ok(format!("it woke up {blocked} times blocked, {connected} connected; wanted at most {most}"))
}

/// What is there for dnsmasq: None without vpnd's file.
fn servers(dir: &Path) -> Option<Vec<String>> {
    fs::metadata(dir.join("vpnd.conf")).ok()?;
    let text = fs::read_to_string(dir.join(".vpnd.servers")).ok()?;
    Some(text.lines().map(|line| line.trim_start_matches("server=").to_owned()).collect())
}

fn follow(town: &mut Town) -> Result<String> {
    let (config, dnsmasq) = (town.dir.join("config"), town.dir.join("dnsmasq.d"));
    town.config.write(&config)?;
    let dhcp = format!("config dnsmasq\n\toption confdir '{}'\n", dnsmasq.display());
    fs::write(config.join("dhcp"), dhcp)?;
    let firewall = config.join("firewall");
    let before = fs::read_to_string(&firewall)?;
    let closed = |text: &str| text.contains("'vpnd_closed_1'");
    let reads = || fs::read_to_string(&firewall).context("the firewall's file");
    let asks = |wanted: Option<&[&str]>| {
        let found = servers(&dnsmasq);
        let same = found.as_ref().map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
        same.as_deref() == wanted
    };
    town.does(&["setup"])?;
    let open = reads()?;
    ensure!(open.starts_with(&before) && open.contains("'vpnd_zone_1'"), "setup wrote: {open}");
    ensure!(!closed(&open), "closed while open: {open}");

    town.start_as_it_is()?;
    connect(town, "r1")?;
    town.until("fw4's file is closed", LONG, |_| Ok(closed(&reads()?)))?;
    town.until("dnsmasq asks inside the tunnel", LONG, |_| Ok(asks(Some(&at::RESOLVER))))?;
    // A setup at any time says the same.
    let said = town.does(&["setup"])?;
    ensure!(said.contains("nothing had to be changed"), "{said}");
    let refused = town.say(&["teardown"])?;
    ensure!(refused.code != 0 && refused.err.contains("armed"), "teardown: {}{}", refused.out, refused.err);

    town.does(&["lockdown", "on"])?;
    town.does(&["disconnect"])?;
    town.until("dnsmasq asks nobody", LONG, |_| Ok(asks(Some(&[]))))?;
    ensure!(closed(&reads()?), "lockdown opened fw4's file");
    // Open for a while is open in fw4, too; and closed again.
    town.does(&["disarm", "--yes", "--for", "15s"])?;
    town.until("both are given back for a while", SOON, |_| Ok(!closed(&reads()?) && asks(None)))?;
    town.until("both are taken again", LONG, |_| Ok(closed(&reads()?) && asks(Some(&[]))))?;

    town.does(&["disarm", "--yes"])?;
    town.until("both are given back", LONG, |_| Ok(!closed(&reads()?) && asks(None)))?;
    ensure!(reads()? == open, "disarmed: {}", reads()?);

    // With a dead daemon, the command does it.
    connect(town, "r1")?;
    town.until("closed again", LONG, |_| Ok(closed(&reads()?) && asks(Some(&at::RESOLVER))))?;
    town.kill()?;
    let said = town.does(&["disarm", "--yes"])?;
    ensure!(reads()? == open && asks(None), "disarm with a dead daemon: {said}{}", reads()?);
    town.does(&["teardown"])?;
    ensure!(reads()? == before, "teardown left: {}", reads()?);
    Ok("closed and asked inside while connected; the files were what they were in the end".to_owned())
}

/// `HOME_RSS_KIB`: the most that it may take, which is said of the release program.
fn memory(town: &mut Town) -> Result<String> {
    connected(town, "r1")?;
    connect(town, "r2")?;
    let [rss, most, anonymous] = crate::bench::memory(town)?;
    let limit = std::env::var("HOME_RSS_KIB").ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(limit) = limit {
        ensure!(rss <= limit, "{rss} KiB of RSS; {limit} are the most");
    }
    Ok(format!("{rss} KiB of RSS, {most} at most, {anonymous} of it not the program's file"))
}

/// Turns of each side.
const TURNS: usize = 3;

/// How long the block at boot takes, with starting the program, reading its configuration, and reading the rules
/// back; told beside the loading alone, not judged.
fn block(town: &mut Town) -> Result<String> {
    town.fresh()?;
    town.config.write(&town.dir.join("config"))?;
    let rules = town.does(&["ruleset", "--state", "boot"])?;
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    let none = |town: &Town| town.house.router.nft("delete table inet vpnd");
    for _ in 0..TURNS {
        let start = Instant::now();
        let said = town.does(&["block"])?;
        ours.push(start.elapsed());
        ensure!(said.contains("(boot) in force"), "{said}");
        none(town)?;
        let start = Instant::now();
        town.house.router.pipe("nft", &["-f", "-"], &rules)?;
        alone.push(start.elapsed());
        none(town)?;
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        times.get(TURNS / 2).copied().unwrap_or_default().as_millis()
    };
    let (ours, alone) = (median(&mut ours), median(&mut alone));
    Ok(format!("'vpnd block' {ours} ms, nft -f {alone} ms: {:.2}", ours as f64 / alone.max(1) as f64))
}
