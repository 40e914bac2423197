//! Which policy is in force: four words that the kernel's table can tell by itself.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::stance::Stance;
use crate::from_json::from_json;

/// The columns of the contract's section 3. Readable from the kernel alone: the table holds an
/// empty chain named [`PolicyState::chain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyState {
    /// From the LAN list alone, before anything is known of the kernel.
    Boot,
    /// Error, and disconnected under lockdown.
    Blocked,
    Connecting,
    Connected,
}

from_json!(text PolicyState);

impl PolicyState {
    pub const ALL: &[Self] = &[Self::Boot, Self::Blocked, Self::Connecting, Self::Connected];

    /// The state of a stance's policy; None for [`Stance::Open`], which has none.
    #[must_use]
    pub fn of(stance: &Stance) -> Option<Self> {
        match stance {
            Stance::Open => None,
            Stance::Boot => Some(Self::Boot),
            Stance::Blocked { .. } => Some(Self::Blocked),
            Stance::Connecting { .. } => Some(Self::Connecting),
            Stance::Connected { .. } => Some(Self::Connected),
        }
    }

    /// The empty chain whose name says the state.
    #[must_use]
    pub fn chain(self) -> &'static str {
        match self {
            Self::Boot => "state_boot",
            Self::Blocked => "state_blocked",
            Self::Connecting => "state_connecting",
            Self::Connected => "state_connected",
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Blocked => "blocked",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        }
    }
}

impl fmt::Display for PolicyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PolicyState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| "is no state (boot, blocked, connecting or connected)".to_owned())
    }
}
