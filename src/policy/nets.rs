//! Addresses that protocols fix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), len)
}

const fn v6(first: u16, low: [u16; 3], len: u8) -> IpNet {
    let addr = Ipv6Addr::new(first, 0, 0, 0, 0, low[0], low[1], low[2]);
    IpNet::new_assert(IpAddr::V6(addr), len)
}

/// RFC 919.
pub const BROADCAST: IpNet = v4(255, 255, 255, 255, 32);
/// RFC 5771.
pub const MULTICAST_V4: IpNet = v4(224, 0, 0, 0, 4);
/// 224.0.0.0/24, never forwarded (RFC 5771, section 4).
pub const LOCAL_MULTICAST_V4: IpNet = v4(224, 0, 0, 0, 24);
/// RFC 4291, section 2.7.
pub const MULTICAST_V6: IpNet = v6(0xff00, [0, 0, 0], 8);
/// RFC 3927.
pub const LINK_LOCAL_V4: IpNet = v4(169, 254, 0, 0, 16);
/// RFC 4291, section 2.5.6.
pub const LINK_LOCAL_V6: IpNet = v6(0xfe80, [0, 0, 0], 10);
/// "This host", before it has an address.
pub const UNSPECIFIED_V4: IpNet = v4(0, 0, 0, 0, 32);
/// RFC 4291, section 2.5.2.
pub const UNSPECIFIED_V6: IpNet = v6(0, [0, 0, 0], 128);
/// ff02::1, RFC 4291.
pub const ALL_NODES: IpNet = v6(0xff02, [0, 0, 1], 128);
/// ff02::2, RFC 4291.
pub const ALL_ROUTERS: IpNet = v6(0xff02, [0, 0, 2], 128);
/// ff02::16, RFC 3810.
pub const ALL_MLDV2_ROUTERS: IpNet = v6(0xff02, [0, 0, 0x16], 128);
/// ff02::1:ff00:0/104, RFC 4291.
pub const SOLICITED_NODE: IpNet = v6(0xff02, [1, 0xff00, 0], 104);
/// ff02::1:2, RFC 8415.
pub const ALL_DHCP_AGENTS: IpNet = v6(0xff02, [0, 1, 2], 128);
/// ff05::1:3, RFC 8415.
pub const ALL_DHCP_SERVERS: IpNet = v6(0xff05, [0, 1, 3], 128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_addresses_they_are_named_after() {
        let as_written = [
            (BROADCAST, "255.255.255.255/32"),
            (MULTICAST_V4, "224.0.0.0/4"),
            (LOCAL_MULTICAST_V4, "224.0.0.0/24"),
            (MULTICAST_V6, "ff00::/8"),
            (LINK_LOCAL_V4, "169.254.0.0/16"),
            (LINK_LOCAL_V6, "fe80::/10"),
            (UNSPECIFIED_V4, "0.0.0.0/32"),
            (UNSPECIFIED_V6, "::/128"),
            (ALL_NODES, "ff02::1/128"),
            (ALL_ROUTERS, "ff02::2/128"),
            (ALL_MLDV2_ROUTERS, "ff02::16/128"),
            (SOLICITED_NODE, "ff02::1:ff00:0/104"),
            (ALL_DHCP_AGENTS, "ff02::1:2/128"),
            (ALL_DHCP_SERVERS, "ff05::1:3/128"),
        ];
        for (net, text) in as_written {
            assert_eq!(net.to_string(), text);
        }
    }
}
