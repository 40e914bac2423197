//! A policy into the kernel, and into the list of generations once it is read back.

use crate::firewall::{self, InForce, Nft};
use crate::policy::{Policy, Stop, sentence};
use crate::state::RunDir;

/// The state of a generation without rules.
pub const OPEN: &str = "open";

/// Puts `policy` in force; also the generation's number, if it could be noted.
///
/// # Errors
/// As [`Nft::apply`]: what was in force before still is, and makes no generation.
pub fn enforce(
    nft: &Nft,
    run: &RunDir,
    policy: &Policy,
    cause: &str,
) -> Result<(InForce, Option<u32>), firewall::Error> {
    enforce_stopping(nft, run, policy, None, cause).map(|done| (done.in_force, done.number))
}

/// The hash of the last policy that was put in force and read back, by whatever process.
#[must_use]
pub fn recorded(run: &RunDir) -> Option<String> {
    run.generations().pop().map(|newest| newest.hash)
}

/// A policy that was put in force.
pub struct Enforced {
    pub in_force: InForce,
    /// The generation's, if it could be noted.
    pub number: Option<u32>,
    /// Why the stop does not stand, where one was wanted.
    pub unstopped: Option<String>,
}

/// As [`enforce`], with a stop ahead of the flowtables in the same transaction.
///
/// # Errors
/// As [`enforce`]; never because of the stop.
pub fn enforce_stopping(
    nft: &Nft,
    run: &RunDir,
    policy: &Policy,
    stop: Option<&Stop>,
    cause: &str,
) -> Result<Enforced, firewall::Error> {
    let _applying = run.applying();
    let (in_force, unstopped) = nft.apply_stopping(&firewall::compile(policy), stop)?;
    let rules = || sentence::write(&sentence::sentences(policy));
    let number = note(run, in_force.state.as_str(), &in_force.hash.to_string(), cause, rules);
    Ok(Enforced { in_force, number, unstopped })
}

/// Takes the rules away. A router that never had any gets no generation.
///
/// # Errors
/// As [`Nft::remove`].
pub fn open(nft: &Nft, run: &RunDir, cause: &str) -> Result<(), firewall::Error> {
    let _applying = run.applying();
    nft.remove()?;
    if !run.generations().is_empty() {
        note(run, OPEN, "", cause, String::new);
    }
    Ok(())
}

/// A record that cannot be written stops nothing.
fn note(run: &RunDir, state: &str, hash: &str, cause: &str, rules: impl FnOnce() -> String) -> Option<u32> {
    match run.add_generation(state, hash, cause, rules) {
        Ok(generation) => Some(generation.number),
        Err(error) => {
            eprintln!("vpnd: this generation is not noted: {error}");
            None
        }
    }
}
