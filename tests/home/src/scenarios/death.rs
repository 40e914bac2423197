//! Kill points of the transitions that need a tunnel.

use anyhow::Result;

use super::Scenario;
use crate::death;
use crate::town::Town;

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![("every effect is a kill point", death::covered_with_tunnel)]
}

/// Name and work: some points of each transition, which the seed chooses (`HOME_ALL`: all).
pub(super) fn transitions(seed: u64) -> impl Iterator<Item = (String, impl Fn(&mut Town) -> Result<String>)> {
    death::with_tunnel().map(move |transition| {
        let name = format!("killed before and after each effect of {}", transition.name());
        (name, move |town: &mut Town| death::each(town, transition, seed, 2))
    })
}
