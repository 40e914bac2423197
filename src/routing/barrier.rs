//! Brings the kernel's rules and routes to what `plan` wants, and takes them away again.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::{IfName, Mark, Settings};
use crate::policy::{Entrances, Facts, TunnelStance};
use crate::rtnetlink::{LinkMessage, Request};
use crate::sorted::Map;

use super::netlink::Netlink;
use super::plan::{self, Family, TABLE_LAN};
use super::route::Route;
use super::rule::{Action, Rule};
use super::snapshot::Snapshot;
use super::standing::{Said, Standing, families};
use super::uplinks::{self, Uplink};
use super::{Error, Mended, Part, facts, group, offload};

/// A pass that changed something is followed by another, which finds nothing to do: the barrier is
/// read back. Devices that come and go meanwhile may need a few more.
const PASSES: u32 = 6;

/// This room's handle. Each call has a netlink connection of its own.
#[derive(Debug)]
pub struct Router(());

impl Router {
    /// Must be called inside a tokio runtime, as must all methods.
    ///
    /// # Errors
    /// [`Error::Open`] when the process may not have a routing netlink socket.
    pub fn open() -> Result<Self, Error> {
        Netlink::open().map(|_| Self(()))
    }

    /// Devices and addresses. `leases`: the DHCP server of each WAN device's current lease.
    ///
    /// # Errors
    /// When the kernel does not list its devices.
    pub async fn facts(
        &self,
        settings: &Settings,
        tunnel: &IfName,
        leases: &Map<IfName, Ipv4Addr>,
    ) -> Result<Facts, Error> {
        self.look(settings, tunnel, leases).await.map(|(facts, _)| facts)
    }

    /// [`Router::facts`], and where LAN packets come in at that moment.
    ///
    /// # Errors
    /// When the kernel does not list its devices.
    pub async fn look(
        &self,
        settings: &Settings,
        tunnel: &IfName,
        leases: &Map<IfName, Ipv4Addr>,
    ) -> Result<(Facts, Entrances), Error> {
        facts::read(&Netlink::open()?, settings, tunnel, leases).await
    }

    /// Makes the kernel ask again which way offloaded flows go, which ends their being offloaded:
    /// each packet passes the rules again. Not of flows that it sends out by a device below the
    /// route's own (a VLAN's carrier, a bridge's port), for which it never asks
    /// (`nf_flow_dst_check`).
    ///
    /// # Errors
    /// The first refusal of the kernel, after everything else was tried.
    pub async fn end_offloading(&self) -> Result<(), Error> {
        offload::end(&Netlink::open()?).await
    }

    /// The devices of the WAN, for the egress hook.
    ///
    /// # Errors
    /// When the kernel does not list its devices.
    pub async fn uplinks(&self, settings: &Settings) -> Result<Vec<Uplink>, Error> {
        Ok(uplinks::from_snapshot(&Snapshot::take(&Netlink::open()?).await?, settings))
    }

    /// Where a packet of ours that carries `mark` would go; None when it has no route.
    ///
    /// # Errors
    /// When the kernel fails to answer at all.
    pub async fn route_to(&self, to: IpAddr, mark: Mark) -> Result<Option<facts::Path>, Error> {
        facts::route_to(&Netlink::open()?, to, mark).await
    }

    /// Raises the barrier, or mends it: idempotent, and read back; says what was missing and what
    /// was there that should not be. What is new is put up before
    /// what is old goes; rules of others in [`PRIORITIES`] and routes of others in our two tables
    /// are deleted. Devices that do not exist or are down get their routes at the next call.
    ///
    /// # Errors
    /// The first refusal of the kernel, after everything else was tried. The rule that ends the
    /// barrier is put up regardless, unless the LAN could not be reached then.
    pub async fn raise(
        &self,
        settings: &Settings,
        facts: &Facts,
        tunnel: Option<&TunnelStance>,
    ) -> Result<Vec<Mended>, Error> {
        let netlink = Netlink::open()?;
        let mut mended = Vec::new();
        let mut last = Ok(());
        for _ in 0..PASSES {
            let snapshot = Snapshot::take(&netlink).await?;
            let standing = Standing::read(&netlink).await?;
            let lan_in_main = group::tells_lan(settings, &snapshot, &standing.main);
            let mut wanted = Wanted {
                rules: plan::rules(settings, facts, lan_in_main),
                routes: plan::routes(settings, facts, tunnel, &snapshot),
                groups: group::moves(settings, &snapshot),
            };
            let families: Vec<Family> = families().collect();
            wanted.rules.retain(|rule| families.contains(&rule.family));
            wanted.routes.retain(|r| families.contains(&Family::of_address(r.to.addr())));
            last = match standing.bring_to(&wanted, &netlink, &mut mended).await {
                Ok(0) => return Ok(mended),
                Ok(_) => {
                    Err(Error::Incomplete { what: "raising the routing barrier".to_owned(), tries: PASSES })
                }
                Err(error) => Err(error),
            };
        }
        last.map(|()| mended)
    }

    /// Takes away every rule in [`PRIORITIES`] and every route in our tables, and every device out
    /// of our group. Fine when there are none.
    ///
    /// # Errors
    /// The first refusal of the kernel, after everything else was tried.
    pub async fn lower(&self) -> Result<(), Error> {
        let netlink = Netlink::open()?;
        let groups = group::all_back(&Snapshot::take(&netlink).await?);
        let wanted = Wanted { groups, ..Wanted::default() };
        Standing::read(&netlink).await?.bring_to(&wanted, &netlink, &mut Vec::new()).await.map(|_| ())
    }

    /// Whether any part of the barrier is there.
    ///
    /// # Errors
    /// When the kernel does not list rules and routes.
    pub async fn standing(&self) -> Result<bool, Error> {
        let standing = Standing::read(&Netlink::open()?).await?;
        Ok(!standing.rules.is_empty() || !standing.routes.is_empty())
    }
}

#[derive(Default)]
struct Wanted {
    rules: Vec<Rule>,
    routes: Vec<Route>,
    /// Device indices that have to change their interface group, and to which.
    groups: Vec<(u32, u32)>,
}

impl Standing {
    /// Returns how many changes were made; those of rules and routes are added to `mended`.
    async fn bring_to(
        &self,
        wanted: &Wanted,
        netlink: &Netlink,
        mended: &mut Vec<Mended>,
    ) -> Result<usize, Error> {
        let mut work = Work { netlink, changes: 0, failed: None, lan_failed: false, mended };
        for (device, to) in &wanted.groups {
            work.set_group(*device, *to).await;
        }
        // Routes before the rules that lead to them, so that nobody on the LAN is cut off.
        for route in &wanted.routes {
            if !self.routes.iter().any(|there| there.ours.as_ref() == Some(route)) {
                work.add_route(route).await;
            }
        }
        for rule in &wanted.rules {
            if !self.rules.iter().any(|there| there.ours.as_ref() == Some(rule)) {
                work.add_rule(rule).await;
            }
        }
        let mut kept: Vec<&Rule> = Vec::new();
        for there in self.rules.iter().rev() {
            match &there.ours {
                Some(rule) if wanted.rules.contains(rule) && !kept.contains(&rule) => {
                    kept.push(rule);
                }
                _ => work.delete_rule(there).await,
            }
        }
        for there in &self.routes {
            if !there.ours.as_ref().is_some_and(|route| wanted.routes.contains(route)) {
                work.delete_route(there).await;
            }
        }
        match work.failed {
            Some(error) => Err(error),
            None => Ok(work.changes),
        }
    }
}

/// Runs the changes; remembers the first failure and goes on.
struct Work<'a> {
    netlink: &'a Netlink,
    changes: usize,
    failed: Option<Error>,
    /// Without the way to the LAN, the rule that ends the barrier would lock the owner out.
    lan_failed: bool,
    mended: &'a mut Vec<Mended>,
}

impl Work<'_> {
    async fn add_route(&mut self, route: &Route) {
        let request = route.request(libc::RTM_NEWROUTE);
        // APPEND: several devices may have the same prefix (fe80::/64 on each).
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let result = self.netlink.change(&request, flags, &|| format!("adding the route {route}")).await;
        // The device went down or away just now, or has IPv6 switched off (EACCES; ENODEV below
        // an MTU of 1280): without the route its packets end in the barrier, and its next change
        // brings us back here.
        let passing = [libc::ENETDOWN, libc::ENODEV, libc::EACCES];
        match &result {
            Err(error) if error.errno().is_some_and(|errno| passing.contains(&errno)) => {}
            _ => {
                if result.is_ok() {
                    self.mended.push(Mended::missing(Part::Route, &format_args!("the route {route}")));
                }
                self.note(result, libc::EEXIST);
            }
        }
    }

    async fn set_group(&mut self, device: u32, group: u32) {
        let request = LinkMessage::set_group(device, group);
        let what = || format!("putting the device #{device} into the interface group {group}");
        let result = self.netlink.change(&request, 0, &what).await;
        // ENODEV: it went away just now.
        self.note(result, libc::ENODEV);
    }

    async fn add_rule(&mut self, rule: &Rule) {
        if rule.action == Action::Unreachable && self.lan_failed {
            return;
        }
        let request = rule.request(libc::RTM_NEWRULE);
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let result = self.netlink.change(&request, flags, &|| format!("adding the {rule}")).await;
        let there = result.as_ref().map_or_else(|error| error.errno() == Some(libc::EEXIST), |()| true);
        if result.is_ok() {
            self.mended.push(Mended::missing(Part::Rule, &format_args!("the {rule}")));
        }
        self.lan_failed |= rule.action == Action::Lookup(TABLE_LAN) && !there;
        self.note(result, libc::EEXIST);
    }

    async fn delete_rule(&mut self, said: &Said<Rule>) {
        let place = said.place;
        let what = || match &said.ours {
            Some(rule) => format!("deleting the {rule}"),
            None => format!("deleting a foreign rule of priority {place}"),
        };
        let request = Request::new(libc::RTM_DELRULE, &said.body);
        let result = self.netlink.change(&request, 0, &what).await;
        if result.is_ok() {
            let what = format_args!("a rule of priority {place}");
            self.mended.push(Mended::foreign(Part::Rule, &what));
        }
        self.note(result, libc::ENOENT);
    }

    async fn delete_route(&mut self, said: &Said<Route>) {
        let place = said.place;
        let what = || match &said.ours {
            Some(route) => format!("deleting the route {route}"),
            None => format!("deleting a foreign route in table {place}"),
        };
        let request = Request::new(libc::RTM_DELROUTE, &said.body);
        let result = self.netlink.change(&request, 0, &what).await;
        if result.is_ok() {
            let what = format_args!("a route in table {place}");
            self.mended.push(Mended::foreign(Part::Route, &what));
        }
        self.note(result, libc::ESRCH);
    }

    /// `done`: the error number that says that somebody was faster.
    fn note(&mut self, result: Result<(), Error>, done: i32) {
        match result {
            Ok(()) => self.changes += 1,
            Err(error) if error.errno() == Some(done) => self.changes += 1,
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }
}
