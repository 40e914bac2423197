//! Guard table and egress hook beside the rules: brought to settings and facts whenever a policy is
//! in force, gone before the router opens. Never a precondition of blocking: what cannot be had is
//! remembered and told.

use crate::config::Settings;
use crate::firewall::guard::{Error, Guard, Hold, Keeper, Uplink};
use crate::policy::Facts;
use crate::routing;

#[derive(Default)]
pub(super) struct Guards {
    keeper: Option<Keeper>,
    /// What `status` names as missing.
    missing: Vec<String>,
}

impl Guards {
    /// Brings both to what settings and facts say.
    pub fn hold(&mut self, settings: &Settings, facts: &Facts, uplinks: &[routing::Uplink]) {
        let mut missing = Vec::new();
        match self.keeper() {
            Ok(keeper) => {
                let usable = uplinks.iter().filter(|uplink| !uplink.carries);
                let bound = usable.map(|uplink| bound(uplink, settings)).collect();
                let guard = Guard::new(settings, facts, bound);
                missing.extend(guard_words(keeper.hold(&guard.table())));
                missing.extend(egress_words(keeper, &guard));
                missing.extend(uplinks.iter().filter(|uplink| uplink.carries).map(unbound));
                if settings.lan.devices.is_empty() {
                    missing
                        .push("egress hook: no LAN is known, so that it could lock the owner out".to_owned());
                }
            }
            Err(error) => missing.push(format!("guard and egress hook: {error}")),
        }
        for words in missing.iter().filter(|words| !self.missing.contains(words)) {
            eprintln!("vpnd: missing layer: {words}");
        }
        self.missing = missing;
    }

    /// Both go, also what a dead daemon left.
    pub fn remove(&mut self) -> Result<(), Error> {
        self.missing.clear();
        let keeper = self.keeper()?;
        keeper.remove_egress()?;
        keeper.remove_guard()?;
        // A socket less while there is nothing to own.
        self.keeper = None;
        Ok(())
    }

    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    fn keeper(&mut self) -> Result<&mut Keeper, Error> {
        match &mut self.keeper {
            Some(keeper) => Ok(keeper),
            none => Ok(none.insert(Keeper::open()?)),
        }
    }
}

fn bound(uplink: &routing::Uplink, settings: &Settings) -> Uplink {
    let name = uplink.name.clone();
    let known = settings.wan_names.contains(&name);
    let pppoe = settings.wan_pppoe.contains(&name) || !known;
    Uplink { name, index: uplink.index, addresses: uplink.addresses.clone(), pppoe }
}

fn guard_words(held: Result<Hold, Error>) -> Option<String> {
    match held {
        Ok(Hold { persist: true, .. }) => None,
        Ok(_) => Some(
            "guard, once the daemon dies: this kernel (before 6.9) deletes it then, and a flush takes the rules too"
                .to_owned(),
        ),
        Err(error) => Some(format!("guard: should somebody flush nftables, only the routing barrier blocks until the rules are back: {error}")),
    }
}

fn egress_words(keeper: &mut Keeper, guard: &Guard) -> Option<String> {
    let held = match guard.egress() {
        Some(table) => keeper.hold(&table).map(drop),
        None => keeper.remove_egress(),
    };
    let error = held.err()?;
    let why = if error.is_unsupported() {
        "this kernel has none (CONFIG_NETFILTER_EGRESS)".to_owned()
    } else {
        error.to_string()
    };
    Some(format!(
        "egress hook: raw sockets on the WAN, and what is neither IP nor ARP, are not stopped: {why}"
    ))
}

fn unbound(uplink: &routing::Uplink) -> String {
    format!(
        "egress hook on {}: raw sockets are not stopped there: other devices stand on it, and what it carries may be the LAN's",
        uplink.name
    )
}
