//! What can go wrong between a compiled ruleset and the kernel.

use std::path::PathBuf;
use std::time::Duration;

use super::json::Unwritten;

/// Says what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("starting {}: {source}; is nftables installed?", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    /// Nothing was loaded.
    #[error("loading table inet vpnd: {0}; this is a mistake in vpnd")]
    Unwritten(#[from] Unwritten),
    #[error("{what}: nft did not finish within {} ms and was killed", limit.as_millis())]
    TimedOut { what: &'static str, limit: Duration },
    #[error("{what}: nft was killed by a signal")]
    Killed { what: &'static str },
    #[error("{what}: nft refused (exit code {code}): {stderr}")]
    Refused { what: &'static str, code: i32, stderr: String },
    #[error("{what}: the kernel refused: {source}")]
    Kernel { what: &'static str, source: std::io::Error },
    #[error("{what}: nft's answer cannot be read: {why}")]
    Unreadable { what: &'static str, why: String },
    #[error(
        "the rules in the kernel are not those that were loaded: {difference}; \
         the former ones were put back"
    )]
    Differs { difference: String },
    /// The one state in which the promise is broken (contract, section 1).
    #[error(
        "the rules in the kernel are not those that were loaded: {difference}; putting the former \
         ones back failed as well: {restore}; what is in force is unknown: unplug the WAN"
    )]
    Unknown { difference: String, restore: String },
}
