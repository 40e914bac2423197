//! Which relay comes next.

use crate::config::{Relay, RelayName, Settings};

/// Rounds over all fitting relays before the machine pauses in the error state.
pub(super) const ROUNDS: usize = 2;

/// The relays that fit what was asked for, in the configuration's order: the one of that name,
/// or else all of that city or country; without a wish, all.
pub(super) fn fitting<'a>(settings: &'a Settings, wish: Option<&RelayName>) -> Vec<&'a Relay> {
    let Some(wish) = wish else {
        return settings.relays.iter().collect();
    };
    if let Some(relay) = settings.relays.iter().find(|relay| relay.name == *wish) {
        return vec![relay];
    }
    settings.relays.iter().filter(|relay| lies_in(relay, wish.as_str())).collect()
}

/// Whether a relay is in the country or city called `wish`; spaces may be written as `-`.
#[must_use]
pub fn lies_in(relay: &Relay, wish: &str) -> bool {
    let is = |text: &str| text.replace(' ', "-").eq_ignore_ascii_case(&wish.replace(' ', "-"));
    is(&relay.country) || is(&relay.city)
}

/// The one after `last` in a round; the first when `last` is not among them.
pub(super) fn after<'a>(relays: &[&'a Relay], last: Option<&RelayName>) -> Option<&'a Relay> {
    let at = relays.iter().position(|relay| Some(&relay.name) == last);
    let next = at.map_or(0, |at| (at + 1) % relays.len());
    relays.get(next).copied()
}
