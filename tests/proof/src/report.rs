//! Runs the three parts on all processors and says what came of them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::errors::{self, ERRORS};
use crate::explore::Stop;
use crate::home::{Found, Home, Known};
use crate::mutate::{Score, try_out};
use crate::setup::{Choice, every_choice, pairwise};
use crate::stop::Stopped;
use crate::survivors::{self, LIST};
use crate::words;

/// How many mutants of each setting combination are tried when not all are.
const SAMPLE: usize = 50;
/// How many more seeds' combinations are asked for a survivor of a listed reason.
const MORE_SEEDS: u64 = 12;
const MOST_SHOWN: usize = 5;
/// From here on it takes minutes, and says how far it is.
const MANY: usize = 1000;

pub struct Report {
    seed: u64,
    all: bool,
    passed: u32,
    failed: u32,
}

impl Report {
    pub fn new(seed: u64, all: bool) -> Self {
        Self { seed, all, passed: 0, failed: 0 }
    }

    fn random(&self, salt: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(salt))
    }

    fn check(&mut self, holds: bool, what: &str) {
        println!("{} {what}", if holds { "ok    " } else { "FAILED" });
        if holds { self.passed += 1 } else { self.failed += 1 }
    }

    /// Every class of every state and setting combination: rules against contract.
    pub fn classes(&mut self) {
        let start = Instant::now();
        let mut random = self.random(0);
        let choices = if self.all { every_choice() } else { pairwise(&mut random) };
        let known = self.all.then(Known::default);
        let sum = Mutex::new((Found::default(), Vec::new()));
        each(choices.len(), |at| {
            let mut random = self.random(at as u64 + 1);
            let said = Home::new(choices[at], false, None)
                .and_then(|home| Ok((home.prove(known.as_ref(), &mut random)?, home)));
            let Ok(mut sum) = sum.lock() else { return };
            match said {
                Ok((found, home)) => {
                    sum.0.lanes += found.lanes;
                    sum.0.known += found.known;
                    sum.0.classes += found.classes;
                    sum.0.visited += found.visited;
                    let words = found.differences.iter().map(|found| words::difference(found, &home.rules));
                    sum.1.extend(words.map(|text| format!("{}: {text}", choices[at])));
                }
                Err(stop) => sum.1.push(format!("{}: {}", choices[at], stopped(&stop))),
            }
        });
        let Ok((found, problems)) = sum.into_inner() else {
            return self.check(false, "a thread of the proof ended early");
        };
        for problem in problems.iter().take(MOST_SHOWN) {
            println!("{problem}");
        }
        let known =
            if found.known > 0 { format!(", {} the same as others", found.known) } else { String::new() };
        println!(
            "proof: {} setting combinations in all states, {} lanes{known}; {:.2e} classes represented, {} boxes of them visited, each twice; {:.0?}",
            choices.len(),
            found.lanes,
            found.classes as f64,
            found.visited,
            start.elapsed(),
        );
        let what = format!("rules and contract agree on every class ({} differences)", problems.len());
        self.check(problems.is_empty(), &what);
    }

    /// Mutation check 1.
    pub fn altered_rules(&mut self) {
        let start = Instant::now();
        let choices = pairwise(&mut self.random(0));
        let sum = Mutex::new((Score::default(), 0usize, Vec::new()));
        each(choices.len(), |at| {
            let said = self.alter(choices[at], at as u64 + 1);
            let Ok(mut sum) = sum.lock() else { return };
            match said {
                Ok((score, of)) => {
                    sum.0.add(score);
                    sum.1 += of;
                }
                Err(stop) => sum.2.push(format!("{}: {}", choices[at], stopped(&stop))),
            }
        });
        let Ok((score, of, problems)) = sum.into_inner() else {
            return self.check(false, "a thread of the mutations ended early");
        };
        for problem in &problems {
            println!("{problem}");
        }
        let survived = score.survived();
        println!(
            "mutation of rules: {} tried of {of}, over {} setting combinations, pairwise: {} failed the proof, {survived} are equivalent, {} cannot be loaded; {:.0?}",
            score.killed + survived + score.impossible,
            choices.len(),
            score.killed,
            score.impossible,
            start.elapsed(),
        );
        self.survivors(&score, problems.is_empty());
    }

    fn alter(&self, choice: Choice, salt: u64) -> Result<(Score, usize), Stop> {
        let mut random = self.random(salt);
        let mut home = Home::new(choice, true, None)?;
        let of = home.mutants.len();
        random.shuffle(&mut home.mutants);
        if !self.all {
            home.mutants.truncate(SAMPLE);
        }
        let (leaves, index) = home.leaves(&mut random)?;
        let score = try_out(&home.proof(), &home.lanes, &leaves, &index, &home.mutants, &mut random)?;
        Ok((score, of))
    }

    fn survivors(&mut self, score: &Score, complete: bool) {
        let mut reasons: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut unlisted = 0;
        for ((place, what, reached), (times, boxes)) in &score.survivors {
            match survivors::reason(place, what, *reached) {
                Some(reason) => {
                    let sum = reasons.entry(reason).or_default();
                    *sum = (sum.0 + times, sum.1 + boxes);
                    if self.all {
                        println!("    {place}; {what}: {times} times, {boxes} boxes without a difference");
                    }
                }
                None => {
                    unlisted += 1;
                    println!("    not listed as equivalent: {place}; {what}: {times} times, {boxes} boxes");
                }
            }
        }
        for (reason, (times, boxes)) in &reasons {
            let equal = &LIST[*reason];
            let place = if equal.place.is_empty() { "anywhere" } else { equal.place };
            println!(
                "    {times} equivalent ({boxes} boxes gone through): {place}; {}: {}",
                equal.what, equal.why
            );
        }
        self.check(
            complete && unlisted == 0,
            &format!(
                "every altered rule fails the proof or is listed as equivalent ({unlisted} are neither)"
            ),
        );
        if self.all {
            let idle = (0..LIST.len()).filter(|at| !reasons.contains_key(at)).collect();
            let (idle, seeds) = self.elsewhere(idle);
            for equal in idle.iter().map(|at| &LIST[*at]) {
                println!("    listed, but nothing survived: {}; {}", equal.place, equal.what);
            }
            let what = format!("every listed reason is one of a survivor ({} are not)", idle.len());
            self.check(idle.is_empty(), &what);
            if seeds > 0 {
                println!("    setting combinations of {seeds} more seeds were asked for the last of them");
            }
        }
    }

    /// Of these reasons, those without a survivor under the setting combinations of other seeds,
    /// either; and how many seeds were tried. A reason may need settings that no pair makes sure of.
    fn elsewhere(&self, mut idle: Vec<usize>) -> (Vec<usize>, u64) {
        let mut seeds = 0;
        while !idle.is_empty() && seeds < MORE_SEEDS {
            seeds += 1;
            let choices = pairwise(&mut self.random(seeds << 32));
            let found = Mutex::new(Vec::new());
            each(choices.len(), |at| {
                let random = self.random((seeds << 32) + at as u64 + 1);
                // A proof that breaks has been said where all rules were altered.
                let Ok(reasons) = survived_for(choices[at], &idle, random) else { return };
                if let Ok(mut found) = found.lock() {
                    found.extend(reasons);
                }
            });
            let found = found.into_inner().unwrap_or_default();
            idle.retain(|at| !found.contains(at));
        }
        (idle, seeds)
    }

    /// Mutation check 2.
    pub fn altered_contract(&mut self) {
        let start = Instant::now();
        let choices = errors::choices();
        let right = |choice: &Choice| Home::new(*choice, false, None);
        let missed = Mutex::new(Vec::new());
        each(ERRORS.len(), |at| {
            let error = &ERRORS[at];
            let mut random = self.random(at as u64);
            let caught = choices.iter().any(|choice| {
                let found = Home::new(*choice, false, Some(error.make))
                    .and_then(|home| home.differs(&right(choice)?, &mut random));
                matches!(found, Ok(true))
            });
            if let (false, Ok(mut missed)) = (caught, missed.lock()) {
                missed.push(error.what);
            }
        });
        let missed = missed.into_inner().unwrap_or_default();
        for what in &missed {
            println!("    not found: {what}");
        }
        println!(
            "mutation of the contract: {} of {} errors caught; {:.0?}",
            ERRORS.len() - missed.len(),
            ERRORS.len(),
            start.elapsed()
        );
        self.check(
            missed.is_empty(),
            &format!("every error in the contract's table is found ({} are not)", missed.len()),
        );
    }

    /// The stop ahead of the flowtables: all classes, and every altered rule.
    pub fn stop(&mut self) {
        let start = Instant::now();
        let choices = if self.all { every_choice() } else { pairwise(&mut self.random(0)) };
        let sum = Mutex::new((0usize, 0usize, 0usize, Vec::new()));
        each(choices.len(), |at| {
            let said = Stopped::new(choices[at]).and_then(|stopped| {
                let Some(stopped) = stopped else { return Ok(None) };
                // The rules say the same to many of them.
                let altered = if at % 16 == 0 || !self.all { stopped.altered()? } else { (0, Vec::new()) };
                Ok(Some((stopped.right()?, altered)))
            });
            let Ok(mut sum) = sum.lock() else { return };
            match said {
                Ok(None) => {}
                Ok(Some(((asked, wrong), (tried, missed)))) => {
                    (sum.0, sum.1, sum.2) = (sum.0 + 1, sum.1 + asked, sum.2 + tried);
                    let found = wrong
                        .into_iter()
                        .chain(missed.into_iter().map(|what| format!("nothing tells {what}")));
                    sum.3.extend(found.map(|text| format!("{}: {text}", choices[at])));
                }
                Err(stop) => sum.3.push(format!("{}: {}", choices[at], stopped(&stop))),
            }
        });
        let (homes, asked, tried, problems) = sum.into_inner().unwrap_or_default();
        for problem in problems.iter().take(MOST_SHOWN) {
            println!("{problem}");
        }
        println!(
            "the stop ahead of flowtables: {homes} setting combinations, {asked} packets, one for each end of each class; {tried} altered rules; {:.0?}",
            start.elapsed()
        );
        self.check(homes > 0 && asked > 0 && tried > 0 && problems.is_empty(), &format!("the stop drops what comes in from the LAN but for what stays at home, and every altered rule is found ({} problems)", problems.len()));
    }

    pub fn end(&self) -> ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn stopped(stop: &Stop) -> String {
    match stop {
        Stop::Unknown(unknown) => unknown.to_string(),
        Stop::Broken(text) => format!("the proof itself is wrong: {text}"),
    }
}

/// Numbers 0..count, on all processors.
fn each(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    work(at);
                    if count > MANY && at % (count / 200) == 0 {
                        println!("    {at} of {count}");
                    }
                }
            });
        }
    });
}

/// Which of these reasons (of [`LIST`]) have a survivor under this combination.
fn survived_for(choice: Choice, reasons: &[usize], mut random: fastrand::Rng) -> Result<Vec<usize>, Stop> {
    let mut home = Home::new(choice, true, None)?;
    let rules = &home.rules;
    home.mutants.retain(|mutant| {
        let place = rules.place(mutant.rule);
        reasons.iter().any(|at| LIST[*at].is_about(&place, &mutant.what))
    });
    if home.mutants.is_empty() {
        return Ok(Vec::new());
    }
    let (leaves, index) = home.leaves(&mut random)?;
    let score = try_out(&home.proof(), &home.lanes, &leaves, &index, &home.mutants, &mut random)?;
    Ok(score
        .survivors
        .keys()
        .filter_map(|(place, what, reached)| survivors::reason(place, what, *reached))
        .collect())
}
