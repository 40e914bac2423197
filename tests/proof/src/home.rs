//! One setting combination, made ready: its compiled rules, its table, the classes of both.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use nftables::types::NfHook;
use vpnd::firewall::compile;
use vpnd::firewall::evaluate::{Hook, Path};
use vpnd::policy::{Stance, compose};

use crate::alter::{Change, Mutant, mutants};
use crate::atoms::atoms;
use crate::contract::{Contract, Zone, contract};
use crate::devices::Said;
use crate::dims::Atoms;
use crate::expect::Table;
use crate::explore::{Difference, Leaf, Proof, Stop, lanes};
use crate::lane::Lane;
use crate::mutate::Index;
use crate::rules::Rules;
use crate::setup::{Choice, case};
use crate::table::At;

pub struct Home {
    pub rules: Rules,
    pub table: Table,
    pub atoms: [Atoms; 2],
    pub lanes: Vec<Lane>,
    pub mutants: Vec<Mutant>,
    /// What each rule says, and what base chains are declared as.
    said: Vec<Said>,
    bases: Vec<(String, String)>,
}

/// What a run through a home's lanes came to.
#[derive(Default)]
pub struct Found {
    pub lanes: u64,
    /// Lanes that another home has had with the same rules and the same entries.
    pub known: u64,
    pub classes: u128,
    pub visited: u64,
    pub differences: Vec<Difference>,
}

/// The families of which the tunnel has an address.
fn carried(stance: &Stance) -> [bool; 2] {
    let (Stance::Connecting { tunnel: Some(tunnel), .. } | Stance::Connected { tunnel, .. }) = stance else {
        return [false; 2];
    };
    [true, false].map(|v4| tunnel.addresses.iter().any(|net| net.addr().is_ipv4() == v4))
}

impl Home {
    /// `change` is an error in the table; `altered`: the rules' mutants are wanted, too.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn new(choice: Choice, altered: bool, change: Option<fn(&mut Contract)>) -> Result<Self, Stop> {
        let case = case(choice);
        let nothing = || Stop::Broken(format!("no policy: {choice}"));
        let policy = compose(&case.stance, &case.settings, &case.facts).ok_or_else(nothing)?;
        let rules = Rules::new(&compile(&policy))?;
        if let Some(rule) = rules.asks_conntrack_too_early() {
            return Err(Stop::Broken(format!("asks conntrack before it has seen the packet: {rule}")));
        }
        let mut contract = contract(&case);
        if let Some(change) = change {
            change(&mut contract);
        }
        let mutants = if altered { mutants(&rules.rules) } else { Vec::new() };
        let changed = mutants.iter().filter_map(|mutant| match &mutant.change {
            Change::Replaced(rule) => Some(rule.as_ref()),
            Change::Swapped(_) => None,
        });
        let statements = rules.rules.iter().chain(changed).flat_map(|rule| rule.expr.iter());
        let atoms = atoms(&contract, statements).map_err(Stop::Broken)?;
        let table = Table::new(contract, case.settings.mark, &atoms);
        let lanes = lanes(&table, carried(&case.stance));
        let said = rules.rules.iter().map(Said::new).collect();
        let bases = rules.chains.iter().filter(|chain| chain.hook.is_some());
        let bases = bases.map(|chain| (chain.name.to_string(), format!("{chain:?}"))).collect();
        Ok(Self { rules, table, atoms, lanes, mutants, said, bases })
    }

    pub fn proof(&self) -> Proof<'_> {
        Proof { rules: &self.rules, table: &self.table, atoms: &self.atoms }
    }

    /// All classes of all lanes. Each box is run once more with another packet of it.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn prove(&self, known: Option<&Known>, random: &mut fastrand::Rng) -> Result<Found, Stop> {
        let proof = self.proof();
        let mut found = Found::default();
        let mut chains: Option<HashMap<String, u64>> = None;
        let mut former: Option<&Lane> = None;
        for lane in &self.lanes {
            let same_way =
                |other: &Lane| (other.path, &other.iif, &other.oif) == (lane.path, &lane.iif, &lane.oif);
            if known.is_some() && !former.is_some_and(same_way) {
                chains = Some(self.chains(lane));
                former = Some(lane);
            }
            let all = lane.everything(proof.atoms(lane));
            found.lanes += 1;
            found.classes += all.classes();
            if let (Some(known), Some(chains)) = (known, &chains) {
                if known.has(self, lane, chains) {
                    found.known += 1;
                    continue;
                }
            }
            let mut second = random.fork();
            let mut wrong = None;
            let mut seen: Vec<bool> = vec![false; self.rules.rules.len()];
            let difference = proof.explore(lane, all, random, &mut |leaf, actual| {
                found.visited += 1;
                actual.steps.iter().for_each(|(rule, _)| seen[*rule as usize] = true);
                wrong = wrong.take().or(proof.check(lane, leaf, actual, &mut second).err());
            })?;
            if let Some(stop) = wrong {
                return Err(stop);
            }
            match difference {
                Some(difference) => found.differences.push(*difference),
                None => {
                    if let (Some(known), Some(chains)) = (known, &chains) {
                        known.add(self, lane, chains, &seen);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Is there any difference, where the table says something else than the right one does?
    ///
    /// # Errors
    /// What stops the proof.
    pub fn differs(&self, right: &Self, random: &mut fastrand::Rng) -> Result<bool, Stop> {
        let proof = self.proof();
        for lane in self.lanes.iter().filter(|lane| self.key(lane) != right.key(lane)) {
            let all = lane.everything(proof.atoms(lane));
            if proof.explore(lane, all, random, &mut |_, _| ())?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The boxes of all lanes, and which rules are looked at in which.
    ///
    /// # Errors
    /// What stops the proof.
    pub fn leaves(&self, random: &mut fastrand::Rng) -> Result<(Vec<Leaf>, Index), Stop> {
        let proof = self.proof();
        let (mut leaves, mut index) = (Vec::new(), Index::new(self.rules.rules.len()));
        for (at, lane) in (0..).zip(&self.lanes) {
            let all = lane.everything(proof.atoms(lane));
            let difference = proof.explore(lane, all, random, &mut |leaf, actual| {
                index.add(leaves.len() as u32, &actual.steps);
                leaves.push(Leaf { lane: at, cover: *leaf });
            })?;
            if difference.is_some() {
                return Err(Stop::Broken("rules and contract differ unaltered".to_owned()));
            }
        }
        Ok((leaves, index))
    }

    /// What each chain says to packets of these devices.
    fn chains(&self, lane: &Lane) -> HashMap<String, u64> {
        let mut chains: HashMap<&str, DefaultHasher> = HashMap::new();
        for (rule, said) in self.rules.rules.iter().zip(&self.said) {
            said.hash(rule, lane, chains.entry(rule.chain.as_ref()).or_default());
        }
        for (name, declared) in &self.bases {
            declared.hash(chains.entry(name).or_default());
        }
        chains.into_iter().map(|(name, hasher)| (name.to_owned(), hasher.finish())).collect()
    }

    /// What the table says of a lane.
    fn key(&self, lane: &Lane) -> u64 {
        let mut hasher = DefaultHasher::new();
        lane.hash(&mut hasher);
        let contract = &self.table.contract;
        let zone = |device: &Option<_>| device.as_ref().map(|device| contract.zone(device));
        let (from, to) = (zone(&lane.iif), zone(&lane.oif));
        let mut places: Vec<At> = self.table.place_of(lane).into_iter().collect();
        for zone in [from, to].into_iter().flatten() {
            zone.kind().hash(&mut hasher);
            if let Zone::Lan(at) = zone {
                contract.lan[at].forward.hash(&mut hasher);
            }
        }
        places.extend(match from {
            Some(Zone::Lan(_)) => &[At::Arriving, At::NoRoute][..],
            Some(Zone::Wan) => &[At::Arriving, At::ArrivingWan, At::ServiceAsked],
            Some(Zone::Tunnel) => &[At::Redirected],
            _ => &[],
        });
        if lane.path == Path::Output {
            places.extend([At::Leaving, At::ServiceAnswers]);
            self.table.own_hash().hash(&mut hasher);
        }
        if matches!(to, Some(Zone::Tunnel | Zone::Wan)) {
            places.push(At::ForeignSource);
        }
        if to == Some(Zone::Tunnel) {
            places.push(At::TunnelSource);
        }
        for at in places {
            self.table.said_at(at).hash(&mut hasher);
        }
        contract.emergency.hash(&mut hasher);
        let hooks = self.rules.chains.iter().filter(|chain| runs(lane.path, chain.hook));
        hooks.for_each(|chain| chain.name.hash(&mut hasher));
        hasher.finish()
    }
}

/// Is this hook on the path?
fn runs(path: Path, hook: Option<NfHook>) -> bool {
    let hooks = path.hooks();
    match hook {
        Some(NfHook::Prerouting) => hooks.contains(&Hook::Prerouting),
        Some(NfHook::Postrouting) => hooks.contains(&Hook::Postrouting),
        Some(NfHook::Input) => path == Path::Input,
        Some(NfHook::Forward) => path == Path::Forward,
        Some(NfHook::Output) => path == Path::Output,
        _ => false,
    }
}

/// Lanes that were proved in some home: what they looked at, by chain. A lane of another home in
/// which the table and those chains say the same is proved as well.
#[derive(Default)]
pub struct Known(Mutex<HashMap<u64, Vec<Looked>>>);

/// Chains, and what they say.
type Looked = (Vec<String>, u64);

fn of_chains(names: &[String], chains: &HashMap<String, u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in names {
        (name, chains.get(name)).hash(&mut hasher);
    }
    hasher.finish()
}

impl Known {
    fn has(&self, home: &Home, lane: &Lane, chains: &HashMap<String, u64>) -> bool {
        let Ok(known) = self.0.lock() else { return false };
        let Some(list) = known.get(&home.key(lane)) else { return false };
        list.iter().any(|(names, wanted)| of_chains(names, chains) == *wanted)
    }

    fn add(&self, home: &Home, lane: &Lane, chains: &HashMap<String, u64>, seen: &[bool]) {
        let looked = home.rules.rules.iter().zip(seen).filter(|(_, seen)| **seen);
        let mut names: Vec<String> = looked.map(|(rule, _)| rule.chain.to_string()).collect();
        // Base chains whose rules all stood aside are looked at, too.
        let bases = home.rules.chains.iter().filter(|chain| runs(lane.path, chain.hook));
        names.extend(bases.map(|chain| chain.name.to_string()));
        names.sort();
        names.dedup();
        let said = of_chains(&names, chains);
        if let Ok(mut known) = self.0.lock() {
            known.entry(home.key(lane)).or_default().push((names, said));
        }
    }
}
