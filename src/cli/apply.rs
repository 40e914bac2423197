//! `vpnd apply`: changed settings, with a way back.

use super::args::Input;
use super::ask::{self, PATIENCE};
use super::{DONE, Outcome, text};
use crate::config::IfName;
use crate::control::client::{self, Error};
use crate::control::{Applied, Apply, Reply, Request};

pub fn run(input: &Input) -> Outcome {
    let asked: Vec<_> = ["dry-run", "confirm", "undo"].into_iter().filter(|flag| input.flag(flag)).collect();
    match asked.as_slice() {
        ["confirm"] => simple(input, &Request::Confirm),
        ["undo"] => simple(input, &Request::Undo),
        [] | ["dry-run"] => apply(input),
        _ => Err(format!("--{}: one of them", asked.join(" and --"))),
    }
}

fn simple(input: &Input, request: &Request) -> Outcome {
    if input.option("confirm-within").is_some() {
        return Err("--confirm-within goes with new settings only".to_owned());
    }
    match ask::done(&input.run_dir, request) {
        Ok(notes) => {
            notes.iter().for_each(|note| text::say(note));
            Ok(DONE)
        }
        Err(error @ Error::NotRunning { .. }) if input.state().on_trial() => Err(format!(
            "{error}; settings that nobody confirmed are undone when it starts: 'service vpnd start'"
        )),
        Err(error) => Err(ask::told(&error, "apply")),
    }
}

fn apply(input: &Input) -> Outcome {
    let confirm_within = match input.option("confirm-within") {
        None => None,
        Some(text) => {
            let wrong = || format!("--confirm-within: '{text}' is no number of seconds from 1 to 3600");
            Some(text.parse().ok().filter(|seconds| (1..=3600).contains(seconds)).ok_or_else(wrong)?)
        }
    };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let session = session(&variable("SSH_CONNECTION"), &variable("SSH_CLIENT"));
    let request = Request::Apply(Apply { dry_run: input.flag("dry-run"), confirm_within, ..session });
    match client::call(&input.run_dir, &request, PATIENCE) {
        Ok(Reply::Applied(applied)) => {
            text::say(&told(&applied, input.flag("dry-run")));
            Ok(DONE)
        }
        Ok(_) => Err("the daemon's reply makes no sense".to_owned()),
        Err(error @ Error::NotRunning { .. }) => Err(format!(
            "{error}; nothing is in force to compare with or to go back to: 'service vpnd start' takes the \
             settings as they are, 'vpnd check' says what is wrong with them"
        )),
        Err(error) => Err(ask::told(&error, "apply")),
    }
}

/// Where an SSH session comes from, by what sshd and dropbear set: `CLIENT CPORT SERVER SPORT`, or
/// `CLIENT CPORT SPORT`. What makes no sense is not known.
fn session(connection: &str, client: &str) -> Apply {
    let words: Vec<&str> = if connection.is_empty() { client } else { connection }.split(' ').collect();
    let (address, device) = words.first().map_or(("", None), |word| match word.split_once('%') {
        Some((address, device)) => (address, device.parse::<IfName>().ok()),
        None => (*word, None),
    });
    let port = words.last().filter(|_| words.len() >= 3).and_then(|port| port.parse().ok());
    Apply { address: address.parse().ok(), device, port, ..Apply::default() }
}

fn told(applied: &Applied, dry_run: bool) -> String {
    let mut lines: Vec<String> = applied.changes.iter().map(|change| format!("  {change}")).collect();
    let heading = match (lines.is_empty(), dry_run) {
        (true, _) => "no traffic is treated differently",
        (false, true) => "this would change:",
        (false, false) => "this changes:",
    };
    lines.insert(0, heading.to_owned());
    lines.extend(applied.notes.iter().map(|note| format!("note: {note}")));
    let Some(seconds) = applied.trial_s else {
        return lines.join("\n");
    };
    lines.push(format!(
        "{}on trial for {seconds} s{}",
        if dry_run { "it would be " } else { "" },
        match applied.reasons.as_slice() {
            [] => String::new(),
            reasons => format!(", because {}", reasons.join(", and ")),
        }
    ));
    lines.push(
        "'vpnd apply --confirm' keeps it; without that the former settings come back by themselves"
            .to_owned(),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_session_comes_from() {
        let of = |connection, client| {
            let Apply { address, device, port, .. } = session(connection, client);
            (address.map(|a| a.to_string()), device.map(|d| d.to_string()), port)
        };
        let known = |address: &str, device: Option<&str>, port| {
            (Some(address.to_owned()), device.map(str::to_owned), port)
        };
        assert_eq!(of("203.0.113.9 40000 203.0.113.2 22", "x"), known("203.0.113.9", None, Some(22)));
        assert_eq!(of("", "203.0.113.9 40000 2222"), known("203.0.113.9", None, Some(2222)));
        assert_eq!(
            of("fe80::1%br-lan 40000 fe80::2%br-lan 22", ""),
            known("fe80::1", Some("br-lan"), Some(22))
        );
        assert_eq!(of("2001:db8::9 1 2001:db8::1 22", ""), known("2001:db8::9", None, Some(22)));
        assert_eq!(of("", ""), (None, None, None));
        assert_eq!(of("nobody 1 here 22", ""), (None, None, Some(22)));
        assert_eq!(of("203.0.113.9", ""), known("203.0.113.9", None, None));
    }

    #[test]
    fn for_people() {
        let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut applied = Applied {
            changes: text(&["A may now B"]),
            reasons: Vec::new(),
            trial_s: None,
            notes: text(&["odd"]),
        };
        assert_eq!(told(&applied, false), "this changes:\n  A may now B\nnote: odd");
        applied.trial_s = Some(60);
        applied.reasons = text(&["x", "y"]);
        assert!(
            told(&applied, false)
                .contains("\non trial for 60 s, because x, and y\n'vpnd apply --confirm' keeps it")
        );
        assert!(
            told(&applied, true).contains("this would change:")
                && told(&applied, true).contains("it would be on trial")
        );
        let nothing = Applied { changes: Vec::new(), reasons: Vec::new(), trial_s: None, notes: Vec::new() };
        assert_eq!(told(&nothing, false), "no traffic is treated differently");
    }
}
