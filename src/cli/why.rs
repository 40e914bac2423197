//! `vpnd why`: the last blocked packets, or what would become of one.

mod asked;
mod explain;
mod leases;
mod listed;
mod question;

use super::Outcome;
use super::args::Input;

pub fn run(input: &Input) -> Outcome {
    match (input.option("from"), input.option("to")) {
        (Some(from), Some(to)) => asked::run(input, from, to),
        (None, None) if input.option("state").is_none() => listed::run(input),
        _ => Err("--from WHO and --to WHAT go together; see 'vpnd why --help'".to_owned()),
    }
}
