//! Looking at the kernel without the daemon.

use std::path::PathBuf;
use std::pin::pin;
use std::time::SystemTime;

use super::judge::{Device, Kernel, Table};
use crate::firewall::{Nft, guard};
use crate::routing::Router;
use crate::{runtime, tunnel};

/// Where OpenWrt has it, or wherever PATH says.
#[must_use]
pub fn nft_program() -> PathBuf {
    let stock = PathBuf::from("/usr/sbin/nft");
    if stock.exists() { stock } else { PathBuf::from("nft") }
}

/// All layers, each with its own error.
#[must_use]
pub fn look() -> Kernel {
    Kernel {
        table: table(),
        device: device(),
        barrier: barrier(),
        guards: guard::standing().map_err(|e| e.to_string()),
    }
}

/// # Errors
/// Words for a person.
pub fn table() -> Result<Option<Table>, String> {
    let found = Nft::new(nft_program()).counted().map_err(|e| e.to_string())?;
    Ok(found.map(|(t, rows)| Table { state: t.state, hash: t.hash.to_string(), rows }))
}

fn device() -> Result<Option<Device>, String> {
    let found = tunnel::stats().map_err(|e| e.to_string())?;
    Ok(found.map(|stats| Device {
        // A handshake in the future: the clock was set back since; as good as new.
        handshake_age_s: stats
            .last_handshake
            .map(|when| SystemTime::now().duration_since(when).map_or(0, |age| age.as_secs())),
        rx: stats.rx,
        tx: stats.tx,
    }))
}

fn barrier() -> Result<bool, String> {
    in_runtime(async {
        Router::open().map_err(|e| e.to_string())?.standing().await.map_err(|e| e.to_string())
    })
}

/// Runs what the rooms over netlink need: a current-thread runtime and a `LocalSet`.
///
/// # Errors
/// The future's own, or that no runtime could be had.
pub fn in_runtime<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let mut answer = Err(String::new());
    let runtime = runtime::new().map_err(|e| e.to_string())?;
    runtime::run_to_end(&runtime, pin!(async { answer = work.await }));
    answer
}
