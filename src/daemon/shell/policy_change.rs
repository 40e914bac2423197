//! A change of policy and the flows from before it (contract, section 3: flows are part of a
//! transition): the policy comes with a stop ahead of the flowtables, the deletion of the flows ends
//! it.

use std::sync::Arc;

use crate::daemon::enforce;
use crate::daemon::inputs::Inputs;
use crate::firewall::conntrack;
use crate::policy::{self, Stance, flows};

use super::{Shell, text};

impl Shell {
    pub(super) async fn enforce(&mut self, stance: &Stance, inputs: &Inputs) -> Result<(), String> {
        let run = self.run_dir();
        let wanted = self.wants_stop(stance, inputs);
        self.leftovers |= self.flows_follow && *stance != self.stance;
        match policy::compose(stance, &inputs.settings, &inputs.facts) {
            Some(policy) => {
                let stop = wanted.then(|| policy::stop(&policy, &inputs.settings, &inputs.entrances));
                let stop = stop.flatten();
                let done = enforce::enforce_stopping(&self.nft, &run, &policy, stop.as_ref(), &self.cause)
                    .map_err(text)?;
                (self.in_force, self.generation) = (Some(done.in_force), done.number);
                self.stopped = stop.is_some() && done.unstopped.is_none();
                let unknown = wanted && policy.zones().emergency();
                self.unstopped =
                    done.unstopped.or_else(|| unknown.then(|| "no LAN device is known".to_owned()));
            }
            None => {
                self.guards.remove().map_err(text)?;
                enforce::open(&self.nft, &run, &self.cause).map_err(text)?;
                (self.in_force, self.generation) = (None, None);
                (self.stopped, self.unstopped) = (false, None);
            }
        }
        self.stance = stance.clone();
        self.settings = Some(Arc::clone(&inputs.settings));
        self.guard(inputs);
        if wanted && !self.stopped && self.in_force.is_some() {
            end_offloading(inputs).await;
        }
        Ok(())
    }

    /// Contract, section 3: what old flows may still do must not depend on how long it takes to
    /// delete them. The same stance over other devices or addresses lets no flow go another way.
    fn wants_stop(&self, stance: &Stance, inputs: &Inputs) -> bool {
        let same_settings = self.in_force.is_some() && self.settings.as_ref() == Some(&inputs.settings);
        let due = *stance != self.stance && (self.leftovers || policy::stop_is_due(&self.stance, stance));
        self.stopped || self.flows_follow && (due || !same_settings)
    }

    fn end_stop(&mut self) {
        if self.stopped {
            match self.nft.end_stop() {
                Ok(()) => self.stopped = false,
                Err(error) => eprintln!("vpnd: the LAN is still stopped: {}", text(error)),
            }
        }
    }

    /// Old flows could not be deleted. Blocked, the stop stays until they are; where a tunnel is to
    /// be used, the rules must do.
    pub async fn end_idle_stop(&mut self, inputs: &Inputs) {
        if self.stopped && !matches!(self.stance, Stance::Blocked { .. } | Stance::Boot) {
            end_offloading(inputs).await;
            self.end_stop();
        }
    }

    pub(super) fn delete_flows(&mut self, tunnel: bool, inputs: &Inputs) -> Result<(), String> {
        let fits =
            |flow: &flows::Flow| flows::fits(flow, &self.stance, &inputs.settings, &inputs.facts, !tunnel);
        conntrack::delete_unfit(fits).map_err(text)?;
        self.leftovers = false;
        self.end_stop();
        Ok(())
    }
}

/// The next best where there is no stop. Whether it worked is for the deletion of flows to say.
async fn end_offloading(inputs: &Inputs) {
    if let Err(error) = inputs.router.end_offloading().await {
        eprintln!("vpnd: ending the offloading of flows: {}", text(error));
    }
}
