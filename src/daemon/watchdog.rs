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
    // Built with unwinding (the OpenWrt feed does), a panic of the loop would leave a process
    // without one, which nobody restarts.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    std::thread::spawn(|| {
        loop {
            ALIVE.store(false, Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
            if !ALIVE.load(Ordering::Relaxed) {
                eprintln!("vpnd: hung for {} s: ending, the rules stay", PATIENCE.as_secs());
                std::process::abort();
            }
        }
    });
}
