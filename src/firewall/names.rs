//! nft's names for numbers (its src/proto.c), as far as our rules use them.

/// IANA protocol numbers; all of these are words of nft's own grammar, so that reading them needs
/// no /etc/protocols.
pub const PROTOCOLS: &[(u32, &str)] =
    &[(1, "icmp"), (2, "igmp"), (6, "tcp"), (17, "udp"), (58, "icmpv6"), (58, "ipv6-icmp")];

/// RFC 792.
pub const ICMP_TYPES: &[(u32, &str)] = &[(3, "destination-unreachable"), (11, "time-exceeded")];

/// RFC 4443, 2710, 4861, 3810.
pub const ICMPV6_TYPES: &[(u32, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (132, "mld-listener-reduction"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (143, "mld2-listener-report"),
];

/// nft before 1.1 lists every code 0 by unreachable's name for it.
pub const ICMPV6_CODES: &[(u32, &str)] = &[(0, "no-route")];

/// Number and name.
pub type Names = &'static [(u32, &'static str)];

pub fn number(names: Names, name: &str) -> Option<u32> {
    names.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}

/// The first name that stands for the number.
pub fn name(names: Names, number: u32) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}
