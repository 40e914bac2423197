//! What somebody else changed of vpnd's rules, barrier, settings or device is put back at once: the first
//! without any pause, in a storm at a rate that a small router can bear, and never fewer than one after the
//! last change.

use std::time::Duration;

use tokio::time::Instant;

use crate::firewall::watch::{self, Watch};
use crate::firewall::watch_message::Heard;
use crate::machine::Event;
use crate::routing::Burst;

use super::Daemon;
use super::incidents::{By, Layer};

/// After one repair to the next: five a second at the most.
const PAUSE: Duration = Duration::from_millis(200);
/// And so many times as long as the repair took, a fifth of the time at the most; but where nft was
/// hindered, a repair that took long must not keep the next one off for so much longer.
pub(super) const REST: u32 = 4;
const REST_MOST: Duration = Duration::from_secs(4);
/// `vpnd block` reads back what it loaded, which is as tight as what it replaces: for so long at the
/// most that is left to it, and looked at again so often.
const COURTESY: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(20);
/// `PID_MAX_LIMIT` of linux/threads.h: a netlink port above is no process's number.
const PID_MOST: u32 = 4 << 20;

/// When the next repair may be.
pub(super) struct Pace(Instant);

impl Pace {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    /// None: now.
    pub fn wait(&self) -> Option<Instant> {
        (Instant::now() < self.0).then_some(self.0)
    }

    /// One that began at `start` is done.
    pub fn done(&mut self, start: Instant) {
        self.0 = Instant::now() + (start.elapsed() * REST).clamp(PAUSE, REST_MOST);
    }
}

/// The watch over the rules.
pub(super) struct Repair {
    watch: Option<Watch>,
    /// Why nothing is heard.
    pub trouble: Option<String>,
    heard: Heard,
    /// When the first of what is not mended yet was heard.
    since: Option<Instant>,
    due: Option<Instant>,
    pace: Pace,
    /// The rules are being put back; somebody changed them again before that was done.
    mending: bool,
    again: bool,
    failed: Option<String>,
}

impl Repair {
    pub fn new() -> Self {
        let mut repair = Self {
            watch: None,
            trouble: None,
            heard: Heard::default(),
            since: None,
            due: None,
            pace: Pace::new(),
            mending: false,
            again: false,
            failed: None,
        };
        repair.listen();
        repair
    }

    fn listen(&mut self) {
        match watch::watch() {
            Ok(watch) => (self.watch, self.trouble) = (Some(watch), None),
            Err(why) => (self.watch, self.trouble) = (None, Some(why)),
        }
    }

    /// Where nothing can be heard: tries again.
    pub fn listen_again(&mut self) {
        if self.watch.is_none() {
            self.listen();
            self.heard.lost = true;
            self.due = Some(Instant::now());
        }
    }

    /// Returns when there may be something to do. Safe to drop half-way.
    pub async fn ready(&self) {
        match (self.due, &self.watch) {
            // What comes meanwhile waits in the socket, and is one with it.
            (Some(due), _) => tokio::time::sleep_until(due).await,
            (None, Some(watch)) => {
                // A socket that is broken says so when it is read.
                let _ = watch.ready().await;
            }
            (None, None) => std::future::pending().await,
        }
    }

    fn hear(&mut self, own: &[u32]) {
        let Some(watch) = &mut self.watch else { return };
        match watch.hear(own) {
            Ok(heard) => {
                self.heard.touched = heard.touched;
                self.heard.lost |= heard.lost;
                self.heard.more = self.heard.more.saturating_add(heard.more);
                for change in heard.changes {
                    let known = |other: &&mut crate::firewall::watch_message::Change| {
                        (&other.what, &other.process) == (&change.what, &change.process)
                    };
                    if let Some(known) = self.heard.changes.iter_mut().find(known) {
                        known.pid = change.pid;
                        self.heard.more = self.heard.more.saturating_add(1);
                    } else if self.heard.changes.len() < 8 {
                        self.heard.changes.push(change);
                    } else {
                        self.heard.more = self.heard.more.saturating_add(1);
                    }
                }
            }
            Err(error) => {
                eprintln!("vpnd: listening to changes of the rules: {error}; listening anew");
                self.listen();
                self.heard.lost = true;
            }
        }
        if self.heard != Heard::default() {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    /// Begins a repair: only what is heard from now on tells of another change.
    fn begin(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.forget();
        }
        (self.heard.touched, self.heard.lost) = (false, false);
        (self.mending, self.again, self.failed) = (true, false, None);
    }
}

impl Daemon {
    /// All that the kernel has told of the rules so far.
    pub(super) fn hear(&mut self) {
        let own = self.shell.nft_processes();
        self.repair.hear(&own);
    }

    /// Somebody else may have changed the rules.
    pub(super) async fn mend_rules(&mut self) {
        self.hear();
        self.repair.due = None;
        let heard = &self.repair.heard;
        if !heard.touched && !heard.lost {
            // Already as it should be: a transition came in between.
            return self.tell(None);
        }
        self.repair.due = self.repair.pace.wait();
        if self.repair.due.is_some() {
            return;
        }
        let late = self.repair.since.is_some_and(|since| since.elapsed() > COURTESY);
        if !late && self.inputs.is_somebody_applying() {
            self.repair.due = Some(Instant::now() + GLANCE);
            return;
        }
        let start = Instant::now();
        let only_lost = !heard.touched;
        self.repair.begin();
        // On an open router nothing is asserted. What was lost may have been about anything.
        if (self.shell.in_force.is_none() && self.machine.view().holds) || (only_lost && self.shell.stands())
        {
            self.repair.heard = Heard::default();
        } else {
            self.feed(Event::RulesChanged).await;
        }
        self.repair.mending = false;
        self.repair.pace.done(start);
        if self.repair.again {
            self.repair.due = self.repair.pace.wait();
        } else {
            let failed = self.repair.failed.take();
            self.tell(failed);
        }
        // Heard, but not waited for: looked at in the next turn.
        if self.repair.heard.touched || self.repair.heard.lost {
            self.repair.due = Some(self.repair.pace.wait().unwrap_or(start));
        }
    }

    /// Whether a policy that could not be put back was changed once more meanwhile: then that is
    /// no failure of vpnd's, and it is done again soon.
    pub(super) fn is_overtaken(&mut self, error: &str) -> bool {
        if !self.repair.mending {
            return false;
        }
        self.hear();
        self.repair.again = self.repair.heard.touched || self.repair.heard.lost;
        if !self.repair.again {
            self.repair.failed = Some(error.to_owned());
        }
        self.repair.again
    }

    /// Into the list of incidents.
    fn tell(&mut self, failed: Option<String>) {
        let heard = std::mem::take(&mut self.repair.heard);
        // What is still to be done stays noted.
        (self.repair.heard.touched, self.repair.heard.lost) = (heard.touched, heard.lost);
        let took = self.repair.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        // A process may touch several tables at once; those that were not told apart are the first's.
        let mut more = heard.more;
        for change in heard.changes {
            let by = By { process: change.process, pid: change.pid };
            let outcome = failed.clone().map_or(Ok(took), Err);
            self.incidents.note(Layer::Rules, change.what, by, 1 + std::mem::take(&mut more), outcome);
        }
    }

    /// After a change in the kernel that was none of the machine's: the barrier as it should be,
    /// and what of it was amiss by somebody's doing.
    pub(super) async fn mend_barrier(&mut self, burst: Burst) {
        if !self.shell.barrier {
            return;
        }
        let start = Instant::now();
        let result = self.shell.raise_again(&self.inputs).await;
        self.barrier_pace.done(start);
        self.tell_of_barrier(burst, start.elapsed());
        // What was changed once more meanwhile is no failure of vpnd's: it is done again soon.
        self.barrier_due = self.shell.contested && result.is_some();
        if result.is_none() {
            self.incidents.whole(Layer::Barrier);
        }
        if let Some(failed) = result {
            let what = "ip rules, routes or kernel settings were changed".to_owned();
            if let (true, Event::Failed { error, .. }) = (burst.barrier(), &failed) {
                self.incidents.note(Layer::Barrier, what, who(burst.port), 1, Err(error.clone()));
            }
            if !self.barrier_due {
                self.feed(failed).await;
            }
        }
    }

    /// What was amiss when the barrier was last raised, as far as others did that.
    pub(super) fn tell_of_barrier(&mut self, burst: Burst, took: Duration) {
        let mended = std::mem::take(&mut self.shell.mended);
        let mut explained = mended.iter().filter(|mended| burst.explains(mended.part));
        let Some(first) = explained.next() else { return };
        let what = match explained.count() {
            0 => first.text.clone(),
            more => format!("{}, and {more} more things", first.text),
        };
        self.incidents.note(Layer::Barrier, what, who(burst.port), 1, Ok(took));
    }
}

/// The process behind a netlink port, if it is one's.
fn who(port: u32) -> By {
    let pid = Some(port).filter(|port| (1..=PID_MOST).contains(port));
    let name = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let process = pid
        .and_then(name)
        .map(|name| name.trim_end().chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect());
    By { process, pid }
}
