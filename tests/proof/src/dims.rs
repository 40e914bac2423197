//! What a packet can differ in, cut into atoms: intervals inside which no constant of the rules or
//! of the contract lies. A box is a set of atoms for each dimension.

use vpnd::policy::Family;

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Dim {
    Source,
    Destination,
    SourcePort,
    DestPort,
    Flags,
    Type,
    Code,
    /// First byte of the packet quoted in an ICMP error, its protocol, destination and ports
    /// (source port in the upper half).
    QuotedVersion,
    QuotedProtocol,
    QuotedDestination,
    QuotedPorts,
    HopLimit,
    Mark,
    FlowMark,
    /// Index into [`crate::lane::FLOWS`].
    Flow,
    Translated,
    /// The source is the output device's own after NAT that is not ours or earlier.
    Masqueraded,
    /// RTN_ numbers.
    DestinationType,
    Routed,
    SourceType,
    /// Who is in the set of those who spoke: nobody, this one here, it elsewhere, another here.
    Spoke,
}

pub const DIMS: usize = 21;

pub const ALL: [Dim; DIMS] = [
    Dim::Source,
    Dim::Destination,
    Dim::SourcePort,
    Dim::DestPort,
    Dim::Flags,
    Dim::Type,
    Dim::Code,
    Dim::QuotedVersion,
    Dim::QuotedProtocol,
    Dim::QuotedDestination,
    Dim::QuotedPorts,
    Dim::HopLimit,
    Dim::Mark,
    Dim::FlowMark,
    Dim::Flow,
    Dim::Translated,
    Dim::Masqueraded,
    Dim::DestinationType,
    Dim::Routed,
    Dim::SourceType,
    Dim::Spoke,
];

/// A set of atoms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Set([u128; 2]);

pub const MOST: usize = 256;

impl Set {
    pub fn first(count: usize) -> Self {
        let low = |count: usize| if count >= 128 { u128::MAX } else { (1 << count) - 1 };
        Self([low(count), low(count.saturating_sub(128))])
    }
    pub fn one(at: usize) -> Self {
        Self::default().with(at)
    }
    pub fn with(mut self, at: usize) -> Self {
        self.0[at / 128] |= 1 << (at % 128);
        self
    }
    pub fn holds(self, at: usize) -> bool {
        self.0[at / 128] >> (at % 128) & 1 == 1
    }
    pub fn and(self, other: Self) -> Self {
        Self([self.0[0] & other.0[0], self.0[1] & other.0[1]])
    }
    pub fn without(self, other: Self) -> Self {
        Self([self.0[0] & !other.0[0], self.0[1] & !other.0[1]])
    }
    pub fn is_empty(self) -> bool {
        self.0 == [0, 0]
    }
    pub fn len(self) -> u32 {
        self.0[0].count_ones() + self.0[1].count_ones()
    }
    /// The n-th atom of it, from 0.
    pub fn nth(self, mut n: u32) -> usize {
        for (half, mut bits) in self.0.into_iter().enumerate() {
            let here = bits.count_ones();
            if n >= here {
                n -= here;
                continue;
            }
            for _ in 0..n {
                bits &= bits - 1;
            }
            return half * 128 + bits.trailing_zeros() as usize;
        }
        0
    }
}

/// From, to; both belong to it.
pub type Interval = (u128, u128);

/// The atoms of every dimension, for one family.
#[derive(Clone)]
pub struct Atoms(pub Vec<Vec<Interval>>);

impl Atoms {
    pub fn of(&self, dim: Dim) -> &[Interval] {
        &self.0[dim as usize]
    }
    pub fn find(&self, dim: Dim, value: u128) -> usize {
        self.of(dim).iter().position(|(from, to)| *from <= value && value <= *to).unwrap_or_default()
    }
    /// The atoms that lie in one of these; none straddles a border.
    pub fn within(&self, dim: Dim, ranges: &[Interval]) -> Set {
        let inside = |value: u128| ranges.iter().any(|(from, to)| *from <= value && value <= *to);
        let atoms = self.of(dim).iter().enumerate();
        atoms.filter(|(_, (from, _))| inside(*from)).fold(Set::default(), |set, (at, _)| set.with(at))
    }
    /// The points of a dimension of marks that have these bits.
    pub fn masked(&self, dim: Dim, mask: u32, value: u32) -> Set {
        let atoms = self.of(dim).iter().enumerate();
        let has = |point: u128| point as u32 & mask == value;
        atoms.filter(|(_, (point, _))| has(*point)).fold(Set::default(), |set, (at, _)| set.with(at))
    }
}

#[derive(Clone, Copy)]
pub struct Cover(pub [Set; DIMS]);

impl Cover {
    pub fn keep(&mut self, dim: Dim, set: Set) {
        let old = &mut self.0[dim as usize];
        *old = old.and(set);
    }
    pub fn classes(&self) -> u128 {
        self.0.iter().map(|set| u128::from(set.len())).product()
    }
    /// The parts of this box outside the other: disjoint boxes.
    pub fn rest(&self, inner: &Self) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut left = *self;
        for at in 0..DIMS {
            let outside = left.0[at].without(inner.0[at]);
            if !outside.is_empty() {
                let mut part = left;
                part.0[at] = outside;
                parts.push(part);
                left.0[at] = left.0[at].and(inner.0[at]);
            }
        }
        parts
    }
}

/// The end of an address, port or type: how many bits a dimension has.
pub fn highest(dim: Dim, family: Family) -> u128 {
    match dim {
        Dim::Source | Dim::Destination | Dim::QuotedDestination => match family {
            Family::V4 => u128::from(u32::MAX),
            Family::V6 => u128::MAX,
        },
        Dim::SourcePort | Dim::DestPort => u128::from(u16::MAX),
        Dim::QuotedPorts | Dim::Mark | Dim::FlowMark => u128::from(u32::MAX),
        _ => 255,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_box_and_the_box_are_everything_once() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let whole = Cover([Set::first(5); DIMS]);
            let mut inner = whole;
            for _ in 0..4 {
                let one = Set::one(random.usize(0..5));
                let some = (0..5).filter(|_| random.bool()).fold(one, Set::with);
                inner.keep(ALL[random.usize(0..DIMS)], some);
            }
            if inner.classes() == 0 {
                continue;
            }
            let parts = whole.rest(&inner);
            let sum: u128 = parts.iter().chain([&inner]).map(Cover::classes).sum();
            assert_eq!(sum, whole.classes());
            for _ in 0..50 {
                let point: Vec<usize> = (0..DIMS).map(|_| random.usize(0..5)).collect();
                let has = |part: &Cover| part.0.iter().zip(&point).all(|(set, at)| set.holds(*at));
                assert_eq!(parts.iter().chain([&inner]).filter(|part| has(part)).count(), 1);
            }
        }
    }

    #[test]
    fn sets_of_more_atoms_than_a_number_has_bits() {
        let set = Set::one(3).with(127).with(128).with(255);
        assert_eq!((0..4).map(|n| set.nth(n)).collect::<Vec<_>>(), [3, 127, 128, 255]);
        assert_eq!(Set::first(200).len(), 200);
        assert!(Set::first(200).holds(199) && !Set::first(200).holds(200));
    }
}
