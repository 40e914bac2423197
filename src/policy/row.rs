//! The contract's rows: the thread that holds rules, counters, reasons and tests together.

use serde::Serialize;

macro_rules! rows {
    ($($name:ident = $number:literal, $title:literal;)*) => {
        /// A row of docs/contract.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Row { $(#[doc = $title] $name,)* }

        impl Row {
            pub const ALL: &[Row] = &[$(Row::$name,)*];
            /// The row's number in the contract, e.g. `3.1`.
            #[must_use]
            pub fn number(self) -> &'static str {
                match self { $(Row::$name => $number,)* }
            }
            /// The row of that number.
            #[must_use]
            pub fn of_number(number: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|row| row.number() == number)
            }
            /// One sentence for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Row::$name => $title,)* }
            }
        }
    };
}

rows! {
    Default = "0.0", "What is not listed as allowed is blocked.";
    Loopback = "2.1", "The router talks to itself.";
    LanSide = "2.2", "Devices of the LAN reach the router, and the router reaches them.";
    DhcpV4Client = "2.3", "The router asks the WAN for an IPv4 lease and keeps it.";
    DhcpV6Client = "2.4", "The router asks the WAN for an IPv6 lease and keeps it.";
    NeighbourDiscovery = "2.5", "The router finds its IPv6 neighbours on the WAN.";
    OuterErrors = "2.6", "ICMP errors about the tunnel's own packets come in.";
    LanToLan = "2.7", "LAN networks reach each other, as far as the router's own firewall lets them.";
    ListedWan = "2.8", "Listed prefixes and multicast groups behind the WAN are reachable.";
    WanService = "2.9", "Listed services of the router answer hosts on the WAN.";
    WanLayer2 = "2.10", "What the uplink needs below IP.";
    TunnelOuter = "3.1", "Encrypted packets between the tunnel's socket and the relay.";
    Api = "3.2", "vpnd itself reaches the provider's API.";
    IntoTunnel = "3.3", "Router and LAN send into the tunnel.";
    FromTunnel = "3.4", "Answers, and listed port forwards, come out of the tunnel.";
    Dns = "3.5", "DNS goes to the in-tunnel or listed resolvers only, inside the tunnel.";
    RelayFromLan = "3.6", "No LAN host reaches the relay or the API past the tunnel.";
    Source = "3.7", "A packet's source address belongs to the device it leaves by, and the tunnel's address is reached through the tunnel only.";
}
