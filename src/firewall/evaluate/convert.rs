//! nftables objects -> the typed form.

use std::net::{IpAddr, SocketAddr};

use nftables::expr::{BinaryOperation, Expression, NamedExpression, RTKey, SetItem, Verdict};
use nftables::schema::{Chain, Rule, Set, SetType, SetTypeValue};
use nftables::stmt::{Mangle, Match, NAT, NATFamily, Operator, Reject, RejectType, SetOp, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfHook, RejectCode};

use super::program::{Base, Entry, Key, Load, Op, Outcome, Range, RuleOps, Target};
use super::types::{Hook, Refusal};
use super::{Evaluator, Unknown};
use super::{keys, program};
use crate::firewall::text;
use crate::policy::Family;
use crate::sorted;

type Expr = Expression<'static>;
type Stmt = Statement<'static>;

pub fn evaluator(
    sets: &[Set<'static>],
    chains: &[Chain<'static>],
    rules: &[Rule<'static>],
) -> Result<Evaluator, Unknown> {
    let names: Vec<String> = chains.iter().map(|chain| chain.name.clone().into_owned()).collect();
    let converter = Converter { names: &names, sets };
    let mut bases = Vec::new();
    for (at, chain) in chains.iter().enumerate() {
        bases.extend(base(chain, target(at)?)?);
    }
    sorted::sort_by(&mut bases, |a: &Base, b| a.priority.cmp(&b.priority));
    let mut members = vec![Vec::new(); chains.len()];
    let mut converted = Vec::with_capacity(rules.len());
    for (number, rule) in (0u32..).zip(rules) {
        let Target(chain) = converter.target(&rule.chain)?;
        if let Some(chain) = members.get_mut(usize::from(chain)) {
            chain.push(number);
        }
        let ops = match rule.expr.as_ref() {
            // It tells of some packets and decides nothing. In any other place a limit would make
            // verdicts a matter of chance: not known.
            [Statement::Limit(_), Statement::Log(Some(_))] => Box::default(),
            statements => {
                statements.iter().map(|statement| converter.op(statement)).collect::<Result<_, _>>()?
            }
        };
        converted.push(RuleOps { ops });
    }
    Ok(Evaluator { bases, chains: members, names, rules: converted })
}

fn target(at: usize) -> Result<Target, Unknown> {
    u16::try_from(at).map(Target).map_err(|_| Unknown::Chain(at.to_string()))
}

/// None: a regular chain.
fn base(chain: &Chain<'_>, target: Target) -> Result<Option<Base>, Unknown> {
    let (Some(kind), Some(hook)) = (chain._type, chain.hook) else { return Ok(None) };
    let hook = match hook {
        NfHook::Prerouting => Hook::Prerouting,
        NfHook::Input => Hook::Input,
        NfHook::Forward => Hook::Forward,
        NfHook::Output => Hook::Output,
        NfHook::Postrouting => Hook::Postrouting,
        NfHook::Ingress if chain.dev.is_some() => Hook::Ingress,
        NfHook::Ingress | NfHook::Egress => return Err(Unknown::Chain(chain.name.clone().into_owned())),
    };
    let device = chain.dev.as_deref().map(program::name);
    let nat = kind == NfChainType::NAT;
    let own = chain.prio.unwrap_or_default();
    // NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC.
    let place = match hook {
        _ if !nat => own,
        Hook::Prerouting | Hook::Output => -100,
        _ => 100,
    };
    let drops = chain.policy == Some(NfChainPolicy::Drop);
    Ok(Some(Base { hook, device, priority: (place, own), nat, drops, chain: target }))
}

fn unknown(expr: &Expr) -> Unknown {
    Unknown::Expression(text::expression(expr))
}

struct Converter<'a> {
    names: &'a [String],
    sets: &'a [Set<'static>],
}

impl Converter<'_> {
    fn target(&self, name: &str) -> Result<Target, Unknown> {
        match self.names.iter().position(|known| known == name) {
            Some(at) => target(at),
            None => Err(Unknown::Chain(name.to_owned())),
        }
    }

    fn op(&self, statement: &Stmt) -> Result<Op, Unknown> {
        Ok(match statement {
            Statement::Match(found) => self.matched(found)?,
            Statement::Counter(_) => Op::Counter,
            Statement::Notrack => Op::Notrack,
            Statement::Masquerade(None) => Op::Masquerade,
            Statement::DNAT(Some(nat)) => Op::Dnat(dnat(nat).ok_or_else(|| unknown_statement(statement))?),
            Statement::Mangle(mangle) => changed(mangle)?,
            Statement::Set(set) if set.op == SetOp::Update => {
                let (device, address) = self.dynamic(&set.set, &set.elem)?;
                Op::Remember { device, address }
            }
            Statement::VerdictMap(map) => {
                let mut keys = [None; 2];
                let parts = parts(&map.key);
                for (at, part) in parts.iter().enumerate() {
                    *keys.get_mut(at).ok_or_else(|| unknown(&map.key))? = Some(plain(part)?);
                }
                Op::VerdictMap { keys, entries: self.entries(&map.key, &map.data, keys)? }
            }
            _ => Op::End(self.outcome(statement)?),
        })
    }

    fn outcome(&self, statement: &Stmt) -> Result<Outcome, Unknown> {
        Ok(match statement {
            Statement::Accept(_) => Outcome::Accept,
            Statement::Drop(_) => Outcome::Drop,
            Statement::Return(_) => Outcome::Return,
            Statement::Goto(to) => Outcome::Goto(self.target(&to.target)?),
            Statement::Jump(to) => Outcome::Jump(self.target(&to.target)?),
            Statement::Reject(Some(Reject { _type, expr })) => match (_type, expr) {
                (Some(RejectType::TCPReset), None) => Outcome::Reject(Refusal::Reset),
                (Some(RejectType::ICMPX), Some(RejectCode::AdminProhibited)) => {
                    Outcome::Reject(Refusal::Prohibited)
                }
                _ => return Err(unknown_statement(statement)),
            },
            _ => return Err(unknown_statement(statement)),
        })
    }

    fn entries(&self, key: &Expr, data: &Expr, keys: [Option<Key>; 2]) -> Result<Box<[Entry]>, Unknown> {
        let Expression::Named(NamedExpression::Set(items)) = data else { return Err(unknown(data)) };
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let (value, outcome) = match item {
                SetItem::MappingStatement(value, verdict) => (value, self.outcome(verdict)?),
                SetItem::Mapping(value, Expression::Verdict(verdict)) => (value, self.verdict(verdict)?),
                _ => return Err(unknown(data)),
            };
            let parts = parts(value);
            let mut wanted = [0; 2];
            if parts.len() != keys.iter().flatten().count() {
                return Err(Unknown::Value(text::expression(key), text::expression(value)));
            }
            for ((part, key), to) in parts.iter().zip(keys.iter().flatten()).zip(&mut wanted) {
                *to = keys::one(*key, part)?;
            }
            entries.push((wanted, outcome));
        }
        Ok(entries.into())
    }

    fn verdict(&self, verdict: &Verdict<'static>) -> Result<Outcome, Unknown> {
        Ok(match verdict {
            Verdict::Accept => Outcome::Accept,
            Verdict::Drop => Outcome::Drop,
            Verdict::Return => Outcome::Return,
            Verdict::Jump(to) => Outcome::Jump(self.target(&to.target)?),
            Verdict::Goto(to) => Outcome::Goto(self.target(&to.target)?),
            Verdict::Continue => return Err(Unknown::Statement("continue".to_owned())),
        })
    }

    fn matched(&self, found: &Match<'static>) -> Result<Op, Unknown> {
        if let (Expression::Named(NamedExpression::Concat(_)), Expression::String(set)) =
            (&found.left, &found.right)
        {
            if found.op != Operator::EQ {
                return Err(unknown(&found.left));
            }
            let (device, address) = self.dynamic(set, &found.left)?;
            return Ok(Op::Spoke { device, address });
        }
        let load = loaded(&found.left)?;
        let wrong = || Unknown::Value(text::expression(&found.left), text::expression(&found.right));
        match found.op {
            // Of bits, one is enough; of anything else nft would make an equality.
            Operator::IN if matches!(load.key, Key::CtState | Key::CtStatus) => {
                Ok(Op::Has { load, bits: keys::one(load.key, &found.right)? })
            }
            Operator::EQ | Operator::NEQ => {
                let ranges: Box<[Range]> = match &found.right {
                    Expression::Named(NamedExpression::Set(items)) => {
                        let range = |item: &SetItem<'static>| match item {
                            SetItem::Element(value) => keys::range(load.key, value),
                            _ => Err(wrong()),
                        };
                        items.iter().map(range).collect::<Result<_, _>>()?
                    }
                    value => Box::new([keys::range(load.key, value)?]),
                };
                Ok(Op::In { load, ranges, negated: found.op == Operator::NEQ })
            }
            _ => Err(wrong()),
        }
    }

    /// The keys of a dynamic set of devices and addresses.
    fn dynamic(&self, reference: &str, element: &Expr) -> Result<(Key, Key), Unknown> {
        let wrong = || Unknown::Set(reference.to_owned());
        let name = reference.strip_prefix('@').ok_or_else(wrong)?;
        let set = self.sets.iter().find(|set| set.name == name).ok_or_else(wrong)?;
        let SetTypeValue::Concatenated(types) = &set.set_type else { return Err(wrong()) };
        let family = match types.as_ref() {
            [SetType::Ifname, SetType::Ipv4Addr] => Family::V4,
            [SetType::Ifname, SetType::Ipv6Addr] => Family::V6,
            _ => return Err(wrong()),
        };
        // All sets of a family would be one.
        if self.sets.iter().filter(|other| other.set_type == set.set_type).count() != 1 {
            return Err(wrong());
        }
        let keys = parts(element).iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        match keys.as_slice() {
            [device @ (Key::InName | Key::OutName), address @ (Key::Source(of) | Key::Destination(of))]
                if *of == family =>
            {
                Ok((*device, *address))
            }
            _ => Err(wrong()),
        }
    }
}

fn unknown_statement(statement: &Stmt) -> Unknown {
    Unknown::Statement(text::statement(statement))
}

/// The parts of a concatenation, or the one thing.
fn parts(expr: &Expr) -> &[Expr] {
    match expr {
        Expression::Named(NamedExpression::Concat(parts)) => parts,
        one => std::slice::from_ref(one),
    }
}

fn plain(expr: &Expr) -> Result<Key, Unknown> {
    keys::key(expr).ok_or_else(|| unknown(expr))
}

/// A key, or some bits of it.
fn loaded(expr: &Expr) -> Result<Load, Unknown> {
    if let Expression::BinaryOperation(operation) = expr {
        if let BinaryOperation::AND(left, mask) = operation.as_ref() {
            let key = plain(left)?;
            return Ok(Load { key, mask: keys::one(key, mask)? });
        }
    }
    Ok(Load { key: plain(expr)?, mask: u128::MAX })
}

fn changed(mangle: &Mangle<'static>) -> Result<Op, Unknown> {
    if keys::is_segment_size(&mangle.key) {
        return match &mangle.value {
            Expression::Named(NamedExpression::RT(rt)) if rt.key == RTKey::MTU => Ok(Op::ClampMss),
            other => Err(unknown(other)),
        };
    }
    let key = plain(&mangle.key)?;
    let conntrack = match key {
        Key::Mark => false,
        Key::CtMark => true,
        _ => return Err(unknown(&mangle.key)),
    };
    let (and, or) = mark(key, &mangle.value).ok_or_else(|| unknown(&mangle.value))?;
    Ok(Op::SetMark { conntrack, and, or })
}

/// A number, or the same mark with bits kept and bits set.
fn mark(key: Key, value: &Expr) -> Option<(u32, u32)> {
    let Expression::BinaryOperation(operation) = value else {
        return Some((0, number(value)?));
    };
    let BinaryOperation::OR(parts) = operation.as_ref() else { return None };
    let [Expression::BinaryOperation(kept), set] = parts.as_slice() else { return None };
    match kept.as_ref() {
        BinaryOperation::AND(left, mask) if keys::key(left) == Some(key) => {
            Some((number(mask)?, number(set)?))
        }
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u32> {
    if let Expression::Number(number) = expr { Some(*number) } else { None }
}

fn dnat(nat: &NAT<'static>) -> Option<SocketAddr> {
    let Some(Expression::String(addr)) = &nat.addr else { return None };
    let ip: IpAddr = addr.parse().ok()?;
    let family = if ip.is_ipv4() { NATFamily::IP } else { NATFamily::IP6 };
    let plain = nat.family == Some(family) && nat.flags.is_none();
    let port = u16::try_from(number(nat.port.as_ref()?)?).ok()?;
    plain.then(|| SocketAddr::new(ip, port))
}
