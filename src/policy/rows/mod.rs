//! One file per group of the contract's rows.

pub mod api;
pub mod dhcp;
pub mod dns;
pub mod emergency;
pub mod lan;
pub mod listed;
pub mod neighbours;
pub mod outer;
pub mod service;
pub mod source;
pub mod tunnel;
