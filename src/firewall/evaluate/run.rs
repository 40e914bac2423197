//! Runs one packet through one hook (net/netfilter/nf_tables_core.c, nft_do_chain).

use std::net::IpAddr;

use crate::policy::Family;

use super::program::{Base, Key, Load, Op, Outcome, Target, name_of};
use super::types::{
    Changes, Decision, Devices, Flow, FlowState, Hook, Packet, RouteType, Step, Verdict, World,
};
use super::{Evaluator, Unknown};

/// Conntrack's place in prerouting and output (NF_IP_PRI_CONNTRACK).
const CONNTRACK: i32 = -200;
/// Where source NAT happens (NF_IP_PRI_NAT_SRC).
const SOURCE_NAT: i32 = 100;
/// NFT_JUMP_STACK_SIZE.
const DEEPEST: usize = 16;

/// What one rule leads to.
enum After {
    NextRule(Option<u8>),
    Ended(Outcome),
}

pub struct Run<'a> {
    evaluator: &'a Evaluator,
    hook: Hook,
    packet: &'a mut Packet,
    flow: &'a mut Flow,
    world: &'a World,
    in_name: u128,
    out_name: u128,
    /// Has conntrack seen the packet by now?
    seen: bool,
    source_done: bool,
    pub decision: Decision,
}

impl<'a> Run<'a> {
    pub fn new(
        evaluator: &'a Evaluator,
        hook: Hook,
        packet: &'a mut Packet,
        devices: &Devices,
        flow: &'a mut Flow,
        world: &'a World,
    ) -> Self {
        let has_in = hook != Hook::Output;
        let has_out = !matches!(hook, Hook::Ingress | Hook::Prerouting | Hook::Input);
        let decision = Decision {
            verdict: Verdict::Accept,
            rule: None,
            chain: String::new(),
            steps: Vec::with_capacity(16),
            changes: Changes::default(),
        };
        Self {
            evaluator,
            hook,
            packet,
            flow,
            world,
            in_name: if has_in { name_of(devices.iif.as_ref()) } else { 0 },
            out_name: if has_out { name_of(devices.oif.as_ref()) } else { 0 },
            seen: true,
            source_done: false,
            decision,
        }
    }

    /// One base chain. An accept ends it, not the hook.
    pub fn base(&mut self, base: &Base) -> Result<(), Unknown> {
        let priority = base.priority.0;
        self.seen = match self.hook {
            Hook::Ingress => false,
            Hook::Prerouting | Hook::Output => priority > CONNTRACK,
            _ => true,
        };
        if self.hook == Hook::Postrouting && priority > SOURCE_NAT {
            self.translated_source();
        }
        if base.nat && !(self.flow.tracked() && self.flow.first) {
            return Ok(());
        }
        if self.decision.verdict != Verdict::Accept {
            return Ok(());
        }
        self.chain(base)
    }

    fn chain(&mut self, base: &Base) -> Result<(), Unknown> {
        let mut back: Vec<(Target, usize)> = Vec::new();
        let (mut at, mut next) = (base.chain, 0);
        let mut left = self.evaluator.rules.len() * DEEPEST;
        loop {
            let Some(number) = self.evaluator.chain(at).get(next).copied() else {
                let Some(caller) = back.pop() else {
                    break self.policy(base);
                };
                (at, next) = caller;
                continue;
            };
            left = left.checked_sub(1).ok_or(Unknown::Circle)?;
            next += 1;
            match self.rule(number) {
                After::NextRule(failed) => self.decision.steps.push(Step { rule: number, failed }),
                After::Ended(outcome) => {
                    self.decision.steps.push(Step { rule: number, failed: None });
                    match outcome {
                        Outcome::Return => next = usize::MAX,
                        Outcome::Goto(target) => (at, next) = (target, 0),
                        Outcome::Jump(target) => {
                            if back.len() >= DEEPEST {
                                return Err(Unknown::Circle);
                            }
                            back.push((at, next));
                            (at, next) = (target, 0);
                        }
                        Outcome::Accept => break self.end(Verdict::Accept, number, at),
                        Outcome::Drop => break self.end(Verdict::Drop, number, at),
                        Outcome::Reject(how) => break self.end(Verdict::Reject(how), number, at),
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, verdict: Verdict, rule: u32, chain: Target) {
        self.decision.verdict = verdict;
        self.decision.rule = Some(rule);
        self.decision.chain.clear();
        self.decision.chain.push_str(self.evaluator.name(chain));
    }

    fn policy(&mut self, base: &Base) {
        if base.drops {
            self.decision.verdict = Verdict::Drop;
            self.decision.rule = None;
        }
        if self.decision.rule.is_none() {
            self.decision.chain.clear();
            self.decision.chain.push_str(self.evaluator.name(base.chain));
        }
    }

    fn rule(&mut self, number: u32) -> After {
        let evaluator = self.evaluator;
        let Some(rule) = evaluator.rules.get(number as usize) else { return After::NextRule(None) };
        for (at, op) in rule.ops.iter().enumerate() {
            match self.op(op) {
                Some(None) => {}
                Some(Some(outcome)) => return After::Ended(outcome),
                None => return After::NextRule(u8::try_from(at).ok().or(Some(u8::MAX))),
            }
        }
        After::NextRule(None)
    }

    /// None: no match, the rule ends. Some(None): goes on.
    fn op(&mut self, op: &Op) -> Option<Option<Outcome>> {
        match op {
            Op::In { load, ranges, negated } => {
                let value = self.load(*load)?;
                let within = ranges.iter().any(|(from, to)| *from <= value && value <= *to);
                (within != *negated).then_some(None)
            }
            Op::Has { load, bits } => (self.load(*load)? & bits != 0).then_some(None),
            Op::Spoke { device, address } => {
                let wanted = (self.read(*device)?, self.read(*address)?);
                let family = self.packet.family();
                let mut known = self.world.spoke.iter().filter(|(_, addr)| Family::of(*addr) == family);
                known.any(|(name, addr)| (name_of(Some(name)), number(*addr)) == wanted).then_some(None)
            }
            Op::Remember { device, address } => {
                self.read(*device)?;
                self.read(*address)?;
                self.decision.changes.remembered = true;
                Some(None)
            }
            Op::VerdictMap { keys, entries } => {
                let mut wanted = [0; 2];
                for (key, value) in keys.iter().zip(&mut wanted) {
                    if let Some(key) = key {
                        *value = self.read(*key)?;
                    }
                }
                let found = entries.iter().find(|(key, _)| *key == wanted)?;
                Some(Some(found.1))
            }
            Op::End(outcome) => Some(Some(*outcome)),
            // Bits that are kept are read first, and without an entry there are none to read.
            Op::SetMark { conntrack: true, and, .. } if *and != 0 && self.entry().is_none() => None,
            Op::Dnat(to) => Some(self.dnat(*to)),
            Op::Masquerade => Some(self.masquerade()),
            _ => {
                self.change(op);
                Some(None)
            }
        }
    }

    fn change(&mut self, op: &Op) {
        match op {
            Op::SetMark { conntrack: false, and, or } => {
                self.packet.mark = self.packet.mark & and | or;
                self.decision.changes.mark = true;
            }
            // Without an entry there is nothing to mark.
            Op::SetMark { conntrack: true, and, or } if self.entry().is_some() => {
                self.flow.mark = self.flow.mark & and | or;
                self.decision.changes.flow_mark = true;
            }
            // Later than conntrack, the entry is there (nft_notrack_eval).
            Op::Notrack if !self.seen => {
                *self.flow = Flow::later(FlowState::Untracked, false);
                self.decision.changes.untracked = true;
            }
            Op::ClampMss => self.decision.changes.segment_size = true,
            _ => {}
        }
    }

    /// Of the other family's packets nothing is translated (nft_nat_inet_eval).
    fn dnat(&mut self, to: std::net::SocketAddr) -> Option<Outcome> {
        if to.is_ipv4() != self.packet.destination.is_ipv4() {
            return None;
        }
        self.packet.destination = to.ip();
        if let Some(port) = self.packet.transport.get_mut(2..4) {
            port.copy_from_slice(&to.port().to_be_bytes());
        }
        self.flow.dnat = true;
        self.decision.changes.dnat = true;
        Some(Outcome::Accept)
    }

    fn masquerade(&mut self) -> Option<Outcome> {
        if self.world.own_address.is_none() {
            return Some(Outcome::Drop);
        }
        self.flow.masqueraded = true;
        self.decision.changes.masqueraded = true;
        Some(Outcome::Accept)
    }

    /// From here on the source is what the flow's translation makes of it.
    pub fn translated_source(&mut self) {
        let flow = &self.flow;
        let translated = if flow.reply { flow.dnat } else { flow.masqueraded };
        if self.source_done || !flow.tracked() || !translated {
            return;
        }
        self.source_done = true;
        if let Some(own) = self.world.own_address {
            self.packet.source = own;
        }
    }

    /// The conntrack entry, where it is known by now.
    fn entry(&self) -> Option<&Flow> {
        (self.seen && self.flow.tracked()).then_some(&*self.flow)
    }

    fn load(&self, load: Load) -> Option<u128> {
        Some(self.read(load.key)? & load.mask)
    }

    /// None: the packet has no such thing, and the rule ends (NFT_BREAK).
    fn read(&self, key: Key) -> Option<u128> {
        let packet = &*self.packet;
        Some(match key {
            Key::InName => self.in_name,
            Key::OutName => self.out_name,
            // NFPROTO_IPV4, NFPROTO_IPV6 (linux/netfilter.h).
            Key::Nfproto => {
                if packet.family() == Family::V4 {
                    2
                } else {
                    10
                }
            }
            Key::Protocol => packet.protocol.into(),
            Key::Mark => packet.mark.into(),
            Key::CtState => self.state(),
            Key::CtDirection => self.entry()?.reply.into(),
            Key::CtMark => self.entry()?.mark.into(),
            // IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h); other bits are not asked for.
            Key::CtStatus => {
                if self.entry()?.dnat {
                    0x20
                } else {
                    0
                }
            }
            Key::Source(family) if family == packet.family() => number(packet.source),
            Key::Destination(family) if family == packet.family() => number(packet.destination),
            Key::HopLimit if packet.family() == Family::V6 => packet.hop_limit.into(),
            Key::Source(_) | Key::Destination(_) | Key::HopLimit => return None,
            Key::Bits { family, protocol, at, len } => {
                let fits = family.is_none_or(|family| family == packet.family())
                    && protocol.is_none_or(|protocol| protocol == packet.protocol);
                fits.then(|| bits(&packet.transport, at, len))??
            }
            Key::DestinationType => (self.world.destination as u8).into(),
            Key::HasRoute => self.world.routed.into(),
            Key::SourceType if self.source_done => (RouteType::Local as u8).into(),
            Key::SourceType => (self.world.source as u8).into(),
        })
    }

    /// One bit each (nft's ct_state_tbl). Before conntrack a packet is invalid
    /// (nft_ct_get_eval).
    fn state(&self) -> u128 {
        match self.flow.state {
            FlowState::Untracked => 64,
            _ if !self.seen => 1,
            FlowState::Invalid => 1,
            FlowState::Established => 2,
            FlowState::Related => 4,
            FlowState::New => 8,
        }
    }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// Whole bytes, as the converter makes sure.
fn bits(bytes: &[u8], at: u16, len: u8) -> Option<u128> {
    let from = usize::from(at / 8);
    let part = bytes.get(from..from + usize::from(len / 8))?;
    Some(part.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
}
