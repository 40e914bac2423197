//! vpnd: a VPN as the only way out of a home router.
//!
//! One folder per room; docs/architecture.md is the map. `policy` and `machine` are pure;
//! `firewall`, `tunnel`, `routing` and `control` touch the kernel, `fw4`, `lan6` and `dns` OpenWrt's
//! own services; only `daemon` knows them all.

mod alarm;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod firewall;
mod from_json;
pub mod fw4;
mod init_script;
pub mod lan6;
pub mod machine;
mod netlink;
pub mod policy;
pub mod routing;
mod rtnetlink;
mod runtime;
pub mod sorted;
pub mod state;
pub mod tunnel;
mod uci_file;

/// Compares with tests/golden/NAME; `UPDATE_GOLDEN=1` writes it.
#[cfg(test)]
pub(crate) fn golden(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{} differs; UPDATE_GOLDEN=1 writes it", path.display());
}
