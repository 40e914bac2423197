//! A packet's whole way by the contract's table: what becomes of it, by which row, and what is done
//! to it. Whatever is looked at is noted, so that the answer is known for a whole box of packets.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use vpnd::config::Mark;
use vpnd::firewall::evaluate::Path;
use vpnd::policy::{Family, Row};

use crate::contract::{Contract, Zone};
use crate::dims::{Atoms, Cover, Dim, Set};
use crate::lane::{FLOWS, Lane, Point, Shape};
use crate::table::{At, Entry, Say, Test};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    Allowed,
    /// With a TCP reset, or ICMP.
    Refused {
        reset: bool,
    },
    Silent,
    /// Let through so far, but no route leads there.
    Unrouted,
    /// Its destination became another host's: no longer for the router.
    Redirected,
}

/// What is done to a packet that passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    pub mark: u32,
    pub flow_mark: u32,
    pub untracked: bool,
    pub redirected: Option<SocketAddr>,
    pub masqueraded: bool,
    pub clamped: bool,
    pub remembered: bool,
}

#[derive(Clone)]
pub struct Expected {
    pub outcome: Outcome,
    pub row: Row,
    pub effects: Effects,
    /// Entries that were looked at, and the packets for which all that is the same.
    pub cover: Cover,
    entry: Option<usize>,
}

struct Prepared {
    at: At,
    row: Row,
    say: Say,
    tests: [Vec<Test>; 2],
}

/// The table with its conditions worked out for the atoms of each family.
pub struct Table {
    pub contract: Contract,
    entries: Vec<Prepared>,
    /// The mark of vpnd's own sockets: where it is set, by family.
    own: [Set; 2],
    mark: Mark,
    /// What is said at each place, as one number.
    said: HashMap<At, u64>,
    /// Flow kinds: new and first, tracked and reply, and so on, as sets of atoms.
    flows: Vec<Set>,
}

/// The first of [`FLOWS`] without a conntrack entry.
pub const UNTRACKED: usize = 6;

fn index(family: Family) -> usize {
    usize::from(family == Family::V6)
}

fn tracked(flow: usize) -> bool {
    flow < UNTRACKED
}

impl Table {
    pub fn new(contract: Contract, mark: Mark, atoms: &[Atoms; 2]) -> Self {
        let prepare = |entry: &Entry| Prepared {
            at: entry.at,
            row: entry.row,
            say: entry.say,
            tests: Family::BOTH.map(|family| {
                entry.is.iter().filter_map(|is| is.test(family, &atoms[index(family)])).collect()
            }),
        };
        let entries = contract.entries.iter().map(prepare).collect();
        let own =
            Family::BOTH.map(|family| atoms[index(family)].masked(Dim::Mark, mark.mask(), mark.value()));
        let same = |at: usize| {
            let kinds = FLOWS.iter().enumerate();
            let kind = |(at, (_, reply, first)): (usize, &(_, bool, bool))| (tracked(at), *reply, *first);
            let wanted = kind((at, &FLOWS[at]));
            kinds.filter(|flow| kind(*flow) == wanted).fold(Set::default(), |set, (at, _)| set.with(at))
        };
        let mut said: HashMap<At, DefaultHasher> = HashMap::new();
        for entry in &contract.entries {
            format!("{entry:?}").hash(said.entry(entry.at).or_default());
        }
        let said = said.into_iter().map(|(at, hasher)| (at, hasher.finish())).collect();
        Self { contract, entries, own, mark, said, flows: (0..FLOWS.len()).map(same).collect() }
    }

    pub fn said_at(&self, at: At) -> u64 {
        self.said.get(&at).copied().unwrap_or_default()
    }

    pub fn own_hash(&self) -> (u32, u32) {
        (self.mark.mask(), self.mark.value())
    }

    pub fn place_of(&self, lane: &Lane) -> Option<At> {
        let zone = |device: &Option<_>| device.as_ref().map(|device| self.contract.zone(device));
        place(&self.contract, lane.path, zone(&lane.iif), zone(&lane.oif)).0
    }

    /// Flows that are like this one, as far as NAT looks at them.
    pub fn like(&self, flow: usize) -> Set {
        self.flows[flow]
    }

    pub fn expect(&self, lane: &Lane, atoms: &Atoms, point: &Point, everything: &Cover) -> Expected {
        let zone = |device: &Option<_>| device.as_ref().map(|device| self.contract.zone(device));
        let mut way = Way {
            table: self,
            lane,
            atoms,
            point: *point,
            noted: *everything,
            fixed: 0,
            effects: Effects {
                mark: point.value(Dim::Mark) as u32,
                flow_mark: point.value(Dim::FlowMark) as u32,
                ..Effects::default()
            },
            from: zone(&lane.iif),
            to: zone(&lane.oif),
        };
        let (outcome, row, entry) = way.go();
        Expected { outcome, row, effects: way.effects, cover: way.noted, entry }
    }

    /// Does another entry that says the same name this row? For packets to which two rows apply.
    pub fn also(&self, expected: &mut Expected, row: Row, lane: &Lane, atoms: &Atoms, point: &Point) -> bool {
        let Some(first) = expected.entry.filter(|_| row != Row::Default) else { return false };
        let Some(decided) = self.entries.get(first) else { return false };
        let mut way = Way {
            table: self,
            lane,
            atoms,
            point: *point,
            noted: expected.cover,
            fixed: 0,
            effects: expected.effects,
            from: None,
            to: None,
        };
        let same = |say: Say| say.allows() == decided.say.allows();
        let found =
            self.entries.iter().skip(first + 1).any(|entry| {
                entry.at == decided.at && entry.row == row && same(entry.say) && way.fits(entry)
            });
        expected.cover = way.noted;
        found
    }
}

struct Way<'a> {
    table: &'a Table,
    lane: &'a Lane,
    atoms: &'a Atoms,
    point: Point,
    noted: Cover,
    /// Dimensions that were changed on the way: what they are now does not depend on the class.
    fixed: u32,
    effects: Effects,
    from: Option<Zone>,
    to: Option<Zone>,
}

type Said = (Outcome, Row, Option<usize>);

impl Way<'_> {
    fn pin(&mut self, dim: Dim) {
        if self.fixed >> dim as usize & 1 == 0 {
            self.noted.keep(dim, self.point.atom(dim));
        }
    }

    /// From here on it is this, whatever the class.
    fn change(&mut self, dim: Dim, value: u128) {
        self.fixed |= 1 << dim as usize;
        self.point.values[dim as usize] = value;
        self.point.atoms[dim as usize] = self.atoms.find(dim, value) as u16;
    }

    /// Is the packet's atom in the set? Noted.
    fn in_set(&mut self, dim: Dim, set: Set) -> bool {
        let all = Set::first(self.atoms.of(dim).len());
        let within = set.holds(usize::from(self.point.atoms[dim as usize]));
        if self.fixed >> dim as usize & 1 == 0 {
            self.noted.keep(dim, if within { set } else { all.without(set) });
        }
        within
    }

    fn fits(&mut self, entry: &Prepared) -> bool {
        let tests = &entry.tests[index(self.lane.family)];
        // What does not depend on the class comes first, so that nothing is noted in vain.
        if tests.iter().any(|test| test.on_lane(self.lane) == Some(false)) {
            return false;
        }
        tests.iter().all(|test| match test {
            Test::On(dim, set) => self.in_set(*dim, *set),
            _ => true,
        })
    }

    fn first(&mut self, at: At) -> Option<(usize, Say, Row)> {
        let table = self.table;
        let mut entries = table.entries.iter().enumerate();
        let found = entries.find(|(_, entry)| entry.at == at && self.fits(entry))?;
        Some((found.0, found.1.say, found.1.row))
    }

    fn flow(&self) -> usize {
        usize::from(self.point.atoms[Dim::Flow as usize])
    }

    /// NAT looks at the flow.
    fn nat_looks(&mut self) -> (bool, bool, bool) {
        let flow = self.flow();
        if self.fixed >> Dim::Flow as usize & 1 == 0 {
            self.noted.keep(Dim::Flow, self.table.like(flow));
        }
        (tracked(flow), FLOWS[flow].1, FLOWS[flow].2)
    }

    fn mark(&mut self, mark: Mark) {
        self.pin(Dim::Mark);
        self.effects.mark = self.effects.mark & !mark.mask() | mark.value();
        self.change(Dim::Mark, self.effects.mark.into());
    }

    fn untrack(&mut self) {
        self.effects.untracked = true;
        self.effects.flow_mark = 0;
        self.change(Dim::Flow, UNTRACKED as u128);
        for dim in [Dim::FlowMark, Dim::Translated, Dim::Masqueraded] {
            self.change(dim, 0);
        }
    }

    fn refused(&self) -> Outcome {
        let tcp = matches!(self.lane.shape, Shape::Tcp | Shape::TcpFragment);
        Outcome::Refused { reset: tcp }
    }

    fn go(&mut self) -> Said {
        let arrival = if self.lane.path == Path::Output { self.leave() } else { self.arrive() };
        if let Some(said) = arrival {
            return said;
        }
        if self.lane.path == Path::Forward && !self.in_set(Dim::Routed, Set::one(1)) {
            return (Outcome::Unrouted, Row::Default, None);
        }
        let (place, otherwise) = place(&self.table.contract, self.lane.path, self.from, self.to);
        let found = place.and_then(|at| self.first(at));
        let (entry, say, row) = match found {
            Some((entry, say, row)) => (Some(entry), say, row),
            None => (None, otherwise.0, otherwise.1),
        };
        match say {
            Say::Silent => return (Outcome::Silent, row, entry),
            Say::Refuse => {
                // Nobody waits for an answer to vpnd's own packets but vpnd.
                let own = self.table.own[index(self.lane.family)];
                let own = self.lane.path == Path::Output && self.in_set(Dim::Mark, own);
                return (if own { Outcome::Silent } else { self.refused() }, row, entry);
            }
            Say::AllowAndMark(mark) if self.nat_looks().0 => {
                self.pin(Dim::FlowMark);
                self.effects.flow_mark = self.effects.flow_mark & !mark.mask() | mark.value();
            }
            _ => {}
        }
        self.effects.remembered =
            self.table.contract.emergency && self.lane.path == Path::Input && self.from == Some(Zone::Wan);
        self.source(row, entry)
    }

    fn leave(&mut self) -> Option<Said> {
        if self.first(At::Leaving).is_some() {
            self.untrack();
        } else if let Some((_, Say::Mark(mark), _)) = self.first(At::ServiceAnswers) {
            self.mark(mark);
        }
        None
    }

    fn arrive(&mut self) -> Option<Said> {
        match self.from {
            Some(Zone::Lan(_)) => {
                if let Some((entry, _, row)) = self.first(At::Arriving) {
                    return Some((Outcome::Silent, row, Some(entry)));
                }
                if let Some((entry, _, row)) = self.first(At::NoRoute) {
                    return Some((self.refused(), row, Some(entry)));
                }
            }
            Some(Zone::Wan) => {
                if let Some((entry, _, row)) = self.first(At::Arriving) {
                    return Some((Outcome::Silent, row, Some(entry)));
                }
                if let Some((_, Say::MarkAndUntrack(mark), _)) = self.first(At::ArrivingWan) {
                    self.mark(mark);
                    self.untrack();
                } else if let Some((_, Say::Mark(mark), _)) = self.first(At::ServiceAsked) {
                    self.mark(mark);
                }
            }
            Some(Zone::Tunnel) => return self.redirect(),
            _ => {}
        }
        None
    }

    fn redirect(&mut self) -> Option<Said> {
        let (tracked, _, first) = self.nat_looks();
        if !(tracked && first) {
            return None;
        }
        let (entry, say, row) = self.first(At::Redirected)?;
        let Say::SendTo(to) = say else { return None };
        self.effects.redirected = Some(to);
        let number = crate::table::interval(&to.ip().into()).0;
        self.change(Dim::Destination, number);
        self.change(Dim::DestPort, to.port().into());
        self.change(Dim::Translated, 1);
        (self.lane.path == Path::Input).then_some((Outcome::Redirected, row, Some(entry)))
    }

    /// Allowed so far: now the source must belong to the device that it leaves by.
    fn source(&mut self, row: Row, entry: Option<usize>) -> Said {
        if self.lane.path == Path::Forward && matches!(self.lane.shape, Shape::Tcp) {
            self.clamp();
        }
        if !matches!(self.to, Some(Zone::Tunnel | Zone::Wan)) {
            return (Outcome::Allowed, row, entry);
        }
        let (tracked, reply, first) = self.nat_looks();
        if self.to == Some(Zone::Tunnel) && tracked && first {
            if !self.lane.addressed {
                // No address of the tunnel's that it could leave with.
                return (Outcome::Silent, Row::IntoTunnel, None);
            }
            self.effects.masqueraded = true;
            return (Outcome::Allowed, row, entry);
        }
        let yes = Set::one(1);
        let translated = tracked
            && if reply { self.in_set(Dim::Translated, yes) } else { self.in_set(Dim::Masqueraded, yes) };
        let local = Set::one(self.atoms.find(Dim::SourceType, 2));
        if translated || self.in_set(Dim::SourceType, local) {
            return (Outcome::Allowed, row, entry);
        }
        let allows = |found: Option<(usize, Say, Row)>| found.is_some_and(|(_, say, _)| say.allows());
        if self.to == Some(Zone::Tunnel) && allows(self.first(At::TunnelSource)) {
            return (Outcome::Allowed, row, entry);
        }
        match self.first(At::ForeignSource) {
            Some((_, say, _)) if say.allows() => (Outcome::Allowed, row, entry),
            other => (Outcome::Silent, Row::Source, other.map(|(entry, _, _)| entry)),
        }
    }

    /// A packet that opens a connection through the tunnel: SYN, not RST.
    fn clamp(&mut self) {
        let tunnel = Some(Zone::Tunnel);
        if self.from != tunnel && self.to != tunnel {
            return;
        }
        let flags = self.atoms.of(Dim::Flags).iter().enumerate();
        let opening =
            flags.filter(|(_, (bits, _))| bits & 6 == 2).fold(Set::default(), |set, (at, _)| set.with(at));
        self.effects.clamped = self.in_set(Dim::Flags, opening);
    }
}

/// Where the table is looked up, and what holds where it says nothing.
fn place(contract: &Contract, path: Path, from: Option<Zone>, to: Option<Zone>) -> (Option<At>, (Say, Row)) {
    let allowed = (Say::Allow, Row::Loopback);
    let refused = (Say::Refuse, Row::Default);
    let silent = (Say::Silent, Row::Default);
    match (path, from, to) {
        (Path::Input, Some(zone), _) => match zone {
            Zone::Loopback => (None, allowed),
            Zone::Lan(_) => (Some(At::InLan), refused),
            Zone::Tunnel => (Some(At::InTunnel), silent),
            Zone::Idle => (None, silent),
            Zone::Wan => (Some(At::InWan), silent),
        },
        (Path::Output, _, Some(zone)) => match zone {
            Zone::Loopback => (None, allowed),
            Zone::Lan(_) => (Some(At::OutLan), refused),
            Zone::Tunnel => (Some(At::OutTunnel), refused),
            Zone::Idle => (None, refused),
            Zone::Wan => (Some(At::OutWan), refused),
        },
        (Path::Forward, Some(from), Some(to)) => forwarded(contract, from, to),
        _ => (None, silent),
    }
}

fn forwarded(contract: &Contract, from: Zone, to: Zone) -> (Option<At>, (Say, Row)) {
    let open = |zone: Zone| match zone {
        Zone::Lan(at) => contract.lan[at].forward,
        _ => true,
    };
    let at = match (from, to) {
        (Zone::Lan(_), Zone::Lan(_)) => Some(At::LanLan),
        (Zone::Lan(_), Zone::Tunnel) => Some(At::LanTunnel),
        (Zone::Tunnel, Zone::Lan(_)) => Some(At::TunnelLan),
        (Zone::Lan(_), Zone::Wan) => Some(At::LanWan),
        (Zone::Wan, Zone::Lan(_)) => Some(At::WanLan),
        _ => None,
    };
    let say = if matches!(from, Zone::Lan(_)) { Say::Refuse } else { Say::Silent };
    (at.filter(|_| open(from) && open(to)), (say, Row::Default))
}
