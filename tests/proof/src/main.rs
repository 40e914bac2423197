//! Proves that the compiled rules do what the contract says, class by class; see docs/proof.md.
//!
//! proof [classes|rules|contract|stop]...: these parts only.
//! Environment: SEED chooses packets, setting combinations and mutants; ALL=1: all of them.

mod actual;
mod alter;
mod atoms;
mod contract;
mod devices;
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
mod stop;
mod survivors;
mod table;
mod words;

use report::Report;

fn main() -> std::process::ExitCode {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let all = std::env::var("ALL").is_ok_and(|all| !all.is_empty());
    let mut report = Report::new(seed, all);
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    if wants("classes") {
        report.classes();
    }
    if wants("rules") {
        report.altered_rules();
    }
    if wants("contract") {
        report.altered_contract();
    }
    if wants("stop") {
        report.stop();
    }
    report.end()
}
