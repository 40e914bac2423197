//! `vpnd generations`: the rulesets of this boot, and which one the kernel enforces. Needs no
//! daemon.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::Input;
use super::judge::Table;
use super::text::{self, bytes, span};
use super::{DONE, Outcome, kernel};
use crate::state::{Generation, RunDir, uptime};

/// What the kernel enforces, beside what is noted.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// The newest generation.
    Newest(&'a Generation),
    /// An older one, and the newest, which it is not.
    Older(&'a Generation, &'a Generation),
    /// Rules that no generation had.
    Foreign(&'a Generation),
    /// No table, though the newest generation has one.
    Missing(&'a Generation),
    /// Nothing is noted: none was ever put since boot, or the run folder is gone.
    NotNoted,
    Unknown(&'a str),
}

#[must_use]
pub fn standing<'a>(table: &'a Result<Option<Table>, String>, all: &'a [Generation]) -> Standing<'a> {
    let Some(newest) = all.last() else { return Standing::NotNoted };
    match table {
        Err(why) => Standing::Unknown(why),
        Ok(None) if newest.hash.is_empty() => Standing::Newest(newest),
        Ok(None) => Standing::Missing(newest),
        Ok(Some(table)) => match all.iter().rev().find(|generation| generation.hash == table.hash) {
            Some(found) if found.number == newest.number => Standing::Newest(found),
            Some(found) => Standing::Older(found, newest),
            None => Standing::Foreign(newest),
        },
    }
}

impl Standing<'_> {
    /// The number in force, where the kernel agrees that there is one.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Newest(found) | Self::Older(found, _) => Some(found.number),
            _ => None,
        }
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Older(found, newest) => Some(format!(
                "generation {} is in force again, but not by vpnd, which put {} last",
                found.number, newest.number
            )),
            Self::Foreign(newest) => Some(format!(
                "the rules in force are none that vpnd noted; generation {} was the last",
                newest.number
            )),
            Self::Missing(newest) => Some(format!("the rules of generation {} are gone", newest.number)),
            Self::Newest(_) | Self::NotNoted | Self::Unknown(_) => None,
        }
    }

    /// For a line of `status`; `now` in seconds since boot.
    #[must_use]
    pub fn words(&self, now: u64) -> String {
        match self {
            Self::Newest(found) | Self::Older(found, _) => {
                format!("{}, {}: {}", found.number, age(found, now), found.cause)
            }
            Self::Foreign(_) => "none of vpnd's".to_owned(),
            Self::Missing(newest) => format!("none; the last was {}", newest.number),
            Self::NotNoted => "none noted since boot".to_owned(),
            Self::Unknown(why) => format!("cannot be told: {why}"),
        }
    }

    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "in_force": self.number(), "trouble": self.trouble() })
    }
}

/// By the time since boot: the clock may have jumped.
fn age(generation: &Generation, now: u64) -> String {
    format!("{} ago", span(now.saturating_sub(generation.uptime)))
}

/// Longest wait for a ruleset that is being applied.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `look` sees of the kernel, and the generations of that moment: where a ruleset was being
/// applied meanwhile, in force but not noted yet, it looks again.
pub fn beside<T>(run: &RunDir, look: impl Fn() -> T) -> (T, Vec<Generation>) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (before, applied_before) = (run.generations(), run.is_applying());
        let seen = look();
        let (applied_after, all) = (run.is_applying(), run.generations());
        let still = !applied_before && !applied_after && all.last() == before.last();
        if still || Instant::now() > end {
            return (seen, all);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn run(input: &Input) -> Outcome {
    let (table, all) = beside(&RunDir::new(&input.run_dir), kernel::table);
    let now = uptime();
    let standing = standing(&table, &all);
    let words = if input.flag("json") {
        let mut value = standing.json();
        if let Standing::Unknown(why) = standing {
            value["trouble"] = why.into();
        }
        value["generations"] = all.iter().map(|generation| one(generation, now)).collect();
        serde_json::to_string_pretty(&value).unwrap_or_default()
    } else {
        human(&all, &standing, now)
    };
    text::say(&words);
    Ok(DONE)
}

fn one(generation: &Generation, now: u64) -> Value {
    json!({
        "number": generation.number,
        "state": generation.state,
        "hash": generation.hash,
        "cause": generation.cause,
        "when": generation.when,
        "age_s": now.saturating_sub(generation.uptime),
        "rules_dropped": generation.dropped,
    })
}

fn human(all: &[Generation], standing: &Standing<'_>, now: u64) -> String {
    let mut out = String::new();
    for generation in all {
        let mark = if standing.number() == Some(generation.number) { '*' } else { ' ' };
        let hash = if generation.hash.is_empty() { "no rules" } else { &generation.hash };
        let dropped = generation.dropped.map(|size| format!(" [its rules, {}, were dropped]", bytes(size)));
        let _ = writeln!(
            out,
            "{mark} {:4}  {:10}  {hash:16}  {:>11}  {}{}",
            generation.number,
            generation.state,
            age(generation, now),
            generation.cause,
            dropped.unwrap_or_default()
        );
    }
    match standing.trouble() {
        Some(trouble) => {
            let _ = writeln!(out, "! {trouble}");
        }
        None if standing.number().is_none() => {
            let _ = writeln!(out, "{}", standing.words(now));
        }
        None => {}
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(number: u32, hash: &str) -> Generation {
        Generation {
            number,
            state: if hash.is_empty() { "open" } else { "blocked" }.to_owned(),
            hash: hash.to_owned(),
            cause: "connect asked".to_owned(),
            when: 0,
            uptime: 0,
            dropped: (number == 1).then_some(700 * 1024),
        }
    }

    fn table(hash: &str) -> Result<Option<Table>, String> {
        Ok(Some(Table {
            state: crate::policy::PolicyState::Blocked,
            hash: hash.to_owned(),
            rows: Vec::new(),
        }))
    }

    #[test]
    fn the_kernels_hash_decides_which_is_in_force() {
        let all = [generation(1, "aa"), generation(2, "bb"), generation(3, "aa"), generation(4, "cc")];
        assert_eq!(standing(&table("cc"), &all), Standing::Newest(&all[3]));
        assert_eq!(standing(&table("aa"), &all), Standing::Older(&all[2], &all[3]), "the later of the two");
        assert_eq!(standing(&table("dd"), &all), Standing::Foreign(&all[3]));
        assert_eq!(standing(&Ok(None), &all), Standing::Missing(&all[3]));
        assert_eq!(standing(&table("aa"), &[]), Standing::NotNoted);
        assert_eq!(standing(&Err("no nft".to_owned()), &all), Standing::Unknown("no nft"));
        let open = [generation(1, "aa"), generation(2, "")];
        assert_eq!(standing(&Ok(None), &open), Standing::Newest(&open[1]));
        assert_eq!(standing(&table("dd"), &open), Standing::Foreign(&open[1]));
    }

    #[test]
    fn for_people() {
        let all = [generation(1, "aa"), generation(2, "bb")];
        let told = |kernel: &Result<Option<Table>, String>| human(&all, &standing(kernel, &all), 300);
        let list = told(&table("bb"));
        let lines: Vec<_> = list.lines().collect();
        assert_eq!(lines.len(), 2, "{list}");
        assert!(
            lines[0].starts_with("     1  blocked     aa")
                && lines[0].ends_with("[its rules, 700.0 KiB, were dropped]"),
            "{list}"
        );
        assert!(
            lines[1].starts_with("*    2  blocked     bb") && lines[1].ends_with("connect asked"),
            "{list}"
        );
        assert!(
            told(&table("xx"))
                .ends_with("! the rules in force are none that vpnd noted; generation 2 was the last")
        );
        assert!(
            told(&table("aa"))
                .ends_with("! generation 1 is in force again, but not by vpnd, which put 2 last")
        );
        assert!(told(&Err("no nft".to_owned())).ends_with("cannot be told: no nft"));
        assert!(list.contains("    5 min ago  connect asked"), "{list}");
        assert_eq!(human(&[], &Standing::NotNoted, 0), "none noted since boot");
    }
}
