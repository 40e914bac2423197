//! The kernel WireGuard device, its probe and its liveness.
