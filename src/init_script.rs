//! OpenWrt's init scripts, to tell a service that its configuration changed. It takes seconds on a small
//! router, so nobody waits for it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far above what the slowest router needs.
const LIMIT: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(50);

/// `SCRIPT VERB`, one at a time; what changes while it runs is followed by another.
#[derive(Debug)]
pub struct InitScript {
    /// Absent on what is not OpenWrt: then there is nobody to tell.
    script: &'static str,
    verb: &'static str,
    running: Option<(Child, Instant)>,
    again: bool,
}

impl InitScript {
    #[must_use]
    pub fn new(script: &'static str, verb: &'static str) -> Self {
        Self { script, verb, running: None, again: false }
    }

    #[must_use]
    pub fn is_there(&self) -> bool {
        Path::new(self.script).exists()
    }

    /// Starts it. Words for people where that was not possible.
    pub fn begin(&mut self) -> Option<String> {
        let trouble = self.look();
        if self.running.is_some() {
            self.again = true;
            return trouble;
        }
        if !self.is_there() {
            return None;
        }
        let null = Stdio::null;
        let mut command = Command::new(self.script);
        match command.arg(self.verb).stdin(null()).stdout(null()).stderr(null()).spawn() {
            Ok(child) => {
                self.running = Some((child, Instant::now() + LIMIT));
                None
            }
            Err(error) => Some(format!("'{} {}': {error}", self.script, self.verb)),
        }
    }

    /// What became of it. Words for people where it failed.
    pub fn look(&mut self) -> Option<String> {
        let (child, until) = self.running.as_mut()?;
        let trouble = match child.try_wait() {
            Ok(Some(status)) if status.success() => None,
            Ok(Some(status)) => Some(status.to_string()),
            Ok(None) if Instant::now() < *until => return None,
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                Some(format!("it hung for {} s", LIMIT.as_secs()))
            }
            Err(error) => Some(error.to_string()),
        };
        self.running = None;
        if std::mem::take(&mut self.again) {
            return self.begin();
        }
        trouble.map(|why| {
            format!(
                "'{} {}' failed ({why}): that service goes by what was there before",
                self.script, self.verb
            )
        })
    }

    /// Waits for it.
    pub fn finish(&mut self) -> Option<String> {
        while self.running.is_some() {
            if let Some(trouble) = self.look() {
                return Some(trouble);
            }
            std::thread::sleep(AGAIN);
        }
        None
    }
}
