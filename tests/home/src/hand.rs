//! A small ruleset written by hand: not vpnd's, but enough to prove the harness with, holes
//! included.

use anyhow::Result;

use crate::vpnd::{Policy, Rules};

/// What is wrong with the hand-written rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// Nothing: LAN and router send nothing to the WAN but DHCP and neighbour discovery.
    None,
    /// LAN hosts may use UDP port 9999.
    LanUdp,
    /// Flows that were there before go on.
    Established,
    /// Not even a control frame gets out.
    Mute,
}

pub struct ByHand(pub Hole);

impl Rules for ByHand {
    fn of(&self, _: Policy, _: usize) -> Result<String> {
        let forward = match self.0 {
            Hole::LanUdp => "udp dport 9999 accept",
            Hole::Established => "ct state established accept",
            Hole::None | Hole::Mute => "",
        };
        let output = if self.0 == Hole::Mute {
            ""
        } else {
            "udp sport 68 udp dport 67 ip daddr 255.255.255.255 accept"
        };
        Ok(format!(
            "table inet vpnd
delete table inet vpnd
table inet vpnd {{
    chain forward {{
        type filter hook forward priority -10; policy drop;
        iifname {{ br-lan, br-guest }} oifname {{ br-lan, br-guest }} accept
        {forward}
        meta l4proto tcp reject with tcp reset
        reject with icmpx type admin-prohibited
    }}
    chain output {{
        type filter hook output priority -10; policy accept;
        oifname != wan accept
        icmpv6 type {{ 133, 135, 136, 143 }} accept
        {output}
        drop
    }}
}}
"
        ))
    }
}
