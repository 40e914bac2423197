//! Conntrack and nftables: compile (pure), apply, read back.

pub mod conntrack;
mod conntrack_message;
