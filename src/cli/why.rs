//! `vpnd why`: the last blocked packets, or what would become of one.

mod leases;
mod listed;

use super::Outcome;
use super::args::Input;

pub fn run(input: &Input) -> Outcome {
    listed::run(input)
}
