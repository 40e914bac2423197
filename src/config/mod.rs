//! UCI -> [`Settings`]: newtypes that cannot hold a bad value; all errors at once.
//!
//! Depends on no other room. `uci.rs` reads the file format, `load.rs` turns sections into
//! settings, `import.rs` reads wg-quick files, `names.rs` and `settings.rs` hold the types.

mod names;
mod settings;
pub mod uci;

pub use names::{IfName, Mark, RelayName, WireguardKey};
pub use settings::{
    Lan, LanDevice, LanRoute, PortProto, Relay, Settings, TunnelForward, TunnelSettings, WanService,
};
