//! The kernel WireGuard device, its probe and its liveness.
pub const DEVICE: &str = "vpnd0";
