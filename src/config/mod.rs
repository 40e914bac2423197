//! UCI -> [`Settings`]: newtypes that cannot hold a bad value; all errors at once.
//!
//! Depends on no other room. `uci.rs` reads and writes the file format, `load.rs` turns sections
//! into settings (`load/`: the LAN decision, tunnel and relays), `import.rs` reads wg-quick files,
//! `value.rs` parses single values, `problem.rs` says what is wrong, `names.rs` and `settings.rs`
//! hold the types.

pub mod import;
mod load;
mod names;
mod problem;
mod settings;
pub mod uci;
mod value;

/// What the names of all sections begin with that vpnd writes into other programs' files. None of them says
/// anything of what the owner wants.
pub const OWN_SECTIONS: &str = "vpnd_";

pub use load::{Loaded, load, load_from};
pub use names::{IfName, Mark, RelayName, WireguardKey};
pub use problem::Problem;
pub use settings::{
    FirewallZone, Lan, LanDevice, LanRoute, PortProto, Relay, Settings, TunnelForward, TunnelSettings,
    WanService, ZoneSide,
};
