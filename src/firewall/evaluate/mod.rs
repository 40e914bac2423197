//! Packet + devices + conntrack's word -> verdict, and the rule that gave it. Pure.
//!
//! [`Evaluator`] reads the very nftables objects that are applied, not a second description, once
//! into a typed form (`convert.rs`, `program.rs`), and runs packets through it as the kernel would
//! (`run.rs`; net/netfilter/nf_tables_core.c). What it does not know is [`Unknown`], never a guess.
//! It knows vpnd's table only: what it accepts, fw4 may still refuse.

mod convert;
mod keys;
mod program;
mod run;
#[cfg(test)]
mod tests;
mod types;

pub use types::{
    Changes, Decision, Devices, Flow, FlowState, Hook, Journey, Packet, Path, Refusal, RouteType, Step,
    Verdict, World,
};

use nftables::schema::{Chain, Rule, Set};

use super::Ruleset;
use program::{Base, RuleOps, Target};
use run::Run;

/// What the evaluator does not know. The text is the object as nft would write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("evaluating rules: expression not known: {0}")]
    Expression(String),
    #[error("evaluating rules: value {1} not known for {0}")]
    Value(String, String),
    #[error("evaluating rules: statement not known: {0}")]
    Statement(String),
    #[error("evaluating rules: no chain is named {0}")]
    Chain(String),
    #[error("evaluating rules: set not known: {0}")]
    Set(String),
    /// The kernel refuses to load such rules.
    #[error("evaluating rules: the chains lead in a circle")]
    Circle,
}

/// A ruleset in the form in which packets are run through it.
pub struct Evaluator {
    bases: Vec<Base>,
    /// Rules of each chain, by index into `rules`.
    chains: Vec<Vec<u32>>,
    names: Vec<String>,
    rules: Vec<RuleOps>,
}

impl Evaluator {
    /// # Errors
    /// The first object that is not known.
    pub fn new(ruleset: &Ruleset) -> Result<Self, Unknown> {
        Self::of_objects(ruleset.sets(), ruleset.chains(), ruleset.rules())
    }

    /// Of any objects of one table; rules are counted from 0 in the order given.
    ///
    /// # Errors
    /// The first object that is not known.
    pub fn of_objects(
        sets: &[Set<'static>],
        chains: &[Chain<'static>],
        rules: &[Rule<'static>],
    ) -> Result<Self, Unknown> {
        convert::evaluator(sets, chains, rules)
    }

    /// All base chains of one hook by priority, as far as the packet gets. The packet and its flow
    /// are changed as the rules say.
    ///
    /// # Errors
    /// [`Unknown::Circle`].
    pub fn hook(
        &self,
        hook: Hook,
        packet: &mut Packet,
        devices: &Devices,
        flow: &mut Flow,
        world: &World,
    ) -> Result<Decision, Unknown> {
        let mut run = Run::new(self, hook, packet, devices, flow, world);
        let arrives_by = program::name_of(devices.iif.as_ref());
        let sees = |base: &&Base| base.hook == hook && base.device.is_none_or(|name| name == arrives_by);
        for base in self.bases.iter().filter(sees) {
            run.base(base)?;
            if run.decision.verdict != Verdict::Accept {
                break;
            }
        }
        if hook == Hook::Postrouting && run.decision.verdict == Verdict::Accept {
            run.translated_source();
        }
        Ok(run.decision)
    }

    /// The hooks of a path; the first that does not accept ends it. Routing is not asked again in
    /// between: the devices are what it said.
    ///
    /// # Errors
    /// [`Unknown::Circle`].
    pub fn journey(
        &self,
        path: Path,
        packet: &mut Packet,
        devices: &Devices,
        flow: &mut Flow,
        world: &World,
    ) -> Result<Journey, Unknown> {
        let mut hooks = Vec::with_capacity(3);
        for hook in path.hooks() {
            let decision = self.hook(*hook, packet, devices, flow, world)?;
            let verdict = decision.verdict;
            hooks.push((*hook, decision));
            if verdict != Verdict::Accept {
                return Ok(Journey { verdict, hooks });
            }
        }
        Ok(Journey { verdict: Verdict::Accept, hooks })
    }

    fn chain(&self, target: Target) -> &[u32] {
        self.chains.get(usize::from(target.0)).map_or(&[], Vec::as_slice)
    }

    fn name(&self, target: Target) -> &str {
        self.names.get(usize::from(target.0)).map_or("", String::as_str)
    }
}
