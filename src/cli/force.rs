//! Ending a daemon that does not do what a person says.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::control::{Error, lock};

/// procd starts a daemon that ends again, unless this told it not to.
const INIT_SCRIPT: &str = "/etc/init.d/vpnd";
/// The script only speaks to procd, which may hang as well.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// For the kernel to end a process that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(50);

/// Tells procd to start no other daemon. None: there is no init script.
#[must_use]
pub fn stop_respawn() -> Option<Result<(), String>> {
    if !Path::new(INIT_SCRIPT).exists() {
        return None;
    }
    let failed = |why: String| format!("'{INIT_SCRIPT} stop': {why}");
    let child = Command::new(INIT_SCRIPT).arg("stop").stdin(Stdio::null()).spawn();
    Some(child.map_err(|e| e.to_string()).and_then(ended).map_err(failed))
}

fn ended(mut child: Child) -> Result<(), String> {
    let until = Instant::now() + STOP_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Err(error) => return Err(error.to_string()),
            Ok(None) if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it hung for {} s", STOP_LIMIT.as_secs()));
            }
            Ok(None) => std::thread::sleep(AGAIN),
        }
    }
}

/// Kills whoever holds the run dir, and takes its lock: while that is held no daemon starts,
/// whoever would start one.
///
/// # Errors
/// Words for a person, when the lock cannot be had.
pub fn take_over(run_dir: &Path) -> Result<File, String> {
    let until = Instant::now() + KILL_LIMIT;
    loop {
        let held = match lock::claim(run_dir) {
            Ok(file) => return Ok(file),
            Err(error @ Error::Running { .. }) => error,
            Err(error) => return Err(error.to_string()),
        };
        kill(run_dir);
        if Instant::now() >= until {
            return Err(held.to_string());
        }
        std::thread::sleep(AGAIN);
    }
}

/// SIGKILL to the daemon of this run dir, if there is one. What it put into the kernel stays.
pub fn kill(run_dir: &Path) {
    if let Some(pid) = lock::holder(run_dir) {
        // SAFETY: kill(2) takes two numbers and touches no memory of ours.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
}
