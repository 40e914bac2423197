//! UCI -> [`Settings`]: newtypes that cannot hold a bad value; all errors at once.
//!
//! Depends on no other room. `uci.rs` reads the file format, `load.rs` turns sections into
//! settings, `import.rs` reads wg-quick files, `names.rs` and `settings.rs` hold the types.

pub mod import;
mod load;
mod names;
mod problem;
mod settings;
pub mod uci;
mod value;

pub use load::{Loaded, load};
pub use names::{IfName, Mark, RelayName, WireguardKey};
pub use problem::Problem;
pub use settings::{
    Lan, LanDevice, LanRoute, PortProto, Relay, Settings, TunnelForward, TunnelSettings, WanService,
};
