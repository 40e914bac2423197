//! The evaluator: any packet, on any device, through the rules of each state.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vpnd::config::{IfName, Lan, LanDevice, Settings};
use vpnd::firewall::compile;
use vpnd::firewall::evaluate::{
    Devices, Evaluator, Flow, FlowState, Packet, Path, RouteType, Verdict, World,
};
use vpnd::policy::{Facts, Stance, TunnelStance, WanDevice, compose};
use vpnd_fuzz::bounded;

const DEVICES: [&str; 7] = ["lo", "br-lan", "br-guest", "vpnd0", "vpnd1", "wan", "usb0"];
/// Addresses that the rules name.
const ADDRESSES: [&str; 12] = [
    "192.168.1.1",
    "10.64.10.2",
    "192.0.2.11",
    "10.64.0.1",
    "255.255.255.255",
    "203.0.113.1",
    "fd00:1::1",
    "fc00:bbbb::2",
    "2001:db8:51::11",
    "ff02::1",
    "fe80::1",
    "ff02::1:2",
];
const STATES: [FlowState; 5] =
    [FlowState::New, FlowState::Established, FlowState::Related, FlowState::Untracked, FlowState::Invalid];
const ROUTES: [RouteType; 4] =
    [RouteType::Unicast, RouteType::Local, RouteType::Broadcast, RouteType::Multicast];

static RULES: LazyLock<Vec<Evaluator>> = LazyLock::new(|| {
    let name = |text: &str| text.parse::<IfName>().expect("a device's name");
    let device = |text: &str, net: &str| LanDevice {
        name: name(text),
        prefixes: vec![net.parse().expect("a prefix")],
        forward: true,
    };
    let devices = vec![device("br-guest", "192.168.2.0/24"), device("br-lan", "192.168.1.0/24")];
    let settings = Settings::fallback(Lan { devices, routes: Vec::new() });
    let wan = WanDevice {
        name: name("wan"),
        prefixes: vec!["203.0.113.0/24".parse().expect("a prefix")],
        lease_server: "203.0.113.1".parse().ok(),
    };
    let facts = Facts { wan: vec![wan], ..Facts::default() };
    let tunnel = TunnelStance {
        device: name("vpnd0"),
        addresses: ["10.64.10.2/32", "fc00:bbbb::2/128"].map(|net| net.parse().expect("a prefix")).into(),
    };
    let relay = "192.0.2.11:51820".parse().expect("an endpoint");
    let relays = vec![relay, "[2001:db8:51::11]:53".parse().expect("an endpoint")];
    let stances = [
        Stance::Boot,
        Stance::Blocked { api: true },
        Stance::Connecting { relays, listen_port: 51820, tunnel: Some(tunnel.clone()), dns: true },
        Stance::Connected { relay, listen_port: 51820, tunnel },
    ];
    let evaluator = |stance: &Stance| {
        let policy = compose(stance, &settings, &facts).expect("a policy");
        Evaluator::new(&compile(&policy)).expect("what is compiled is known")
    };
    stances.iter().map(evaluator).collect()
});

/// Values out of the input, zeros after its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::from(self.next()) % from.len()].clone()
    }
    fn device(&mut self) -> Option<IfName> {
        self.pick(&DEVICES).parse().ok()
    }
    /// A named address, a neighbour of one, or any.
    fn address(&mut self, v4: bool) -> IpAddr {
        let named: Vec<IpAddr> =
            ADDRESSES.iter().filter_map(|a| a.parse().ok()).filter(|a: &IpAddr| a.is_ipv4() == v4).collect();
        match (self.next(), self.pick(&named)) {
            (0..=127, address) => address,
            (128..=190, IpAddr::V4(address)) => IpAddr::V4((address.to_bits() ^ 1).into()),
            (128..=190, IpAddr::V6(address)) => IpAddr::V6((address.to_bits() ^ 1).into()),
            (_, IpAddr::V4(_)) => IpAddr::from(std::array::from_fn::<u8, 4, _>(|_| self.next())),
            (_, IpAddr::V6(_)) => IpAddr::from(std::array::from_fn::<u8, 16, _>(|_| self.next())),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let rules = &RULES[usize::from(bytes.next()) % RULES.len()];
    let path = bytes.pick(&[Path::Input, Path::Output, Path::Forward]);
    let devices = Devices { iif: bytes.device(), oif: bytes.device() };
    let bits = bytes.next();
    let v4 = bits & 1 == 0;
    let mut flow = Flow {
        reply: bits & 2 != 0,
        dnat: bits & 4 != 0,
        masqueraded: bits & 8 != 0,
        first: bits & 16 != 0,
        ..Flow::later(bytes.pick(&STATES), false)
    };
    let world = World {
        destination: bytes.pick(&ROUTES),
        source: bytes.pick(&ROUTES),
        routed: bits & 32 != 0,
        own_address: (bits & 64 != 0).then(|| bytes.address(v4)),
        spoke: Vec::new(),
    };
    let mut packet = Packet {
        source: bytes.address(v4),
        destination: bytes.address(v4),
        protocol: bytes.next(),
        mark: bytes.pick(&[0, 0x6d6f_6c65, 0x6d6f_6c64, 0x6d6f_6c66]),
        hop_limit: bytes.next(),
        transport: bytes.0.to_vec(),
    };
    let journey = bounded(data.len(), 8, 16384, || {
        rules.journey(path, &mut packet, &devices, &mut flow, &world).expect("no rule leads in a circle")
    });
    for (at, (_, decision)) in journey.hooks.iter().enumerate() {
        let last = at + 1 == journey.hooks.len();
        assert!(last || decision.verdict == Verdict::Accept, "a hook after the end");
        if decision.verdict != Verdict::Accept {
            assert_eq!(
                decision.rule,
                decision.steps.last().map(|step| step.rule),
                "not decided by the last rule"
            );
        }
        // Each base chain is gone through once, and no chain twice.
        let mut seen: Vec<u32> = decision.steps.iter().map(|step| step.rule).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), decision.steps.len(), "a rule was looked at twice");
    }
    // Nothing is listed here: a LAN host reaches no WAN device, whatever it sends.
    let name =
        |device: &Option<IfName>| device.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
    let (from, to) = (name(&devices.iif), name(&devices.oif));
    if path == Path::Forward && from.starts_with("br-") && ["wan", "usb0"].contains(&to.as_str()) {
        assert_ne!(journey.verdict, Verdict::Accept, "{from} to {to}");
    }
});
