//! What would become of a packet, and why: the evaluator's word. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::question::{Sender, Target};
use crate::config::{IfName, Settings};
use crate::firewall::evaluate::{
    Decision, Devices, Evaluator, Flow, Hook, Packet, RouteType, Verdict, World,
};
use crate::firewall::{Ruleset, compile};
use crate::policy::reason::{Reason, Refused, Zone};
use crate::policy::{Facts, Policy, Row};
use crate::routing::{Toward, toward};

/// What the rules are about.
pub struct Asked<'a> {
    pub settings: &'a Settings,
    pub facts: &'a Facts,
    pub policy: &'a Policy,
    /// By a lease's name and whether IPv4 is wanted.
    pub lease: &'a dyn Fn(&str, bool) -> Option<IpAddr>,
}

/// An end of the packet's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub zone: Zone,
    /// None: the router, or nowhere.
    pub device: Option<IfName>,
    pub address: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub from: End,
    pub to: End,
    pub verdict: Verdict,
    /// None: the routing barrier ends it, no rule does.
    pub rule: Option<Decided>,
    /// None: it passes.
    pub reason: Option<Reason>,
    /// What was taken for granted.
    pub assumed: Vec<String>,
}

/// The rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub row: Row,
    pub chain: String,
    /// Its comment: the row's number, and what it does.
    pub comment: String,
}

impl Asked<'_> {
    /// # Errors
    /// Words for a person: a sender that cannot be placed, or rules that are not known.
    pub fn answer(&self, sender: &Sender, target: &Target) -> Result<Answer, String> {
        let mut assumed = vec!["it is the first packet of a connection".to_owned()];
        assumed.extend(target.assumed.map(|what| format!("{what} is meant")));
        let v4 = self.family(sender, target);
        let from = self.sender(sender, v4, &mut assumed)?;
        let address = target.address.unwrap_or_else(|| self.own_address(&from, v4));
        if from.address.is_ipv4() != address.is_ipv4() {
            return Err(format!("{} and {address} are not of one family", from.address));
        }
        let redirected = self.settings.redirect_dns
            && from.zone == Zone::Lan
            && target.is_dns()
            && target.address.is_some()
            && !self.settings.lan_resolvers().any(|resolver| *resolver == from.address);
        let (address, router) = if redirected {
            assumed.push(format!("fw4 hands what is for {address} to the router (redirect_dns)"));
            (self.own_address(&from, v4), true)
        } else {
            (address, target.address.is_none())
        };
        let to = self.destination(&from, address, router, &mut assumed);
        self.evaluated(from, to, target, assumed)
    }

    /// Of a question that names no destination address: the sender's.
    fn family(&self, sender: &Sender, target: &Target) -> bool {
        let known = target.address.or_else(|| sender.who.parse().ok());
        known.is_none_or(|address| address.is_ipv4())
    }

    fn sender(&self, sender: &Sender, v4: bool, assumed: &mut Vec<String>) -> Result<End, String> {
        let tunnel = || self.policy.zones().tunnel.clone().or_else(|| "vpnd0".parse().ok());
        let address = sender.who.parse::<IpAddr>().ok();
        let (zone, device, address) = match (sender.zone, address) {
            (Some(Zone::Router), _) => (Zone::Router, None, unspecified(v4)),
            (Some(Zone::Wan), Some(address)) => (Zone::Wan, self.wan(Some(address), assumed), address),
            (Some(Zone::Tunnel), Some(address)) => (Zone::Tunnel, tunnel(), address),
            (_, Some(address)) => (Zone::Lan, Some(self.lan_of(address)?), address),
            (_, None) => {
                let (device, address) = self.named(&sender.who, v4, assumed)?;
                (Zone::Lan, Some(device), address)
            }
        };
        Ok(End { zone, device, address })
    }

    /// The LAN device whose network holds the address.
    fn lan_of(&self, address: IpAddr) -> Result<IfName, String> {
        let zones = self.policy.zones();
        let nets = || zones.lan.iter().flat_map(|zone| zone.reachable().map(move |net| (net, &zone.device)));
        let found = nets().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
        found.map(|(_, device)| device.clone()).ok_or_else(|| {
            let known: Vec<String> = nets().map(|(net, device)| format!("{net} ({device})")).collect();
            format!(
                "--from: {address} is on no LAN network; those are {}; say wan:{address} for a host on the WAN",
                known.join(", ")
            )
        })
    }

    /// A LAN device, or a host that calls itself so.
    fn named(&self, name: &str, v4: bool, assumed: &mut Vec<String>) -> Result<(IfName, IpAddr), String> {
        let zones = self.policy.zones();
        if let Some(zone) = zones.lan.iter().find(|zone| zone.device.as_str() == name) {
            let net = zone.connected.iter().find(|net| net.addr().is_ipv4() == v4);
            let address = net.map_or(unspecified(v4), |net| host(net, 2));
            assumed.push(format!("the host on {name} is {address}"));
            return Ok((zone.device.clone(), address));
        }
        let unknown = || {
            format!("--from: '{name}' is neither a LAN device nor the name of a DHCP lease; give its address")
        };
        let Some(address) = (self.lease)(name, v4) else {
            // Any of the network that its other address is on.
            let device = self.lan_of((self.lease)(name, !v4).ok_or_else(unknown)?)?;
            let (device, address) = self.named(device.as_str(), v4, assumed)?;
            assumed.push(format!("it stands for {name}, whose own address of that family is not known"));
            return Ok((device, address));
        };
        assumed.push(format!("{name} is {address}"));
        Ok((self.lan_of(address)?, address))
    }

    /// The WAN device that an address is on, or the first.
    fn wan(&self, address: Option<IpAddr>, assumed: &mut Vec<String>) -> Option<IfName> {
        let wan = &self.facts.wan;
        let on = |address: IpAddr| {
            wan.iter().find(|device| device.prefixes.iter().any(|net| net.contains(&address)))
        };
        let addressed = wan.iter().find(|device| !device.prefixes.is_empty());
        let known = address.and_then(on).or(addressed).map(|device| &device.name);
        let name = known.or(self.settings.wan_names.first()).cloned().or_else(|| "wan".parse().ok());
        if let Some(name) = &name {
            let line = format!("the WAN's device is {name}");
            if !assumed.contains(&line) {
                assumed.push(line);
            }
        }
        name
    }

    /// The router's own, as far as anything needs it.
    fn own_address(&self, from: &End, v4: bool) -> IpAddr {
        let fits = |net: &&IpNet| net.addr().is_ipv4() == v4;
        let on_device =
            self.policy.zones().lan.iter().filter(|zone| Some(&zone.device) == from.device.as_ref());
        let lan = on_device.flat_map(|zone| &zone.connected).find(fits);
        lan.map_or(unspecified(v4), |net| host(net, 1))
    }

    fn tunnel_address(&self, v4: bool) -> Option<IpAddr> {
        let addresses = self.settings.tunnel.iter().flat_map(|tunnel| &tunnel.addresses);
        addresses.map(IpNet::addr).find(|address| address.is_ipv4() == v4)
    }

    fn destination(&self, from: &End, address: IpAddr, router: bool, assumed: &mut Vec<String>) -> End {
        let own = self.tunnel_address(address.is_ipv4()) == Some(address);
        if router || own || is_broadcast(address) && from.zone != Zone::Router {
            let device = if from.zone == Zone::Router { "lo".parse().ok() } else { None };
            return End { zone: Zone::Router, device, address };
        }
        if address.is_multicast() || is_broadcast(address) {
            assumed
                .push("it goes to the WAN (for hosts of the LAN a multicast proxy sends it on)".to_owned());
            return End { zone: Zone::Wan, device: self.wan(None, assumed), address };
        }
        let (zone, device) = match toward(self.policy, &self.settings.allow_wan_private, address) {
            Toward::Lan(device) => {
                if from.device.as_ref() == Some(&device) {
                    assumed.push(format!(
                        "it is sent to the router (hosts of one network reach each other without it), and {address} is not the router's own (that is --to router)"
                    ));
                }
                (Zone::Lan, Some(device))
            }
            Toward::Wan => (Zone::Wan, self.wan(Some(address), assumed)),
            Toward::Tunnel(device) => (Zone::Tunnel, Some(device)),
            Toward::Nowhere => (Zone::Nowhere, None),
        };
        End { zone, device, address }
    }

    fn evaluated(
        &self,
        from: End,
        mut to: End,
        target: &Target,
        mut assumed: Vec<String>,
    ) -> Result<Answer, String> {
        let ruleset = compile(self.policy);
        let evaluator = Evaluator::new(&ruleset).map_err(|error| error.to_string())?;
        let mut packet = self.packet(&from, &to, target);
        let mut flow = Flow::new();
        let mut decisions: Vec<Decision> = Vec::new();
        let (mut verdict, mut at) = (Verdict::Accept, first_hook(&from));
        while let (Some(hook), Verdict::Accept) = (at, verdict) {
            let (devices, world) = self.seen_by_rules(&from, &to, &mut flow, &mut assumed);
            let decision = evaluator
                .hook(hook, &mut packet, &devices, &mut flow, &world)
                .map_err(|error| error.to_string())?;
            verdict = decision.verdict;
            if decision.changes.dnat && hook == Hook::Prerouting {
                assumed.push(format!("{} hands it on to {} (a listed port)", to.address, packet.destination));
                to = self.destination(&from, packet.destination, false, &mut assumed);
            }
            decisions.push(decision);
            at = next_hook(hook, &to);
        }
        let blocked = verdict != Verdict::Accept || to.zone == Zone::Nowhere;
        let rule = decisive(&ruleset, &decisions, verdict, to.zone);
        let reason = blocked.then(|| {
            let (row, state) = (rule.as_ref().map_or(Row::Default, |rule| rule.row), self.policy.state());
            let Target { protocol, port, .. } = *target;
            Refused { state, row, from: from.zone, to: to.zone, destination: to.address, protocol, port }
                .reason()
        });
        Ok(Answer { from, to, verdict, rule, reason, assumed })
    }

    fn packet(&self, from: &End, to: &End, target: &Target) -> Packet {
        let v4 = to.address.is_ipv4();
        let source = match (from.zone, to.zone) {
            (Zone::Router, Zone::Tunnel) => self.tunnel_address(v4).unwrap_or(from.address),
            (Zone::Router, Zone::Lan) => {
                self.own_address(&End { device: to.device.clone(), ..from.clone() }, v4)
            }
            _ => from.address,
        };
        let transport = transport(target);
        Packet {
            source,
            destination: to.address,
            protocol: target.protocol,
            transport,
            hop_limit: 64,
            mark: 0,
        }
    }

    /// What rules can ask beyond the packet; fw4's source NAT is taken for granted where OpenWrt
    /// has it.
    fn seen_by_rules(
        &self,
        from: &End,
        to: &End,
        flow: &mut Flow,
        assumed: &mut Vec<String>,
    ) -> (Devices, World) {
        let oif = if to.zone == Zone::Nowhere && from.zone != Zone::Lan {
            self.wan(None, assumed)
        } else {
            to.device.clone()
        };
        let destination = match to.zone {
            _ if is_broadcast(to.address) => RouteType::Broadcast,
            _ if to.address.is_multicast() => RouteType::Multicast,
            Zone::Router => RouteType::Local,
            _ => RouteType::Unicast,
        };
        let v4 = to.address.is_ipv4();
        let own_address = match to.zone {
            Zone::Tunnel => self.tunnel_address(v4),
            Zone::Wan if v4 && from.zone == Zone::Lan => {
                let line = "fw4 translates its source address (masquerade), as OpenWrt does by default";
                if !assumed.iter().any(|known| known == line) {
                    assumed.push(line.to_owned());
                }
                flow.masqueraded = true;
                Some(unspecified(true))
            }
            _ => None,
        };
        let source = if from.zone == Zone::Router { RouteType::Local } else { RouteType::Unicast };
        let routed = to.zone != Zone::Nowhere;
        let world = World { destination, routed, source, own_address, spoke: Vec::new() };
        (Devices { iif: from.device.clone(), oif }, world)
    }
}

fn first_hook(from: &End) -> Option<Hook> {
    Some(if from.zone == Zone::Router { Hook::Output } else { Hook::Prerouting })
}

fn next_hook(hook: Hook, to: &End) -> Option<Hook> {
    match (hook, to.zone) {
        (Hook::Prerouting, Zone::Router) => Some(Hook::Input),
        // Routing ends it.
        (Hook::Prerouting, Zone::Nowhere) => None,
        (Hook::Prerouting, _) => Some(Hook::Forward),
        (Hook::Forward | Hook::Output, _) => Some(Hook::Postrouting),
        // The stop there is no part of a policy: it is over before anybody can ask.
        (Hook::Ingress | Hook::Input | Hook::Postrouting, _) => None,
    }
}

/// The rule that says why: the last one that led to a refusal but was not part of it; else the one
/// that let the packet through from zone to zone.
fn decisive(ruleset: &Ruleset, decisions: &[Decision], verdict: Verdict, to: Zone) -> Option<Decided> {
    let decided = |number: u32| {
        let rule = ruleset.rules().get(number as usize)?;
        let comment = rule.comment.as_deref().unwrap_or_default().to_owned();
        Some(Decided { row: ruleset.row(number)?, chain: rule.chain.to_string(), comment })
    };
    if verdict == Verdict::Accept {
        if to == Zone::Nowhere {
            return None;
        }
        // Prerouting and postrouting accept what they do not refuse.
        let mut rules = decisions.iter().filter_map(|decision| decision.rule).filter_map(decided);
        let between = |rule: &Decided| {
            rule.chain.contains("_to_") || ["input", "output"].contains(&rule.chain.as_str())
        };
        return rules.find(between);
    }
    let steps = decisions.last()?.steps.iter().rev().filter(|step| step.failed.is_none());
    let reasons = |rule: &Decided| !rule.chain.starts_with("refuse_") && !rule.chain.starts_with("blocked_");
    steps.filter_map(|step| decided(step.rule)).find(reasons)
}

/// A first packet's header, far enough for any rule.
fn transport(target: &Target) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let port = target.port.unwrap_or_default().to_be_bytes();
    match target.protocol {
        1 | 58 => {
            bytes.truncate(8);
            bytes[0] = port[1];
        }
        6 | 17 | 33 | 132 | 136 => {
            bytes[..2].copy_from_slice(&source_port(target).to_be_bytes());
            bytes[2..4].copy_from_slice(&port);
            if target.protocol == 6 {
                // Header length, SYN.
                (bytes[12], bytes[13]) = (0x50, 0x02);
            }
        }
        _ => {}
    }
    bytes
}

/// DHCP's ports come in pairs; otherwise any that no rule knows.
fn source_port(target: &Target) -> u16 {
    match (target.protocol, target.port) {
        (17, Some(67)) => 68,
        (17, Some(68)) => 67,
        (17, Some(546)) => 547,
        (17, Some(547)) => 546,
        _ => 40_000,
    }
}

fn unspecified(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn is_broadcast(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// The nth address of a network.
fn host(net: &IpNet, nth: u8) -> IpAddr {
    match net.network() {
        IpAddr::V4(v4) => Ipv4Addr::from(v4.to_bits().saturating_add(nth.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(v6.to_bits().saturating_add(nth.into())).into(),
    }
}
