//! The verbs: one file per group. Exit codes are in docs/cli.md.

mod apply;
mod args;
mod ask;
mod block;
mod check;
mod connect;
mod diff;
mod disarm;
mod force;
mod generations;
mod import;
mod judge;
mod kernel;
mod relays;
mod render;
mod ruleset;
mod setup;
mod status;
mod text;
mod verbs;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Input, Parsed};

/// What a verb ends with: its exit code, or words for stderr and exit code 1.
type Outcome = Result<u8, String>;

/// Done, and also `status`: connected.
const DONE: u8 = 0;
const FAILED: u8 = 1;

/// Runs the verb that `args` names (argv[0] included) and returns the process's exit code.
#[must_use]
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let code = match args::parse(args) {
        Ok(Parsed::Say(words)) => {
            text::say(&words);
            DONE
        }
        Ok(Parsed::Run(verb, input)) => dispatch(verb, &input).unwrap_or_else(|words| {
            eprintln!("vpnd {verb}: {}", text::clean(&words));
            FAILED
        }),
        Err(words) => {
            eprintln!("vpnd: {}", text::clean(&words));
            FAILED
        }
    };
    ExitCode::from(code)
}

fn dispatch(verb: &str, input: &Input) -> Outcome {
    match verb {
        "daemon" => daemon(input),
        "block" => block::run(input),
        "status" => status::run(input),
        "connect" => connect::run(input),
        "disarm" => disarm::run(input),
        "relays" => relays::run(input),
        "import" => import::run(input),
        "check" => check::run(input),
        "ruleset" => ruleset::run(input),
        "why" => why::run(input),
        "generations" => generations::run(input),
        "diff" => diff::run(input),
        "apply" => apply::run(input),
        "setup" => setup::setup(input),
        "teardown" => setup::teardown(input),
        _ => ask::run(verb, input),
    }
}

fn daemon(input: &Input) -> Outcome {
    let dirs = crate::daemon::Dirs {
        config: input.config_dir.clone(),
        run: input.run_dir.clone(),
        state: input.state_dir.clone(),
    };
    crate::daemon::run(&dirs, &kernel::nft_program()).map_err(|e| e.to_string())?;
    Ok(DONE)
}
