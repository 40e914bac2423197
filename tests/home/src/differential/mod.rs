//! The evaluator against the kernel: random packets through real rules, hook by hook.
//!
//! Each ruleset is loaded with two counters in every rule. Packets made for each rule (all its
//! matches hold; or all but one, by a neighbouring value), later packets of open connections, errors
//! about them, and random ones go in at veth pairs and out of raw sockets; a table of the test's own
//! logs into which hooks each came, what conntrack and the routing tables said of it there, and
//! whether it left them. The evaluator gets the same question in each hook, and must give the same
//! answer, name the same rules (all counters are compared), and leave the same packet behind. A
//! difference is narrowed down to one packet, and that packet to what matters in it.

mod aim;
mod check;
mod log;
mod place;
mod policies;
mod pool;
mod shot;
mod shrink;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use vpnd::firewall::Ruleset;
use vpnd::firewall::evaluate::{Evaluator, Step};

use self::aim::Target;
use self::check::Check;
use self::place::Place;
use self::policies::Case;
use self::pool::Open;
use self::shot::Shot;
use crate::counted::{self, Count};
use crate::raw::forget_flows;
use crate::suite::Test;

/// Packets between two looks at the counters.
const BATCH: usize = 400;
/// Each rule is to be hit, and narrowly missed, as often.
const ENOUGH: usize = 50;
/// Packets made for one rule in vain before it counts as out of reach.
const TRIES: usize = 8000;
/// The same for a rule that is known to be.
const TRIES_EXCUSED: usize = 250;
/// Least packets for each ruleset.
const LEAST: usize = 2000;
/// The kernel is done with a batch when it said nothing for as long, in milliseconds.
const QUIET: i32 = 25;

/// What no packet of ours can do, and why: chain, words of the comment, hit or only missed.
const EXCUSED: [(&str, &str, bool); 6] = [
    // Multicast is forwarded by a routing daemon's word only, and none runs here.
    ("lan_to_wan", "2.8 a listed multicast group", true),
    ("wan_to_lan", "2.8 a listed multicast group", true),
    // A raw socket's packet without an address is given one by the kernel.
    ("foreign_source", "2.3 a lease is asked for", true),
    // Only DNS is led there, and DNS is all they ask for.
    ("lan_to_tunnel_dns", "3.5 no other resolver", false),
    ("router_to_tunnel_dns", "3.5 no other resolver", false),
    // With no LAN known it spares loopback alone, and no packet of ours goes there.
    ("postrouting_late", "3.7 leaving by WAN", false),
];

/// The test's own marks for connections, by ruleset: the services' mark, and the one beside it.
fn marks(ruleset: &Ruleset) -> (u32, u32) {
    let text = ruleset.to_string();
    let full = text.contains("0xff0000");
    let value = |mark: vpnd::config::Mark| (mark.service().value(), mark.service().mask());
    let (value, mask) = if full {
        vpnd::config::Mark::new(0x0041_0000, 0x00ff_0000).map_or((0, u32::MAX), value)
    } else {
        value(vpnd::config::Mark::DEFAULT)
    };
    (value, value ^ (mask & mask.wrapping_neg()))
}

/// In a shorter run (`HOME_ALL` unset) the rulesets with everything listed, and one of the others by
/// the seed.
#[must_use]
pub fn tests(seed: u64) -> Vec<Test> {
    vec![Test::new("the evaluator says of each packet what the kernel does", move || all(seed))]
}

fn all(seed: u64) -> Result<String> {
    let whole = std::env::var_os("HOME_ALL").is_some();
    let rounds = if whole { 5 } else { 1 };
    let (full, others): (Vec<_>, Vec<_>) =
        policies::cases()?.into_iter().partition(|case| case.name.contains("all listed"));
    let chosen = seed as usize % others.len().max(1);
    let others = others.into_iter().enumerate().filter(|(at, _)| whole || *at == chosen);
    let cases: Vec<Case> = full.into_iter().chain(others.map(|(_, case)| case)).collect();
    let mut total = Totals::default();
    for round in 0..rounds {
        for case in &cases {
            let mut lane = Lane::build(case, seed + round)?;
            let seen = lane.run().with_context(|| format!("{}, seed {}", case.name, seed + round))?;
            println!("     {:<28} {seen}", case.name);
            total.add(&seen);
        }
    }
    if !total.lacking.is_empty() {
        bail!("too seldom:\n  {}", total.lacking.join("\n  "));
    }
    if total.packets < 20_000 {
        bail!("only {} packets", total.packets);
    }
    Ok(format!(
        "{} packets in {} visits of hooks; {} rules hit at least {ENOUGH} times, {} narrowly missed; seed {seed}",
        total.packets, total.visits, total.hit, total.missed
    ))
}

#[derive(Default)]
struct Totals {
    packets: usize,
    visits: usize,
    hit: usize,
    missed: usize,
    /// Rules that should have been met more often.
    lacking: Vec<String>,
}

impl Totals {
    fn add(&mut self, seen: &Summary) {
        self.packets += seen.packets;
        self.visits += seen.visits;
        self.hit += seen.hit.0;
        self.missed += seen.missed.0;
        self.lacking.extend(seen.lacking.iter().cloned());
    }
}

/// What one ruleset was tried with.
struct Summary {
    packets: usize,
    visits: usize,
    /// Rules, of those that can be; and the least count among them.
    hit: (usize, usize, usize),
    missed: (usize, usize, usize),
    /// Rules that should have been met more often, and those that cannot.
    lacking: Vec<String>,
    excused: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((hit, of, least), (missed, of_missed, least_missed)) = (self.hit, self.missed);
        write!(
            f,
            "{:5} packets, {hit} of {of} rules hit (least {least}), {missed} of {of_missed} narrowly missed (least {least_missed})",
            self.packets
        )?;
        if self.excused > 0 {
            write!(f, ", {} out of reach", self.excused)?;
        }
        self.lacking.iter().try_for_each(|rule| write!(f, "\n{:36}{rule}", ""))
    }
}

/// What a packet was made for.
#[derive(Clone, Copy)]
struct Purpose {
    rule: usize,
    but: Option<usize>,
}

/// One ruleset, loaded.
struct Lane<'a> {
    case: &'a Case,
    place: Place,
    evaluator: Evaluator,
    targets: Vec<Target>,
    open: Vec<Open>,
    mark: u32,
    /// The one beside it.
    next: u32,
    random: Rng,
    serial: u32,
    hits: Vec<usize>,
    misses: Vec<usize>,
    tries: Vec<[usize; 2]>,
    visits: usize,
}

impl<'a> Lane<'a> {
    fn build(case: &'a Case, seed: u64) -> Result<Self> {
        let mut random = Rng::with_seed(seed);
        let (mark, next) = marks(&case.ruleset);
        let place = Place::build(&[mark, next])?;
        let targets = aim::targets(&case.ruleset);
        let open = pool::connections(mark, next, &mut random);
        let count = targets.len();
        let lane = Self {
            case,
            place,
            evaluator: Evaluator::new(&case.ruleset)?,
            targets,
            open,
            mark,
            next,
            random,
            serial: 0,
            hits: vec![0; count],
            misses: vec![0; count],
            tries: vec![[0; 2]; count],
            visits: 0,
        };
        lane.open_connections()?;
        Ok(lane)
    }

    fn open_connections(&self) -> Result<()> {
        let router = &self.place.router;
        // Freshly loaded rules may be there already.
        router.nft("add table inet vpnd\ndelete table inet vpnd\n")?;
        forget_flows(router)?;
        router.nft(&pool::opening_table(self.mark, self.next))?;
        let shots =
            |pick: fn(&Open) -> Shot| self.open.iter().map(pick).map(|shot| (0, shot)).collect::<Vec<_>>();
        self.place.fire(&shots(|open| open.original.clone()))?;
        self.place.fire(&shots(|open| open.reply.clone()))?;
        self.place.fire(&shots(|open| pool::later(&open.original)))?;
        self.place.log.read(QUIET)?;
        router.nft("delete table inet opening")
    }

    fn load(&self) -> Result<()> {
        let router = &self.place.router;
        router.pipe("nft", &["-j", "-f", "-"], &counted::to_json(&self.case.ruleset)?).map(drop)
    }

    fn run(&mut self) -> Result<Summary> {
        self.load()?;
        let mut memory = check::Memory::default();
        let mut before = counted::read(&self.place.router, &self.case.ruleset)?;
        let mut packets = 0;
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                break;
            }
            let shots: Vec<(u32, Shot)> =
                batch.iter().map(|(serial, shot, _)| (*serial, shot.clone())).collect();
            let seen = self.fire(&shots, &before, memory)?;
            if let Some(fault) = seen.fault {
                bail!("{}", shrink::to_one_packet(&shots, fault, |shots| self.again(shots))?);
            }
            packets += seen.steps.len();
            self.visits += seen.visits;
            self.account(&batch, &seen.steps);
            (before, memory) = (seen.counts, seen.memory);
        }
        Ok(self.summary(packets))
    }

    /// Fires at freshly loaded rules and freshly opened connections; what differed.
    fn again(&self, shots: &[(u32, Shot)]) -> Result<Option<String>> {
        self.open_connections()?;
        self.load()?;
        let fresh = vec![Count::default(); self.targets.len()];
        Ok(self.fire(shots, &fresh, check::Memory::default())?.fault)
    }

    fn fire(&self, shots: &[(u32, Shot)], before: &[Count], memory: check::Memory) -> Result<Seen> {
        self.place.fire(shots)?;
        let log = self.place.log.read(QUIET)?;
        let mut check = Check::new(&self.place, &self.evaluator, memory);
        check.run(&log)?;
        let counts = counted::read(&self.place.router, &self.case.ruleset)?;
        let mut predicted = before.to_vec();
        for step in check.steps.values().flatten() {
            let rule = step.rule as usize;
            predicted[rule].looked_at += 1;
            predicted[rule].matched += u64::from(self.targets[rule].counts_match(*step));
        }
        for (rule, kernel) in counts.iter().enumerate() {
            // Which ones a rate lets through depends on the clock; no verdict does.
            if self.targets[rule].is_rated() {
                predicted[rule].matched = predicted[rule].matched.min(kernel.matched);
            }
        }
        let mut fault = check.faults.first().map(|(serial, fault)| format!("packet {serial}: {fault}"));
        if fault.is_none() {
            let rules = predicted.iter().zip(&counts).zip(self.case.ruleset.rules());
            fault =
                rules.into_iter().find(|((ours, kernel), _)| ours != kernel).map(|((ours, kernel), rule)| {
                    let comment = rule.comment.as_deref().unwrap_or_default();
                    format!(
                        "counters of '{comment}' in {}: the evaluator says {ours:?}, the kernel {kernel:?}",
                        rule.chain
                    )
                });
        }
        Ok(Seen { fault, counts, visits: check.visits, memory: check.memory(), steps: check.steps })
    }

    fn account(&mut self, batch: &[(u32, Shot, Option<Purpose>)], steps: &HashMap<u32, Vec<Step>>) {
        for (serial, _, purpose) in batch {
            let steps = steps.get(serial).map_or(&[][..], Vec::as_slice);
            for step in steps.iter().filter(|step| step.failed.is_none()) {
                self.hits[step.rule as usize] += 1;
            }
            let Some(Purpose { rule, but: Some(but) }) = purpose else { continue };
            if steps
                .iter()
                .any(|step| step.rule as usize == *rule && step.failed.map(usize::from) == Some(*but))
            {
                self.misses[*rule] += 1;
            }
        }
    }

    /// Packets for the rules that need them most, and some for none.
    fn batch(&mut self) -> Vec<(u32, Shot, Option<Purpose>)> {
        let mut wanted = Vec::new();
        for rule in 0..self.targets.len() {
            if self.is_dead(rule) {
                continue;
            }
            let tries = |missed| if self.is_excused(rule, missed) { TRIES_EXCUSED } else { TRIES };
            if self.hits[rule] < ENOUGH && self.tries[rule][0] < tries(false) {
                wanted.push(Purpose { rule, but: None });
            }
            let matches = self.targets[rule].operands();
            if self.misses[rule] < ENOUGH && self.tries[rule][1] < tries(true) && !matches.is_empty() {
                let but = matches[self.random.usize(..matches.len())];
                wanted.push(Purpose { rule, but: Some(but) });
            }
        }
        if wanted.is_empty() && self.serial as usize >= LEAST {
            return Vec::new();
        }
        (0..BATCH)
            .map(|_| {
                let aimed = !wanted.is_empty() && self.random.u8(..8) != 0;
                let purpose = aimed.then(|| {
                    let mut purpose = wanted[self.random.usize(..wanted.len())];
                    let matches = self.targets[purpose.rule].operands();
                    purpose.but = purpose.but.map(|_| matches[self.random.usize(..matches.len())]);
                    purpose
                });
                let shot = match purpose {
                    Some(Purpose { rule, but }) => {
                        self.tries[rule][usize::from(but.is_some())] += 1;
                        self.targets[rule].packet(but, &self.open, self.mark, &mut self.random)
                    }
                    None => aim::anything(&self.open, &mut self.random),
                };
                self.serial += 1;
                (self.serial, shot, purpose)
            })
            .collect()
    }

    fn summary(&self, packets: usize) -> Summary {
        let (mut lacking, mut excused) = (Vec::new(), 0);
        let mut tally = |counts: &[usize], can: &dyn Fn(usize) -> bool, what: &str| {
            let (mut enough, mut of, mut least) = (0, 0, usize::MAX);
            for rule in (0..counts.len()).filter(|rule| can(*rule)) {
                of += 1;
                if counts[rule] >= ENOUGH {
                    enough += 1;
                    least = least.min(counts[rule]);
                } else {
                    let named = &self.case.ruleset.rules()[rule];
                    let comment = named.comment.as_deref().unwrap_or_default();
                    if self.is_excused(rule, what == "missed") {
                        excused += 1;
                    } else {
                        let times = counts[rule];
                        lacking.push(format!(
                            "{}: {what} {times} times: {} '{comment}'",
                            self.case.name, named.chain
                        ));
                    }
                }
            }
            (enough, of, if enough == 0 { 0 } else { least })
        };
        let hit = tally(&self.hits, &|rule| !self.is_dead(rule), "hit");
        let missed = tally(
            &self.misses,
            &|rule| !self.is_dead(rule) && !self.targets[rule].operands().is_empty(),
            "missed",
        );
        Summary { packets, visits: self.visits, hit, missed, lacking, excused }
    }

    fn is_excused(&self, rule: usize, missed: bool) -> bool {
        let rule = &self.case.ruleset.rules()[rule];
        let comment = rule.comment.as_deref().unwrap_or_default();
        EXCUSED.iter().any(|(chain, words, both)| {
            rule.chain == *chain && comment.starts_with(words) && (*both || missed)
        })
    }

    /// Behind a rule of its chain that everything matches, or in a chain that nothing leads to: no
    /// packet can come there.
    fn is_dead(&self, rule: usize) -> bool {
        let chain = self.targets[rule].chain();
        let base = self.case.ruleset.chains().iter().any(|known| known.name == chain && known.hook.is_some());
        let led_to = base || self.targets.iter().any(|target| target.leads_to(chain));
        !led_to || (0..rule).any(|earlier| self.targets[earlier].ends_all(&self.targets[rule]))
    }
}

/// What came of a batch.
struct Seen {
    fault: Option<String>,
    counts: Vec<Count>,
    steps: HashMap<u32, Vec<Step>>,
    memory: check::Memory,
    visits: usize,
}

/// How long the whole may take, for the list of tests.
pub const LIMIT: Duration = Duration::from_secs(90);
