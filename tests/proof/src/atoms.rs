//! Where the constants of rules and contract cut each dimension, and how the classes between look.

use std::collections::{BTreeMap, BTreeSet};

use nftables::expr::{BinaryOperation, Expression, NamedExpression, SetItem};
use nftables::stmt::{Mangle, Match, Statement};
use vpnd::policy::Family;

use crate::contract::Contract;
use crate::dims::{ALL, Atoms, Dim, Interval, MOST, highest};
use crate::rules::{Stmt, look};
use crate::table::Is;

type Expr = Expression<'static>;

/// What the statements and the table compare with, for one family.
#[derive(Default)]
struct Constants {
    /// Of addresses and ports.
    cuts: Vec<BTreeSet<u128>>,
    /// Of marks: mask and value.
    marks: BTreeSet<(u32, u32)>,
    /// Of the ports quoted in an ICMP error.
    quoted: BTreeSet<u32>,
}

/// # Errors
/// More atoms than a set holds.
pub fn atoms<'a>(
    contract: &Contract,
    statements: impl Iterator<Item = &'a Stmt> + Clone,
) -> Result<[Atoms; 2], String> {
    let [v4, v6] = Family::BOTH.map(|family| {
        let mut constants = Constants { cuts: vec![BTreeSet::new(); ALL.len()], ..Constants::default() };
        for statement in statements.clone() {
            constants.statement(statement, family);
        }
        for entry in &contract.entries {
            for is in &entry.is {
                constants.condition(is, family);
            }
        }
        constants.atoms(family)
    });
    Ok([v4?, v6?])
}

impl Constants {
    fn statement(&mut self, statement: &Stmt, family: Family) {
        match statement {
            Statement::Match(Match { left, right, .. }) => {
                let Some(dim) = look(statement)[usize::from(family == Family::V6)] else { return };
                let mask = match left {
                    Expression::BinaryOperation(operation) => match operation.as_ref() {
                        BinaryOperation::AND(_, Expression::Number(mask)) => *mask,
                        _ => u32::MAX,
                    },
                    _ => u32::MAX,
                };
                for (from, to) in values(right, family) {
                    self.constant(dim, (from, to), mask, family);
                }
            }
            Statement::Mangle(Mangle { value: Expression::BinaryOperation(operation), .. }) => {
                if let BinaryOperation::OR(parts) = operation.as_ref() {
                    if let Some(Expression::Number(bits)) = parts.last() {
                        self.marks.insert((*bits, *bits));
                    }
                }
            }
            Statement::DNAT(Some(nat)) => {
                for (dim, value) in [(Dim::Destination, &nat.addr), (Dim::DestPort, &nat.port)] {
                    for range in value.iter().flat_map(|value| values(value, family)) {
                        self.constant(dim, range, u32::MAX, family);
                    }
                }
            }
            _ => {}
        }
    }

    fn condition(&mut self, is: &Is, family: Family) {
        for (dim, range) in is.constants(family) {
            self.constant(dim, range, u32::MAX, family);
        }
        if let Is::Bits(dim, mask, value) = is {
            self.constant(*dim, (u128::from(*value), u128::from(*value)), *mask, family);
        }
    }

    fn constant(&mut self, dim: Dim, (from, to): Interval, mask: u32, family: Family) {
        match dim {
            Dim::Mark | Dim::FlowMark => {
                self.marks.insert((mask, from as u32));
            }
            Dim::QuotedPorts => {
                self.quoted.insert(from as u32);
            }
            Dim::Source | Dim::Destination | Dim::QuotedDestination | Dim::SourcePort | Dim::DestPort => {
                let most = highest(dim, family);
                let cuts = &mut self.cuts[dim as usize];
                // Itself, its neighbours; of a prefix its half and its double.
                let size = to - from;
                let after = |value: u128| value.checked_add(1).filter(|value| *value <= most);
                let before = from.checked_sub(1);
                let half = (size > 0 && size < most).then(|| from + size / 2 + 1);
                let width = size.checked_add(1).filter(|_| size < most);
                let double = width.map(|width| from & !(width | size));
                let beyond =
                    width.zip(double).and_then(|(width, double)| double.checked_add(width.checked_mul(2)?));
                let neighbour = after(to).and_then(after);
                let all = [Some(from), after(to), before, neighbour, half, double, beyond];
                cuts.extend(all.into_iter().flatten().filter(|cut| *cut <= most));
            }
            _ => {}
        }
    }

    fn atoms(&self, family: Family) -> Result<Atoms, String> {
        let mut atoms = Vec::new();
        for dim in ALL {
            let intervals = self.intervals(dim, family);
            if intervals.len() > MOST {
                return Err(format!("{dim:?} has {} classes, more than {MOST}", intervals.len()));
            }
            atoms.push(intervals);
        }
        Ok(Atoms(atoms))
    }

    fn intervals(&self, dim: Dim, family: Family) -> Vec<Interval> {
        let points = |list: &mut dyn Iterator<Item = u128>| -> Vec<Interval> {
            let set: BTreeSet<u128> = list.collect();
            set.into_iter().map(|point| (point, point)).collect()
        };
        match dim {
            Dim::Mark | Dim::FlowMark => points(&mut self.marked().into_iter()),
            Dim::QuotedPorts => points(&mut self.quoted_ports().into_iter()),
            Dim::Flow => points(&mut (0..crate::lane::FLOWS.len() as u128)),
            Dim::Translated | Dim::Masqueraded | Dim::Routed => points(&mut (0..2)),
            Dim::DestinationType => points(&mut (0..9)),
            Dim::SourceType | Dim::Spoke => points(&mut (0..4)),
            Dim::Source | Dim::Destination | Dim::QuotedDestination | Dim::SourcePort | Dim::DestPort => {
                let most = highest(dim, family);
                let mut starts = self.cuts[dim as usize].clone();
                starts.insert(0);
                let starts: Vec<u128> = starts.into_iter().collect();
                let ends = starts.iter().skip(1).map(|next| next - 1).chain([most]);
                starts.iter().copied().zip(ends).collect()
            }
            // Eight bits: each value.
            _ => points(&mut (0..256)),
        }
    }

    /// With and without what other software has outside the mask, and with one bit wrong.
    fn marked(&self) -> BTreeSet<u128> {
        let mut points = BTreeSet::from([0, u128::from(u32::MAX), 1]);
        for (mask, value) in &self.marks {
            let lowest = mask & mask.wrapping_neg();
            let highest = 1u32.checked_shl(31 - mask.leading_zeros().min(31)).unwrap_or(1);
            let wrong = [0, lowest, highest, lowest << 1 & mask];
            for bits in wrong.into_iter().flat_map(|bit| [value ^ bit, value ^ bit | !mask]) {
                points.insert(bits.into());
            }
        }
        // Of those that no rule and no entry tells apart, the ones with fewest and with most bits.
        let mut alike: BTreeMap<Vec<bool>, (u128, u128)> = BTreeMap::new();
        for point in points {
            let has = |(mask, value): &(u32, u32)| point as u32 & mask == *value;
            let kept = alike.entry(self.marks.iter().map(has).collect()).or_insert((point, point));
            kept.0 = if point.count_ones() < kept.0.count_ones() { point } else { kept.0 };
            kept.1 = if kept.1.count_ones() < point.count_ones() { point } else { kept.1 };
        }
        alike.into_values().flat_map(|(few, many)| [few, many]).collect()
    }

    fn quoted_ports(&self) -> BTreeSet<u128> {
        let halves = |shift: u32| {
            let known = self.quoted.iter().map(move |ports| ports >> shift & 0xffff);
            let around = known.flat_map(|port| [port.wrapping_sub(1) & 0xffff, port, (port + 1) & 0xffff]);
            around.chain([0x1234]).collect::<BTreeSet<u32>>()
        };
        let (from, to) = (halves(16), halves(0));
        let both = from.iter().flat_map(|from| to.iter().map(move |to| from << 16 | to));
        both.map(u128::from).take(MOST).collect()
    }
}

/// The values of one family that an expression beside a key stands for.
pub fn values(expr: &Expr, family: Family) -> Vec<Interval> {
    let one = |value: u128| vec![(value, value)];
    match expr {
        Expression::Number(number) => one((*number).into()),
        Expression::String(text) => match text.strip_prefix("0x") {
            Some(digits) => u128::from_str_radix(digits, 16).map(one).unwrap_or_default(),
            None => text
                .parse::<ipnet::IpNet>()
                .or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into))
                .map(|net| crate::table::intervals(&[net], family))
                .unwrap_or_default(),
        },
        Expression::Named(NamedExpression::Prefix(prefix)) => {
            let Expression::String(addr) = prefix.addr.as_ref() else { return Vec::new() };
            let net = format!("{addr}/{}", prefix.len).parse::<ipnet::IpNet>();
            net.map(|net| crate::table::intervals(&[net], family)).unwrap_or_default()
        }
        Expression::Named(NamedExpression::Set(items)) => {
            let items = items.iter().map(|item| match item {
                SetItem::Element(value) => values(value, family),
                _ => Vec::new(),
            });
            items.flatten().collect()
        }
        _ => Vec::new(),
    }
}
