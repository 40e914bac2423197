//! "Seen to fail": each contract row's rules are taken out of the compiled rulesets, and the row's
//! own tests must notice.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use vpnd::policy::Row;

use crate::home::Home;
use crate::native::cells_uncontrolled;
use crate::vpnd::{Policy, Rules};

/// What is done to a row's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// They are taken out.
    Without,
    /// What they refuse or drop they accept; a chain's drop policy too, for the row of all rows.
    Inverted,
}

/// The compiled rules of every policy, compiled once.
struct Originals(BTreeMap<(Policy, usize), Value>);

impl Originals {
    fn of(rules: &dyn Rules) -> Result<Self> {
        let mut all = BTreeMap::new();
        for policy in Policy::ALL.into_iter().filter(|p| p.enforcing()) {
            for relay in [0, 2] {
                let text = rules.of(policy, relay)?;
                all.insert(
                    (policy, relay),
                    serde_json::from_str(&text).context("reading the compiled rules")?,
                );
            }
        }
        Ok(Self(all))
    }

    /// The rules with those of one row changed; None where that changes nothing.
    fn mutant(&self, policy: Policy, relay: usize, row: Row, way: Way) -> Option<Changed> {
        let original = self.0.get(&(policy, relay))?;
        let mut ruleset = original.clone();
        let list = ruleset.get_mut("nftables")?.as_array_mut()?;
        match way {
            Way::Without => list.retain(|item| !is_of(item, row)),
            Way::Inverted => list.iter_mut().for_each(|item| invert(item, row)),
        }
        (ruleset != *original).then(|| Changed(ruleset.to_string()))
    }
}

struct Changed(String);

impl Rules for Changed {
    fn of(&self, _: Policy, _: usize) -> Result<String> {
        Ok(self.0.clone())
    }
}

/// The rule in a command of nft's JSON, if it is one.
fn rule(item: &Value) -> Option<&Value> {
    item.get("rule").or_else(|| item.get("add").and_then(|add| add.get("rule")))
}

fn is_of(item: &Value, row: Row) -> bool {
    let comment = rule(item).and_then(|r| r["comment"].as_str()).unwrap_or_default();
    comment.split_whitespace().next() == Some(row.number())
}

fn invert(item: &mut Value, row: Row) {
    if row == Row::Default {
        for chain in [&["chain"][..], &["add", "chain"]] {
            let found = chain.iter().try_fold(&mut *item, |value, key| value.get_mut(*key));
            if let Some(policy) = found.and_then(|c| c.get_mut("policy")) {
                *policy = json!("accept");
            }
        }
    }
    if !is_of(item, row) {
        return;
    }
    let rule = if item.get("rule").is_some() { &mut item["rule"] } else { &mut item["add"]["rule"] };
    if let Some(statements) = rule["expr"].as_array_mut() {
        for statement in statements {
            let refusal = ["goto", "jump"].iter().any(|verb| {
                let target = statement[*verb]["target"].as_str().unwrap_or_default();
                target.starts_with("refuse") || target.starts_with("blocked")
            });
            if refusal || statement.get("drop").is_some() || statement.get("reject").is_some() {
                *statement = json!({ "accept": null });
            }
        }
    }
}

/// What the row's tests said without its rules.
struct Verdict {
    row: Row,
    tests: usize,
    /// By way: the first fault of each state, and how many.
    seen: Vec<String>,
    failing: usize,
}

/// Takes out each row's rules in turn and prints what its tests saw; true when every row with
/// rules had at least one test that failed.
///
/// # Errors
/// When the harness fails.
pub fn run(rules: &dyn Rules, only: &[String]) -> Result<bool> {
    let originals = Originals::of(rules)?;
    let mut home = Home::build()?;
    let start = Instant::now();
    let mut good = true;
    println!(" row tests failing  the first that failed without the row's rules");
    for row in Row::ALL.iter().copied().filter(|r| only.is_empty() || only.iter().any(|o| o == r.number())) {
        match mutate(&mut home, &originals, row)? {
            None => println!("{:4} {:>5} {:>7}  no rule carries this row", row.number(), "-", "-"),
            Some(verdict) => {
                good &= verdict.failing > 0;
                let first = verdict.seen.first().map_or("NONE: its tests do not hold it", String::as_str);
                println!("{:4} {:5} {:7}  {first}", verdict.row.number(), verdict.tests, verdict.failing);
            }
        }
    }
    println!(
        "{} in {:.0} s",
        if good { "every row's tests were seen to fail" } else { "a row is not held" },
        start.elapsed().as_secs_f32()
    );
    Ok(good)
}

fn mutate(home: &mut Home, originals: &Originals, row: Row) -> Result<Option<Verdict>> {
    let cases: Vec<_> = crate::cells::all().into_iter().filter(|c| c.row == row).collect();
    let mut verdict = Verdict { row, tests: cases.len(), seen: Vec::new(), failing: 0 };
    let mut any = false;
    // The second relay is only of interest to rows that speak of the relay.
    let relays = if cases.iter().any(|c| c.relay.is_some()) { &[0, 2][..] } else { &[0] };
    for way in [Way::Without, Way::Inverted] {
        for policy in Policy::ALL {
            for relay in relays {
                let Some(mutant) = originals.mutant(policy, *relay, row, way) else { continue };
                any = true;
                // Without row 2.3 no control frame could leave.
                let faults = cells_uncontrolled(home, policy, *relay, &mutant, |c| c.row == row)
                    .with_context(|| format!("row {}, {way:?}, {}", row.number(), policy.word()))?;
                verdict.failing += faults.len();
                verdict.seen.extend(faults);
            }
        }
    }
    Ok(any.then_some(verdict))
}

/// How many cells each row has: a row without a test is a defect.
#[must_use]
pub fn coverage() -> BTreeMap<Row, usize> {
    let mut counts: BTreeMap<Row, usize> = Row::ALL.iter().map(|r| (*r, 0)).collect();
    for case in crate::cells::all() {
        *counts.entry(case.row).or_default() += 1;
    }
    counts
}
