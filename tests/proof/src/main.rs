//! Proves that the compiled rules do what the contract says, class by class; see docs/proof.md.
//!
//! Environment: SEED chooses packets, setting combinations and mutants; ALL=1: all of them.

mod actual;
mod alter;
mod atoms;
mod contract;
mod dims;
mod errors;
mod expect;
mod explore;
mod home;
mod lane;
mod mutate;
mod report;
mod rules;
mod setup;
mod survivors;
mod table;
mod words;

use report::Report;

fn main() -> std::process::ExitCode {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let all = std::env::var("ALL").is_ok_and(|all| !all.is_empty());
    let mut report = Report::new(seed, all);
    report.proof();
    report.altered_rules();
    report.altered_contract();
    report.end()
}
