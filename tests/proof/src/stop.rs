//! The stop ahead of the flowtables (CONTRACT.md, section 3: flows are part of a transition): what
//! comes in from the LAN is dropped, but for what stays at home or was listed. By devices and
//! destination alone, so that every class is an interval of addresses: all of them are gone through.

use std::net::IpAddr;

use ipnet::IpNet;
use nftables::expr::{Expression, NamedExpression, Payload};
use nftables::schema::{Chain, Rule};
use nftables::stmt::{Match, Statement};
use vpnd::config::IfName;
use vpnd::firewall::compile_stop;
use vpnd::firewall::evaluate::{Devices, Evaluator, Flow, Hook, Packet, Verdict, World};
use vpnd::policy::{Entrances, Family, compose, stop};

use crate::alter::{Change, Mutant, mutants};
use crate::atoms;
use crate::contract::contract;
use crate::explore::Stop;
use crate::lane::address;
use crate::rules::ASIDE;
use crate::setup::{Case, Choice, case};
use crate::table::{At, Is, interval};

/// The router's own addresses.
const OWN: [&str; 4] = ["192.168.1.1", "198.51.100.7", "fd00:1::1", "2001:db8:203::7"];
/// Devices by which no LAN packet comes in.
const ELSEWHERE: [&str; 4] = ["lo", "eth1", "eth9", "vpnd0"];
/// Of any protocol: the rules must not care.
const PROTOCOLS: [u8; 4] = [6, 17, 58, 132];

/// One setting combination's stop, and what the contract says of it.
pub struct Stopped {
    entrances: Vec<IfName>,
    spared: Vec<IpNet>,
    chains: Vec<Chain<'static>>,
    rules: Vec<Rule<'static>>,
}

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("a literal of this file")
}

impl Stopped {
    /// None: nobody knows what is LAN.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn new(choice: Choice) -> Result<Option<Self>, Stop> {
        let case = case(choice);
        let nothing = || Stop::Broken(format!("no policy: {choice}"));
        let policy = compose(&case.stance, &case.settings, &case.facts).ok_or_else(nothing)?;
        let mut devices: Vec<IfName> = case.settings.lan.devices.iter().map(|lan| lan.name.clone()).collect();
        devices.push(parse("lan1"));
        let entrances = Entrances { devices: devices.clone(), own: OWN.map(parse).to_vec() };
        let Some(stop) = stop(&policy, &case.settings, &entrances) else {
            return if choice.emergency { Ok(None) } else { Err(Stop::Broken("no stop".to_owned())) };
        };
        let (mut chains, rules) = compile_stop(&stop);
        chains.push(Chain { name: ASIDE.into(), ..Chain::default() });
        Ok(Some(Self { entrances: devices, spared: spared(&case), chains, rules }))
    }

    /// The first class to which rules and contract give different answers, and how many were asked.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn prove(&self, rules: &[Rule<'static>]) -> Result<(usize, Option<String>), Stop> {
        let evaluator = Evaluator::of_objects(&[], &self.chains, rules)?;
        let mut asked = 0;
        let elsewhere = ELSEWHERE.map(parse::<IfName>);
        for family in Family::BOTH {
            for value in values(family, rules.iter().chain(&self.rules), &self.spared) {
                let destination = address(family, value);
                for device in self.entrances.iter().chain(&elsewhere) {
                    let stays = self.spared.iter().any(|net| net.contains(&destination));
                    let passes = stays || elsewhere.contains(device);
                    for protocol in PROTOCOLS {
                        asked += 1;
                        let verdict = verdict(&evaluator, device, destination, protocol)?;
                        if (verdict == Verdict::Accept) != passes {
                            let wanted = if passes { "passes" } else { "is dropped" };
                            return Ok((
                                asked,
                                Some(format!(
                                    "{device} -> {destination}, protocol {protocol}: {verdict:?}, the contract: {wanted}"
                                )),
                            ));
                        }
                    }
                }
            }
        }
        Ok((asked, None))
    }

    /// # Errors
    /// A rule that looks at something else than the destination: then intervals are no classes.
    pub fn right(&self) -> Result<(usize, Option<String>), Stop> {
        for rule in &self.rules {
            for statement in rule.expr.iter() {
                let fits = match statement {
                    Statement::Match(Match { left, .. }) => matches!(left,
                        Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
                            if field.field == "daddr"),
                    Statement::Accept(_)
                    | Statement::Drop(_)
                    | Statement::Counter(_)
                    | Statement::Goto(_) => true,
                    _ => false,
                };
                if !fits {
                    return Err(Stop::Broken(format!(
                        "the stop looks at more than destinations: {statement:?}"
                    )));
                }
            }
        }
        self.prove(&self.rules)
    }

    /// Every altered rule: how many there are, and those that nothing tells from the right ones.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn altered(&self) -> Result<(usize, Vec<String>), Stop> {
        let (mut tried, mut missed) = (0, Vec::new());
        let comment = |at: u32| self.rules[at as usize].comment.as_deref().unwrap_or_default();
        for Mutant { rule, what, change, .. } in mutants(&self.rules) {
            // Two that let pass, one for each family: in any order.
            if matches!(change, Change::Swapped(next) if comment(rule) == comment(next)) {
                continue;
            }
            let mut rules = self.rules.clone();
            match change {
                Change::Replaced(other) => rules[rule as usize] = *other,
                Change::Swapped(next) => rules.swap(rule as usize, next as usize),
            }
            // What cannot be loaded nobody would load.
            let Ok(found) = self.prove(&rules) else { continue };
            tried += 1;
            if found.1.is_none() {
                missed.push(format!("{:?}: {what}", comment(rule)));
            }
        }
        Ok((tried, missed))
    }
}

/// By the contract's table, and its section 3: the router, LAN networks and those behind them, what
/// was listed, and what stays on its link.
fn spared(case: &Case) -> Vec<IpNet> {
    let contract = contract(case);
    let mut spared: Vec<IpNet> = OWN.map(|own| parse::<IpAddr>(own).into()).to_vec();
    spared.extend(
        ["224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16", "ff00::/8", "fe80::/10"].map(parse::<IpNet>),
    );
    for lan in &contract.lan {
        spared.extend(lan.connected.iter().chain(&lan.behind));
    }
    // Whatever the table lets a LAN host send to LAN or WAN in any state that enforces.
    let listed = contract
        .entries
        .iter()
        .filter(|entry| matches!(entry.at, At::LanLan | At::LanWan) && entry.say.allows());
    for entry in listed {
        spared.extend(
            entry.is.iter().filter_map(|is| if let Is::To(list) = is { Some(list) } else { None }).flatten(),
        );
    }
    spared
}

/// Both ends of every interval of destinations in which no constant begins or ends.
fn values<'a>(family: Family, rules: impl Iterator<Item = &'a Rule<'static>>, spared: &[IpNet]) -> Vec<u128> {
    let most = if family == Family::V4 { u128::from(u32::MAX) } else { u128::MAX };
    let mut starts = vec![0, most];
    let of_rules = rules.flat_map(|rule| rule.expr.iter()).flat_map(|statement| match statement {
        Statement::Match(Match { right, .. }) => atoms::values(right, family),
        _ => Vec::new(),
    });
    let of_contract = spared.iter().filter(|net| Family::of(net.addr()) == family).map(interval);
    for (from, to) in of_rules.chain(of_contract) {
        starts.extend([from.checked_sub(1), Some(from), Some(to), to.checked_add(1)].into_iter().flatten());
    }
    starts.retain(|value| *value <= most);
    starts.sort_unstable();
    starts.dedup();
    starts
}

fn verdict(
    evaluator: &Evaluator,
    device: &IfName,
    destination: IpAddr,
    protocol: u8,
) -> Result<Verdict, Stop> {
    let source = if destination.is_ipv4() { "192.168.1.20" } else { "fd00:1::20" };
    let mut packet = Packet {
        source: parse(source),
        destination,
        protocol,
        transport: vec![0; 20],
        hop_limit: 64,
        mark: 0,
    };
    let devices = Devices { iif: Some(device.clone()), oif: None };
    let decision =
        evaluator.hook(Hook::Ingress, &mut packet, &devices, &mut Flow::new(), &World::default())?;
    Ok(decision.verdict)
}
