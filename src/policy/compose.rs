//! Stance, settings and facts -> policy.

use crate::config::{Mark, Settings};

use super::clause::{Clause, Family};
use super::draft::Draft;
use super::facts::Facts;
use super::stance::Stance;
use super::state::PolicyState;
use super::way::Way;
use super::zones::Zones;
use super::{blocked, connected, connecting, rows};

/// Everything that may pass in one state, in the contract's words. What no clause allows is
/// blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    state: PolicyState,
    zones: Zones,
    mark: Mark,
    unrouted: Vec<Family>,
    clauses: Vec<Clause>,
}

impl Policy {
    #[must_use]
    pub fn state(&self) -> PolicyState {
        self.state
    }

    #[must_use]
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// The mark of vpnd's own sockets.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Families that no tunnel carries now. The routing barrier ends their packets before the
    /// forward hook sees them, with a slow and rationed ICMP error of the kernel's own, so that
    /// the refusal must come earlier (contract, section 3: refusals of LAN traffic are fast).
    #[must_use]
    pub fn unrouted(&self) -> &[Family] {
        &self.unrouted
    }

    /// All clauses; those of one way in the order in which they are looked at.
    #[must_use]
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// The clauses of one way, in the order in which they are looked at.
    pub fn on(&self, way: Way) -> impl Iterator<Item = &Clause> + '_ {
        self.clauses.iter().filter(move |clause| clause.way == way)
    }
}

/// What the row builders read and write.
pub(super) struct Composer<'a> {
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    pub zones: &'a Zones,
    clauses: Vec<Clause>,
}

impl Composer<'_> {
    pub fn add(&mut self, draft: Draft) {
        self.clauses.extend(draft.clauses());
    }
}

/// The policy of a stance. None for [`Stance::Open`], which has none.
///
/// Pure. The order of the calls is the order of the clauses, and the first that matches decides:
/// the exceptions of a state come before the refusals that protect them, and those before the
/// exceptions of every state.
#[must_use]
pub fn compose(stance: &Stance, settings: &Settings, facts: &Facts) -> Option<Policy> {
    let state = PolicyState::of(stance)?;
    // At boot nothing is asked of the kernel (contract 4.1).
    let unknown = Facts::default();
    let facts = if state == PolicyState::Boot { &unknown } else { facts };
    let zones = Zones::new(stance, settings, facts);
    let mut c = Composer { settings, facts, zones: &zones, clauses: Vec::new() };

    rows::source::tunnel_address(&mut c, stance);
    match stance {
        Stance::Open | Stance::Boot => {}
        Stance::Blocked { api } => blocked::compose(&mut c, *api),
        Stance::Connecting { relays, listen_port, tunnel, dns } => {
            connecting::compose(&mut c, relays, *listen_port, tunnel.as_ref(), *dns);
        }
        Stance::Connected { relay, listen_port, tunnel } => {
            connected::compose(&mut c, *relay, *listen_port, tunnel);
        }
    }
    every_state(&mut c);

    let clauses = c.clauses;
    let carried = |family: &Family| {
        stance.tunnel().is_some_and(|tunnel| tunnel.addresses.iter().any(|net| family.holds(net)))
    };
    let unrouted = Family::BOTH.into_iter().filter(|family| !carried(family)).collect();
    Some(Policy { state, mark: settings.mark, unrouted, clauses, zones })
}

/// The contract's section 2, and what holds in every state of section 3.
fn every_state(c: &mut Composer<'_>) {
    rows::emergency::whoever_spoke_first(c);
    rows::api::for_nobody_else(c);
    rows::outer::listed_relays_for_nobody(c);
    rows::lan::router_from_lan(c);
    rows::lan::replies(c);
    rows::dns::outside_the_tunnel(c);
    rows::lan::router_to_lan(c);
    rows::lan::lan_to_lan(c);
    rows::dhcp::client(c);
    rows::neighbours::on_wan(c);
    rows::listed::prefixes(c);
    rows::listed::multicast(c);
    rows::service::answers(c);
    rows::source::unspecified(c);
}
