//! SIGKILL before and after each effect of each transition: nothing leaks, and the next daemon gets
//! to the wanted state by itself.
//!
//! The points are those that the daemon passes (`VPND_FAULT`, src/daemon/fault.rs): a transition is
//! run once to learn them, then once for each. Between the end of one effect and the beginning of
//! the next nothing happens, so where not all are tried the seed chooses one of the two, and which of all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vpnd::control::{Request, client};
use vpnd::machine::KILL_POINTS;

use crate::flood::Flood;
use crate::packets::Kind;
use crate::suite::Test;
use crate::town::{LONG, Town};

/// What the router is before and after, for whoever judges the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Open throughout.
    Open,
    /// From closed to closed: not one frame may leave meanwhile.
    Stays,
    /// From closed to open: none before the open policy.
    Opens,
    /// From open to closed: none after the policy.
    Closes,
}

pub(crate) struct Transition {
    name: &'static str,
    way: Way,
    before: fn(&mut Town) -> Result<()>,
    act: fn(&mut Town) -> Result<()>,
    /// The verdict's word after it.
    after: &'static str,
}

/// Those that need no tunnel: `connect` fails where the kernel has no WireGuard.
static NATIVE: [Transition; 10] = [
    transition("a start with nothing stored", Way::Open, |_| Ok(()), Town::launch, "open"),
    transition("a start under lockdown", Way::Stays, |town| stored(town, false), Town::launch, "blocked"),
    transition("a start that wants a tunnel", Way::Stays, |town| stored(town, true), Town::launch, "blocked"),
    transition("lockdown on", Way::Closes, open, |town| say(town, &["lockdown", "on"]), "blocked"),
    transition("connect in vain", Way::Closes, open, |town| say(town, &["connect", "--no-wait"]), "blocked"),
    transition("reload", Way::Stays, other_settings, |town| say(town, &["reload"]), "blocked"),
    transition("lockdown off", Way::Opens, locked, |town| say(town, &["lockdown", "off"]), "open"),
    transition("disarm", Way::Opens, locked, |town| ask(town, &Request::Disarm), "open"),
    transition(
        "disarm --for",
        Way::Opens,
        locked,
        |town| ask(town, &Request::Pause { seconds: 3600 }),
        "open",
    ),
    transition("the end of disarm --for", Way::Closes, paused, |_| Ok(()), "blocked"),
];

static GUEST: [Transition; 6] = [
    transition("connect", Way::Stays, locked, |town| say(town, &["connect", "r1"]), "connected"),
    transition("a change of relay", Way::Stays, tunnel, |town| say(town, &["connect", "r2"]), "connected"),
    // The session with it is given up: the peer is removed and set again.
    transition(
        "a reconnect to the same relay",
        Way::Stays,
        tunnel,
        |town| say(town, &["reconnect"]),
        "connected",
    ),
    transition("a start with a tunnel", Way::Stays, left_tunnel, Town::launch, "connected"),
    transition("disconnect under lockdown", Way::Stays, tunnel, |town| say(town, &["disconnect"]), "blocked"),
    transition("disconnect", Way::Opens, open_tunnel, |town| say(town, &["disconnect"]), "open"),
];

/// What only a tunnel makes happen.
const NEEDS_TUNNEL: [&str; 2] = ["SetPeer", "StartProbe"];

const fn transition(
    name: &'static str,
    way: Way,
    before: fn(&mut Town) -> Result<()>,
    act: fn(&mut Town) -> Result<()>,
    after: &'static str,
) -> Transition {
    Transition { name, way, before, act, after }
}

fn say(town: &mut Town, words: &[&str]) -> Result<()> {
    // Whoever is killed does not answer.
    town.say(words).map(drop)
}

/// The command would do it itself where the daemon died.
fn ask(town: &mut Town, request: &Request) -> Result<()> {
    let _ = client::call(&town.dir.join("run"), request, LONG);
    Ok(())
}

fn stored(town: &mut Town, connect: bool) -> Result<()> {
    town.config.write(&town.dir.join("config"))?;
    let state = town.dir.join("state");
    fs::create_dir_all(&state)?;
    let text = format!(r#"{{"connect":{connect},"relay":null,"lockdown":null,"latched":true}}"#);
    fs::write(state.join("wanted.json"), text)?;
    fs::write(state.join("armed"), "")?;
    town.does(&["block", "--if-armed"]).map(drop)
}

fn open(town: &mut Town) -> Result<()> {
    town.start()?;
    town.until_word("open", LONG)
}

fn locked(town: &mut Town) -> Result<()> {
    town.start()?;
    let _ = town.say(&["lockdown", "on"])?;
    town.until_word("blocked", LONG)
}

fn other_settings(town: &mut Town) -> Result<()> {
    locked(town)?;
    town.config.main.push("list resolver '10.64.0.7'".to_owned());
    town.config.main.push("list allow_wan_service 'tcp 2222 198.51.100.0/24'".to_owned());
    town.config.write(&town.dir.join("config"))
}

fn paused(town: &mut Town) -> Result<()> {
    locked(town)?;
    town.does(&["disarm", "--yes", "--for", "3s"])?;
    town.until_word("open", LONG)
}

fn tunnel(town: &mut Town) -> Result<()> {
    locked(town)?;
    town.connect("r1")
}

fn open_tunnel(town: &mut Town) -> Result<()> {
    town.start()?;
    town.connect("r1")
}

fn left_tunnel(town: &mut Town) -> Result<()> {
    tunnel(town)?;
    town.kill()
}

/// The tests of this kernel without WireGuard.
#[must_use]
pub fn tests(vpnd: PathBuf, seed: u64) -> Vec<Test> {
    let town: Rc<RefCell<Option<Town>>> = Rc::default();
    let in_town = move |work: &dyn Fn(&mut Town) -> Result<String>| {
        let mut kept = town.borrow_mut();
        let mut town = match kept.take() {
            Some(town) => town,
            None => Town::on_paper(&vpnd)?,
        };
        match work(&mut town) {
            Ok(seen) => {
                *kept = Some(town);
                Ok(seen)
            }
            Err(error) => bail!("{error:#}\n    log: {}", town.log()),
        }
    };
    let all = in_town.clone();
    let mut tests = vec![Test::new("death: every effect is a kill point", move || {
        all(&|town| covered(town, &NATIVE.iter().collect::<Vec<_>>(), &NEEDS_TUNNEL))
    })];
    for transition in &NATIVE {
        let in_town = in_town.clone();
        tests.push(Test::new(
            format!("death: before and after each effect of {}", transition.name),
            move || {
                let most = if std::env::var_os("HOME_ALL").is_some() { usize::MAX } else { 3 };
                in_town(&|town| each(town, transition, seed, most))
            },
        ));
    }
    tests
}

/// The transitions with a tunnel.
pub(crate) fn with_tunnel() -> impl Iterator<Item = &'static Transition> {
    GUEST.iter()
}

impl Transition {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

/// Every effect there is belongs to some transition, on a kernel with WireGuard.
pub(crate) fn covered_with_tunnel(town: &mut Town) -> Result<String> {
    covered(
        town,
        &NATIVE.iter().filter(|t| t.name != "connect in vain").chain(&GUEST).collect::<Vec<_>>(),
        &[],
    )
}

fn covered(town: &mut Town, transitions: &[&Transition], elsewhere: &[&str]) -> Result<String> {
    let mut seen = BTreeSet::new();
    for transition in transitions {
        // With a tunnel to be had, what is blocked without becomes connected.
        for point in learn(town, transition).with_context(|| transition.name)? {
            seen.extend(point.split(' ').nth(1).map(str::to_owned));
        }
    }
    let missing: Vec<_> =
        KILL_POINTS.iter().filter(|p| !seen.contains(**p) && !elsewhere.contains(p)).collect();
    ensure!(missing.is_empty(), "no transition here runs {missing:?}: add one that does");
    Ok(format!("{} effects, {} transitions", seen.len(), transitions.len()))
}

/// At most `most` points, which the seed chooses.
pub(crate) fn each(town: &mut Town, transition: &Transition, seed: u64, most: usize) -> Result<String> {
    let points = learn(town, transition)?;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen: Vec<usize> = if most >= points.len() {
        (0..points.len()).collect()
    } else {
        // The first and the last have no neighbour that is the same instant.
        let inner = (1..points.len() / 2).map(|n| 2 * n - usize::from(random.bool()));
        [0].into_iter().chain(inner).chain([points.len() - 1]).collect()
    };
    random.shuffle(&mut chosen);
    chosen.truncate(most);
    let (mut lan, mut closed) = (0, 0);
    for at in &chosen {
        let (flown, was_closed) = once(town, transition, *at, &points)
            .with_context(|| format!("killed {}, point {at}", points[*at]))?;
        lan += flown;
        closed += usize::from(was_closed);
    }
    ensure!(transition.way == Way::Open || closed > 0, "never once closed: nothing was judged");
    Ok(format!("{} of {} points, {closed} times closed, {lan} LAN packets flew", chosen.len(), points.len()))
}

fn begin(town: &mut Town, transition: &Transition) -> Result<()> {
    town.fresh()?;
    town.config.write(&town.dir.join("config"))?;
    let plan = plan(town);
    let _ = fs::remove_file(&plan);
    town.wrapper = vec!["env".to_owned(), format!("VPND_FAULT={}", plan.display())];
    (transition.before)(town)?;
    let _ = fs::remove_file(plan.with_extension("log"));
    Ok(())
}

fn plan(town: &Town) -> PathBuf {
    town.dir.join("fault")
}

fn passed(town: &Town) -> Vec<String> {
    let log = fs::read_to_string(plan(town).with_extension("log")).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// The points of a transition, in order.
fn learn(town: &mut Town, transition: &Transition) -> Result<Vec<String>> {
    begin(town, transition)?;
    (transition.act)(town)?;
    let connects = |word: &str| word == "connected" && transition.after == "blocked" && town.has_wireguard();
    town.until(&format!("status is {}", transition.after), LONG, |town| {
        let status = town.status()?;
        let word = status["state"].as_str().unwrap_or_default();
        let there = !status["daemon"]["status"].is_null();
        Ok(there && (word == transition.after || connects(word)) && passed(town).len() % 2 == 0)
    })?;
    let points = passed(town);
    ensure!(points.len() >= 4 && points[0].starts_with("before "), "odd points: {points:?}");
    Ok(points)
}

/// How many LAN packets flew, and whether the router was closed when the daemon died.
fn once(town: &mut Town, transition: &Transition, at: usize, points: &[String]) -> Result<(u32, bool)> {
    begin(town, transition)?;
    let position = town.wan.position();
    let flood = Flood::start(&town.house, 100)?;
    std::thread::sleep(Duration::from_millis(100));
    fs::write(plan(town), at.to_string())?;
    (transition.act)(town)?;
    let ended = town.wait_for_end(LONG)?;
    ensure!(ended.signal() == Some(libc::SIGKILL), "the daemon ended by itself: {ended}");
    let dead = town.wan.position();
    let passed = passed(town);
    ensure!(
        passed.len() == at + 1 && passed.last() == points.get(at),
        "other points than learnt: {passed:?}"
    );
    let enforced = passed.iter().any(|point| point == "after Enforce");
    let (closed, since) = match transition.way {
        Way::Open => (false, dead),
        Way::Stays => (true, position),
        Way::Opens => (!enforced, position),
        Way::Closes => (enforced, dead),
    };
    if matches!(transition.way, Way::Closes | Way::Open) {
        let before = town.wan.select(position, |f| f.marker.is_some_and(|m| m.kind == Kind::LanFlood)).len();
        ensure!(before > 0, "nothing left while the router was open: no positive control");
    }
    std::thread::sleep(Duration::from_millis(150));
    let states = town.tunnelled_or_blocked();
    if closed {
        town.judged(since, &states).context("with the daemon dead")?;
    }
    let stays = wants_closed(town)?;
    ensure!(!stays || town.dir.join("state/armed").exists(), "wanted closed, but open after a reboot");
    town.start_as_it_is()?;
    let words: &[&str] = if stays { &["blocked", "connected"] } else { &["open"] };
    town.until(&format!("status is {words:?} again"), LONG, |town| {
        let (word, _) = town.word()?;
        // On the way to a tunnel it is "blocked" for a moment as well.
        let settled = !town.has_wireguard() || !wants_tunnel(town) || word != "blocked";
        Ok(words.contains(&word.as_str()) && settled)
    })?;
    ensure!(stays || transition.way != Way::Stays, "it is open by nobody's word");
    let flown = flood.stop(&town.wan, position)?;
    if stays && closed {
        town.judged(since, &states).context("with the next daemon")?;
    }
    Ok((flown.lan, closed))
}

/// What the files left behind ask of the next daemon.
fn wants_closed(town: &Town) -> Result<bool> {
    let state = town.dir.join("state");
    if town.dir.join("run/pause.json").exists() && town.pause_left() {
        return Ok(false);
    }
    let armed = state.join("armed").exists();
    let text = match fs::read_to_string(state.join("wanted.json")) {
        Ok(text) => text,
        Err(_) => return Ok(armed),
    };
    let wanted: Value = serde_json::from_str(&text)?;
    Ok(wanted["connect"] == true || wanted["latched"] == true || wanted["lockdown"]["on"] == true)
}

fn wants_tunnel(town: &Town) -> bool {
    let text = fs::read_to_string(town.dir.join("state/wanted.json")).unwrap_or_default();
    text.contains("\"connect\":true")
}
