//! The virtual home: a house of network namespaces around the router under test, a capture at the
//! ISP's end of the WAN wire, and a table of the contract written independently of vpnd, with
//! which every captured frame is judged.
//!
//! From the wire up: [`ns`] namespaces, [`house`] what stands in them, [`packets`] build and read
//! packets, [`wire`] captures, [`classify`] the contract, [`probes`] one packet from somewhere and
//! where it came out.

pub mod classify;
pub mod house;
pub mod ns;
pub mod packets;
pub mod wire;
