//! A daemon that hangs, or whose loop panicked, is ended, so that procd starts another: rules,
//! routes and device stay meanwhile (contract 4.2).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the loop shows that it is alive when nothing happens.
pub(super) const PULSE: Duration = Duration::from_secs(30);
/// Without a sign of life for one of these to two: far above what the slowest effect takes.
const PATIENCE: Duration = Duration::from_secs(120);

static ALIVE: AtomicBool = AtomicBool::new(true);

/// Says that the loop goes on.
pub(super) fn alive() {
    ALIVE.store(true, Ordering::Relaxed);
}

/// Starts the watch, for as long as the process lives.
pub(super) fn start() {
    start_with(PATIENCE);
}

fn start_with(patience: Duration) {
    // Built with unwinding (the OpenWrt feed does), a panic of the loop would leave a process
    // without one, which nobody restarts.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    std::thread::spawn(move || {
        loop {
            ALIVE.store(false, Ordering::Relaxed);
            std::thread::sleep(patience);
            if !ALIVE.load(Ordering::Relaxed) {
                eprintln!("vpnd: hung for {} s: ending, the rules stay", patience.as_secs());
                std::process::abort();
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    /// What the process that the test starts does, by this variable.
    const PART: &str = "VPND_TEST_WATCHDOG";

    /// Runs this test alone in a process of its own, as `part`; the signal that ended it.
    fn as_part(part: &str) -> Option<i32> {
        let program = std::env::current_exe().unwrap();
        let mut test = Command::new(program);
        test.args(["--exact", "daemon::watchdog::tests::who_shows_no_life_is_ended"]).env(PART, part);
        test.output().unwrap().status.signal()
    }

    #[test]
    fn who_shows_no_life_is_ended() {
        match std::env::var(PART).as_deref() {
            Ok("hangs") => {
                start_with(Duration::from_millis(50));
                std::thread::sleep(Duration::from_secs(20));
            }
            Ok("lives") => {
                start_with(Duration::from_secs(2));
                let end = Instant::now() + Duration::from_secs(5);
                while Instant::now() < end {
                    alive();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Ok("panics") => {
                start_with(Duration::from_secs(60));
                let _ = std::thread::spawn(|| assert!(PART.is_empty(), "on purpose")).join();
                std::thread::sleep(Duration::from_secs(20));
            }
            _ => {
                assert_eq!(as_part("hangs"), Some(libc::SIGABRT));
                assert_eq!(as_part("lives"), None);
                assert_eq!(as_part("panics"), Some(libc::SIGABRT));
            }
        }
    }
}
