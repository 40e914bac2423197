//! Mutation check 2: one error each in the contract's table, which the proof must find.

use std::net::IpAddr;

use vpnd::policy::{Family, Row};

use crate::contract::Contract;
use crate::dims::Dim;
use crate::setup::{ALL_OPTIONS, Choice};
use crate::table::{At, Entry, Is, Say};

pub struct TableError {
    pub what: &'static str,
    pub make: fn(&mut Contract),
}

/// All options, in the states that the errors need.
pub fn choices() -> Vec<Choice> {
    let everything = |stance| Choice { options: ALL_OPTIONS, stance, tunnel: 0, emergency: false };
    let mut choices: Vec<Choice> = [5, 2, 4].into_iter().map(everything).collect();
    // A group that is no listed relay's, and a tunnel of one family.
    choices.push(Choice { tunnel: 1, ..everything(6) });
    choices.push(Choice { options: 0, stance: 1, tunnel: 0, emergency: true });
    choices
}

fn entries(contract: &mut Contract, at: At, row: Row) -> impl Iterator<Item = &mut Entry> {
    contract.entries.iter_mut().filter(move |entry| entry.at == at && entry.row == row)
}

/// Forgets conditions.
fn forget(contract: &mut Contract, at: At, row: Row, condition: fn(&Is) -> bool) {
    for entry in entries(contract, at, row) {
        entry.is.retain(|is| !condition(is));
    }
}

/// Forgets entries.
fn omit(contract: &mut Contract, at: At, row: Row) {
    contract.entries.retain(|entry| !(entry.at == at && entry.row == row));
}

fn change(contract: &mut Contract, at: At, row: Row, to: fn(&mut Is)) {
    entries(contract, at, row).flat_map(|entry| &mut entry.is).for_each(to);
}

fn say(contract: &mut Contract, at: At, row: Row, to: Say) {
    entries(contract, at, row).for_each(|entry| entry.say = to);
}

fn on(is: &Is, wanted: Dim) -> bool {
    matches!(is, Is::In(dim, _) | Is::Bits(dim, _, _) if *dim == wanted)
}

fn set(is: &mut Is, dim: Dim, from: u128, to: u128) {
    if on(is, dim) {
        *is = Is::In(dim, vec![(from, to)]);
    }
}

fn wider(is: &mut Is, text: &str) {
    if let (Is::To(list) | Is::From(list), Ok(net)) = (is, text.parse()) {
        list.push(net);
    }
}

fn is_v6(ip: IpAddr) -> bool {
    ip.is_ipv6()
}

pub const ERRORS: &[TableError] = &[
    TableError {
        what: "2.2 answers to the LAN are forgotten",
        make: |c| entries(c, At::OutLan, Row::LanSide).take(1).for_each(|e| e.say = Say::Refuse),
    },
    TableError {
        what: "2.2 neighbour discovery from afar",
        make: |c| forget(c, At::OutLan, Row::LanSide, |is| on(is, Dim::HopLimit)),
    },
    TableError {
        what: "2.2 fe80::/16 instead of fe80::/10",
        make: |c| {
            change(c, At::OutLan, Row::LanSide, |is| {
                if let Is::To(list) = is {
                    list.iter_mut()
                        .filter(|net| is_v6(net.addr()) && net.prefix_len() == 10)
                        .for_each(|net| *net = "fe80::/16".parse().unwrap_or(*net))
                }
            })
        },
    },
    TableError {
        what: "2.2 the DHCP server's ports the other way round",
        make: |c| {
            change(c, At::OutLan, Row::LanSide, |is| {
                if *is == Is::In(Dim::SourcePort, vec![(67, 67)]) {
                    *is = Is::In(Dim::SourcePort, vec![(68, 68)])
                }
            })
        },
    },
    TableError {
        what: "2.3 leases asked for from any port",
        make: |c| forget(c, At::OutWan, Row::DhcpV4Client, |is| on(is, Dim::SourcePort)),
    },
    TableError {
        what: "2.3 the lease's server on any device",
        make: |c| forget(c, At::OutWan, Row::DhcpV4Client, |is| matches!(is, Is::Out(_))),
    },
    TableError {
        what: "2.3 offers in IPv6",
        make: |c| forget(c, At::InWan, Row::DhcpV4Client, |is| matches!(is, Is::Family(_))),
    },
    TableError {
        what: "2.4 leases asked for of anybody",
        make: |c| forget(c, At::OutWan, Row::DhcpV6Client, |is| matches!(is, Is::To(_))),
    },
    TableError {
        what: "2.4 servers answer global addresses",
        make: |c| forget(c, At::InWan, Row::DhcpV6Client, |is| matches!(is, Is::To(_))),
    },
    TableError {
        what: "2.5 redirects come in",
        make: |c| {
            change(c, At::InWan, Row::NeighbourDiscovery, |is| {
                if *is == Is::In(Dim::Type, vec![(136, 136)]) {
                    *is = Is::In(Dim::Type, vec![(136, 137)])
                }
            })
        },
    },
    TableError {
        what: "2.5 any code",
        make: |c| forget(c, At::InWan, Row::NeighbourDiscovery, |is| on(is, Dim::Code)),
    },
    TableError {
        what: "2.5 neighbours from afar",
        make: |c| change(c, At::InWan, Row::NeighbourDiscovery, |is| set(is, Dim::HopLimit, 254, 255)),
    },
    TableError {
        what: "2.5 neighbours asked for anywhere",
        make: |c| forget(c, At::OutWan, Row::NeighbourDiscovery, |is| matches!(is, Is::To(_))),
    },
    TableError {
        what: "2.5 advertisements of routers with global addresses",
        make: |c| forget(c, At::InWan, Row::NeighbourDiscovery, |is| matches!(is, Is::From(_))),
    },
    TableError {
        what: "2.6 errors about any port of ours",
        make: |c| {
            change(c, At::InWan, Row::OuterErrors, |is| {
                if let Is::Bits(Dim::QuotedPorts, mask, value) = is {
                    *mask &= 0xffff;
                    *value &= 0xffff
                }
            })
        },
    },
    TableError {
        what: "2.6 errors about any protocol",
        make: |c| forget(c, At::InWan, Row::OuterErrors, |is| on(is, Dim::QuotedProtocol)),
    },
    TableError {
        what: "2.6 echo requests as errors",
        make: |c| {
            change(c, At::InWan, Row::OuterErrors, |is| {
                if *is == Is::In(Dim::Type, vec![(3, 3), (11, 11)]) {
                    *is = Is::In(Dim::Type, vec![(3, 3), (8, 8), (11, 11)])
                }
            })
        },
    },
    TableError {
        what: "2.7 LAN to LAN whatever the destination",
        make: |c| forget(c, At::LanLan, Row::LanToLan, |is| matches!(is, Is::To(_))),
    },
    TableError {
        what: "2.7 an unfit LAN is forwarded",
        make: |c| c.lan.iter_mut().for_each(|lan| lan.forward = true),
    },
    TableError {
        what: "2.8 a neighbouring prefix",
        make: |c| change(c, At::LanWan, Row::ListedWan, |is| wider(is, "192.168.101.0/24")),
    },
    TableError {
        what: "2.8 new flows from a listed prefix",
        make: |c| forget(c, At::WanLan, Row::ListedWan, |is| on(is, Dim::Flow)),
    },
    TableError {
        what: "2.8 groups in any protocol",
        make: |c| forget(c, At::InWan, Row::ListedWan, |is| *is == Is::Protocol(vec![17])),
    },
    TableError {
        what: "2.9 services for everybody",
        make: |c| forget(c, At::InWan, Row::WanService, |is| matches!(is, Is::From(_))),
    },
    TableError {
        what: "2.9 services that speak first",
        make: |c| forget(c, At::OutWan, Row::WanService, |is| on(is, Dim::Flow)),
    },
    TableError {
        what: "2.9 answers of any flow",
        make: |c| forget(c, At::OutWan, Row::WanService, |is| on(is, Dim::FlowMark)),
    },
    TableError { what: "2.9 flows are not marked", make: |c| say(c, At::InWan, Row::WanService, Say::Allow) },
    TableError {
        what: "3.1 without the mark",
        make: |c| forget(c, At::OutWan, Row::TunnelOuter, |is| on(is, Dim::Mark)),
    },
    TableError {
        what: "3.1 in to any port",
        make: |c| forget(c, At::InWan, Row::TunnelOuter, |is| on(is, Dim::DestPort)),
    },
    TableError {
        what: "3.1 in from any port",
        make: |c| forget(c, At::InWan, Row::TunnelOuter, |is| on(is, Dim::SourcePort)),
    },
    TableError { what: "3.1 tracked on the way out", make: |c| omit(c, At::Leaving, Row::TunnelOuter) },
    TableError { what: "3.1 tracked on the way in", make: |c| omit(c, At::ArrivingWan, Row::TunnelOuter) },
    TableError {
        what: "3.2 the API without the mark",
        make: |c| forget(c, At::OutWan, Row::Api, |is| on(is, Dim::Mark)),
    },
    TableError {
        what: "3.2 the API's port only, any address",
        make: |c| forget(c, At::OutWan, Row::Api, |is| matches!(is, Is::To(_))),
    },
    TableError {
        what: "3.2 new flows from the API",
        make: |c| forget(c, At::InWan, Row::Api, |is| on(is, Dim::Flow)),
    },
    TableError {
        what: "3.3 the LAN may not send into the tunnel",
        make: |c| say(c, At::LanTunnel, Row::IntoTunnel, Say::Refuse),
    },
    TableError {
        what: "0.0 no route, said in the other family",
        make: |c| {
            change(c, At::NoRoute, Row::Default, |is| {
                if *is == Is::Family(Family::V6) {
                    *is = Is::Family(Family::V4);
                }
            });
        },
    },
    TableError {
        what: "3.4 new flows out of the tunnel",
        make: |c| forget(c, At::TunnelLan, Row::FromTunnel, |is| on(is, Dim::Flow)),
    },
    TableError {
        what: "3.4 forwards without translation",
        make: |c| forget(c, At::TunnelLan, Row::FromTunnel, |is| on(is, Dim::Translated)),
    },
    TableError {
        what: "3.4 forwards of another port",
        make: |c| change(c, At::Redirected, Row::FromTunnel, |is| set(is, Dim::DestPort, 8081, 8081)),
    },
    TableError { what: "3.5 any resolver inside the tunnel", make: |c| omit(c, At::LanTunnel, Row::Dns) },
    TableError {
        what: "3.5 a resolver behind a LAN route",
        make: |c| change(c, At::OutLan, Row::Dns, |is| wider(is, "10.9.0.0/16")),
    },
    TableError {
        what: "3.5 only UDP is DNS",
        make: |c| {
            change(c, At::LanTunnel, Row::Dns, |is| {
                if let Is::Protocol(list) = is {
                    list.retain(|number| *number == 17)
                }
            })
        },
    },
    TableError {
        what: "3.6 the LAN reaches a listed relay",
        make: |c| omit(c, At::LanWan, Row::RelayFromLan),
    },
    TableError {
        what: "3.6 the tunnel's own port for the LAN",
        make: |c| omit(c, At::InLan, Row::RelayFromLan),
    },
    TableError {
        what: "3.7 the tunnel's address from the WAN",
        make: |c| omit(c, At::Arriving, Row::Source),
    },
    TableError {
        what: "3.7 any source leaves",
        make: |c| say(c, At::ForeignSource, Row::Source, Say::Allow),
    },
    TableError {
        what: "3.7 the tunnel's address is nobody's",
        make: |c| omit(c, At::TunnelSource, Row::Source),
    },
    TableError {
        what: "3.7 any source leaves by the tunnel",
        make: |c| forget(c, At::TunnelSource, Row::Source, |is| matches!(is, Is::From(_))),
    },
    TableError {
        what: "3.7 no address yet, and asks for anything",
        make: |c| {
            forget(c, At::ForeignSource, Row::NeighbourDiscovery, |is| {
                on(is, Dim::Type) || on(is, Dim::Code) || on(is, Dim::HopLimit)
            })
        },
    },
    TableError { what: "0.0 the LAN hears nothing", make: |c| say(c, At::LanWan, Row::Default, Say::Silent) },
    TableError {
        what: "0.0 the WAN hears something",
        make: |c| say(c, At::InWan, Row::Default, Say::Refuse),
    },
    TableError { what: "0.0 where no route leads, silence", make: |c| omit(c, At::NoRoute, Row::Default) },
    TableError {
        what: "0 with no LAN known, anybody is answered",
        make: |c| forget(c, At::OutWan, Row::LanSide, |is| on(is, Dim::Spoke)),
    },
];
