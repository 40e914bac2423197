//! Mutation check 1: every altered rule must make the proof fail. Only packets that come as far as
//! the altered statement can be treated differently (a dropped rule, or one put after the next:
//! that match all of it), so only the boxes of those are gone through again.

use std::collections::BTreeMap;

use crate::alter::{Change, Mutant};
use crate::explore::{Leaf, Proof, Stop};
use crate::lane::Lane;
use crate::rules::Rules;

#[derive(Default)]
pub struct Score {
    pub killed: u64,
    /// Nobody would load such rules.
    pub impossible: u64,
    /// Where and what was altered, and whether any packet comes that far -> how often, and the boxes
    /// gone through in which nothing was different.
    pub survivors: BTreeMap<(String, String, bool), (u64, u64)>,
}

impl Score {
    pub fn add(&mut self, other: Self) {
        self.killed += other.killed;
        self.impossible += other.impossible;
        for (what, (times, boxes)) in other.survivors {
            let sum = self.survivors.entry(what).or_default();
            sum.0 += times;
            sum.1 += boxes;
        }
    }
    pub fn survived(&self) -> u64 {
        self.survivors.values().map(|(times, _)| times).sum()
    }
}

/// The boxes in which a rule is looked at; those that it matches first.
pub struct Index(Vec<Vec<(u32, u8)>>);

/// Comes as far as the end of a rule.
pub const MATCHES: u8 = u8::MAX;

impl Index {
    pub fn new(rules: usize) -> Self {
        Self(vec![Vec::new(); rules])
    }
    pub fn add(&mut self, leaf: u32, steps: &[(u32, Option<u8>)]) {
        for (rule, failed) in steps {
            let list = &mut self.0[*rule as usize];
            list.push((leaf, failed.unwrap_or(MATCHES)));
            if failed.is_none() {
                let last = list.len() - 1;
                list.swap(0, last);
            }
        }
    }
}

/// # Errors
/// The proof's own reasoning is wrong.
pub fn try_out(
    proof: &Proof<'_>,
    lanes: &[Lane],
    leaves: &[Leaf],
    index: &Index,
    mutants: &[Mutant],
    random: &mut fastrand::Rng,
) -> Result<Score, Stop> {
    let mut score = Score::default();
    for mutant in mutants {
        let changed = match &mutant.change {
            Change::Replaced(rule) => proof.rules.replaced(mutant.rule, (**rule).clone()),
            Change::Swapped(next) => proof.rules.swapped(mutant.rule, *next),
        };
        let Ok(changed) = changed else {
            score.impossible += 1;
            continue;
        };
        let reached = index.0[mutant.rule as usize].iter().filter(|(_, came)| *came >= mutant.place);
        let reached: Vec<u32> = reached.map(|(leaf, _)| *leaf).collect();
        match survives(proof, &changed, lanes, leaves, &reached, random)? {
            None => score.killed += 1,
            Some(boxes) => {
                let place = proof.rules.place(mutant.rule);
                let sum = score.survivors.entry((place, mutant.what.clone(), boxes > 0)).or_default();
                sum.0 += 1;
                sum.1 += boxes;
            }
        }
    }
    Ok(score)
}

/// None: some packet is treated against the contract. Else in how many boxes none was.
fn survives(
    proof: &Proof<'_>,
    changed: &Rules,
    lanes: &[Lane],
    leaves: &[Leaf],
    reached: &[u32],
    random: &mut fastrand::Rng,
) -> Result<Option<u64>, Stop> {
    let altered = Proof { rules: changed, ..*proof };
    let mut boxes = 0;
    for leaf in reached {
        let leaf = &leaves[*leaf as usize];
        let lane = &lanes[leaf.lane as usize];
        let found = altered.explore(lane, leaf.cover, random, &mut |_, _| boxes += 1);
        match found {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(None),
            // A circle of chains: the kernel would not load it.
            Err(Stop::Unknown(_)) => return Ok(None),
            Err(broken) => return Err(broken),
        }
    }
    Ok(Some(boxes))
}
