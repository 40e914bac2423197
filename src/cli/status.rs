//! `vpnd status`: asks the daemon, and never takes its word for it.

use std::time::Duration;

use super::args::Input;
use super::judge::{self, Daemon, Kept, Kernel, Report, Word};
use super::{Outcome, generations, kernel, render, text};
use crate::control::client::{self, Error};
use crate::control::{Reply, Request};
use crate::state::{RunDir, uptime};

/// A daemon that lives answers in milliseconds, or once `nft` is done: seconds on a small router.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks, when the first may have fallen into a transition.
const SETTLE: Duration = Duration::from_millis(300);
const EVERY: Duration = Duration::from_secs(1);

/// Everything that was seen, and the verdict on it.
pub struct Seen {
    pub daemon: Daemon,
    pub kernel: Kernel,
    pub kept: Kept,
    pub report: Report,
}

pub fn run(input: &Input) -> Outcome {
    loop {
        let seen = settled(input);
        let words = if input.flag("json") { render::json(&seen) } else { render::human(&seen) };
        if !input.flag("watch") {
            text::say(&words);
            return Ok(seen.report.word.exit_code());
        }
        // Home and clear; one JSON document a line instead.
        if input.flag("json") {
            text::say(&words.replace('\n', ""));
        } else {
            print!("\x1b[H\x1b[2J");
            text::say(&words);
        }
        std::thread::sleep(EVERY);
    }
}

/// Daemon and kernel are looked at one after the other; a contradiction has to last.
fn settled(input: &Input) -> Seen {
    let first = look(input);
    if first.report.word != Word::Error && first.report.word != Word::Open {
        return first;
    }
    if !matches!(first.daemon, Daemon::Answers(_)) {
        return first;
    }
    std::thread::sleep(SETTLE);
    look(input)
}

/// One look at all three witnesses.
pub fn look(input: &Input) -> Seen {
    let daemon = ask(input);
    let (kernel, generations) = generations::beside(&RunDir::new(&input.run_dir), kernel::look);
    let state = input.state();
    let (wanted, trouble) = state.read_wanted();
    let trouble = trouble.map(|e| e.to_string());
    let (armed, on_trial) = (state.armed(), state.on_trial());
    let run = RunDir::new(&input.run_dir);
    let (boot, pause_s) = (run.boot(), run.pause_left().map(|left| left.as_secs()));
    let kept = Kept { armed, wanted, trouble, generations, uptime: uptime(), on_trial, boot, pause_s };
    let report = judge::judge(&daemon, &kernel, &kept);
    Seen { daemon, kernel, kept, report }
}

/// Dead only if nobody listens; everything else that keeps the answer away is "hung".
pub fn ask(input: &Input) -> Daemon {
    match client::call(&input.run_dir, &Request::Status, PATIENCE) {
        Ok(Reply::Status(status)) => Daemon::Answers(status),
        Ok(_) => Daemon::Hung("the daemon's reply makes no sense".to_owned()),
        Err(Error::NotRunning { .. }) => Daemon::Dead,
        Err(other) => Daemon::Hung(other.to_string()),
    }
}
