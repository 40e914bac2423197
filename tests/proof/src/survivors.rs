//! Altered rules that do not fail the proof, and why each is as good as the original. The proof has
//! gone through every class that looks at the altered rule and found the contract's verdict, row
//! and effects; here is said why that is no hole in the proof.

pub struct Equal {
    /// The beginning of "chain: comment".
    pub place: &'static str,
    /// Part of what was altered; empty: anything.
    pub what: &'static str,
    /// No class comes as far as what was altered.
    pub unreached: bool,
    pub why: &'static str,
}

const fn unreached(place: &'static str, what: &'static str, why: &'static str) -> Equal {
    Equal { place, what, unreached: true, why }
}

const fn equal(place: &'static str, what: &'static str, why: &'static str) -> Equal {
    Equal { place, what, unreached: false, why }
}

#[rustfmt::skip]
pub const LIST: &[Equal] = &[
    equal("", "put after the next", "no packet fits both, or both say the same of it"),
    unreached("", "put after the next", "nobody gets past what stands before both"),
    unreached("lan_to_router: 0.0", "", "the LAN reaches the router: all is accepted before"),
    unreached("lan_to_tunnel: 0.0", "", "all is accepted before"),
    unreached("router_to_tunnel: 0.0", "", "all is accepted before"),
    unreached("refuse_lan", "", "with no LAN known, nothing is refused to it"),
    unreached("wan_to_router", "", "with no LAN known, the router may be asked anything: accepted before"),
    equal("blocked_router: 0.0 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_lan: 0.0 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_wan: 0.0 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_router_dns: 3.5 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_lan_dns: 3.5 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_router_relay: 3.6 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_lan_relay: 3.6 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("blocked_source: 3.7 vpnd hears of some", "", "it tells the daemon, and decides nothing"),
    equal("", "goto blocked_lan -> goto refuse_lan", "refused alike, only not told of"),
    equal("", "goto blocked_lan_dns -> goto refuse_lan", "refused alike, only not told of"),
    equal("", "goto blocked_lan_relay -> goto refuse_lan", "refused alike, only not told of"),
    equal("", "goto blocked_wan -> goto refuse_silently", "dropped alike, only not told of"),
    equal("", "goto blocked_source -> goto refuse_silently", "dropped alike, only not told of"),
    equal("blocked_wan: 0.0 blocked", "dropped", "the chain's policy drops silently as well"),
    equal("forward: 0.0", "{\"set\":[\"lo\"", "the verdict map before has decided these pairs of devices, or they are refused alike"),
    equal("forward: 0.0 nothing else is forwarded", "dropped", "the chain's policy drops silently as well"),
    equal("tunnel_to_router: 0.0", "dropped", "the chain's policy drops silently as well"),
    equal("wan_to_lan: 0.0", "dropped", "the chain's policy drops silently as well"),
    equal("wan_to_router: 0.0", "dropped", "the chain's policy drops silently as well"),
    equal("refuse_silently: 0.0", "dropped", "the chain's policy drops silently as well"),
    equal("prerouting_raw: 0.0 by zone", "-> eth9", "without relays and services LAN and WAN are asked the same before conntrack"),
    equal("prerouting_raw: 0.0 by zone", "without", "without relays and services LAN and WAN are asked the same before conntrack"),
    equal("arriving_from_wan: 2.9", "saddr", "what is marked beyond the listed source is not let in"),
    equal("arriving_from_wan: 3.1", "port\"}} -> ", "what is marked beyond the relay's and our port is not let in"),
    equal("lan_to_lan: 2.7", "{\"key\":\"oifname\"}} -> {\"meta\":{\"key\":\"iifname\"}}", "one LAN network is forwarded: it is both devices"),
    equal("lan_to_tunnel: 3.5 DNS", "goto lan_to_tunnel_dns -> goto refuse_lan", "before the tunnel is verified that chain refuses all"),
    equal("router_to_wan: 3.6 the relay", "dropped", "on port 53 row 3.5 refuses it as well"),
    equal("lan_to_wan: 3.6 the relay", "dropped", "on port 53 row 3.5 refuses it as well"),
    equal("foreign_source: 2.5", "daddr", "the output chain let nothing else out without an address"),
    equal("router_to_wan: 3.6", "goto blocked_router_relay -> goto refuse_lan", "marked packets were accepted before"),
    equal("blocked_router_relay: 3.6", "goto refuse_router -> goto refuse_lan", "marked packets were accepted before"),
    equal("router_to_wan: 3.6", "l4proto", "on port 53 row 3.5 refuses it as well"),
    equal("lan_to_wan: 3.6", "l4proto", "on port 53 row 3.5 refuses it as well"),
];

impl Equal {
    /// Whether it would be the reason, were no other listed before it.
    pub fn is_about(&self, place: &str, what: &str) -> bool {
        place.starts_with(self.place) && what.contains(self.what)
    }
}

/// The reason that is listed for a survivor.
pub fn reason(place: &str, what: &str, reached: bool) -> Option<usize> {
    LIST.iter().position(|equal| equal.is_about(place, what) && equal.unreached != reached)
}
