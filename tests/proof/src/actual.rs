//! A packet's whole way by the compiled rules, through the evaluator; and the box of packets for
//! which every statement that was looked at says the same.

use vpnd::firewall::evaluate::{Decision, Hook, Path, Unknown, Verdict};
use vpnd::policy::Row;

use crate::dims::{Atoms, Cover, Dim, Set};
use crate::expect::{Effects, Outcome, Table, UNTRACKED};
use crate::lane::{FLOWS, Lane, Point};
use crate::rules::{Rules, is_early};

#[derive(Clone)]
pub struct Actual {
    pub outcome: Outcome,
    pub row: Row,
    /// Index of the rule that decided.
    pub rule: Option<u32>,
    pub chain: String,
    pub effects: Effects,
    /// All rules looked at, with the statement that did not hold.
    pub steps: Vec<(u32, Option<u8>)>,
    pub cover: Cover,
}

struct Noting<'a> {
    rules: &'a Rules,
    table: &'a Table,
    lane: &'a Lane,
    atoms: &'a Atoms,
    point: &'a Point,
    cover: Cover,
    /// Dimensions that the rules changed on the way.
    fixed: u32,
}

impl Noting<'_> {
    fn free(&self, dim: Dim) -> bool {
        self.fixed >> dim as usize & 1 == 0 && self.lane.has(dim)
    }

    fn steps(&mut self, decision: &Decision) -> Result<(), Unknown> {
        for step in &decision.steps {
            let statements = self.rules.rules[step.rule as usize].expr.len();
            let held = step.failed.map_or(statements, usize::from);
            for at in 0..held {
                self.statement(step.rule, at as u8, true)?;
            }
            if let Some(at) = step.failed {
                self.statement(step.rule, at, false)?;
            }
        }
        Ok(())
    }

    fn statement(&mut self, rule: u32, at: u8, held: bool) -> Result<(), Unknown> {
        let Some(dim) = self.rules.dim(rule, at, self.lane.family) else { return Ok(()) };
        if !self.free(dim) {
            return Ok(());
        }
        let of_entry = matches!(dim, Dim::FlowMark | Dim::Translated);
        if of_entry && is_early(&self.rules.rules[rule as usize].chain) {
            // An altered rule: nobody has an entry yet.
            return Ok(());
        }
        if of_entry && self.free(Dim::Flow) {
            // Without a conntrack entry there is none to read, whatever it would be.
            let tracked = Set::first(UNTRACKED);
            if !tracked.holds(self.point.value(Dim::Flow) as usize) {
                self.cover.keep(Dim::Flow, Set::first(FLOWS.len()).without(tracked));
                return Ok(());
            }
            self.cover.keep(Dim::Flow, tracked);
        }
        let holds = self.rules.holds(rule, at, dim, self.lane, self.atoms)?;
        let all = Set::first(self.atoms.of(dim).len());
        self.cover.keep(dim, if held { holds } else { all.without(holds) });
        Ok(())
    }

    /// NAT looks at the flow without a rule that says so.
    fn nat(&mut self) {
        if self.free(Dim::Flow) {
            self.cover.keep(Dim::Flow, self.table.like(self.point.value(Dim::Flow) as usize));
        }
    }

    fn pin(&mut self, dim: Dim) {
        if self.free(dim) {
            self.cover.keep(dim, self.point.atom(dim));
        }
    }

    fn fix(&mut self, dims: &[Dim]) {
        for dim in dims {
            self.fixed |= 1 << *dim as usize;
        }
    }

    /// What a hook changes and reads again: marks keep bits of what was there, and whoever is
    /// untracked before conntrack has no entry.
    fn changing(&mut self, decision: &Decision) {
        let changes = &decision.changes;
        if changes.mark {
            self.pin(Dim::Mark);
            self.fix(&[Dim::Mark]);
        }
        if changes.flow_mark {
            self.pin(Dim::FlowMark);
        }
        if changes.untracked {
            self.fix(&[Dim::Flow, Dim::FlowMark, Dim::Translated, Dim::Masqueraded]);
        }
    }

    /// What later hooks read.
    fn changed(&mut self, decision: &Decision) {
        let changes = &decision.changes;
        if changes.dnat {
            self.fix(&[Dim::Destination, Dim::DestPort, Dim::Translated]);
        }
        if changes.masqueraded {
            self.fix(&[Dim::Masqueraded]);
        }
    }
}

/// # Errors
/// What the evaluator does not know.
pub fn run(
    rules: &Rules,
    table: &Table,
    lane: &Lane,
    atoms: &Atoms,
    point: &Point,
    everything: &Cover,
) -> Result<Actual, Unknown> {
    let (mut packet, mut flow, world) = (lane.packet(point), lane.flow(point), lane.world(point));
    let devices = lane.devices();
    let mut noting = Noting { rules, table, lane, atoms, point, cover: *everything, fixed: 0 };
    let mut actual = Actual {
        outcome: Outcome::Allowed,
        row: Row::Default,
        rule: None,
        chain: String::new(),
        effects: Effects::default(),
        steps: Vec::with_capacity(32),
        cover: *everything,
    };
    for hook in lane.path.hooks() {
        if rules.nat[0] && *hook == Hook::Prerouting {
            noting.nat();
        }
        let decision = rules.evaluator.hook(*hook, &mut packet, &devices, &mut flow, &world)?;
        if *hook == Hook::Postrouting {
            let translated = if flow.reply { flow.dnat } else { flow.masqueraded };
            leaving(&mut noting, &decision, flow.tracked() && translated);
        }
        noting.changing(&decision);
        noting.steps(&decision)?;
        noting.changed(&decision);
        actual.steps.extend(decision.steps.iter().map(|step| (step.rule, step.failed)));
        let effects = &mut actual.effects;
        effects.untracked |= decision.changes.untracked;
        effects.masqueraded |= decision.changes.masqueraded;
        effects.clamped |= decision.changes.segment_size;
        effects.remembered |= decision.changes.remembered;
        if decision.changes.dnat {
            let port = packet.transport.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
            effects.redirected = Some(std::net::SocketAddr::new(packet.destination, port));
        }
        let decides = matches!(hook, Hook::Input | Hook::Forward | Hook::Output);
        if decides || decision.verdict != Verdict::Accept {
            actual.row = row(rules, &decision);
            actual.rule = decision.rule;
            actual.chain.clone_from(&decision.chain);
        }
        actual.outcome = match decision.verdict {
            Verdict::Accept => Outcome::Allowed,
            Verdict::Drop => Outcome::Silent,
            Verdict::Reject(how) => {
                Outcome::Refused { reset: how == vpnd::firewall::evaluate::Refusal::Reset }
            }
        };
        if actual.outcome != Outcome::Allowed {
            break;
        }
        if *hook == Hook::Prerouting && lane.path == Path::Forward {
            // Where no route leads, the kernel ends it with an error of its own.
            noting.pin(Dim::Routed);
            if point.value(Dim::Routed) == 0 {
                actual.outcome = Outcome::Unrouted;
                break;
            }
        }
        if decision.changes.dnat && lane.path == Path::Input {
            actual.outcome = Outcome::Redirected;
            actual.row = decision.rule.map_or(Row::Default, |rule| rules.rows[rule as usize]);
            break;
        }
    }
    actual.effects.mark = packet.mark;
    actual.effects.flow_mark = flow.mark;
    actual.cover = noting.cover;
    Ok(actual)
}

/// Source NAT, ours and that of others, is done between our chains.
fn leaving(noting: &mut Noting<'_>, decision: &Decision, translated: bool) {
    if noting.rules.nat[1] {
        noting.nat();
    }
    // Most packets end at the first statement: they stay in the LAN.
    if decision.steps.iter().all(|step| step.failed == Some(0)) && !translated {
        return;
    }
    noting.nat();
    let flow = noting.point.value(Dim::Flow) as usize;
    if noting.free(Dim::Flow) && flow < 6 && !decision.changes.masqueraded {
        noting.pin(if FLOWS[flow].1 { Dim::Translated } else { Dim::Masqueraded });
    }
    if translated || decision.changes.masqueraded {
        noting.fix(&[Dim::Source, Dim::SourceType]);
    }
}

/// The row of the rule that decided, or that sent the packet to be refused.
fn row(rules: &Rules, decision: &Decision) -> Row {
    let refusing = |rule: u32| rules.rules[rule as usize].chain.starts_with("refuse_");
    let hits = decision.steps.iter().rev().filter(|step| step.failed.is_none());
    let mut deciding = hits.filter(|step| !refusing(step.rule));
    match decision.verdict {
        Verdict::Accept => decision.rule,
        _ => deciding.next().map(|step| step.rule),
    }
    .map_or(Row::Default, |rule| rules.rows[rule as usize])
}
