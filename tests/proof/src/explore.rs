//! Goes through all classes of a lane: takes one packet, sees for which box of packets rules and
//! table look at the same things and find the same, and goes on with what is left. So every class is
//! in exactly one box, and every box has been run.

use vpnd::config::IfName;
use vpnd::firewall::evaluate::{Path, Unknown};
use vpnd::policy::{Family, Row};

use crate::actual::{self, Actual};
use crate::contract::{GROUP, Zone};
use crate::dims::{ALL, Atoms, Cover, DIMS};
use crate::expect::{Expected, Outcome, Table};
use crate::lane::{Lane, Point, SHAPES};
use crate::rules::Rules;

/// One setting combination: the rules, the table, and the classes that both leave.
pub struct Proof<'a> {
    pub rules: &'a Rules,
    pub table: &'a Table,
    pub atoms: &'a [Atoms; 2],
}

/// A box of packets that are all treated alike.
#[derive(Clone)]
pub struct Leaf {
    pub lane: u32,
    pub cover: Cover,
}

/// A packet to which rules and contract give different answers.
pub struct Difference {
    pub lane: Lane,
    pub point: Point,
    pub actual: Actual,
    pub expected: Expected,
    pub why: &'static str,
}

#[derive(Debug)]
pub enum Stop {
    Unknown(Unknown),
    /// The proof's own reasoning is wrong.
    Broken(String),
}

impl From<Unknown> for Stop {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

/// All lanes of a home: every path, by every device, in both families, of every shape.
/// `carried`: the families of which the tunnel has an address.
pub fn lanes(table: &Table, carried: [bool; 2]) -> Vec<Lane> {
    let contract = &table.contract;
    let mut devices: Vec<IfName> = vec![name("lo")];
    devices.extend(contract.lan.iter().map(|lan| lan.device.clone()));
    devices.extend(GROUP.map(name));
    // The one that the kernel's facts know, and one that appears at night.
    devices.extend([name("eth1"), name("eth9")]);
    let each = || devices.iter().map(|device| Some(device.clone()));
    let mut ways = Vec::new();
    ways.extend(each().map(|oif| (Path::Output, None, oif)));
    ways.extend(each().map(|iif| (Path::Input, iif, None)));
    ways.extend(each().flat_map(|iif| each().map(move |oif| (Path::Forward, iif.clone(), oif))));
    let mut lanes = Vec::new();
    for (path, iif, oif) in ways {
        for family in Family::BOTH {
            let tunnel = oif.as_ref().map(|oif| contract.zone(oif)) == Some(Zone::Tunnel);
            let addressed = !tunnel || carried[usize::from(family == Family::V6)];
            for shape in SHAPES {
                lanes.push(Lane { path, iif: iif.clone(), oif: oif.clone(), family, shape, addressed });
            }
        }
    }
    lanes
}

fn name(text: &str) -> IfName {
    text.parse().expect("a literal of this file")
}

impl Proof<'_> {
    pub fn atoms(&self, lane: &Lane) -> &Atoms {
        &self.atoms[usize::from(lane.family == Family::V6)]
    }

    /// Any packet of a box.
    pub fn pick(&self, lane: &Lane, cover: &Cover, random: &mut fastrand::Rng) -> Point {
        let mut point = Point { atoms: [0; DIMS], values: [0; DIMS] };
        let atoms = self.atoms(lane);
        for dim in ALL {
            let set = cover.0[dim as usize];
            if !lane.has(dim) {
                continue;
            }
            let at = set.nth(random.u32(0..set.len().max(1)));
            let (from, to) = atoms.of(dim)[at];
            point.atoms[dim as usize] = at as u16;
            point.values[dim as usize] = match random.u8(0..4) {
                _ if from == to => from,
                0 => random.u128(from..=to),
                1 | 2 => from,
                _ => to,
            };
        }
        point
    }

    pub fn both(&self, lane: &Lane, point: &Point, within: &Cover) -> Result<(Actual, Expected), Stop> {
        let atoms = self.atoms(lane);
        let actual = actual::run(self.rules, self.table, lane, atoms, point, within)?;
        let expected = self.table.expect(lane, atoms, point, within);
        Ok((actual, expected))
    }

    /// What differs; None: nothing that the contract speaks of.
    pub fn compare(
        &self,
        lane: &Lane,
        point: &Point,
        actual: &Actual,
        expected: &mut Expected,
    ) -> Option<&'static str> {
        if actual.outcome != expected.outcome {
            return Some("verdict");
        }
        let passes = matches!(actual.outcome, Outcome::Allowed | Outcome::Redirected);
        if passes && actual.effects != expected.effects {
            return Some("what is done to the packet");
        }
        let same = actual.row == expected.row
            // The zone map is row 2.1 as a whole.
            || expected.row == Row::Default && actual.row == Row::Loopback && !passes
            || self.table.also(expected, actual.row, lane, self.atoms(lane), point);
        (!same).then_some("row")
    }

    /// All classes of a box. `visit` gets each leaf; at the first difference it ends.
    pub fn explore(
        &self,
        lane: &Lane,
        within: Cover,
        random: &mut fastrand::Rng,
        visit: &mut dyn FnMut(&Cover, &Actual),
    ) -> Result<Option<Box<Difference>>, Stop> {
        let mut open = vec![within];
        while let Some(part) = open.pop() {
            let point = self.pick(lane, &part, random);
            let (actual, mut expected) = self.both(lane, &point, &part)?;
            if let Some(why) = self.compare(lane, &point, &actual, &mut expected) {
                let lane = lane.clone();
                return Ok(Some(Box::new(Difference { lane, point, actual, expected, why })));
            }
            let mut leaf = actual.cover;
            for dim in ALL {
                leaf.keep(dim, expected.cover.0[dim as usize]);
                if lane.has(dim) && !leaf.0[dim as usize].holds(usize::from(point.atoms[dim as usize])) {
                    return Err(Stop::Broken(format!(
                        "a packet is outside its own class in {dim:?}: {lane:?} {:?}",
                        point.values
                    )));
                }
            }
            visit(&leaf, &actual);
            open.extend(part.rest(&leaf));
        }
        Ok(None)
    }

    /// Another packet of a leaf must be treated as the first was: else the classes are wrong.
    pub fn check(
        &self,
        lane: &Lane,
        leaf: &Cover,
        first: &Actual,
        random: &mut fastrand::Rng,
    ) -> Result<(), Stop> {
        let point = self.pick(lane, leaf, random);
        let (again, mut expected) = self.both(lane, &point, leaf)?;
        let agrees = again.steps == first.steps && again.outcome == first.outcome;
        if agrees && self.compare(lane, &point, &again, &mut expected).is_none() {
            return Ok(());
        }
        Err(Stop::Broken(format!(
            "two packets of one class are treated differently: {lane:?} {:?}",
            point.values
        )))
    }
}
