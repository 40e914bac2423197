//! The event loop that a thread of vpnd's runs, and its tasks: compiled once for all of them, as an instance of
//! tokio's for every future is two kilobytes.

use std::io;
use std::pin::Pin;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, LocalSet};

pub(crate) fn new() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `work` in this thread, and what it spawns there until it ends.
pub(crate) fn run_to_end(runtime: &Runtime, work: Pin<&mut dyn Future<Output = ()>>) {
    LocalSet::new().block_on(runtime, work);
}

/// Beside what runs in this thread already.
pub(crate) fn spawn(work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    let work: Pin<Box<dyn Future<Output = ()>>> = Box::pin(work);
    tokio::task::spawn_local(work)
}
