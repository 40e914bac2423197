//! OpenWrt's init scripts, to tell a service that its configuration changed. It takes seconds on a small
//! router, so nobody waits for it. A note in the run folder says that somebody is still to be told: a daemon
//! that dies in between does not keep a service on what was there before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Far above what the slowest router needs.
const LIMIT: Duration = Duration::from_secs(120);
/// After a failure.
const REST: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);

/// `SCRIPT VERB`, one at a time; what changes while it runs is followed by another.
#[derive(Debug)]
pub struct InitScript {
    /// Absent on what is not OpenWrt: then there is nobody to tell.
    script: &'static str,
    verb: &'static str,
    note: PathBuf,
    running: Option<(Child, Instant)>,
    again: bool,
    /// Not before: after a failure.
    rest: Option<Instant>,
    /// How it failed last, for people.
    trouble: Option<String>,
}

impl InitScript {
    #[must_use]
    pub fn new(script: &'static str, verb: &'static str, run_dir: &Path) -> Self {
        let name = Path::new(script).file_name().unwrap_or_default().to_string_lossy();
        let note = run_dir.join(format!("{name}.owed"));
        Self { script, verb, note, running: None, again: false, rest: None, trouble: None }
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Something was written, and the service may not know it.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.note.exists()
    }

    /// To be called before anything is written that the service has to be told of.
    pub fn owe(&self) {
        // Without it the service is told all the same, unless this process dies.
        let _ = fs::write(&self.note, b"");
    }

    /// Nobody has to be told any more.
    pub fn settle(&self) {
        let _ = fs::remove_file(&self.note);
    }

    /// How it failed, for people; None: it did not, or not yet.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Tells the service, now or once it has taken what it is being told.
    pub fn begin(&mut self) {
        self.look();
        if self.running.is_some() {
            self.again = true;
        } else {
            self.start();
        }
    }

    fn start(&mut self) {
        if !Path::new(self.script).exists() {
            self.settle();
            return;
        }
        self.owe();
        self.rest = Some(Instant::now() + REST);
        let null = Stdio::null;
        let mut command = Command::new(self.script);
        match command.arg(self.verb).stdin(null()).stdout(null()).stderr(null()).spawn() {
            Ok(child) => self.running = Some((child, Instant::now() + LIMIT)),
            Err(error) => self.trouble = Some(format!("'{} {}': {error}", self.script, self.verb)),
        }
    }

    /// What became of it; what failed, or was left by another process, is tried again after a while.
    pub fn look(&mut self) {
        let Some((child, until)) = self.running.as_mut() else {
            if self.is_owed() && self.rest.is_none_or(|until| Instant::now() >= until) {
                self.start();
            }
            return;
        };
        let failed = match child.try_wait() {
            Ok(Some(status)) if status.success() => None,
            Ok(Some(status)) => Some(status.to_string()),
            Ok(None) if Instant::now() < *until => return,
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                Some(format!("it hung for {} s", LIMIT.as_secs()))
            }
            Err(error) => Some(error.to_string()),
        };
        self.running = None;
        if std::mem::take(&mut self.again) {
            self.start();
            return;
        }
        if failed.is_none() {
            self.settle();
        }
        self.trouble = failed.map(|why| {
            format!(
                "'{} {}' failed ({why}): that service goes by what was there before",
                self.script, self.verb
            )
        });
    }

    /// Waits for it, once.
    ///
    /// # Errors
    /// Words for a person, when it failed.
    pub fn finish(&mut self) -> Result<(), String> {
        while self.running.is_some() {
            self.look();
            std::thread::sleep(AGAIN);
        }
        self.trouble.clone().map_or(Ok(()), Err)
    }
}

/// Keeps `words` of what failed, and logs them unless they are what failed before.
pub fn say_once(trouble: &mut Option<String>, service: &str, words: String) {
    if trouble.as_ref() != Some(&words) {
        eprintln!("vpnd: {service}: {words}");
        *trouble = Some(words);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(dir: &Path, text: &str) -> &'static str {
        let path = dir.join("service");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Box::leak(path.display().to_string().into_boxed_str())
    }

    #[test]
    fn a_service_hears_of_every_change_whatever_happens_meanwhile() {
        let dir = std::env::temp_dir().join(format!("vpnd-script-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let told = || fs::read_to_string(dir.join("told")).unwrap_or_default().lines().count();
        let path = script(&dir, &format!("sleep 0.2; echo \"$1\" >> {}/told", dir.display()));
        let mut service = InitScript::new(path, "reload", &dir);
        service.owe();
        service.begin();
        // What changes while it runs is told as well; nobody waits.
        service.begin();
        service.begin();
        assert!(service.is_running() && service.is_owed());
        assert_eq!(service.finish(), Ok(()));
        assert_eq!((told(), service.is_owed()), (2, false));

        // It fails: said, and still owed; not tried again at once.
        script(&dir, "exit 7");
        service.begin();
        assert!(service.finish().unwrap_err().contains("reload' failed (exit status: 7)"));
        service.look();
        assert!(service.is_owed() && !service.is_running());
        // Whoever comes after a process that died tells it.
        script(&dir, &format!("echo \"$1\" >> {}/told", dir.display()));
        let mut next = InitScript::new(path, "reload", &dir);
        next.look();
        assert_eq!(next.finish(), Ok(()));
        assert_eq!((told(), next.is_owed()), (3, false));
        // Not OpenWrt: nobody to tell, and nothing owed.
        let mut nobody = InitScript::new("/nonexistent/service", "reload", &dir);
        nobody.owe();
        nobody.begin();
        assert!(!nobody.is_owed() && !nobody.is_running() && nobody.trouble().is_none());
        fs::remove_dir_all(&dir).unwrap();
    }
}
