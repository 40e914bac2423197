//! Policy -> ruleset. Pure.
//!
//! Base chains send a packet by its zones, with one lookup in a verdict map, into the chain of its
//! way; there the policy's clauses stand in their order, and what none of them decides is refused.
//! Everything is by device name: the rules can be loaded before a device exists.

use nftables::expr::MetaKey;
use nftables::schema::{Chain, Rule};
use nftables::stmt::{JumpTarget, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};

use crate::config::IfName;
use crate::policy::{Action, Family, Policy, PolicyState, Row, Way};

use super::base::{self, chain_of};
use super::expr::{self, Expr, Stmt};
use super::ruleset::Ruleset;
use super::statement::{counter, goto, statements, tcp};

/// The ruleset of a policy.
#[must_use]
pub fn compile(policy: &Policy) -> Ruleset {
    let mut compiler = Compiler { policy, chains: Vec::new(), rules: Vec::new() };
    compiler.chains.push(base::regular_chain(policy.state().chain()));
    compiler.before_conntrack();
    compiler.marks();
    compiler.unroutable();
    compiler.router();
    compiler.forwarding();
    compiler.translation();
    compiler.sources();
    compiler.blocked();
    compiler.refusals();
    let remembers =
        |family: &Family| policy.clauses().iter().any(|clause| clause.action == Action::Remember(*family));
    let sets = Family::BOTH.into_iter().filter(remembers);
    let sets = sets.map(|family| base::spoke_set(family).declaration()).collect();
    Ruleset::new(policy.state(), sets, compiler.chains, compiler.rules)
}

struct Compiler<'a> {
    policy: &'a Policy,
    chains: Vec<Chain<'static>>,
    rules: Vec<Rule<'static>>,
}

/// "0.0 …": the frame, and what is blocked because nothing allows it.
fn frame(what: &str) -> String {
    format!("{} {what}", Row::Default.number())
}

/// Into the chain of a way, and back out of it where it decides nothing.
fn jump(way: Way) -> Stmt {
    Statement::Jump(JumpTarget { target: chain_of(way).into() })
}

impl Compiler<'_> {
    fn has(&self, way: Way) -> bool {
        self.policy.on(way).next().is_some()
    }

    fn chain(
        &mut self,
        name: &'static str,
        kind: NfChainType,
        hook: NfHook,
        priority: i32,
        policy: NfChainPolicy,
    ) {
        self.chains.push(base::base_chain(name, kind, hook, priority, policy));
    }

    fn rule(&mut self, chain: &'static str, expr: Vec<Stmt>, what: &str) {
        self.rules.push(base::rule(chain, expr, frame(what)));
    }

    /// The clauses of a way, in its chain.
    fn clauses(&mut self, way: Way) {
        self.clauses_for(way, &|| None);
    }

    /// The same, each behind one more match.
    fn clauses_for(&mut self, way: Way, first: &dyn Fn() -> Option<Stmt>) {
        let policy = self.policy;
        for clause in policy.on(way) {
            let comment = format!("{} {}", clause.row.number(), clause.what);
            let all = first().into_iter().chain(statements(clause)).collect();
            self.rules.push(base::rule(chain_of(way), all, comment));
        }
    }

    /// A regular chain: the clauses of a way, and an end for what they leave undecided.
    fn way(&mut self, way: Way, end: Option<Vec<Stmt>>) {
        self.chains.push(base::regular_chain(chain_of(way)));
        self.clauses(way);
        self.names_aside(way);
        if let Some(end) = end {
            self.rule(chain_of(way), end, "what nothing allows");
        }
    }

    /// Into the tunnel, the rules for DNS stand aside in a chain of their own, so that every other
    /// packet passes one of them only.
    fn names_aside(&mut self, way: Way) {
        let aside = match way {
            Way::LanToTunnel => "lan_to_tunnel_dns",
            Way::RouterToTunnel => "router_to_tunnel_dns",
            _ => return,
        };
        let dns = self.policy.on(way).filter(|clause| clause.row == Row::Dns);
        let Some(last) = dns.last() else { return };
        let mut matches = statements(last);
        // The last is the refusal of all others: its matches are what makes a packet DNS.
        matches.truncate(last.matches.len());
        matches.push(goto(aside));
        let here = chain_of(way);
        let number = Row::Dns.number();
        let is_dns = |rule: &Rule<'_>| {
            rule.chain == here && rule.comment.as_ref().is_some_and(|text| text.starts_with(number))
        };
        let Some(first) = self.rules.iter().position(is_dns) else { return };
        for rule in self.rules.iter_mut().filter(|rule| is_dns(rule)) {
            rule.chain = aside.into();
        }
        let comment = format!("{number} DNS");
        self.rules.insert(first, base::rule(here, matches, comment));
        self.chains.push(base::regular_chain(aside));
    }

    fn lo_and(&self, more: &[&[IfName]]) -> Vec<Expr> {
        let named = more.iter().flat_map(|names| names.iter()).map(expr::device);
        std::iter::once(expr::word("lo")).chain(named).collect()
    }

    /// Zone by device name -> chain, for one direction. None: accepted.
    fn zones(
        &self,
        key: MetaKey,
        lan: Option<&'static str>,
        tunnel: Option<&'static str>,
        group: Option<&'static str>,
    ) -> Option<Stmt> {
        let zones = self.policy.zones();
        let verdict = |chain: Option<&'static str>| chain.map_or(Statement::Accept(None), goto);
        let mut entries = vec![(expr::word("lo"), verdict(None))];
        for device in &zones.lan_devices() {
            entries.push((expr::device(device), verdict(lan)));
        }
        for device in &zones.group {
            let chain = if zones.tunnel.as_ref() == Some(device) { tunnel } else { group };
            entries.push((expr::device(device), verdict(chain)));
        }
        base::verdicts(expr::meta(key), entries)
    }

    fn before_conntrack(&mut self) {
        let chain = "prerouting_raw";
        let (lan, wan) = (self.has(Way::ArrivingFromLan), self.has(Way::ArrivingFromWan));
        if lan || wan {
            self.chain(chain, NfChainType::Filter, NfHook::Prerouting, base::RAW, NfChainPolicy::Accept);
            let from_lan = lan.then(|| chain_of(Way::ArrivingFromLan));
            let map = self.zones(MetaKey::Iifname, from_lan, None, None);
            self.rules.extend(map.map(|map| base::rule(chain, vec![map], frame("by zone"))));
        }
        if wan {
            self.rule(chain, vec![goto(chain_of(Way::ArrivingFromWan))], "all other devices are WAN");
            self.way(Way::ArrivingFromWan, None);
        }
        if lan {
            self.way(Way::ArrivingFromLan, None);
        }
        if self.has(Way::LeavingRouter) {
            let chain = chain_of(Way::LeavingRouter);
            self.chain(chain, NfChainType::Filter, NfHook::Output, base::RAW, NfChainPolicy::Accept);
            self.clauses(Way::LeavingRouter);
        }
    }

    fn marks(&mut self) {
        if self.has(Way::ReroutingRouter) {
            let chain = chain_of(Way::ReroutingRouter);
            self.chain(chain, NfChainType::Route, NfHook::Output, base::MANGLE, NfChainPolicy::Accept);
            self.clauses(Way::ReroutingRouter);
        }
    }

    /// What the LAN sends to where no route leads: refused before routing would end it.
    fn unroutable(&mut self) {
        let lan = self.policy.zones().lan_devices();
        let families = self.policy.unrouted();
        if lan.is_empty() || families.is_empty() {
            return;
        }
        let chain = "prerouting";
        self.chain(chain, NfChainType::Filter, NfHook::Prerouting, base::FILTER, NfChainPolicy::Accept);
        let mut matches = vec![base::arrives_by(&lan)];
        if let [only] = families {
            matches.push(expr::of_family(*only));
        }
        // The answers to others' connections have a route; a new one may not.
        matches.push(expr::has(expr::ct("state"), expr::word("new")));
        // The router itself, broadcast and multicast need none.
        matches.push(expr::is_not(
            expr::destination_type(),
            expr::one_of(
                ["local", "broadcast", "multicast", "anycast"].into_iter().map(expr::word).collect(),
            ),
        ));
        matches.push(expr::is(expr::device_of_route(), Expr::Boolean(false)));
        matches.push(goto(base::BLOCKED_LAN));
        self.rule(chain, matches, "no route leads there");
    }

    /// Input and output.
    fn router(&mut self) {
        self.chain("input", NfChainType::Filter, NfHook::Input, base::FILTER, NfChainPolicy::Drop);
        let map = self.zones(
            MetaKey::Iifname,
            Some(chain_of(Way::LanToRouter)),
            Some(chain_of(Way::TunnelToRouter)),
            Some(base::BLOCKED_WAN),
        );
        self.loopback("input", map);
        self.rule("input", vec![goto(chain_of(Way::WanToRouter))], "all other devices are WAN");

        self.chain("output", NfChainType::Filter, NfHook::Output, base::FILTER, NfChainPolicy::Drop);
        let map = self.zones(
            MetaKey::Oifname,
            Some(chain_of(Way::RouterToLan)),
            Some(chain_of(Way::RouterToTunnel)),
            Some(base::BLOCKED_ROUTER),
        );
        self.loopback("output", map);
        self.rule("output", vec![goto(chain_of(Way::RouterToWan))], "all other devices are WAN");

        let tunnel = self.policy.zones().tunnel.is_some();
        let lan = !self.policy.zones().emergency();
        let ways = [
            (Way::LanToRouter, lan),
            (Way::TunnelToRouter, tunnel),
            (Way::WanToRouter, true),
            (Way::RouterToLan, lan),
            (Way::RouterToTunnel, tunnel),
            (Way::RouterToWan, true),
        ];
        for (way, _) in ways.into_iter().filter(|(_, exists)| *exists) {
            self.way(way, Some(vec![goto(base::refusal(way, Row::Default))]));
        }
    }

    /// The zone map of input and output: its loopback entry is row 2.1.
    fn loopback(&mut self, chain: &'static str, map: Option<Stmt>) {
        let comment = format!("{} loopback; all else by zone", Row::Loopback.number());
        self.rules.extend(map.map(|map| base::rule(chain, vec![map], comment)));
    }

    fn forwarding(&mut self) {
        let chain = "forward";
        self.chain(chain, NfChainType::Filter, NfHook::Forward, base::FILTER, NfChainPolicy::Drop);
        let zones = self.policy.zones();
        let (lan, group) = (zones.lan_devices(), zones.group.clone());
        let forwarding = zones.forwarding();
        if !forwarding.is_empty() {
            self.forwarded_by_zones(chain, &forwarding);
            if self.has(Way::LanToWan) {
                let wan = self.lo_and(&[&lan, &group]);
                let matches = vec![base::arrives_by(&forwarding), base::leaves_by_none_of(wan)];
                self.branch(chain, matches, Way::LanToWan);
            }
            if self.has(Way::WanToLan) {
                let wan = self.lo_and(&[&lan, &group]);
                let matches = vec![base::leaves_by(&forwarding), base::arrives_by_none_of(wan)];
                self.branch(chain, matches, Way::WanToLan);
            }
        }
        if !lan.is_empty() {
            let rule = vec![base::arrives_by(&lan), goto(base::BLOCKED_LAN)];
            self.rule(chain, rule, "nothing else is forwarded from the LAN");
        }
        self.rule(chain, vec![goto(base::BLOCKED_WAN)], "nothing else is forwarded");
    }

    /// One lookup for all that is forwarded between LAN and tunnel, and from LAN to LAN.
    fn forwarded_by_zones(&mut self, chain: &'static str, forwarding: &[IfName]) {
        let zones = self.policy.zones();
        let mut entries = Vec::new();
        let mut pair = |from: &IfName, to: &IfName, way: Way| {
            let key = expr::concat(vec![expr::device(from), expr::device(to)]);
            entries.push((key, goto(chain_of(way))));
        };
        for device in forwarding {
            if let Some(tunnel) = &zones.tunnel {
                pair(device, tunnel, Way::LanToTunnel);
                pair(tunnel, device, Way::TunnelToLan);
            }
            for other in forwarding {
                pair(device, other, Way::LanToLan);
            }
        }
        let mut ways = vec![Way::LanToLan];
        if zones.tunnel.is_some() {
            ways.extend([Way::LanToTunnel, Way::TunnelToLan]);
        }
        let key = expr::concat(vec![expr::meta(MetaKey::Iifname), expr::meta(MetaKey::Oifname)]);
        let map = base::verdicts(key, entries);
        self.rules.extend(map.map(|map| base::rule(chain, vec![map], frame("by zones"))));
        for way in ways {
            if way != Way::LanToLan {
                self.segments(chain_of(way));
            }
            self.way(way, Some(vec![goto(base::refusal(way, Row::Default))]));
        }
        if zones.tunnel.is_some() {
            self.way(Way::ForwardedSyn, None);
        }
    }

    fn branch(&mut self, chain: &'static str, mut matches: Vec<Stmt>, way: Way) {
        matches.push(goto(chain_of(way)));
        self.rule(chain, matches, "all other devices are WAN");
        self.way(way, Some(vec![goto(base::refusal(way, Row::Default))]));
    }

    /// Only a packet that opens a TCP connection names a segment size.
    fn segments(&mut self, chain: &'static str) {
        let flags = Expr::List(vec![expr::word("syn"), expr::word("rst")]);
        let opens = expr::is(expr::and(expr::field("tcp", "flags"), flags), expr::word("syn"));
        self.rule(chain, vec![opens, jump(Way::ForwardedSyn)], "TCP connections that open");
    }

    fn translation(&mut self) {
        let Some(tunnel) = self.policy.zones().tunnel.clone() else { return };
        for (way, hook, priority, key) in [
            (Way::TunnelDestinationNat, NfHook::Prerouting, base::DSTNAT, MetaKey::Iifname),
            (Way::TunnelSourceNat, NfHook::Postrouting, base::SRCNAT, MetaKey::Oifname),
        ] {
            if !self.has(way) {
                continue;
            }
            self.chain(chain_of(way), NfChainType::NAT, hook, priority, NfChainPolicy::Accept);
            self.clauses_for(way, &|| Some(expr::is(expr::meta(key), expr::device(&tunnel))));
        }
    }

    fn sources(&mut self) {
        let chain = "postrouting_late";
        self.chain(chain, NfChainType::Filter, NfHook::Postrouting, base::LATE, NfChainPolicy::Accept);
        let lan = self.policy.zones().lan_devices();
        if let Some(tunnel) = self.policy.zones().tunnel.clone() {
            let by_tunnel = expr::is(expr::meta(MetaKey::Oifname), expr::device(&tunnel));
            let comment = format!("{} leaving by the tunnel", Row::Source.number());
            self.rules.push(base::rule(chain, vec![by_tunnel, jump(Way::LeavingByTunnel)], comment));
            self.way(Way::LeavingByTunnel, None);
        }
        let elsewhere = base::leaves_by_none_of(self.lo_and(&[&lan]));
        let foreign = expr::is_not(expr::source_type_on_output_device(), expr::word("local"));
        let check = vec![elsewhere, foreign, goto(chain_of(Way::ForeignSource))];
        let comment = format!("{} leaving by WAN or tunnel", Row::Source.number());
        self.rules.push(base::rule(chain, check, comment));
        self.way(Way::ForeignSource, None);
    }

    /// What is blocked is told to the daemon before it is refused. Not at boot, when there is none
    /// and as little as possible should be asked of the kernel.
    fn blocked(&mut self) {
        let tell = self.policy.state() != PolicyState::Boot;
        for blocked in base::BLOCKED {
            let leads_here = |stmt: &Stmt| matches!(stmt, Statement::Goto(to) if to.target == blocked.chain);
            if !self.rules.iter().any(|rule| rule.expr.iter().any(leads_here)) {
                continue;
            }
            self.chains.push(base::regular_chain(blocked.chain));
            let number = blocked.row.number();
            if tell {
                let comment = format!("{number} vpnd hears of some");
                self.rules.push(base::rule(blocked.chain, base::told(blocked.row), comment));
            }
            let end = blocked.refusal.map_or(Statement::Drop(None), goto);
            self.rules.push(base::rule(blocked.chain, vec![counter(), end], format!("{number} blocked")));
        }
    }

    /// Fast and audible towards router and LAN, silent towards WAN and tunnel.
    fn refusals(&mut self) {
        let drop = Statement::Drop(None);
        self.chains.push(base::regular_chain(base::REFUSE_ROUTER));
        let own = crate::policy::Clause {
            row: Row::Default,
            what: "vpnd's own packets need no answer",
            way: Way::RouterToWan,
            matches: vec![crate::policy::Match::Marked(self.policy.mark())],
            action: Action::Drop,
        };
        self.rule(base::REFUSE_ROUTER, statements(&own), own.what);
        self.rule(base::REFUSE_ROUTER, vec![tcp(), counter(), base::reset()], "refused to the router");
        self.rule(base::REFUSE_ROUTER, vec![counter(), base::prohibited()], "refused to the router");
        self.chains.push(base::regular_chain(base::REFUSE_LAN));
        self.rule(base::REFUSE_LAN, vec![tcp(), counter(), base::reset()], "refused to the LAN");
        self.rule(base::REFUSE_LAN, vec![counter(), base::prohibited()], "refused to the LAN");
        self.chains.push(base::regular_chain(base::REFUSE_SILENTLY));
        self.rule(base::REFUSE_SILENTLY, vec![counter(), drop], "refused to WAN and tunnel");
    }
}
