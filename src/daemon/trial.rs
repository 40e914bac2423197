//! Changed settings: what they change, whether they need a confirmation, and the way back without.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::{Applied, Apply, Refusal, Reply, TrialStatus};
use crate::machine::{Event, Stored};
use crate::policy::{self, Asker};
use crate::routing::Burst;
use crate::state::{StateDir, TrialNote};

use super::Daemon;
use super::inputs::Read;

/// For a confirmation, where nothing else was asked for.
const PATIENCE_S: u16 = 60;

/// Settings that are in force and wait for a confirmation.
pub(super) struct Trial {
    pub until: Instant,
    within_s: u16,
    note: TrialNote,
}

impl Trial {
    pub fn status(&self) -> TrialStatus {
        TrialStatus { left_s: self.until.saturating_duration_since(Instant::now()).as_secs() }
    }
}

/// The outcome of going back.
pub(super) struct Back {
    pub note: TrialNote,
    /// For people.
    pub words: String,
    /// The copy of the former file, where that could not be put back in its place.
    pub instead: Option<PathBuf>,
}

/// A trial that the last daemon left behind: nobody confirmed it, so it is undone.
pub(super) fn left_over(state: &StateDir, file: &Path) -> Option<Back> {
    if !state.on_trial() {
        return None;
    }
    let mut back = go_back(state, file, "vpnd ended before they were confirmed");
    let stored = state.wanted().unwrap_or_default();
    if back.note.unlatches(&stored) {
        if let Err(error) = state.store_wanted(&Stored { latched: false, ..stored }) {
            back.words = format!("{}; lockdown stays on: {error}", back.words);
        }
    }
    eprintln!("vpnd: {}", back.words);
    Some(back)
}

fn go_back(state: &StateDir, file: &Path, why: &str) -> Back {
    let begin = format!("the changed settings are not in force any more ({why}): the former ones are");
    match state.undo_trial(file) {
        Ok(undone) => {
            let words = match undone.rejected {
                Ok(path) => {
                    format!("{begin}, and back in {}; the others are in {}", file.display(), path.display())
                }
                Err(error) => {
                    format!("{begin}, and back in {}; the others could not be kept: {error}", file.display())
                }
            };
            Back { note: undone.note, words, instead: None }
        }
        Err(error) => {
            let copy = state.former_settings();
            let words =
                format!("{begin}, but could not be put back ({error}); they are in {}", copy.display());
            let instead = copy.exists().then_some(copy);
            Back { note: TrialNote::default(), words, instead }
        }
    }
}

impl Daemon {
    /// Takes the settings as they lie in the file.
    pub(super) async fn apply(&mut self, ask: Apply) -> Result<Reply, Refusal> {
        if let (Some(trial), false) = (&self.trial, ask.dry_run) {
            return Err(Refusal::impossible(format!(
                "other settings are on trial for {} s more: 'vpnd apply --confirm' keeps them, 'vpnd apply --undo' goes back at once",
                trial.status().left_s
            )));
        }
        if self.inputs.instead.is_some() {
            return Err(Refusal::impossible(
                "the former settings could not be put back in their file yet: see 'vpnd status', mend that, then 'vpnd reload'",
            ));
        }
        let read = self.inputs.read();
        let new = &read.loaded.settings;
        if !read.loaded.problems.is_empty() {
            let problems: Vec<_> = read.loaded.problems.iter().map(ToString::to_string).collect();
            return Err(Refusal::impossible(format!("nothing was changed:\n{}", problems.join("\n"))));
        }
        if read.text.is_none() {
            return Err(Refusal::impossible("nothing was changed: the file is being written; try again"));
        }
        let old = Arc::clone(&self.inputs.settings);
        let asker = ask.address.map(|address| Asker { address, device: ask.device, port: ask.port });
        let mut answer = Applied {
            changes: policy::changes(&old, new),
            reasons: policy::risks(&old, new, &self.inputs.facts, asker.as_ref()),
            trial_s: None,
            notes: read.loaded.warnings.iter().map(ToString::to_string).collect(),
        };
        let same = *new == *old && self.inputs.broken.is_empty();
        let cautious = !same && (ask.confirm_within.is_some() || !answer.reasons.is_empty());
        let within_s = cautious.then(|| ask.confirm_within.unwrap_or(PATIENCE_S));
        if ask.dry_run {
            answer.trial_s = within_s;
        } else if same {
            // Comments and order only.
            self.inputs.text = read.text;
        } else {
            answer.trial_s = self.begin(within_s, &read, &mut answer.notes)?;
            self.put(read, answer.trial_s).await;
            let view = self.machine.view();
            answer.notes.extend(view.warnings.into_iter().map(|warning| warning.0));
            answer.notes.extend(view.cause.map(|cause| cause.to_string()));
        }
        Ok(Reply::Applied(Box::new(answer)))
    }

    /// The way back is there before anything changes.
    fn begin(
        &self,
        within_s: Option<u16>,
        read: &Read,
        notes: &mut Vec<String>,
    ) -> Result<Option<u16>, Refusal> {
        if within_s.is_none() {
            return Ok(None);
        }
        let Some(former) = &self.inputs.text else {
            notes.push("not on trial: there are no good settings to go back to".to_owned());
            return Ok(None);
        };
        if read.text.as_ref() == Some(former) {
            let why = "not on trial: this comes from the network or firewall configuration, which vpnd cannot put back";
            notes.push(why.to_owned());
            return Ok(None);
        }
        let note = TrialNote::of(&self.machine.view().wanted);
        self.shell.state.begin_trial(former, &note).map_err(|error| {
            Refusal::failed(format!("nothing was changed: the former settings cannot be kept: {error}"))
        })?;
        Ok(within_s)
    }

    async fn put(&mut self, read: Read, within_s: Option<u16>) {
        self.undone = None;
        let note = TrialNote::of(&self.machine.view().wanted);
        let event = self.inputs.take(read, &self.shell.state, within_s.is_none());
        let cause = match within_s {
            Some(seconds) => format!("settings applied, on trial for {seconds} s"),
            None => "settings applied".to_owned(),
        };
        self.settle_on(vec![event], &cause).await;
        // From now on: putting them in force may have taken its time.
        self.trial = within_s.map(|within_s| Trial {
            until: Instant::now() + Duration::from_secs(within_s.into()),
            within_s,
            note,
        });
    }

    /// What is in force stays so.
    pub(super) fn confirm(&mut self) -> Result<Reply, Refusal> {
        if self.trial.is_none() {
            let undone = self.undone.as_ref().map(|words| format!("; {words}"));
            return Err(Refusal::impossible(format!("nothing is on trial{}", undone.unwrap_or_default())));
        }
        self.shell.state.end_trial().map_err(|error| {
            Refusal::failed(format!("not confirmed, the trial goes on: a restart would undo it: {error}"))
        })?;
        self.trial = None;
        let mut notes = vec!["confirmed: the changed settings stay".to_owned()];
        if self.inputs.broken.is_empty() {
            notes.extend(self.shell.state.keep_lan(&self.inputs.settings.lan).err().map(|e| e.to_string()));
        }
        if self.inputs.read().text != self.inputs.text {
            let file = self.inputs.vpnd_file.display();
            notes
                .push(format!("{file} was changed again since: that is not in force; 'vpnd apply' takes it"));
        }
        Ok(Reply::Done { notes })
    }

    /// A person's word to go back at once.
    pub(super) async fn undo(&mut self) -> Result<Reply, Refusal> {
        if self.trial.is_none() {
            return Err(Refusal::impossible("nothing is on trial"));
        }
        self.go_back("asked").await;
        Ok(Reply::Done { notes: self.undone.iter().cloned().collect() })
    }

    /// Nobody confirmed in time.
    pub(super) async fn time_is_up(&mut self) {
        let within_s = self.trial.as_ref().map_or(0, |trial| trial.within_s);
        self.go_back(&format!("not confirmed within {within_s} s")).await;
    }

    /// File first, then what is in force.
    async fn go_back(&mut self, why: &str) {
        let Some(trial) = self.trial.take() else { return };
        let back = go_back(&self.shell.state, &self.inputs.vpnd_file, why);
        eprintln!("vpnd: {}", back.words);
        self.undone = Some(back.words);
        self.inputs.instead = back.instead;
        let read = self.inputs.read();
        let mut events = vec![self.inputs.take(read, &self.shell.state, true)];
        if trial.note.unlatches(&self.machine.view().wanted) {
            events.push(Event::Lockdown(false));
        }
        self.settle_on(events, &format!("former settings again: {why}")).await;
    }

    /// Feeds what came of other settings; devices change their zones with them.
    async fn settle_on(&mut self, events: Vec<Event>, cause: &str) {
        for event in events {
            self.because = Some(cause.to_owned());
            self.feed(event).await;
        }
        self.because = Some(cause.to_owned());
        self.look(Burst::default()).await;
        self.because = None;
    }

    /// A file that could not be put back may be writable now.
    pub(super) fn put_back_again(&mut self) {
        if self.inputs.instead.is_some() {
            let back = go_back(&self.shell.state, &self.inputs.vpnd_file, "at the second try");
            self.undone = Some(back.words);
            self.inputs.instead = back.instead;
        }
    }
}
