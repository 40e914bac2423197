//! Newtypes for everything that could otherwise reach a rule, a device or a file name as text.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::from_json::from_json;

/// A network device's name: 1 to 15 bytes of `[A-Za-z0-9._-]` (IFNAMSIZ in linux/if.h, less what
/// nftables reads as a wildcard and what a shell or a path would trip over).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct IfName(String);

impl IfName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IfName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=15).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text != "."
            && text != ".."
            && text != "all"
            && text != "default";
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("is no device name (1 to 15 of A-Z a-z 0-9 . _ -)".to_owned())
        }
    }
}

from_json!(text IfName);

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

/// A relay's name as the user or the provider wrote it: 1 to 63 bytes of `[A-Za-z0-9._-]`.
/// Never part of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct RelayName(String);

impl RelayName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RelayName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("is no relay name (1 to 63 of A-Z a-z 0-9 . _ -)".to_owned())
        }
    }
}

from_json!(text RelayName);

impl From<RelayName> for String {
    fn from(name: RelayName) -> Self {
        name.0
    }
}

/// A Curve25519 key of 32 bytes (private, public or preshared). Neither `Debug` nor `Display`
/// shows it, and it cannot be serialised: keys leave the process only towards the kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct WireguardKey([u8; 32]);

impl WireguardKey {
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for WireguardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WireguardKey(hidden)")
    }
}

/// A packet mark in the bits of `mask`: `value & !mask == 0`, `value != 0`, and the mask has at
/// least two bits so that [`Mark::service`] exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// "molk" in Mullvad's app; kept as our default because nothing else on a router uses it.
    pub const DEFAULT: Self = Self { value: 0x6d6f_6c65, mask: 0xffff_ffff };

    /// # Errors
    /// A sentence for the user when the value does not lie inside the mask or is zero there.
    pub fn new(value: u32, mask: u32) -> Result<Self, String> {
        if mask.count_ones() < 2 {
            return Err("needs a mask of at least two bits".to_owned());
        }
        if value & !mask != 0 {
            return Err(format!("has bits outside its mask 0x{mask:x}"));
        }
        let mark = Self { value, mask };
        if value == 0 || mark.service().value == 0 {
            return Err("needs two bits set, or one that is not the mask's lowest".to_owned());
        }
        Ok(mark)
    }
    #[must_use]
    pub fn value(self) -> u32 {
        self.value
    }
    #[must_use]
    pub fn mask(self) -> u32 {
        self.mask
    }
    /// The second mark (contract 2.9), for replies of WAN services: never the tunnel's own.
    #[must_use]
    pub fn service(self) -> Self {
        let lowest = self.mask & self.mask.wrapping_neg();
        Self { value: self.value ^ lowest, mask: self.mask }
    }
}
