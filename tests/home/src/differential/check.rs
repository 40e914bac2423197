//! What the observer saw of each packet, against what the evaluator says of it.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use vpnd::config::IfName;
use vpnd::firewall::evaluate::{
    Devices, Evaluator, Flow, FlowState, Hook, Packet, RouteType, Step, Verdict, World,
};

use super::log::Entry;
use super::place::Place;
use crate::packets::{Marker, Seen};

/// What the kernel remembers from one batch to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Who sent something, on which device: the dynamic sets' contents.
    spoke: Vec<(IfName, IpAddr)>,
    /// The device by which a masqueraded connection's first packet left.
    left_by: HashMap<Key, IfName>,
}

/// A connection's addresses, protocol, and ports or ICMP id.
type Key = (IpAddr, IpAddr, u8, Vec<u8>);

fn key(packet: &Packet) -> Key {
    let ids = match packet.protocol {
        6 | 17 => packet.transport.get(..4),
        1 | 58 => packet.transport.get(4..6),
        _ => None,
    };
    (packet.source, packet.destination, packet.protocol, ids.unwrap_or_default().to_vec())
}

/// A packet's time in one hook.
struct Visit<'a> {
    begin: &'a Entry,
    words: Vec<&'a str>,
}

impl Visit<'_> {
    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

/// Runs through a batch's log.
pub struct Check<'a> {
    place: &'a Place,
    evaluator: &'a Evaluator,
    world: World,
    left_by: HashMap<Key, IfName>,
    /// By serial number: the rules that the packet was held against.
    pub steps: HashMap<u32, Vec<Step>>,
    /// By serial number: the first thing that differed.
    pub faults: Vec<(u32, String)>,
    /// Visits of hooks that were compared.
    pub visits: usize,
}

impl<'a> Check<'a> {
    #[must_use]
    pub fn new(place: &'a Place, evaluator: &'a Evaluator, memory: Memory) -> Self {
        Self {
            place,
            evaluator,
            world: World { spoke: memory.spoke, ..World::default() },
            left_by: memory.left_by,
            steps: HashMap::new(),
            faults: Vec::new(),
            visits: 0,
        }
    }

    /// For the next batch.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { spoke: self.world.spoke.clone(), left_by: self.left_by.clone() }
    }

    /// # Errors
    /// When the log says what no log can say.
    pub fn run(&mut self, log: &[Entry]) -> Result<()> {
        let mut order = Vec::new();
        let mut of: HashMap<u32, Vec<&Entry>> = HashMap::new();
        for entry in log {
            let Some(marker) = Marker::find(&entry.packet) else { continue };
            let own = of.entry(marker.id).or_default();
            if own.is_empty() {
                order.push(marker.id);
            }
            own.push(entry);
        }
        for serial in order {
            let entries = of.remove(&serial).unwrap_or_default();
            if let Some(fault) = self.packet(serial, &entries)? {
                self.faults.push((serial, fault));
            }
        }
        Ok(())
    }

    fn packet(&mut self, serial: u32, entries: &[&Entry]) -> Result<Option<String>> {
        let mut visits: Vec<Visit<'_>> = Vec::new();
        for entry in entries {
            match visits.last_mut() {
                _ if entry.prefix == "begin" => visits.push(Visit { begin: entry, words: Vec::new() }),
                Some(visit) => visit.words.push(&entry.prefix),
                None => return Ok(Some(format!("'{}' before the first hook", entry.prefix))),
            }
        }
        let mut carried: Option<(Packet, Flow)> = None;
        let mut connection = None;
        for visit in &visits {
            let mut packet = packet(visit.begin).context("the log holds no IP packet")?;
            if let Some(difference) = carried.as_ref().and_then(|(ours, flow)| differs(ours, flow, &packet)) {
                return Ok(Some(format!("coming into {:?}: {difference}", visit.begin.hook)));
            }
            let mut flow = match carried.take() {
                Some((_, flow)) if !at_conntrack(visit.begin.hook) => flow,
                _ => flow(visit),
            };
            let connection = connection.get_or_insert_with(|| key(&packet)).clone();
            if self.is_cut_by_nat(visit, &flow, &connection) {
                return Ok(visit.has("end").then(|| "NAT lets a connection change its device".to_owned()));
            }
            if let Some(fault) = self.visit(serial, visit, &mut packet, &mut flow)? {
                return Ok(Some(format!("in {:?}: {fault}", visit.begin.hook)));
            }
            if visit.begin.hook == Hook::Postrouting {
                let oif = self.place.name(visit.begin.oif).filter(|_| flow.masqueraded && flow.first);
                self.left_by.extend(oif.map(|oif| (connection, oif)));
                // A broadcast comes here twice, and is translated once.
                flow.first = false;
            }
            carried = Some((packet, flow));
        }
        Ok(None)
    }

    /// A masqueraded connection that would leave by another device than before is ended by NAT
    /// itself, before our last chain (nf_nat_oif_changed).
    fn is_cut_by_nat(&self, visit: &Visit<'_>, flow: &Flow, connection: &Key) -> bool {
        let translated = visit.begin.hook == Hook::Postrouting && flow.masqueraded && !flow.first;
        let left_by = self.left_by.get(connection).filter(|_| translated);
        left_by.is_some_and(|device| self.place.name(visit.begin.oif).as_ref() != Some(device))
    }

    fn visit(
        &mut self,
        serial: u32,
        visit: &Visit<'_>,
        packet: &mut Packet,
        flow: &mut Flow,
    ) -> Result<Option<String>> {
        let devices =
            Devices { iif: self.place.name(visit.begin.iif), oif: self.place.name(visit.begin.oif) };
        self.visits += 1;
        self.world.destination = match () {
            () if visit.has("local") => RouteType::Local,
            () if visit.has("broadcast") => RouteType::Broadcast,
            () if visit.has("multicast") => RouteType::Multicast,
            () if visit.has("anycast") => RouteType::Anycast,
            () => RouteType::Unicast,
        };
        self.world.routed = !visit.has("unrouted");
        self.world.source = if visit.has("own") { RouteType::Local } else { RouteType::Unicast };
        let v4 = packet.destination.is_ipv4();
        self.world.own_address = devices.oif.as_ref().and_then(|oif| self.place.own_address(oif, v4));
        let source = packet.source;
        let decision = self.evaluator.hook(visit.begin.hook, packet, &devices, flow, &self.world)?;
        self.steps.entry(serial).or_default().extend(&decision.steps);
        if decision.changes.remembered {
            let speaker = devices.iif.clone().map(|device| (device, source));
            let known = &mut self.world.spoke;
            known.extend(speaker.filter(|speaker| !known.contains(speaker)).into_iter().collect::<Vec<_>>());
        }
        let (accepted, left) = (decision.verdict == Verdict::Accept, visit.has("end"));
        if accepted != left {
            let kernel = if left { "accepts" } else { "does not accept" };
            return Ok(Some(format!(
                "the evaluator says {:?} (rule {:?} of {}), the kernel {kernel}; {flow:?}, it says {}",
                decision.verdict,
                decision.rule,
                decision.chain,
                visit.words.join(" ")
            )));
        }
        if at_conntrack(visit.begin.hook)
            && left
            && visit.has("untracked") != (flow.state == FlowState::Untracked)
        {
            return Ok(Some(format!(
                "the evaluator says {:?}, conntrack {}",
                flow.state,
                visit.words.join(" ")
            )));
        }
        Ok(None)
    }
}

/// The hooks in which conntrack looks at a packet.
fn at_conntrack(hook: Hook) -> bool {
    matches!(hook, Hook::Prerouting | Hook::Output)
}

fn packet(entry: &Entry) -> Option<Packet> {
    let seen = Seen::parse(&entry.packet)?;
    Some(Packet {
        source: seen.from,
        destination: seen.to,
        protocol: seen.proto,
        transport: seen.payload,
        hop_limit: seen.hops,
        mark: entry.mark,
    })
}

/// What the rules should have made of a packet in the hooks before. Routing counts hops down, and
/// what conntrack translates by itself (later packets, answers, and a masqueraded port that is
/// taken; a broadcast comes back from the hooks of output) is not the rules' doing.
fn differs(ours: &Packet, flow: &Flow, kernel: &Packet) -> Option<String> {
    let translated = flow.masqueraded || (flow.dnat && !flow.first);
    let fields = |packet: &Packet| {
        let ports =
            packet.transport.get(..4).filter(|_| [6, 17].contains(&packet.protocol)).map(<[u8]>::to_vec);
        (packet.mark, (!translated).then_some((packet.source, packet.destination, ports)))
    };
    let (ours, kernel) = (fields(ours), fields(kernel));
    (ours != kernel).then(|| format!("the evaluator has {ours:x?}, the kernel {kernel:x?}"))
}

/// Conntrack's word when it first saw the packet.
fn flow(visit: &Visit<'_>) -> Flow {
    let state = match () {
        () if visit.has("established") => FlowState::Established,
        () if visit.has("related") => FlowState::Related,
        () if visit.has("invalid") => FlowState::Invalid,
        // ND and MLD are not tracked anyway; of anything else the rules must have said so.
        () if visit.has("untracked") && visit.begin.packet.get(6) == Some(&58) => FlowState::Untracked,
        () => FlowState::New,
    };
    let mark = visit.words.iter().find_map(|word| word.strip_prefix("mark")?.parse().ok()).unwrap_or(0);
    Flow {
        mark,
        dnat: visit.has("dnat"),
        masqueraded: visit.has("snat"),
        first: visit.has("first"),
        ..Flow::later(state, visit.has("reply"))
    }
}
