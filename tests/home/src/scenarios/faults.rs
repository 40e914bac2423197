//! The fault matrix: what goes wrong around vpnd (contract, sections 4 and 6) in each state that
//! enforces, under a flood of LAN and router. Nothing unlisted leaves, and everything is back
//! without a word from a person.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Way, connect, expect};
use crate::classify::State;
use crate::flood::Flood;
use crate::town::{LONG, Mood, Town};
use crate::wire::{Capture, Take};

/// Where the router is when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// No relay answers.
    Connecting,
    Connected,
    /// Disconnected, with lockdown.
    Blocked,
}

impl Stance {
    const ALL: [Self; 3] = [Self::Connecting, Self::Connected, Self::Blocked];

    fn word(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Blocked => "blocked",
        }
    }

    fn enter(self, town: &mut Town) -> Result<()> {
        if self == Self::Connecting {
            for relay in 0..3 {
                town.mood(relay, Mood::Dead)?;
            }
        }
        town.start()?;
        match self {
            Self::Connected => connect(town, "r1")?,
            Self::Connecting => {
                town.does(&["connect", "--no-wait"])?;
            }
            Self::Blocked => {
                town.does(&["lockdown", "on"])?;
            }
        }
        town.until("it is where the fault finds it", LONG, |town| self.holds(town))
    }

    /// Between two attempts a router that connects is blocked.
    fn holds(self, town: &Town) -> Result<bool> {
        let (word, _) = town.word()?;
        Ok(word == self.word() || (self == Self::Connecting && word == "blocked"))
    }
}

/// Something that goes wrong.
struct Fault {
    name: &'static str,
    strike: fn(&mut Town) -> Result<()>,
    /// What others do by themselves afterwards: netifd sets its routes, procd starts the daemon.
    after: fn(&mut Town) -> Result<()>,
    wan: Wan,
}

/// What becomes of the wire meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wan {
    Stays,
    /// The flood's control frames cannot leave.
    Cut,
    /// The same, and the capture's device goes.
    Remade,
}

const fn fault(name: &'static str, strike: fn(&mut Town) -> Result<()>) -> Fault {
    Fault { name, strike, after: |_| Ok(()), wan: Wan::Stays }
}

impl Fault {
    /// It happens, and the others do what they do by themselves.
    fn happen(&self, town: &mut Town) -> Result<()> {
        let since = Instant::now();
        (self.strike)(town)?;
        std::thread::sleep(PAUSE.saturating_sub(since.elapsed()));
        (self.after)(town)
    }

    const fn then(self, after: fn(&mut Town) -> Result<()>) -> Self {
        Self { after, ..self }
    }

    const fn wan(self, wan: Wan) -> Self {
        Self { wan, ..self }
    }
}

static FAULTS: [Fault; 22] = [
    fault("nft flush ruleset", |t| nft(t, "flush ruleset")).then(fw4),
    fault("our table is deleted", |t| nft(t, "delete table inet vpnd")),
    fault("our chains are emptied", |t| {
        nft(t, "flush chain inet vpnd output\nflush chain inet vpnd forward\nflush chain inet vpnd input\n")
    })
    // What is left of them drops everything, control frames as well.
    .wan(Wan::Cut),
    fault("somebody accepts all in our chains", |t| {
        nft(t, "insert rule inet vpnd output accept\ninsert rule inet vpnd forward accept\n")
    }),
    fault("our table is put to sleep", |t| nft(t, "add table inet vpnd { flags dormant; }")),
    fault("fw4 reload", |t| t.house.fw4()),
    fault("fw4 restart", |t| nft(t, "delete table inet fw4")).then(fw4),
    fault("fw4 stop", stop_firewall).then(fw4),
    fault("netifd flushes the ip rules", flush_rules),
    fault("the tunnel's routes are flushed", |t| {
        t.house.router.output(
            "ip",
            &["-force", "-batch", "-"],
            "route flush table 7651\nroute flush table 7652\n",
        )?;
        Ok(())
    }),
    fault("the tunnel's device is deleted", |t| tunnel(t, "link del vpnd0")),
    fault("the tunnel's device is set down", |t| tunnel(t, "link set vpnd0 down")),
    fault("the WAN's cable is pulled", |t| t.house.router.ip("link set wan down"))
        .then(plugged)
        .wan(Wan::Cut),
    fault("the WAN's device is made anew", |t| t.house.router.ip("link del wan"))
        .then(remade)
        .wan(Wan::Remade),
    fault("the WAN's device is renamed", |t| {
        t.house.router.ip("link set wan down\nlink set wan name uplink\nlink set uplink up")
    })
    .then(renamed)
    .wan(Wan::Cut),
    fault("a new device with a default route", tethered).then(untethered),
    fault("DHCP brings routes (option 121)", |t| {
        t.house.router.ip("route replace 198.51.100.0/24 via 203.0.113.1 dev wan onlink
             route replace 0.0.0.0/1 via 203.0.113.1 dev wan onlink
             route replace 128.0.0.0/1 via 203.0.113.1 dev wan onlink
             route replace ::/1 via 2001:db8:203::1 dev wan onlink")
    }),
    fault("the daemon is killed", kill).then(Town::start_as_it_is),
    fault("the daemon is stopped for some seconds", |t| t.signal(libc::SIGSTOP)).then(continued),
    fault("conntrack is full", |t| conntrack_max(t, "10"))
        .then(|t| conntrack_max(t, "65536"))
        // The router's own packets find no place, control frames among them.
        .wan(Wan::Cut),
    fault("the configuration is corrupted", |t| reloaded(t, Some("config vpnd 'main"))).then(configured),
    fault("the configuration is removed", |t| reloaded(t, None)).then(configured),
];

/// Any of those that leave the wire as it is; its name. The next may come before this one is mended.
pub(crate) fn any(town: &mut Town, random: &mut fastrand::Rng) -> (&'static str, Result<()>) {
    let harmless: Vec<&Fault> = FAULTS.iter().filter(|fault| fault.wan == Wan::Stays).collect();
    let fault = harmless[random.usize(..harmless.len())];
    (fault.name, fault.happen(town))
}

/// The daemon is killed, and another one started. A kernel that cannot keep the guard (docs/faults.md)
/// has only the rules then: there, they are put back first if a fault has taken them away.
pub(crate) fn killed(town: &mut Town) -> Result<()> {
    kill(town)?;
    town.start_as_it_is()
}

fn kill(town: &mut Town) -> Result<()> {
    if !super::layers::persists()? {
        town.until("our rules are in force", LONG, in_force)?;
    }
    town.kill()
}

/// A fault in a state: name and work.
pub(crate) struct Cell {
    fault: &'static Fault,
    stance: Stance,
}

/// All cells (`HOME_ALL` set), or those that the seed chooses.
pub(crate) fn cells(seed: u64) -> Vec<Cell> {
    /// Of this many, one.
    const SHARDS: usize = 8;
    let all = FAULTS.iter().flat_map(|fault| Stance::ALL.map(|stance| Cell { fault, stance }));
    if std::env::var_os("HOME_ALL").is_some() {
        return all.collect();
    }
    all.skip((seed % SHARDS as u64) as usize).step_by(SHARDS).collect()
}

impl Cell {
    pub(crate) fn name(&self) -> String {
        format!("fault: {}, while {}", self.fault.name, self.stance.word())
    }

    pub(crate) fn run(&self, town: &mut Town) -> Result<String> {
        self.stance.enter(town)?;
        let states = town.tunnelled_or_blocked();
        let position = town.wan.position();
        let flood = Flood::start(&town.house, 100)?;
        let result = self.strike(town);
        let flown = if self.fault.wan == Wan::Stays {
            flood.stop(&town.wan, position)?
        } else {
            let flown = flood.flown();
            drop(flood);
            flown
        };
        // Whatever else failed: what left is the worse news.
        let position = if self.fault.wan == Wan::Remade { 0 } else { position };
        town.judged(position, &states)?;
        let took = result?;
        self.works(town, position, &states)?;
        Ok(format!("rules there after {}; {flown}, none unlisted", took))
    }

    /// Until all is as before.
    fn strike(&self, town: &mut Town) -> Result<String> {
        let since = Instant::now();
        (self.fault.strike)(town)?;
        let struck = since.elapsed();
        std::thread::sleep(PAUSE.saturating_sub(struck));
        town.until("our rules are in force", LONG, in_force)?;
        let back = since.elapsed();
        (self.fault.after)(town)?;
        town.until("it is where it was", LONG * 2, |town| self.stance.holds(town))?;
        Ok(format!("{:.1} s, all as before after {:.1} s", back.as_secs_f32(), since.elapsed().as_secs_f32()))
    }

    /// And it still does what it is for.
    fn works(&self, town: &Town, position: usize, states: &[State]) -> Result<()> {
        if self.stance == Stance::Connected {
            let number =
                |town: &Town| -> Result<usize> { Ok(town.relay()?.trim_start_matches('r').parse()?) };
            town.until("the LAN is through the tunnel", LONG, |town| {
                Ok(number(town).is_ok_and(|n| expect(&town.house.tv, Way::Relay(n - 1)).is_ok()))
            })?;
        } else {
            expect(&town.house.tv, Way::Nowhere)?;
        }
        town.judged(position, states).map(drop)
    }
}

/// A fault lasts at least as long: nobody mends it before it is seen.
const PAUSE: Duration = Duration::from_millis(500);

/// Our table is there, awake, and the zones decide first.
fn in_force(town: &Town) -> Result<bool> {
    let listed = town.house.router.output("nft", &["list", "table", "inet", "vpnd"], "")?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let zones_first = |chain: &str| {
        let rules = text.split_once(&format!("chain {chain} {{")).map_or("", |(_, rest)| rest);
        rules.lines().nth(2).is_some_and(|first| first.contains(" vmap "))
    };
    Ok(listed.status.success()
        && !text.contains("dormant")
        && ["output", "forward"].into_iter().all(zones_first))
}

fn nft(town: &Town, rules: &str) -> Result<()> {
    town.house.router.nft(rules)
}

fn fw4(town: &mut Town) -> Result<()> {
    town.house.fw4()
}

/// What `service firewall stop` comes to: each table of every family, one by one.
fn stop_firewall(town: &mut Town) -> Result<()> {
    for line in town.house.router.run("nft", &["list", "tables"])?.lines() {
        // Somebody else's may be gone by now, or belong to a process.
        let _ = town.house.router.nft(&format!("delete {line}"));
    }
    Ok(())
}

/// As netifd does when it starts.
fn flush_rules(town: &mut Town) -> Result<()> {
    let router = &town.house.router;
    for family in ["-4", "-6"] {
        router.run("ip", &[family, "rule", "flush"])?;
        for (priority, table) in [("32766", "main"), ("32767", "default")] {
            let _ = router.run("ip", &[family, "rule", "add", "pref", priority, "lookup", table]);
        }
    }
    Ok(())
}

/// Blocked, there may be none.
fn tunnel(town: &Town, command: &str) -> Result<()> {
    town.house.router.output("ip", &["-force", "-batch", "-"], &format!("{command}\n")).map(drop)
}

fn plugged(town: &mut Town) -> Result<()> {
    town.house.router.ip("link set wan up
         addr replace 2001:db8:203::2/64 dev wan nodad")?;
    town.house.default_route()
}

fn remade(town: &mut Town) -> Result<()> {
    town.wan.assert_complete()?;
    town.house.wan()?;
    town.wan = Capture::start(&town.house.isp, "cpe", Take::Arriving)?;
    Ok(())
}

fn renamed(town: &mut Town) -> Result<()> {
    town.house.router.ip("link set uplink down\nlink set uplink name wan")?;
    plugged(town)
}

/// A telephone, say, whose other end answers everything.
fn tethered(town: &mut Town) -> Result<()> {
    town.house.router.ip(&format!(
        "link add usb0 type veth peer name usb netns {}
         addr add 198.19.0.2/24 dev usb0
         link set usb0 up
         route add default via 198.19.0.1 dev usb0 onlink metric 1",
        town.house.internet.path()
    ))?;
    town.house.internet.ip("link set usb up")?;
    let other = Capture::start(&town.house.internet, "usb", Take::Arriving)?;
    std::thread::sleep(Duration::from_secs(2));
    other.assert_complete()?;
    let marked = other.select(0, |frame| frame.marker.is_some());
    ensure!(marked.is_empty(), "{} packets of the flood left by the new device", marked.len());
    Ok(())
}

fn untethered(town: &mut Town) -> Result<()> {
    town.house.router.ip("link del usb0")
}

/// Linux 6.1 has one number for all namespaces, which only the first may change: a guest's.
fn conntrack_max(town: &Town, entries: &str) -> Result<()> {
    let own = town.house.router.sysctl("net/netfilter/nf_conntrack_max", entries);
    own.or_else(|_| Ok(std::fs::write("/proc/sys/net/netfilter/nf_conntrack_max", entries)?))
}

fn continued(town: &mut Town) -> Result<()> {
    std::thread::sleep(Duration::from_secs(5));
    town.signal(libc::SIGCONT)
}

fn reloaded(town: &mut Town, text: Option<&str>) -> Result<()> {
    let file = town.dir.join("config/vpnd");
    match text {
        Some(text) => std::fs::write(file, text)?,
        None => std::fs::remove_file(file)?,
    }
    let _ = town.say(&["reload"])?;
    town.until_word("blocked", LONG)
}

fn configured(town: &mut Town) -> Result<()> {
    town.config.write(&town.dir.join("config"))?;
    let _ = town.say(&["reload"])?;
    Ok(())
}
