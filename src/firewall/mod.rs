//! Policy -> nftables: compile (pure), apply in one transaction, read back and compare in full.
//!
//! [`compile`] makes a [`Ruleset`] in the nftables crate's types; `json` writes them for nft; `normal.rs` has the one spelling
//! in which a compiled and a listed ruleset are compared and hashed; `text.rs` prints it as a
//! person would write it; [`evaluate`] runs packets through it; [`Nft`] talks to the kernel through the `nft` program.

mod base;
mod child;
mod compile;
pub mod conntrack;
mod conntrack_message;
mod counters;
mod error;
pub mod evaluate;
mod expr;
pub mod guard;
mod json;
mod listing;
mod names;
pub mod nflog;
pub mod nflog_message;
mod nfnetlink;
mod nft;
mod nftables_message;
mod normal;
mod ruleset;
mod statement;
mod stop;
#[cfg(test)]
mod tests;
mod text;
pub mod watch;
pub mod watch_message;

pub use compile::compile;
pub use counters::RowCount;
pub use error::Error;
pub use json::Unwritten;
pub use nfnetlink::{end_heal, hardware_flowtables};
pub use nft::{InForce, Nft};
pub use ruleset::{Rules, Ruleset, RulesetHash, TABLE};
pub use stop::{STOP_TABLE, compile_stop};
