//! Tests of the firewall alone: on any kernel with nftables, as the tunnel is a stand-in.

use std::rc::Rc;

use anyhow::{Result, bail};

use vpnd::policy::Row;

use crate::cells;
use crate::home::{Home, Outcome};
use crate::house::{at, ip};
use crate::packets::{Body, Packet, SYN};
use crate::probes::{Case, Place, Step};
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
    tests.push(Test::new("2.8 over IPv6, where fw4 masquerades it", move || listed_over_v6(&*rules)));
    tests
}

/// With `masq6` a LAN host reaches a listed prefix over IPv6 as well.
fn listed_over_v6(rules: &dyn Rules) -> Result<String> {
    let mut home = Home::build()?;
    for policy in [Policy::Blocked, Policy::Connecting, Policy::Connected] {
        home.enter(policy, 0, rules)?;
        home.load(
            "table ip6 masq6 {
    chain out {
        type nat hook postrouting priority srcnat
        oifname wan masquerade
    }
}
",
        )?;
        let modem = ip(at::MODEM[1]);
        let body = Body::Tcp { from: fastrand::u16(20_000..60_000), to: 80, flags: SYN };
        let step = Step::Tv(Packet::new(ip(at::TV[1]), modem, body));
        let case = Case::new(Row::ListedWan, "LAN -> the modem over IPv6, masqueraded", step, Place::Wan)
            .passes(&[policy]);
        if let Some(fault) = home.run(&[case], policy, 0)?.iter().find_map(Outcome::fault) {
            bail!("{fault}");
        }
    }
    Ok(String::new())
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
    home.enter(policy, relay, rules)?;
    home.control()?;
    let faults = cells_uncontrolled(home, policy, relay, rules, wanted)?;
    home.control()?;
    Ok(faults)
}

/// As [`cells_in`] without control frames: for rules that do not let one out.
///
/// # Errors
/// When the harness fails.
pub fn cells_uncontrolled(
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
    let mut faults = Vec::new();
    for outcome in home.run(&cases, policy, relay)? {
        let Some(fault) = outcome.fault() else { continue };
        // A machine with more to do than it can may lose a probe that must pass: what does not
        // come out alone, either, is stopped.
        let alone = |home: &mut Home| home.run(std::slice::from_ref(&outcome.case), policy, relay);
        if outcome.is_lost() && alone(home)?.iter().all(|again| again.fault().is_none()) {
            println!("     came out at the second try only: {fault}");
            continue;
        }
        faults.push(fault);
    }
    Ok(faults)
}
