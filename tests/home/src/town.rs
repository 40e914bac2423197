//! The home with everything real: WireGuard relays, services on the internet, and the daemon
//! under test in the router.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::classify::{Class, State, Tally, Uplink, classify};
use crate::config::{Config, RelayEntry, paper_key};
use crate::house::{House, at, ip};
use crate::root::Root;
use crate::services::echo;
use crate::suite::Late;
use crate::vpnd::{relay_endpoint, uplink};
use crate::wire::{Capture, Take};

/// How a relay behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Answers nothing.
    Dead,
    /// Completes handshakes, and drops whatever comes through the tunnel.
    Hollow,
}

pub struct Town {
    pub house: House,
    pub wan: Capture,
    pub uplink: Uplink,
    pub config: Config,
    pub dir: PathBuf,
    vpnd: PathBuf,
    /// Words before the daemon's own, e.g. a tracer that makes its system calls fail.
    pub wrapper: Vec<String>,
    /// Files of the router's own, in which verbs and daemon are an installed package's.
    pub root: Option<Root>,
    wireguard: bool,
    daemon: Option<Child>,
    starts: u32,
}

/// What the verb said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<&Output> for Said {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// An emulated machine is slow: long enough for anything that happens at all.
pub const LONG: Duration = Duration::from_secs(60);
/// Long enough for an answer that comes at once.
pub const SOON: Duration = Duration::from_secs(3);

impl Town {
    /// Builds house, relays and services; no daemon yet.
    ///
    /// # Errors
    /// Without WireGuard in the kernel, or when anything is refused.
    pub fn build(vpnd: &Path) -> Result<Self> {
        Self::build_with(vpnd, true)
    }

    /// The same with relays that are addresses only: the router never gets further than blocked.
    ///
    /// # Errors
    /// When anything is refused.
    pub fn on_paper(vpnd: &Path) -> Result<Self> {
        Self::build_with(vpnd, false)
    }

    fn build_with(vpnd: &Path, wireguard: bool) -> Result<Self> {
        let house = House::build()?;
        house.fw4()?;
        let dir = std::env::temp_dir().join(format!("town-{}-{}", std::process::id(), fastrand::u32(..)));
        fs::create_dir_all(&dir)?;
        let (private_key, public_key) =
            if wireguard { key_pair(&house)? } else { (paper_key(1), paper_key(2)) };
        let mut relays = Vec::new();
        for n in 0..house.relays.len() {
            let (name, endpoint) = (format!("r{}", n + 1), relay_endpoint(n).to_string());
            relays.push(RelayEntry {
                name,
                endpoint,
                public_key: if wireguard {
                    raise_relay(&house, n, &public_key, &dir)?
                } else {
                    paper_key(n as u8 + 3)
                },
            });
        }
        for address in at::INTERNET {
            echo(&house.internet, ip(address), crate::services::ECHO)?;
        }
        let config = Config { private_key, relays, main: Vec::new() };
        let mut uplink = uplink();
        uplink.tunnel_port = None;
        uplink.allow_private.clear();
        uplink.allow_multicast.clear();
        uplink.services.clear();
        uplink.lease_server = None;
        let wan = Capture::start(&house.isp, "cpe", Take::Arriving)?;
        Ok(Self {
            house,
            wan,
            uplink,
            config,
            dir,
            vpnd: vpnd.to_owned(),
            wrapper: Vec::new(),
            root: None,
            wireguard,
            daemon: None,
            starts: 0,
        })
    }

    /// As after the first installation: no daemon, no state, no rules, relays well.
    ///
    /// # Errors
    /// When something cannot be undone.
    pub fn fresh(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            let _ = self.say(&["disarm", "--yes"])?;
        }
        self.kill()?;
        self.root = None;
        for name in ["run", "state", "config"] {
            let _ = fs::remove_dir_all(self.dir.join(name));
        }
        self.forget()?;
        // Whatever a scenario left: -force goes on where a line fails.
        let _ = self.house.router.output("ip", &["-force", "-batch", "-"], LEFTOVERS)?;
        self.house.fw4()?;
        self.house.default_route()?;
        for n in 0..self.house.relays.len() {
            self.mood(n, Mood::Well)?;
        }
        self.config.main.clear();
        self.wrapper.clear();
        self.wan.clear();
        Ok(())
    }

    /// The router's kernel without what was put into it: tables, tunnel, ip rules, flows.
    ///
    /// # Errors
    /// When something cannot be undone.
    pub fn forget(&self) -> Result<()> {
        let router = &self.house.router;
        router.nft("flush ruleset")?;
        let _ = router.output("ip", &["-force", "-batch", "-"], TUNNEL)?;
        for family in ["-4", "-6"] {
            router.run("ip", &[family, "rule", "flush"])?;
            for (priority, table) in [("32766", "main"), ("32767", "default")] {
                let _ = router.run("ip", &[family, "rule", "add", "pref", priority, "lookup", table]);
            }
        }
        crate::raw::forget_flows(router)
    }

    /// Writes the configuration and starts the daemon.
    ///
    /// # Errors
    /// When it does not answer in time; with its log.
    pub fn start(&mut self) -> Result<()> {
        self.config.write(&self.dir.join("config"))?;
        self.start_as_it_is()
    }

    /// Starts the daemon with the configuration as it lies there.
    ///
    /// # Errors
    /// As [`Town::start`].
    pub fn start_as_it_is(&mut self) -> Result<()> {
        self.launch()?;
        self.until("the daemon answers", LONG, |town| Ok(!town.status()?["daemon"]["status"].is_null()))
    }

    /// Starts the daemon and does not wait for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        self.starts += 1;
        let log = fs::File::create(self.dir.join(format!("log-{}", self.starts)))?;
        let vpnd = self.vpnd.display().to_string();
        let words: Vec<String> =
            self.wrapper.iter().cloned().chain([vpnd, "daemon".to_owned()]).chain(self.dirs()).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(self.house.router.spawn(&mut command)?);
        Ok(())
    }

    /// Whether the relays are more than addresses.
    #[must_use]
    pub fn has_wireguard(&self) -> bool {
        self.wireguard
    }

    /// Waits for the daemon to end by itself.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let daemon = self.daemon.as_mut().context("no daemon")?;
            if let Some(status) = daemon.try_wait()? {
                self.daemon = None;
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!(Late(format!("waited {limit:?} in vain for the daemon's end; {}", self.log())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the router is still to be open (`disarm --for`), by the record in its run folder.
    #[must_use]
    pub fn pause_left(&self) -> bool {
        vpnd::state::RunDir::new(self.dir.join("run")).pause_left().is_some()
    }

    /// The end of the daemon's log, for a failed test.
    #[must_use]
    pub fn log(&self) -> String {
        let text = match &self.root {
            Some(root) => root.read(&self.house.router, "/var/log/vpnd"),
            None => fs::read_to_string(self.dir.join(format!("log-{}", self.starts))).map_err(Into::into),
        };
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{}{}", lines[lines.len().saturating_sub(30)..].join("\n    "), self.whereabouts())
    }

    /// What each of the daemon's threads waits for in the kernel.
    fn whereabouts(&self) -> String {
        let Some(daemon) = &self.daemon else { return String::new() };
        let tasks = PathBuf::from(format!("/proc/{}/task", daemon.id()));
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let lines = fs::read_dir(&tasks).into_iter().flatten().flatten().map(|task| {
            let of = |file: &str| read(task.path().join(file));
            // A tracer that hangs stops its tracee.
            let status = of("status");
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t"));
            let tracer = tracer.filter(|pid| *pid != "0").map_or_else(String::new, |pid| {
                let of = |file: &str| read(PathBuf::from(format!("/proc/{pid}/{file}")));
                format!(", traced by {}: {} {}", of("comm"), of("wchan"), of("syscall"))
            });
            format!("\n    thread {}: {} {}{tracer}", of("comm"), of("wchan"), of("syscall"))
        });
        lines.collect()
    }

    fn dirs(&self) -> Vec<String> {
        ["config", "run", "state"]
            .iter()
            .flat_map(|name| [format!("--{name}-dir"), self.dir.join(name).display().to_string()])
            .collect()
    }

    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = self.daemon.as_ref().context("no daemon")?.id();
        // SAFETY: plain call; the child is ours and not yet waited for.
        ensure!(unsafe { libc::kill(pid as i32, signal) } == 0, "signal {signal} to {pid}");
        Ok(())
    }

    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// Whether the daemon that was started is no more.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(match &mut self.daemon {
            Some(daemon) => daemon.try_wait()?.is_some(),
            None => true,
        })
    }

    /// SIGKILL, if there is a daemon.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            daemon.wait()?;
        }
        Ok(())
    }

    /// Runs a verb.
    ///
    /// # Errors
    /// When the program cannot be run at all.
    pub fn say(&self, words: &[&str]) -> Result<Said> {
        let router = &self.house.router;
        if let Some(root) = &self.root {
            let words: Vec<&str> = ["/usr/sbin/vpnd"].iter().chain(words).copied().collect();
            return root.say(router, &words);
        }
        let dirs = self.dirs();
        let args: Vec<&str> = words.iter().copied().chain(dirs.iter().map(String::as_str)).collect();
        let program = self.vpnd.display().to_string();
        Ok(Said::from(&router.output(&program, &args, "")?))
    }

    /// Runs a verb that must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub fn does(&self, words: &[&str]) -> Result<String> {
        let said = self.say(words)?;
        ensure!(said.code == 0, "vpnd {}: exit {}: {}{}", words.join(" "), said.code, said.out, said.err);
        Ok(said.out)
    }

    /// `vpnd connect RELAY` ("" for any), until it is verified.
    ///
    /// # Errors
    /// When it is refused, or is not connected in time.
    pub fn connect(&self, relay: &str) -> Result<()> {
        let words: Vec<&str> =
            ["connect", relay, "--wait", "60"].into_iter().filter(|w| !w.is_empty()).collect();
        let said = self.say(&words)?;
        // On a machine with more to do than it can, the daemon may take longer to reply than the
        // command waits; it has the word all the same.
        if said.code != 0 && !said.err.contains("did not reply") {
            let told = format!("vpnd {}: exit {}: {}{}", words.join(" "), said.code, said.out, said.err);
            // A relay that did not answer in time; anything else it says is no matter of time.
            if ["not connected yet", "tries again by itself"].iter().any(|late| said.err.contains(late)) {
                bail!(Late(told));
            }
            bail!(told);
        }
        self.until("the relay asked for is connected", LONG, |town| {
            Ok(town.word()?.0 == "connected" && (relay.is_empty() || town.relay()? == relay))
        })
    }

    /// `vpnd status --json`.
    ///
    /// # Errors
    /// When it prints no JSON.
    pub fn status(&self) -> Result<Value> {
        let said = self.say(&["status", "--json"])?;
        serde_json::from_str(&said.out)
            .with_context(|| format!("status: exit {}: {}{}", said.code, said.out, said.err))
    }

    /// The verdict's word and exit code.
    ///
    /// # Errors
    /// As [`Town::status`].
    pub fn word(&self) -> Result<(String, i32)> {
        let said = self.say(&["status", "--json"])?;
        let value: Value = serde_json::from_str(&said.out).context("status --json")?;
        Ok((value["state"].as_str().unwrap_or_default().to_owned(), said.code))
    }

    /// Waits until the verdict is `word`.
    ///
    /// # Errors
    /// When it does not become so; with the last status and the daemon's log.
    pub fn until_word(&self, word: &str, limit: Duration) -> Result<()> {
        self.until(&format!("status is {word}"), limit, |town| Ok(town.word()?.0 == word))
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// When it does not come true in time; with the last status and the daemon's log.
    pub fn until(
        &self,
        what: &str,
        limit: Duration,
        mut holds: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            if holds(self)? {
                return Ok(());
            }
            if Instant::now() >= end {
                let said = self.say(&["status"])?;
                bail!(Late(format!(
                    "waited {limit:?} in vain until {what}; status: {}{}\n    log: {}",
                    said.out,
                    said.err,
                    self.log()
                )));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The name of the relay that the daemon uses or tries.
    ///
    /// # Errors
    /// As [`Town::status`].
    pub fn relay(&self) -> Result<String> {
        Ok(self.status()?["daemon"]["status"]["relay"]["name"].as_str().unwrap_or_default().to_owned())
    }

    /// # Errors
    /// When nft refuses.
    pub fn mood(&self, relay: usize, mood: Mood) -> Result<()> {
        let rules = match mood {
            Mood::Well => "",
            Mood::Dead => "udp dport 51820 drop",
            Mood::Hollow => "iifname wg0 drop",
        };
        let chain =
            |hook: &str| format!("chain {hook} {{\n type filter hook {hook} priority 0;\n {rules}\n }}\n");
        let ns = self.house.relays.get(relay).context("no such relay")?;
        ns.nft(&format!(
            "table inet mood\ndelete table inet mood\ntable inet mood {{\n{}{}}}\n",
            chain("input"),
            chain("forward")
        ))
    }

    /// Every frame since `position` is listed in one of `states`; how many of each class.
    ///
    /// # Errors
    /// With the unlisted frames, their time after `since`, and the states.
    pub fn judged(&self, position: usize, states: &[State]) -> Result<Tally> {
        self.wan.assert_complete()?;
        let frames = self.wan.since(position);
        let start = frames.first().map(|f| f.at);
        let mut tally = Tally::default();
        let mut leaks = Vec::new();
        for frame in &frames {
            let class = classify(&frame.bytes, frame.vlan, states, &self.uplink);
            if let Class::Unlisted(reading) = &class {
                let after = start.and_then(|s| frame.at.duration_since(s).ok()).unwrap_or_default();
                leaks.push(format!("+{:.3} s {reading}", after.as_secs_f32()));
            }
            tally.add(class);
        }
        let held: Vec<String> = states.iter().map(ToString::to_string).collect();
        if !leaks.is_empty() {
            leaks.truncate(8);
            bail!(
                "{} unlisted frames while {}:\n    {}",
                tally.unlisted(),
                held.join(" or "),
                leaks.join("\n    ")
            );
        }
        Ok(tally)
    }

    /// The states that a connected or connecting router goes through.
    #[must_use]
    pub fn tunnelled(&self) -> Vec<State> {
        vec![State::Connecting { relays: (0..3).map(relay_endpoint).collect() }]
    }
}

impl Town {
    /// Every state of a router that enforces, whatever relay it is at.
    #[must_use]
    pub fn tunnelled_or_blocked(&self) -> Vec<State> {
        let mut states = self.tunnelled();
        states.push(State::Blocked { api: false });
        states
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const TUNNEL: &str = "\
link del vpnd0
route flush table 7651
route flush table 7652
";

const LEFTOVERS: &str = "\
route del 198.51.100.0/24 via 203.0.113.1
route del 0.0.0.0/1 via 203.0.113.1
route del 128.0.0.0/1 via 203.0.113.1
route del 2001:db8:100::/64 via 2001:db8:203::1
route del ::/1 via 2001:db8:203::1
link set wan up
addr replace 203.0.113.2/24 dev wan
addr replace 2001:db8:203::2/64 dev wan nodad
";

/// A WireGuard key pair, in base64.
fn key_pair(house: &House) -> Result<(String, String)> {
    let private = house.isp.run("wg", &["genkey"])?.trim().to_owned();
    let public = house.isp.pipe("wg", &["pubkey"], &private)?.trim().to_owned();
    Ok((private, public))
}

fn raise_relay(house: &House, n: usize, client: &str, dir: &Path) -> Result<String> {
    let ns = &house.relays[n];
    let (private, public) = key_pair(house)?;
    let file = dir.join(format!("relay-{n}"));
    fs::write(&file, private)?;
    let [v4, v6] = at::TUNNEL;
    ns.ip("link add wg0 type wireguard")?;
    let port = at::RELAY_PORT.to_string();
    let allowed = format!("{v4}/32,{v6}/128");
    let path = file.display().to_string();
    let peer = ["peer", client, "allowed-ips", &allowed];
    let args = [&["set", "wg0", "listen-port", &port, "private-key", &path][..], &peer].concat();
    ns.run("wg", &args)?;
    ns.ip(&format!(
        "addr add {r4}/32 dev wg0
         addr add {r6}/128 dev wg0 nodad
         link set wg0 up mtu 1420
         route add {v4}/32 dev wg0
         route add {v6}/128 dev wg0",
        r4 = at::RESOLVER[0],
        r6 = at::RESOLVER[1],
    ))?;
    ns.nft(
        "table inet relay {
    chain out {
        type nat hook postrouting priority srcnat
        iifname wg0 oifname eth0 masquerade
    }
}
",
    )?;
    for address in at::RESOLVER {
        echo(ns, ip(address), 53)?;
        echo(ns, ip(address), crate::services::ECHO)?;
    }
    Ok(public)
}

/// Whether this kernel has WireGuard.
#[must_use]
pub fn has_wireguard() -> bool {
    crate::ns::Netns::new("try").and_then(|ns| ns.ip("link add wg0 type wireguard")).is_ok()
}
