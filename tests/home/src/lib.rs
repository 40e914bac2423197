//! The virtual home: a house of network namespaces around the router under test, a capture at the
//! ISP's end of the WAN wire, and a table of the contract written independently of vpnd, with
//! which every captured frame is judged.
//!
//! From the wire up: [`ns`] namespaces, [`house`] what stands in them, [`packets`] build and read
//! packets, [`wire`] captures, [`classify`] the contract, [`probes`] one packet from somewhere and
//! where it came out.

pub mod bench;
pub mod bench_quick;
pub mod bench_stream;
pub mod bench_table;
pub mod cells;
pub mod classify;
pub mod commits;
pub mod config;
pub mod cost;
pub mod cost_figures;
pub mod counted;
pub mod death;
pub mod demo;
pub mod demo_ask;
pub mod demo_wire;
pub mod differential;
pub mod flood;
pub mod hand;
pub mod home;
pub mod house;
pub mod layers;
pub mod mutate;
pub mod native;
pub mod ns;
pub mod packets;
pub mod probes;
pub mod raw;
pub mod reads;
pub mod root;
pub mod scenarios;
pub mod selftest;
pub mod services;
pub mod suite;
pub mod town;
pub mod trace;
pub mod transitions;
pub mod tun;
pub mod volley;
pub mod vpnd;
pub mod wire;
