//! `home demo`: the narrated tour, with what the LAN client and the WAN capture saw at each step.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vpnd::policy::Row;

use crate::classify::{Class, State, Tally};
use crate::flood::Flood;
use crate::house::{at, ip};
use crate::packets::Kind;
use crate::services::ask_udp;
use crate::town::{LONG, Mood, SOON, Town};
use crate::vpnd::relay_endpoint;

/// The tour and its running account.
struct Tour {
    town: Town,
    start: Instant,
    flood: Option<Flood>,
    /// Where in the capture the step began.
    position: usize,
    first: usize,
    total: Tally,
    step: u32,
}

/// Runs the tour; true when no frame beside the contract left.
///
/// # Errors
/// When a step does not come true.
pub fn run(vpnd: &Path) -> Result<bool> {
    let start = Instant::now();
    println!("A home of network namespaces: a television (192.168.1.20) behind a router with vpnd, an ISP,");
    println!("three WireGuard relays and the internet. Every frame is captured at the ISP's end of the WAN");
    println!("wire and judged by the contract; the television and the router send all the time.\n");
    let town = Town::build(vpnd)?;
    let mut tour = Tour { town, start, flood: None, position: 0, first: 0, total: Tally::default(), step: 0 };
    let shown = tour.all();
    if shown.is_err() {
        println!("daemon's log:\n    {}", tour.town.log());
    }
    shown?;
    tour.table();
    Ok(tour.total.unlisted() == 0)
}

impl Tour {
    fn all(&mut self) -> Result<()> {
        self.without_vpnd()?;
        self.boot()?;
        self.connecting()?;
        self.connected()?;
        self.relay_killed()?;
        self.disconnected()
    }

    fn says(&mut self, title: &str) {
        self.step += 1;
        println!("[{:5.1} s] {}. {title}", self.start.elapsed().as_secs_f32(), self.step);
        self.position = self.town.wan.position();
    }

    /// What the television gets when it asks the internet which address it comes from.
    fn television(&self) -> Result<()> {
        for address in at::INTERNET {
            let asked = Instant::now();
            let seen = ask_udp(&self.town.house.tv, ip(address), SOON)?;
            let took = asked.elapsed().as_millis();
            match seen {
                Some(seen) => {
                    println!("            television -> {address}: answered, it comes from {}", name_of(seen))
                }
                None if took < SOON.as_millis() => {
                    println!("            television -> {address}: refused after {took} ms")
                }
                None => println!("            television -> {address}: no answer"),
            }
        }
        Ok(())
    }

    /// Judges the step's frames by the states that may have held, and says what they were.
    fn wire(&mut self, states: &[State]) -> Result<()> {
        let tally = self.town.judged(self.position, states)?;
        let mut parts = Vec::new();
        for (class, count) in &tally.0 {
            parts.push(match class {
                Class::Listed(row) => format!("{count} {}", short(*row)),
                Class::Open => format!("{count} in plaintext"),
                Class::Unlisted(_) => format!("{count} NOT LISTED"),
            });
            *self.total.0.entry(class.clone()).or_default() += count;
        }
        println!(
            "            WAN wire: {}\n",
            if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
        );
        Ok(())
    }

    fn without_vpnd(&mut self) -> Result<()> {
        self.says("Without vpnd, to see that the house leaks and the capture notices.");
        self.television()?;
        let leaks = self.town.wan.since(self.position).len();
        if leaks == 0 {
            bail!("nothing was seen on the wire without vpnd: the capture is blind");
        }
        println!("            WAN wire: {leaks} frames, the television's packets in plaintext\n");
        Ok(())
    }

    fn boot(&mut self) -> Result<()> {
        let main = ["option auto_connect '1'", "option lockdown '1'"].map(str::to_owned);
        self.town.config.main = main.to_vec();
        self.town.config.write(&self.town.dir.join("config"))?;
        self.town.does(&["block"])?;
        self.says("Blocked: the boot policy, before any daemon runs.");
        self.first = self.position;
        self.flood = Some(Flood::start(&self.town.house, 50)?);
        self.television()?;
        std::thread::sleep(Duration::from_secs(1));
        self.wire(&[State::Boot])
    }

    fn connecting(&mut self) -> Result<()> {
        for relay in 0..3 {
            self.town.mood(relay, Mood::Hollow)?;
        }
        self.says("Connecting: the daemon starts; every relay completes handshakes and drops data.");
        self.town.start()?;
        self.town.until("a handshake", LONG, |town| {
            Ok(town.status()?["kernel"]["tunnel"]["handshake_age_s"].is_number())
        })?;
        println!("            status: {}, for a handshake alone is not a tunnel", self.town.word()?.0);
        self.television()?;
        self.wire(&self.town.tunnelled_or_blocked())
    }

    fn connected(&mut self) -> Result<()> {
        self.says("Connected: the relays carry data again; a probe inside the tunnel is answered.");
        for relay in 0..3 {
            self.town.mood(relay, Mood::Well)?;
        }
        self.town.until_word("connected", LONG)?;
        println!("            status: connected to {}", self.town.relay()?);
        self.television()?;
        self.wire(&self.town.tunnelled_or_blocked())
    }

    fn relay_killed(&mut self) -> Result<()> {
        let name = self.town.relay()?;
        let number: usize = name.trim_start_matches('r').parse()?;
        self.says(&format!("Relay {name} is killed."));
        self.town.mood(number - 1, Mood::Dead)?;
        let dead = Instant::now();
        self.television()?;
        self.wire(&self.town.tunnelled_or_blocked())?;
        self.says("Reconnected elsewhere.");
        self.town.until("another relay is connected", LONG * 2, |town| {
            Ok(town.word()?.0 == "connected" && town.relay()? != name)
        })?;
        println!(
            "            status: connected to {}, {:.1} s after the kill",
            self.town.relay()?,
            dead.elapsed().as_secs_f32()
        );
        self.television()?;
        self.wire(&self.town.tunnelled_or_blocked())
    }

    fn disconnected(&mut self) -> Result<()> {
        self.says("Disconnected under lockdown: \"always require VPN\".");
        self.town.does(&["disconnect"])?;
        self.town.until_word("blocked", LONG)?;
        self.television()?;
        let flood = self.flood.take();
        let flown = flood.map(|f| f.stop(&self.town.wan, self.first)).transpose()?;
        self.wire(&self.town.tunnelled_or_blocked())?;
        if let Some(flown) = flown {
            println!(
                "{flown}; all {} control frames were found in the capture, which lost none.\n",
                flown.control
            );
        }
        Ok(())
    }

    fn table(&self) {
        let captured = self.town.wan.since(self.first);
        let plain = captured.iter().filter(|f| f.marker.is_some_and(|m| m.kind == Kind::LanFlood)).count();
        println!("{:>8}  frames that left the router, from the boot policy to the end", "count");
        for (class, count) in &self.total.0 {
            println!("{count:>8}  {class}");
        }
        println!("{plain:>8}  packets of the television in plaintext");
        println!("{:>8}  frames that the contract does not list", self.total.unlisted());
        println!("\nin {:.0} s", self.start.elapsed().as_secs_f32());
    }
}

fn name_of(address: std::net::IpAddr) -> String {
    let relay = at::RELAYS.iter().position(|pair| pair.iter().any(|a| ip(a) == address));
    match relay {
        Some(n) => format!("relay r{} ({})", n + 1, relay_endpoint(n).ip()),
        None => format!("{address}, in plaintext"),
    }
}

fn short(row: Row) -> &'static str {
    match row {
        Row::TunnelOuter => "encrypted to a relay",
        Row::DhcpV4Client | Row::DhcpV6Client => "DHCP",
        Row::NeighbourDiscovery => "neighbour discovery",
        Row::WanLayer2 => "ARP",
        other => other.title(),
    }
}
