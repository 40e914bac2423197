//! The compiled rules, as far as the proof must know what each statement looks at: which dimension,
//! and for which of its atoms the evaluator lets it hold. What a statement means is asked of the
//! evaluator itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use nftables::expr::{
    BinaryOperation, Expression, FibResult, MetaKey, NamedExpression, Payload, PayloadField, PayloadRaw,
};
use nftables::schema::{Chain, Rule};
use nftables::stmt::{Match, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};
use vpnd::firewall::Ruleset;
use vpnd::firewall::evaluate::{Evaluator, Hook, Path, Unknown, Verdict};
use vpnd::policy::{Family, Row};

use crate::dims::{Atoms, Dim, Set};
use crate::lane::{Lane, Point, Shape};

pub type Stmt = Statement<'static>;
type Expr = Expression<'static>;

/// A set of atoms by rule, statement, shape and family.
type Seen = RefCell<HashMap<(u32, u8, Shape, Family), Set>>;

pub struct Rules {
    pub chains: Vec<Chain<'static>>,
    pub rules: Vec<Rule<'static>>,
    pub rows: Vec<Row>,
    pub evaluator: Evaluator,
    /// The dimension that each statement of each rule looks at.
    dims: Vec<Vec<Look>>,
    masks: Rc<Seen>,
    /// Of a changed rule.
    own: Seen,
    pub changed: Option<u32>,
    /// Which rule of the ruleset each is: two may have changed places.
    ids: Vec<u32>,
    sets: Vec<nftables::schema::Set<'static>>,
    /// Hooks with nat chains.
    pub nat: [bool; 2],
}

/// A chain that nothing leads to.
pub const ASIDE: &str = "proof_aside";

/// What a statement looks at, in IPv4 and in IPv6.
pub type Look = [Option<Dim>; 2];

impl Rules {
    pub fn new(ruleset: &Ruleset) -> Result<Self, Unknown> {
        Self::of(ruleset.sets(), ruleset.chains(), ruleset.rules().to_vec())
    }

    /// "chain: comment" of a rule.
    pub fn place(&self, rule: u32) -> String {
        let rule = &self.rules[rule as usize];
        format!("{}: {}", rule.chain, rule.comment.as_deref().unwrap_or_default())
    }

    pub fn of(
        sets: &[nftables::schema::Set<'static>],
        chains: &[Chain<'static>],
        rules: Vec<Rule<'static>>,
    ) -> Result<Self, Unknown> {
        let mut chains = chains.to_vec();
        // Where rules go that are dropped.
        chains.push(Chain { name: ASIDE.into(), ..Chain::default() });
        let evaluator = Evaluator::of_objects(sets, &chains, &rules)?;
        let nat = |hook| {
            chains.iter().any(|chain| chain._type == Some(NfChainType::NAT) && chain.hook == Some(hook))
        };
        Ok(Self {
            nat: [nat(NfHook::Prerouting), nat(NfHook::Postrouting)],
            dims: rules.iter().map(|rule| rule.expr.iter().map(look).collect()).collect(),
            rows: rules.iter().map(row).collect(),
            ids: (0..rules.len() as u32).collect(),
            chains,
            rules,
            evaluator,
            masks: Rc::default(),
            own: RefCell::default(),
            changed: None,
            sets: sets.to_vec(),
        })
    }

    /// The same with another rule in a place.
    pub fn replaced(&self, at: u32, rule: Rule<'static>) -> Result<Self, Unknown> {
        let mut other = self.copy()?;
        other.dims[at as usize] = rule.expr.iter().map(look).collect();
        other.rules[at as usize] = rule;
        other.changed = Some(at);
        other.evaluator = Evaluator::of_objects(&self.sets, &other.chains, &other.rules)?;
        Ok(other)
    }

    /// The same with two rules of one chain in each other's place.
    pub fn swapped(&self, one: u32, two: u32) -> Result<Self, Unknown> {
        let mut other = self.copy()?;
        let (one, two) = (one as usize, two as usize);
        other.rules.swap(one, two);
        other.dims.swap(one, two);
        other.rows.swap(one, two);
        other.ids.swap(one, two);
        other.evaluator = Evaluator::of_objects(&self.sets, &other.chains, &other.rules)?;
        Ok(other)
    }

    fn copy(&self) -> Result<Self, Unknown> {
        Ok(Self {
            chains: self.chains.clone(),
            rules: self.rules.clone(),
            rows: self.rows.clone(),
            evaluator: Evaluator::of_objects(&[], &[], &[])?,
            dims: self.dims.clone(),
            masks: Rc::clone(&self.masks),
            own: RefCell::default(),
            changed: None,
            ids: self.ids.clone(),
            sets: self.sets.clone(),
            nat: self.nat,
        })
    }

    pub fn dim(&self, rule: u32, statement: u8, family: Family) -> Option<Dim> {
        let looks = self.dims.get(rule as usize)?.get(usize::from(statement))?;
        looks[usize::from(family == Family::V6)]
    }

    /// The atoms of its dimension for which a statement holds, in a lane like this.
    pub fn holds(
        &self,
        rule: u32,
        statement: u8,
        dim: Dim,
        lane: &Lane,
        atoms: &Atoms,
    ) -> Result<Set, Unknown> {
        let known = if self.changed == Some(rule) { &self.own } else { self.masks.as_ref() };
        let key = (self.ids[rule as usize], statement, lane.shape, lane.family);
        if let Some(set) = known.borrow().get(&key) {
            return Ok(*set);
        }
        let found = self.rules[rule as usize].expr[usize::from(statement)].clone();
        let set = self.ask(found, dim, lane, atoms)?;
        known.borrow_mut().insert(key, set);
        Ok(set)
    }

    /// Of a chain with this one statement, for each atom.
    fn ask(&self, found: Stmt, dim: Dim, lane: &Lane, atoms: &Atoms) -> Result<Set, Unknown> {
        let chain = Chain {
            name: "ask".into(),
            _type: Some(NfChainType::Filter),
            hook: Some(NfHook::Forward),
            prio: Some(0),
            policy: Some(NfChainPolicy::Drop),
            ..Chain::default()
        };
        let rule = Rule {
            chain: "ask".into(),
            expr: vec![found, Statement::Accept(None)].into(),
            ..Rule::default()
        };
        let asked = Evaluator::of_objects(&self.sets, &[chain], &[rule])?;
        // All dimensions are there, so that only the one asked about decides.
        let lane = Lane { path: Path::Forward, ..lane.clone() };
        let mut point = Point { atoms: [0; crate::dims::DIMS], values: [0; crate::dims::DIMS] };
        let mut set = Set::default();
        for (at, (from, _)) in atoms.of(dim).iter().enumerate() {
            point.values[dim as usize] = *from;
            let (mut packet, mut flow) = (lane.packet(&point), lane.flow(&point));
            let world = lane.world(&point);
            let said = asked.hook(Hook::Forward, &mut packet, &lane.devices(), &mut flow, &world)?;
            if said.verdict == Verdict::Accept {
                set = set.with(at);
            }
        }
        Ok(set)
    }

    /// Rules that nobody can look at before conntrack: they must not ask it.
    pub fn asks_conntrack_too_early(&self) -> Option<String> {
        let asks = |rule: &Rule<'static>| {
            rule.expr.iter().any(|statement| {
                look(statement)
                    .iter()
                    .any(|dim| matches!(dim, Some(Dim::Flow | Dim::FlowMark | Dim::Translated)))
            })
        };
        self.rules
            .iter()
            .find(|rule| is_early(&rule.chain) && asks(rule))
            .map(|rule| rule.comment.clone().unwrap_or_default().into_owned())
    }
}

/// Chains ahead of conntrack.
pub fn is_early(chain: &str) -> bool {
    chain.starts_with("arriving_from") || chain == "output_raw" || chain == "prerouting_raw"
}

fn row(rule: &Rule<'static>) -> Row {
    let comment = rule.comment.as_deref().unwrap_or_default();
    let number = comment.split(' ').next().unwrap_or_default();
    Row::ALL.iter().copied().find(|row| row.number() == number).unwrap_or(Row::Default)
}

/// None: nothing that classes of one lane differ in.
pub fn look(statement: &Stmt) -> Look {
    match statement {
        Statement::Match(Match { left, .. }) => Family::BOTH.map(|family| dim(left, family)),
        _ => [None, None],
    }
}

fn dim(left: &Expr, family: Family) -> Option<Dim> {
    match left {
        Expression::BinaryOperation(operation) => match operation.as_ref() {
            BinaryOperation::AND(left, _) => dim(left, family),
            _ => None,
        },
        Expression::Named(named) => match named {
            NamedExpression::Meta(meta) => (meta.key == MetaKey::Mark).then_some(Dim::Mark),
            NamedExpression::CT(ct) => match ct.key.as_ref() {
                "state" | "direction" => Some(Dim::Flow),
                "mark" => Some(Dim::FlowMark),
                "status" => Some(Dim::Translated),
                _ => None,
            },
            NamedExpression::Payload(Payload::PayloadField(header)) => field(header, family),
            NamedExpression::Payload(Payload::PayloadRaw(raw)) => quoted(raw, family),
            NamedExpression::Fib(fib) => Some(match fib.result {
                FibResult::Oif | FibResult::Oifname => Dim::Routed,
                FibResult::Type if fib.flags.len() == 1 => Dim::DestinationType,
                FibResult::Type => Dim::SourceType,
            }),
            NamedExpression::Concat(_) => Some(Dim::Spoke),
            _ => None,
        },
        _ => None,
    }
}

fn field(header: &PayloadField<'_>, family: Family) -> Option<Dim> {
    let own = if family == Family::V4 { "ip" } else { "ip6" };
    match (header.protocol.as_ref(), header.field.as_ref()) {
        (protocol, "saddr") if protocol == own => Some(Dim::Source),
        (protocol, "daddr") if protocol == own => Some(Dim::Destination),
        ("ip6", "hoplimit") if family == Family::V6 => Some(Dim::HopLimit),
        (_, "sport") => Some(Dim::SourcePort),
        (_, "dport") => Some(Dim::DestPort),
        (_, "flags") => Some(Dim::Flags),
        (_, "type") => Some(Dim::Type),
        (_, "code") => Some(Dim::Code),
        _ => None,
    }
}

/// Offsets in bits from the start of an ICMP error, of the packet that it quotes.
fn quoted(raw: &PayloadRaw, family: Family) -> Option<Dim> {
    Some(match (family, raw.offset, raw.len) {
        (_, 64, 8) => Dim::QuotedVersion,
        (Family::V4, 136, 8) | (Family::V6, 112, 8) => Dim::QuotedProtocol,
        (Family::V4, 192, 32) | (Family::V6, 256, 128) => Dim::QuotedDestination,
        (Family::V4, 224, 32) | (Family::V6, 384, 32) | (Family::V4, 240, 16) | (Family::V6, 400, 16) => {
            Dim::QuotedPorts
        }
        _ => return None,
    })
}
