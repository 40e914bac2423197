//! `home demo`: one story in the virtual home, told while it happens. Everything printed was
//! measured in this run.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use crate::classify::State;
use crate::demo_ask::{Answer, ask};
use crate::demo_wire::Ledger;
use crate::flood::{Flood, Flown};
use crate::town::{Mood, Town};
use crate::vpnd::relay_endpoint;

/// Packets a second from the LAN, and as many from the router.
const RATE: u32 = 50;
/// How long the tv waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long each step is watched at least.
const WATCH: Duration = Duration::from_millis(1500);

struct Story {
    town: Town,
    ledger: Ledger,
    flood: Option<Flood>,
    start: Instant,
    began: SystemTime,
    heads: Vec<&'static str>,
    flown: Vec<u32>,
    before: u32,
    /// What was not as it should be.
    wrong: Vec<String>,
}

/// True: every frame was listed and every step went as told.
///
/// # Errors
/// When the home cannot be built, or the capture proves nothing.
pub fn run(vpnd: &Path) -> Result<bool> {
    let start = Instant::now();
    say("A home in network namespaces: a tv on the LAN, a router, its ISP, three relays with the");
    say("kernel's WireGuard, and a host on the internet. Every frame is captured at the ISP's end of");
    say("the WAN wire and judged by a table written apart from vpnd's rules. All the while the tv and");
    say("the router itself send packets of every kind to the internet, the relays and the ISP.");
    let mut town = Town::build(vpnd)?;
    // This router knows no provider's API.
    town.uplink.api.clear();
    let mut story = Story {
        town,
        ledger: Ledger::new(),
        flood: None,
        start,
        began: SystemTime::now(),
        heads: Vec::new(),
        flown: Vec::new(),
        before: 0,
        wrong: Vec::new(),
    };
    story.tell()?;
    story.close()
}

impl Story {
    fn tell(&mut self) -> Result<()> {
        self.absent()?;
        self.boot()?;
        let relay = self.connecting()?;
        self.connected(relay)?;
        self.killed(relay)?;
        self.lockdown()?;
        self.disarmed()
    }

    fn absent(&mut self) -> Result<()> {
        self.head("vpnd is not running: whatever is blocked below must pass now.");
        self.step("absent", &[State::Open]);
        self.flood = Some(Flood::start(&self.town.house, RATE)?);
        let answers = self.look()?;
        self.expect(&answers, seen, "an answer");
        self.watched()?;
        self.plaintext();
        Ok(())
    }

    fn boot(&mut self) -> Result<()> {
        let text = "'vpnd block', as at boot: before any daemon, before the network is up.";
        self.head(text);
        self.ledger.may_be(&[State::Open, State::Boot]);
        self.town.config.main = vec!["option auto_connect '1'".to_owned()];
        self.town.config.write(&self.town.dir.join("config"))?;
        let said = self.town.does(&["block"])?;
        self.step("boot", &[State::Boot]);
        self.line("vpnd", said.trim());
        let answers = self.look()?;
        self.expect(&answers, refused, "a refusal");
        self.watched()
    }

    /// The relay that was connected to.
    fn connecting(&mut self) -> Result<usize> {
        let text = "The daemon starts and connects; for now no relay answers.";
        let mut states = vec![State::Boot];
        states.extend(self.town.tunnelled());
        for relay in 0..3 {
            self.town.mood(relay, Mood::Dead)?;
        }
        self.head(text);
        self.step("dialling", &states);
        self.town.start_as_it_is()?;
        self.until("connecting")?;
        let port = self.town.house.router.run("wg", &["show", "vpnd0", "listen-port"])?;
        self.town.uplink.tunnel_port = Some(port.trim().parse().context("the tunnel's port")?);
        self.line("vpnd", &format!("connecting to {}", self.relay_words()?));
        let answers = self.look()?;
        self.expect(&answers, silent, "silence");
        self.watched()?;
        for relay in 0..3 {
            self.town.mood(relay, Mood::Well)?;
        }
        let since = Instant::now();
        self.until("connected")?;
        self.line(
            "vpnd",
            &format!("connected {:.1} s after the relays came back", since.elapsed().as_secs_f32()),
        );
        self.relay()
    }

    fn connected(&mut self, relay: usize) -> Result<()> {
        let states = [State::Connected { relay: relay_endpoint(relay) }];
        self.head("A probe inside the tunnel was answered.");
        self.step("tunnel", &states);
        self.line("vpnd", &format!("connected to {}", self.relay_words()?));
        let answers = self.look()?;
        self.expect_exit(&answers, relay);
        self.watched()
    }

    fn killed(&mut self, relay: usize) -> Result<()> {
        let text = format!("r{} dies: it drops every packet and says nothing.", relay + 1);
        let from = State::Connected { relay: relay_endpoint(relay) };
        let mut states = vec![from];
        states.extend(self.town.tunnelled());
        self.head(&text);
        self.step("killed", &states);
        self.town.mood(relay, Mood::Dead)?;
        let died = Instant::now();
        let answers = self.look()?;
        self.expect(&answers, silent, "silence");
        // It may be connected elsewhere before anybody looks.
        let name = format!("r{}", relay + 1);
        self.town.until("the relay is found dead", LONG, |town| {
            let status = town.status()?;
            let status = &status["daemon"]["status"];
            let still = status["state"] == "connected" && status["relay"]["name"] == name.as_str();
            Ok(!status.is_null() && !still)
        })?;
        self.line("vpnd", &format!("found dead after {:.1} s", died.elapsed().as_secs_f32()));
        self.watched()?;

        self.head("It goes on elsewhere, by itself.");
        self.step("moved", &self.town.tunnelled());
        self.until("connected")?;
        let next = self.relay()?;
        self.ledger.settled(&[State::Connected { relay: relay_endpoint(next) }]);
        let words = self.relay_words()?;
        self.line(
            "vpnd",
            &format!("connected to {words}, {:.1} s after the relay died", died.elapsed().as_secs_f32()),
        );
        self.check(next != relay, "it went back to the dead relay");
        let answers = self.look()?;
        self.expect_exit(&answers, next);
        self.watched()
    }

    fn lockdown(&mut self) -> Result<()> {
        let relay = self.relay()?;
        let blocked = State::Blocked { api: true };
        let states = [State::Connected { relay: relay_endpoint(relay) }, blocked.clone()];
        self.head("'vpnd lockdown on', 'vpnd disconnect': no tunnel, and still closed.");
        self.ledger.may_be(&states);
        self.town.does(&["lockdown", "on"])?;
        self.town.does(&["disconnect"])?;
        self.step("lockdown", &[blocked]);
        self.line("vpnd", &self.first_line_of_status()?);
        let answers = self.look()?;
        self.expect(&answers, refused, "a refusal");
        self.watched()
    }

    fn disarmed(&mut self) -> Result<()> {
        let text = "'vpnd disarm': the owner opens the router again; what was blocked passes.";
        self.head(text);
        self.step("disarmed", &[State::Blocked { api: true }, State::Open]);
        self.town.does(&["disarm", "--yes"])?;
        self.line("vpnd", &self.first_line_of_status()?);
        let answers = self.look()?;
        self.expect(&answers, seen, "an answer");
        self.watched()?;
        self.plaintext();
        Ok(())
    }

    fn head(&self, text: &str) {
        say("");
        say(&format!("{}. {text}  [{:.1} s]", self.heads.len() + 1, self.start.elapsed().as_secs_f32()));
    }

    /// From here on frames count for the step `name`.
    fn step(&mut self, name: &'static str, states: &[State]) {
        self.count();
        self.heads.push(name);
        self.ledger.step(states);
    }

    /// What the tv sent during the step that ends here.
    fn count(&mut self) {
        let sent = self.lan();
        if !self.heads.is_empty() {
            self.flown.push(sent - self.before);
        }
        self.before = sent;
    }

    fn lan(&self) -> u32 {
        self.flood.as_ref().map_or(0, |flood| flood.flown().lan)
    }

    fn look(&self) -> Result<[Answer; 2]> {
        let answers = ask(&self.town.house.tv, PATIENCE)?;
        for (family, answer) in ["IPv4", "IPv6"].iter().zip(&answers) {
            self.line(&format!("tv, {family}"), &answer.to_string());
        }
        Ok(answers)
    }

    /// Waits a little, and tells what the capture saw during the step.
    fn watched(&mut self) -> Result<()> {
        std::thread::sleep(WATCH);
        self.ledger.judge(&self.town.wan, &self.town.uplink)?;
        let flown = self.lan() - self.before;
        self.line("WAN wire", &format!("{}; the tv sent {flown} packets meanwhile", self.ledger.told()));
        Ok(())
    }

    fn plaintext(&mut self) {
        let open = self.ledger.open_in_step();
        self.check(open > 10, "hardly a frame left while open: no positive control");
    }

    fn check(&mut self, holds: bool, wrong: &str) {
        if !holds {
            self.line("WRONG", wrong);
            self.wrong.push(format!("step {}: {wrong}", self.heads.len()));
        }
    }

    fn expect(&mut self, answers: &[Answer; 2], is: fn(&Answer) -> bool, what: &str) {
        self.check(answers.iter().all(is), &format!("the tv should have got {what}"));
    }

    fn expect_exit(&mut self, answers: &[Answer; 2], relay: usize) {
        let pair = crate::house::at::RELAYS.get(relay).copied().unwrap_or_default();
        let through = answers.iter().zip(pair).all(|(answer, exit)| match answer {
            Answer::Seen { by, .. } => by.to_string() == exit,
            _ => false,
        });
        self.check(through, &format!("the tv's way should have been through r{}", relay + 1));
    }

    fn until(&self, wanted: &str) -> Result<()> {
        self.town.until(wanted, LONG, |town| Ok(state(town)?.as_deref() == Some(wanted)))
    }

    /// Its number, from 0.
    fn relay(&self) -> Result<usize> {
        let mut name = String::new();
        self.town.until("the relay is known", LONG, |town| {
            name = town.relay()?;
            Ok(!name.is_empty())
        })?;
        let number = name.strip_prefix('r').and_then(|n| n.parse::<usize>().ok());
        number.and_then(|n| n.checked_sub(1)).with_context(|| format!("an unknown relay '{name}'"))
    }

    fn relay_words(&self) -> Result<String> {
        let relay = self.relay()?;
        Ok(format!("r{} at {}", relay + 1, relay_endpoint(relay)))
    }

    fn first_line_of_status(&self) -> Result<String> {
        let said = self.town.say(&["status"])?;
        Ok(format!("status: {}", said.out.lines().next().unwrap_or_default().trim()))
    }

    fn line(&self, who: &str, text: &str) {
        let mut first = true;
        for part in wrapped(text, 84) {
            println!("   {:<10} {part}", if first { format!("{who}:") } else { String::new() });
            first = false;
        }
    }

    /// The table, and the verdict.
    fn close(mut self) -> Result<bool> {
        self.count();
        let flood = self.flood.take().context("no flood")?;
        let flown = flood.stop(&self.town.wan, 0)?;
        self.ledger.judge(&self.town.wan, &self.town.uplink)?;
        say("");
        for line in self.ledger.table(&self.heads) {
            say(line.trim_end());
        }
        let sent: String = self.flown.iter().map(|n| format!("{n:>9}")).collect();
        say(&format!("{:<27}{sent}", "(packets that the tv sent)"));
        say("");
        self.verdict(flown);
        Ok(self.wrong.is_empty() && self.ledger.unlisted() == 0)
    }

    fn verdict(&self, flown: Flown) {
        for leak in self.ledger.leaks.iter().take(10) {
            let at = leak.at.duration_since(self.began).unwrap_or_default().as_secs_f32();
            let step = self.heads.get(leak.step).copied().unwrap_or_default();
            say(&format!("unlisted at {at:.3} s, step '{step}', while {}: {}", leak.states, leak.reading));
        }
        for wrong in &self.wrong {
            say(&format!("WRONG {wrong}"));
        }
        say(&format!(
            "{} unlisted frames; {} packets of the tv and {} of the router flew; all {} control frames",
            self.ledger.unlisted(),
            flown.lan,
            flown.router,
            flown.control
        ));
        say(&format!(
            "were captured and the capture dropped none. {:.0} s.",
            self.start.elapsed().as_secs_f32()
        ));
    }
}

/// An emulated machine is slow, and a dead relay is doubted for 20 s.
const LONG: Duration = Duration::from_secs(90);

/// The daemon's own word; None while it is too busy to give it.
fn state(town: &Town) -> Result<Option<String>> {
    Ok(town.status()?["daemon"]["status"]["state"].as_str().map(str::to_owned))
}

fn seen(answer: &Answer) -> bool {
    matches!(answer, Answer::Seen { .. })
}

fn refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { after, .. } if *after < Duration::from_secs(1))
}

fn silent(answer: &Answer) -> bool {
    matches!(answer, Answer::Silence { .. })
}

fn say(line: &str) {
    println!("{line}");
}

/// Broken at blanks into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines
            .last()
            .is_some_and(|l| !l.is_empty() && l.chars().count() + 1 + word.chars().count() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_lines_are_broken_at_blanks() {
        assert_eq!(super::wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(super::wrapped("", 7), [""]);
        assert_eq!(super::wrapped("averylongword x", 4), ["averylongword", "x"]);
    }
}
