//! Two more layers of blocking, beside `inet vpnd` and shown to hold without it.
//!
//! [`Guard`] says once more, and the other way round, what may leave by a device that is neither
//! loopback, LAN nor tunnel; it is the same in every enforcing state. It becomes two tables:
//!
//! - `inet vpnd_guard`: one chain after all others at postrouting, forwarded packets and the
//!   router's own;
//! - `netdev vpnd_egress`: one chain for each device of the WAN, which also sees what passes no
//!   other hook: raw packet sockets and offloaded flows; and what is not IP (contract 2.10).
//!
//! They are sent over a socket that the daemon keeps ([`Keeper`]) and belong to it: nobody else can
//! change or delete them, nor does `flush ruleset`. From Linux 6.9 they also outlive the daemon
//! (flag `persist`); before, they go with it, and `inet vpnd` stands alone.
//!
//! | file | holds |
//! |---|---|
//! | `table.rs` | tables, chains, rules, expressions as values |
//! | `rules.rs` | a clause of the policy as rules of either table |
//! | `message.rs` | both on the wire |
//! | `keeper.rs` | the socket: install, replace, take over, remove, look |

mod keeper;
mod message;
mod rules;
mod table;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use crate::config::{IfName, Mark, Settings};
use crate::policy::{Action, Clause, Facts, Row, Stance, TUNNEL_GROUP, Way, compose};

pub use keeper::{Error, Hold, Keeper, Standing, remove_left_over, standing};
pub use table::Table;

use rules::Place;
use table::{Chain, Hook, Rule};

/// The table at postrouting.
pub const GUARD: &str = "vpnd_guard";
/// The table of the egress hook.
pub const EGRESS: &str = "vpnd_egress";

/// After everything of ours (300 is the last) and all NAT.
const LAST: i32 = 320;
/// `NF_INET_POST_ROUTING`, `NF_NETDEV_EGRESS`.
const POSTROUTING: u32 = 4;
const EGRESS_HOOK: u32 = 1;

/// IEEE 802.1X.
const EAPOL: u16 = 0x888e;
/// RFC 2516.
const PPPOE: [u16; 2] = [0x8863, 0x8864];
/// RFC 826 over Ethernet for IPv4: hardware 1, protocol 0x0800, lengths 6 and 4.
const ARP_FOR_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Where such a packet has its sender's IPv4 address, in bytes.
const ARP_SENDER: u32 = 14;

/// A device of the WAN that the egress hook is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    pub name: IfName,
    /// A device made anew under its name has another.
    pub index: u32,
    /// Its own addresses: who it may say that it is.
    pub addresses: Vec<Ipv4Addr>,
    /// pppd speaks on it, or configuration does not say.
    pub pppoe: bool,
}

/// What may leave by the WAN in any enforcing state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Devices by which everything may leave, the busiest first.
    inside: Vec<IfName>,
    mark: Mark,
    /// Exceptions and refusals, in order: the first that matches decides.
    router: Vec<Clause>,
    lan: Vec<Clause>,
    uplinks: Vec<Uplink>,
}

impl Guard {
    /// The policy of no state lets out by the WAN what this does not: its clauses are those that
    /// every state has, and what is marked as vpnd's own (tests/guard).
    #[must_use]
    pub fn new(settings: &Settings, facts: &Facts, mut uplinks: Vec<Uplink>) -> Self {
        let policy = compose(&Stance::Blocked { api: true }, settings, facts);
        let on = |way: Way| -> Vec<Clause> {
            let clauses = policy.iter().flat_map(|policy| policy.on(way));
            clauses.filter(|clause| clause.action != Action::Drop).cloned().collect()
        };
        let [tunnel, other] = TUNNEL_GROUP.map(|name| name.parse().ok());
        let lan = settings.lan.devices.iter().map(|device| device.name.clone());
        let inside: Vec<IfName> =
            tunnel.into_iter().chain(lan).chain("lo".parse().ok()).chain(other).collect();
        // Where no LAN is known, any device may be the owner's.
        let known = !settings.lan.devices.is_empty();
        uplinks.retain(|uplink| known && !inside.contains(&uplink.name));
        Self { inside, mark: settings.mark, router: on(Way::RouterToWan), lan: on(Way::LanToWan), uplinks }
    }

    /// `inet vpnd_guard`. What somebody flushes ends in accept: `inet vpnd` stands beside it.
    #[must_use]
    pub fn table(&self) -> Table {
        let place = Place::Postrouting;
        let anything = |device| rules::accepts(rules::leaves_by(device), "0.0 loopback, LAN, tunnel");
        let mut leaving: Vec<Rule> = self.inside.iter().map(anything).collect();
        // WireGuard's outer packets come here with the tunnel's device as the one they came in by: they
        // are told by their mark first. A LAN host's packet is nobody's own, whatever its mark.
        let others = |device| rules::leads_to(rules::arrives_by(device), "forwarded", "0.0 forwarded");
        let (tunnels, lan): (Vec<_>, Vec<_>) =
            self.inside.iter().partition(|device| TUNNEL_GROUP.contains(&device.as_str()));
        leaving.extend(lan.into_iter().map(others));
        leaving.push(self.own());
        leaving.extend(tunnels.into_iter().map(others));
        leaving.extend(self.router.iter().flat_map(|clause| rules::rules(clause, place)));
        leaving.push(blocked());
        let mut forwarded: Vec<Rule> =
            self.lan.iter().flat_map(|clause| rules::rules(clause, place)).collect();
        forwarded.push(blocked());
        let hook = Hook { number: POSTROUTING, priority: LAST, device: None, index: None };
        Table {
            family: libc::NFPROTO_INET as u8,
            name: GUARD,
            chains: vec![chain("forwarded", None, forwarded), chain("leaving", Some(hook), leaving)],
        }
    }

    /// `netdev vpnd_egress`. None: there is no device to hold.
    #[must_use]
    pub fn egress(&self) -> Option<Table> {
        if self.uplinks.is_empty() {
            return None;
        }
        let mut ip = vec![self.own()];
        for clause in self.router.iter().chain(&self.lan) {
            for rule in rules::rules(clause, Place::Egress) {
                // Most of them are the router's and the LAN's.
                if !ip.contains(&rule) {
                    ip.push(rule);
                }
            }
        }
        ip.push(blocked());
        let mut chains = vec![chain("ip", None, ip)];
        for uplink in &self.uplinks {
            let device = Some(uplink.name.clone());
            let index = Some(uplink.index);
            let hook = Hook { number: EGRESS_HOOK, priority: 0, device, index };
            chains.push(chain(&format!("by_{}", uplink.name), Some(hook), link_layer(uplink)));
        }
        Some(Table { family: libc::NFPROTO_NETDEV as u8, name: EGRESS, chains })
    }

    fn own(&self) -> Rule {
        rules::accepts(rules::marked(self.mark), "3.1 vpnd's own sockets, and the tunnel's")
    }
}

/// Row 2.10, and IP on its way to its own rules.
fn link_layer(uplink: &Uplink) -> Vec<Rule> {
    let mut list = Vec::new();
    for kind in [libc::ETH_P_IP, libc::ETH_P_IPV6] {
        list.push(rules::leads_to(rules::of_type(kind as u16), "ip", "0.0 IP"));
    }
    // Who has no address yet asks whether one is taken (RFC 5227).
    for sender in uplink.addresses.iter().copied().chain([Ipv4Addr::UNSPECIFIED]) {
        let mut exprs = rules::of_type(libc::ETH_P_ARP as u16);
        exprs.extend(rules::has(0, &ARP_FOR_IPV4));
        exprs.extend(rules::has(ARP_SENDER, &sender.octets()));
        list.push(rules::accepts(exprs, &row("ARP with the device's own addresses")));
    }
    list.push(rules::accepts(rules::of_type(EAPOL), &row("EAPOL")));
    for kind in PPPOE.into_iter().filter(|_| uplink.pppoe) {
        list.push(rules::accepts(rules::of_type(kind), &row("PPPoE")));
    }
    list.push(rules::drops(Vec::new(), &row("nothing else that is not IP")));
    list
}

fn row(what: &str) -> String {
    format!("{} {what}", Row::WanLayer2.number())
}

fn blocked() -> Rule {
    rules::drops(Vec::new(), "0.0 what nothing allows")
}

fn chain(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), hook, rules }
}
