//! Tests of the firewall alone: on any kernel with nftables, as the tunnel is a stand-in.

use std::rc::Rc;

use anyhow::{Result, bail};

use crate::cells;
use crate::home::Home;
use crate::probes::Case;
use crate::suite::Test;
use crate::vpnd::{Policy, Rules};

/// The cells of every policy, with each relay's family.
#[must_use]
pub fn tests(rules: Rc<dyn Rules>) -> Vec<Test> {
    let mut tests = Vec::new();
    for relay in [0, 2] {
        for policy in Policy::ALL {
            let rules = Rc::clone(&rules);
            let family = if relay == 0 { "IPv4" } else { "IPv6" };
            let name = format!("cells: {}, relay over {family}", policy.word());
            tests.push(Test::new(name, move || {
                let mut home = Home::build()?;
                let faults = cells_in(&mut home, policy, relay, &*rules, |_| true)?;
                match faults.len() {
                    0 => Ok(String::new()),
                    n => bail!("{n} faults:\n  {}", faults.join("\n  ")),
                }
            }));
        }
    }
    tests
}

/// Runs the cases that `wanted` picks in one policy; what went wrong, one line each.
///
/// # Errors
/// When the harness fails.
pub fn cells_in(
    home: &mut Home,
    policy: Policy,
    relay: usize,
    rules: &dyn Rules,
    wanted: impl Fn(&Case) -> bool,
) -> Result<Vec<String>> {
    let cases: Vec<Case> = cells::all()
        .into_iter()
        .filter(|c| c.relay.unwrap_or(relay) == relay && wanted(c))
        .filter(|c| c.passes.contains(&policy) || c.blocked.contains(&policy))
        .collect();
    home.enter(policy, relay, rules)?;
    home.control()?;
    let outcomes = home.run(&cases, policy, relay)?;
    home.control()?;
    Ok(outcomes.iter().filter_map(crate::home::Outcome::fault).collect())
}
