//! Conntrack and nftables: compile (pure), apply, read back.
