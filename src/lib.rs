//! vpnd: a VPN as the only way out of a home router.
//!
//! One folder per room; docs/architecture.md is the map. `policy` and `machine` are pure;
//! `firewall`, `tunnel`, `routing` and `control` touch the kernel; only `daemon` knows them all.

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod firewall;
pub mod machine;
pub mod policy;
pub mod routing;
pub mod state;
pub mod tunnel;
