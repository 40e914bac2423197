//! What this daemon adds to the record of the boot, and to the clock.

use crate::config::Settings;
use crate::machine::{Cause, View};
use crate::state::{Boot, RunDir, StateDir, boot, clock};

pub(super) struct Boots {
    run: RunDir,
    /// None: nothing more is to be found out.
    record: Option<Boot>,
    /// What was done about the clock.
    clock: Option<String>,
    /// Armed, and nobody has blocked since boot: this daemon's first rules are the block.
    is_block: bool,
}

impl Boots {
    /// Before anything else: whatever is written from now on is dated by the clock.
    pub fn begin(state: &StateDir, run: RunDir) -> Self {
        let clock = clock::lift(state, &run);
        if let Some(words) = &clock {
            eprintln!("vpnd: {words}");
        }
        let is_block = state.armed() && run.is_unused();
        let record = run.boot().filter(|boot| boot.first_ms.is_none());
        Self { run, record, clock, is_block }
    }

    /// After the first effects.
    pub fn blocked(&mut self, settings: &Settings) {
        if !std::mem::take(&mut self.is_block) {
            return;
        }
        let (blocked_ms, sent) = (boot::since_boot_ms(), boot::sent_by_wan(settings));
        self.record = Some(Boot { blocked_ms, sent, ..Boot::default() });
        self.keep();
    }

    /// Something about the devices may have changed.
    pub fn look(&mut self, settings: &Settings) {
        let Some(record) = &mut self.record else { return };
        record.look(boot::since_boot_ms(), &boot::sent_by_wan(settings));
        self.keep();
    }

    fn keep(&mut self) {
        let Some(record) = &self.record else { return };
        // A record that cannot be written stops nothing.
        if let Err(error) = self.run.keep_boot(record) {
            eprintln!("vpnd: the first frame is not noted: {error}");
        }
        if record.first_ms.is_some() {
            self.record = None;
        }
    }

    /// About the clock, for people.
    pub fn warnings(&self, view: &View) -> Vec<String> {
        let silent = view.cause == Some(Cause::NoAnswer) && !clock::was_set(&self.run);
        self.clock.iter().cloned().chain(silent.then(clock::doubt)).collect()
    }
}
