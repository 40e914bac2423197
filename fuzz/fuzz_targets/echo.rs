//! Echo replies, which anybody in the tunnel can send.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use vpnd::tunnel::fuzzing::{reply, request};
use vpnd_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let v4 = bounded(data.len(), 0, 0, || reply(Ipv4Addr::LOCALHOST.into(), data));
    let v6 = bounded(data.len(), 0, 0, || reply(Ipv6Addr::LOCALHOST.into(), data));
    if let Some(repeated) = v6 {
        let to: IpAddr = Ipv6Addr::LOCALHOST.into();
        let asked = request(to, repeated, data.len() + 40);
        assert_eq!(asked.len(), data.len());
        // Id, sequence number and cookie are what the reply has in their places.
        assert_eq!(asked[4..24], data[4..24]);
    }
    if let Some(repeated) = v4 {
        let header = usize::from(data[0] & 15) * 4;
        let asked = request(Ipv4Addr::LOCALHOST.into(), repeated, data.len());
        assert_eq!(asked[4..24], data[header + 4..header + 24]);
    }
});
