//! `vpnd diff A B`: what may pass under one generation and not under another. Needs no daemon.

use std::fmt::Write;

use serde_json::{Value, json};

use super::args::Input;
use super::text;
use super::{DONE, Outcome};
use crate::policy::sentence::{self, Kind, Sentence};
use crate::policy::{Difference, difference};
use crate::state::{Generation, RunDir};

/// Items of one sentence that are shown to people; JSON has them all.
const SHOWN: usize = 8;

pub fn run(input: &Input) -> Outcome {
    let run = RunDir::new(&input.run_dir);
    let all = run.generations();
    let (old, new) = chosen(&all, &input.values)?;
    // Without rules all that vpnd blocked passes: no list of sentences says that.
    let found = if old.hash.is_empty() || new.hash.is_empty() {
        Vec::new()
    } else {
        difference(&sentences(&run, old)?, &sentences(&run, new)?)
    };
    if input.flag("json") {
        let rows: Vec<Value> = found.iter().map(row).collect();
        let end = |generation: &Generation| json!({ "number": generation.number, "state": generation.state, "hash": generation.hash });
        let value = json!({ "from": end(old), "to": end(new), "rows": rows });
        text::say(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        text::say(&human(old, new, &found));
    }
    Ok(DONE)
}

/// A and B; without B the newest; without both the last two.
fn chosen<'a>(all: &'a [Generation], values: &[String]) -> Result<(&'a Generation, &'a Generation), String> {
    let known = |text: &String| {
        let wrong = || match (all.first(), all.last()) {
            (Some(first), Some(last)) => format!(
                "'{text}' is no generation that is remembered; those from {} to {} are",
                first.number, last.number
            ),
            _ => "no generation is remembered: no rules were put since boot".to_owned(),
        };
        all.iter().find(|generation| generation.number.to_string() == *text).ok_or_else(wrong)
    };
    let newest = all.last().ok_or("no generation is remembered: no rules were put since boot")?;
    match values {
        [a, b, ..] => Ok((known(a)?, known(b)?)),
        [a] => Ok((known(a)?, newest)),
        [] => match all {
            [.., before, newest] => Ok((before, newest)),
            _ => Err(format!("generation {} is the only one", newest.number)),
        },
    }
}

fn sentences(run: &RunDir, generation: &Generation) -> Result<Vec<Sentence>, String> {
    let number = generation.number;
    if let Some(size) = generation.dropped {
        let size = text::bytes(size);
        return Err(format!("the rules of generation {number} ({size}) were dropped to save memory"));
    }
    let rules = run.generation_rules(number).map_err(|error| error.to_string())?;
    rules
        .and_then(|rules| sentence::read(&rules))
        .ok_or_else(|| format!("what is remembered of generation {number} is damaged"))
}

fn items(sentence: &Sentence) -> Vec<&str> {
    sentence.items.split(' ').filter(|item| !item.is_empty()).collect()
}

/// What a sentence means when it is in one of the two only.
fn verb(kind: Kind, now: bool) -> &'static str {
    match (kind, now) {
        (Kind::Passes, true) => "may pass now",
        (Kind::Passes, false) => "may not pass any more",
        (_, true) => "holds now",
        (_, false) => "no longer holds",
    }
}

fn row(found: &Difference) -> Value {
    let list = |all: &[Sentence], now: bool| -> Value {
        let one = |sentence: &Sentence| json!({ "what": verb(sentence.kind, now), "text": sentence.words(), "items": items(sentence) });
        all.iter().map(one).collect()
    };
    json!({
        "row": found.row.number(),
        "title": found.row.title(),
        "now": list(&found.now, true),
        "no_longer": list(&found.gone, false),
    })
}

fn human(old: &Generation, new: &Generation, found: &[Difference]) -> String {
    let mut out = format!("generation {} ({}) -> {} ({})\n", old.number, old.state, new.number, new.state);
    for open in [old, new].into_iter().filter(|end| end.hash.is_empty()) {
        let _ = writeln!(out, "generation {} has no rules: vpnd blocks nothing", open.number);
    }
    for difference in found {
        let _ = writeln!(out, "{} {}", difference.row.number(), difference.row.title());
        for (all, now) in [(&difference.now, true), (&difference.gone, false)] {
            for sentence in all {
                let sign = if now { '+' } else { '-' };
                let items = items(sentence);
                let shown = items.get(..SHOWN).unwrap_or(&items).join(" ");
                let more = items.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let line = format!("  {sign} {}: {} {shown}", verb(sentence.kind, now), sentence.words());
                let _ = writeln!(out, "{}{more}", line.trim_end());
            }
        }
    }
    if found.is_empty() && old.hash.is_empty() == new.hash.is_empty() {
        out.push_str("the same may pass\n");
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{compose, samples};

    fn generation(number: u32, state: &str) -> Generation {
        let hash = if state == "open" { String::new() } else { format!("{number}") };
        let (state, cause) = (state.to_owned(), String::new());
        Generation { number, state, hash, cause, when: 0, uptime: 0, dropped: None }
    }

    #[test]
    fn two_are_chosen() {
        let all = [generation(4, "boot"), generation(5, "blocked"), generation(7, "open")];
        let pick = |words: &str| {
            let values: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            chosen(&all, &values).map(|(a, b)| (a.number, b.number))
        };
        assert_eq!(pick("4 5"), Ok((4, 5)));
        assert_eq!(pick("7 4"), Ok((7, 4)));
        assert_eq!(pick("4"), Ok((4, 7)));
        assert_eq!(pick(""), Ok((5, 7)));
        for wrong in ["6", "3 4", "x", "4 6"] {
            assert!(pick(wrong).unwrap_err().contains("those from 4 to 7 are"), "{wrong}");
        }
        assert!(chosen(&all[..1], &[]).unwrap_err().contains("4 is the only one"));
        assert!(chosen(&[], &[]).unwrap_err().contains("no rules were put"));
    }

    /// From each state to the next, in a plain and in a full home: what `vpnd diff` says.
    #[test]
    fn for_people() {
        let said = |name: &str| {
            let case = samples::cases().into_iter().find(|case| case.name == name).unwrap();
            sentence::sentences(&compose(&case.stance, &case.settings, &case.facts).unwrap())
        };
        let mut all = String::new();
        for (from, to) in [
            ("boot-plain", "blocked-plain"),
            ("blocked-plain", "connecting-plain"),
            ("connecting-plain", "connecting-device"),
            ("connecting-full", "connected-full"),
            ("connected-full", "blocked-full"),
            ("blocked-nothing", "blocked-plain"),
        ] {
            let (from, to) = ((generation(1, from), said(from)), (generation(2, to), said(to)));
            all += &format!("{}\n\n", human(&from.0, &to.0, &difference(&from.1, &to.1)));
        }
        all += &format!("{}\n", human(&generation(1, "connected"), &generation(2, "open"), &[]));
        crate::golden("diff.txt", &all);
    }

    #[test]
    fn a_long_list_is_cut_for_people_only() {
        let items = (0..20).map(|n| format!("10.0.{n}.0/24")).collect::<Vec<_>>().join(" ");
        let row_of = crate::policy::Row::ListedWan;
        let (what, way, details) = ("x".to_owned(), String::new(), "to".to_owned());
        let sentence = Sentence { row: row_of, kind: Kind::Passes, what, way, details, items };
        let found = [Difference { row: sentence.row, now: vec![sentence], gone: Vec::new() }];
        let text = human(&generation(1, "boot"), &generation(2, "boot"), &found);
        assert!(text.ends_with("10.0.7.0/24 and 12 more"), "{text}");
        assert_eq!(row(&found[0])["now"][0]["items"].as_array().unwrap().len(), 20);
        assert!(human(&generation(1, "boot"), &generation(2, "boot"), &[]).ends_with("the same may pass"));
    }
}
