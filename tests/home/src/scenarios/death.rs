//! Kill points of the transitions that need a tunnel.

use anyhow::Result;

use super::Scenario;
use crate::death;
use crate::town::Town;

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    // Takes minutes; without a tunnel the native test knows all but two.
    if everything() { vec![("every effect is a kill point", death::covered_with_tunnel)] } else { Vec::new() }
}

fn everything() -> bool {
    std::env::var_os("HOME_ALL").is_some()
}

/// Name and work: two points of two transitions, all of which the seed chooses, or with `HOME_ALL`
/// eight of each transition: a point takes half a minute here.
pub(super) fn transitions(seed: u64) -> impl Iterator<Item = (String, impl Fn(&mut Town) -> Result<String>)> {
    let count = death::with_tunnel().count() as u64;
    let most = if everything() { 8 } else { 2 };
    let chosen = move |at: u64| everything() || (at + count - seed % count) % count < 2;
    let all = death::with_tunnel().enumerate().filter(move |(at, _)| chosen(*at as u64));
    all.map(move |(_, transition)| {
        let name = format!("killed before and after each effect of {}", transition.name());
        (name, move |town: &mut Town| death::each(town, transition, seed, most))
    })
}
