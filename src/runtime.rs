//! The event loop that a thread of vpnd's runs, compiled once for all of them: an instance of tokio's is two
//! kilobytes.

use std::io;
use std::pin::Pin;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

pub(crate) fn new() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `work` in this thread, and what it spawns there until it ends.
pub(crate) fn run_to_end(runtime: &Runtime, work: Pin<&mut dyn Future<Output = ()>>) {
    LocalSet::new().block_on(runtime, work);
}
