//! Open for a while, on a person's word; it closes again by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::{Refusal, Reply};
use crate::machine::Event;
use crate::state::RunDir;

use super::{Daemon, Dirs};

impl Daemon {
    /// The record comes first: a daemon that dies in between closes at the same time.
    pub(super) async fn begin_pause(&mut self, seconds: u32) -> Result<Reply, Refusal> {
        if !self.shell.state.armed() && self.shell.in_force.is_none() {
            return Err(Refusal::impossible("the router is open already, and nothing would close it again"));
        }
        let trouble = self.shell.run_dir().begin_pause(seconds).err();
        let mut reply = self.done(Event::Pause).await;
        if let (Reply::Done { notes }, Some(error)) = (&mut reply, trouble) {
            notes.push(format!("should the daemon crash, it closes at once: {error}"));
        }
        self.pause = Some(Instant::now() + Duration::from_secs(seconds.into()));
        self.blocked.forget();
        Ok(reply)
    }

    /// Its time is up.
    pub(super) async fn resume(&mut self) {
        eprintln!("vpnd: the time of 'disarm --for' is over");
        self.feed(Event::Resume).await;
        self.keep_pause();
    }

    /// A pause that a person's word ended leaves no record.
    pub(super) fn keep_pause(&mut self) {
        if self.pause.is_some() && !self.machine.view().paused {
            self.pause = None;
            self.shell.run_dir().end_pause();
        }
    }
}

/// A pause that the last daemon began.
pub(super) fn left_over(dirs: &Dirs) -> Option<Instant> {
    RunDir::new(&dirs.run).pause_left().map(|left| Instant::now() + left)
}
