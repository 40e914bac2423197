//! The home under test: the house with its captures, and probes run through it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::classify::{Class, classify};
use crate::house::{
    House, MAC_GUEST, MAC_ISP, MAC_ROUTER_GUEST, MAC_ROUTER_LAN, MAC_ROUTER_WAN, MAC_TV, QUIET, at,
};
use crate::ns::Netns;
use crate::packets::{Body, Kind, Marker, Packet, Seen, ethernet};
use crate::probes::{Case, Place, Step};
use crate::raw::{Binding, Input, forget_flows, send};
use crate::tun::Tun;
use crate::vpnd::{Policy, Rules, uplink};
use crate::wire::{Capture, Frame, Take, transmit};

const MAC_USB: [u8; 6] = [2, 0, 0, 0, 4, 1];
const MAC_TETHER: [u8; 6] = [2, 0, 0, 0, 4, 2];

/// A home whose tunnel is a stand-in: for tests of the firewall alone, on any kernel.
///
/// Routing in it is as leaky as can be: the default route goes to the ISP, so that nothing but
/// the firewall stops a packet; one prefix is routed into the tunnel's stand-in.
pub struct Home {
    pub house: House,
    pub wan: Capture,
    tv: Capture,
    guest: Capture,
    tunnel_out: Capture,
    usb: Capture,
    tunnel: Tun,
    input: Input,
    tether: Netns,
    next: u32,
    /// How long to look for what must not come.
    pub patience: Duration,
}

/// What became of one case in one state.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub case: Case,
    pub policy: Policy,
    pub seen: bool,
    /// Time from sending to the refusal, where there was one.
    pub refused: bool,
    /// What the kernel said to a router's socket.
    pub errors: Vec<String>,
    /// Frames with the case's marker on the WAN that no row lists.
    pub leaks: Vec<String>,
}

impl Outcome {
    /// Whether it should have come out and did not.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.leaks.is_empty() && self.case.passes.contains(&self.policy) && !self.seen
    }

    /// What is wrong with it, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let Case { name, seen: place, .. } = &self.case;
        let state = self.policy.word();
        if let Some(leak) = self.leaks.first() {
            return Some(format!("{name}: in {state}, not listed on the WAN: {leak}"));
        }
        if self.is_lost() {
            let errors = self.errors.join("; ");
            return Some(format!("{name}: in {state} it did not come out at {place:?} {errors}"));
        }
        if self.case.blocked.contains(&self.policy) {
            if self.seen {
                return Some(format!("{name}: in {state} it came out at {place:?}"));
            }
            if self.case.refused && !self.refused {
                return Some(format!("{name}: in {state} the LAN host was not refused at once"));
            }
        }
        None
    }
}

impl Home {
    /// # Errors
    /// When the house cannot be built.
    pub fn build() -> Result<Self> {
        let house = House::build()?;
        let router = &house.router;
        let tunnel = Tun::new(router, "vpnd0")?;
        router.ip("addr add 10.64.10.2/32 dev vpnd0
             addr add fd64::10:2/128 dev vpnd0 nodad
             link set vpnd0 up mtu 1420
             route add 198.18.0.0/24 dev vpnd0
             route add 10.64.0.1/32 dev vpnd0
             route add 2001:db8:1800::/64 dev vpnd0
             route add fd64::1/128 dev vpnd0")?;
        let tether = Netns::new("tether")?;
        router.ip(&format!(
            "link add usb0 address 02:00:00:00:04:01 type veth peer name eth0 address 02:00:00:00:04:02 netns {}
             addr add 198.19.0.2/24 dev usb0
             addr add 2001:db8:1900::2/64 dev usb0 nodad
             link set usb0 up
             neigh replace 198.19.0.1 lladdr 02:00:00:00:04:02 dev usb0
             neigh replace 2001:db8:1900::1 lladdr 02:00:00:00:04:02 dev usb0",
            tether.path()
        ))?;
        tether.ip("addr add 198.19.0.1/24 dev eth0
             addr add 2001:db8:1900::1/64 dev eth0 nodad
             link set eth0 up")?;
        tether.nft(QUIET)?;
        Ok(Self {
            wan: Capture::start(&house.isp, "cpe", Take::Arriving)?,
            tv: Capture::start(&house.tv, "eth0", Take::Arriving)?,
            guest: Capture::start(&house.guest, "eth0", Take::Arriving)?,
            tunnel_out: Capture::start(router, "vpnd0", Take::Both)?,
            usb: Capture::start(&tether, "eth0", Take::Arriving)?,
            input: Input::watch(router)?,
            tunnel,
            tether,
            next: 1,
            patience: Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 200 }),
            house,
        })
    }

    /// Puts a policy in force, with the rules of `rules`, and forgets all flows.
    ///
    /// # Errors
    /// When the rules cannot be had or the kernel refuses them.
    pub fn enter(&self, policy: Policy, relay: usize, rules: &dyn Rules) -> Result<()> {
        self.house.no_tables()?;
        if policy != Policy::Bare {
            self.house.fw4()?;
        }
        if policy.enforcing() {
            self.load(&rules.of(policy, relay)?)
                .with_context(|| format!("loading the rules of {}", policy.word()))?;
        }
        forget_flows(&self.house.router)
    }

    /// Loads rules, in JSON or in nft's own words, in one transaction.
    ///
    /// # Errors
    /// With nft's own words.
    pub fn load(&self, json: &str) -> Result<()> {
        let json_or_text =
            if json.trim_start().starts_with('{') { &["-j", "-f", "-"][..] } else { &["-f", "-"] };
        self.house.router.pipe("nft", json_or_text, json).map(drop)
    }

    /// Runs cases side by side in the policy that is in force, and looks where they came out.
    ///
    /// # Errors
    /// When the harness itself fails: a packet cannot be sent, or a capture lost frames.
    pub fn run(&mut self, cases: &[Case], policy: Policy, relay: usize) -> Result<Vec<Outcome>> {
        let starts = self.positions();
        let first = self.next;
        self.next += cases.len() as u32;
        let mut errors: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let phases = cases.iter().map(|c| c.steps.len()).max().unwrap_or(0);
        for phase in 0..phases {
            for (n, case) in cases.iter().enumerate() {
                // The last step of every case is in the last phase.
                let skip = phases - case.steps.len();
                let Some(step) = phase.checked_sub(skip).and_then(|at| case.steps.get(at)) else { continue };
                let marker = self.marker(first, n, phase - skip);
                if let Err(refusal) = self.send(step, marker)? {
                    errors.entry(n).or_default().push(refusal.to_string());
                }
            }
            if phase + 1 < phases {
                std::thread::sleep(self.patience / 4);
            }
        }
        self.wait_for(cases, policy, first, &starts);
        let outcomes = cases
            .iter()
            .enumerate()
            .map(|(n, case)| {
                let marker = self.marker(first, n, case.steps.len() - 1);
                Outcome {
                    case: case.clone(),
                    policy,
                    seen: self.seen(case.seen, marker, &starts),
                    refused: self.refused(case, marker, &starts),
                    errors: errors.remove(&n).unwrap_or_default(),
                    leaks: self.leaks(marker.id, policy, relay, &starts),
                }
            })
            .collect();
        for capture in self.captures() {
            capture.assert_complete()?;
        }
        Ok(outcomes)
    }

    fn captures(&self) -> [&Capture; 5] {
        [&self.wan, &self.tv, &self.guest, &self.tunnel_out, &self.usb]
    }

    fn positions(&self) -> [usize; 5] {
        self.captures().map(Capture::position)
    }

    fn marker(&self, first: u32, n: usize, step: usize) -> Marker {
        Marker { kind: Kind::Probe, id: first + n as u32, seq: step as u32 }
    }

    fn send(&self, step: &Step, marker: Marker) -> Result<std::io::Result<()>> {
        let kind = |p: &Packet| if p.from.is_ipv4() { 0x0800 } else { 0x86dd };
        let wire = |ns: &Netns, device: &str, to, from, p: &Packet| {
            let to = destination(p, to);
            let frame = ethernet(to, from, kind(p), &p.bytes(marker));
            transmit(ns, device, [&frame[..]]).map(Ok)
        };
        match step {
            Step::Tv(p) => wire(&self.house.tv, "eth0", MAC_ROUTER_LAN, MAC_TV, p),
            Step::Guest(p) => wire(&self.house.guest, "eth0", MAC_ROUTER_GUEST, MAC_GUEST, p),
            Step::Wan(p) => wire(&self.house.isp, "cpe", MAC_ROUTER_WAN, MAC_ISP, p),
            Step::Usb(p) => wire(&self.tether, "eth0", MAC_USB, MAC_TETHER, p),
            Step::Tunnel(p) => self.tunnel.inject(&p.bytes(marker)).map(Ok),
            Step::Router(p, binding) => send(&self.house.router, &p.bytes(marker), p.to, binding),
        }
    }

    /// Until everything that is expected was seen; and as long as `patience`, for what is not.
    fn wait_for(&self, cases: &[Case], policy: Policy, first: u32, starts: &[usize; 5]) {
        let start = Instant::now();
        let mut missing: Vec<_> =
            cases.iter().enumerate().filter(|(_, c)| c.passes.contains(&policy)).collect();
        let limit = self.patience * 12;
        while start.elapsed() < limit {
            missing.retain(|(n, case)| {
                !self.seen(case.seen, self.marker(first, *n, case.steps.len() - 1), starts)
            });
            if missing.is_empty() && start.elapsed() >= self.patience {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn seen(&self, place: Place, marker: Marker, starts: &[usize; 5]) -> bool {
        // Not the quotation of an ICMP error about the probe: the probe itself, or an error whose
        // quotation the probe is.
        let holds = |f: &Frame| f.marker == Some(marker) && !is_refusal(&f.bytes);
        match place {
            Place::Router => self.input.saw(marker),
            Place::Wan => self.wan.has(starts[0], holds),
            Place::Tv => self.tv.has(starts[1], holds),
            Place::Guest => self.guest.has(starts[2], holds),
            Place::Tunnel => self.tunnel_out.has(starts[3], |f| f.outgoing && f.marker == Some(marker)),
            Place::Usb => self.usb.has(starts[4], holds),
        }
    }

    fn refused(&self, case: &Case, marker: Marker, starts: &[usize; 5]) -> bool {
        let Some(Step::Tv(packet) | Step::Guest(packet)) = case.steps.last() else { return false };
        let refuses = |f: &Frame| {
            let Some(seen) = f.bytes.get(14..).and_then(Seen::parse) else { return false };
            match packet.body {
                Body::Tcp { from, to, .. } => {
                    seen.from == packet.to
                        && seen.ports == Some((to, from))
                        && seen.tcp_flags.is_some_and(|flags| flags & crate::packets::RST != 0)
                }
                _ => f.marker == Some(marker) && is_refusal(&f.bytes),
            }
        };
        self.tv.has(starts[1], refuses) || self.guest.has(starts[2], refuses)
    }

    fn leaks(&self, id: u32, policy: Policy, relay: usize, starts: &[usize; 5]) -> Vec<String> {
        let ours = |f: &&Frame| f.marker.is_some_and(|m| m.kind == Kind::Probe && m.id == id);
        self.wan
            .select(starts[0], |f| ours(&f))
            .iter()
            .filter_map(|f| {
                // Outer packets are probes here: they may be read.
                let bytes = as_control(&f.bytes, id);
                match classify(&bytes, f.vlan, &[policy.state(relay)], &uplink()) {
                    Class::Unlisted(reading) => Some(reading),
                    _ => None,
                }
            })
            .collect()
    }

    /// Whether the capture still works: a frame that no policy forbids, sent and found.
    ///
    /// # Errors
    /// When it was not found: then silence proves nothing.
    pub fn control(&mut self) -> Result<()> {
        let id = self.next;
        self.next += 1;
        let marker = Marker { kind: Kind::Control, id, seq: 0 };
        let position = self.wan.position();
        let packet = control_packet();
        let binding = Binding { device: Some("wan".into()), mark: None };
        send(&self.house.router, &packet.bytes(marker), packet.to, &binding)?
            .context("sending a control frame")?;
        if self.wan.wait(position, Duration::from_secs(5), |f| f.marker == Some(marker)).is_none() {
            bail!("a control frame was lost: the capture proves nothing");
        }
        Ok(())
    }
}

/// A frame that the router may send in every state: a DHCP broadcast.
#[must_use]
pub fn control_packet() -> Packet {
    Packet::new(
        crate::house::ip(at::ROUTER_WAN[0]),
        crate::house::ip("255.255.255.255"),
        Body::Udp { from: 68, to: 67 },
    )
}

/// The frame with the probe's marker made a control's, which the contract's table lets be read.
fn as_control(bytes: &[u8], id: u32) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for seq in 0..4 {
        let old = Marker { kind: Kind::Probe, id, seq }.bytes();
        while let Some(at) = out.windows(old.len()).position(|w| w == old) {
            out[at..at + old.len()].copy_from_slice(&Marker { kind: Kind::Control, id, seq }.bytes());
        }
    }
    out
}

/// An ICMP administratively-prohibited (v4: 3/13, v6: 1/1).
fn is_refusal(frame: &[u8]) -> bool {
    let icmp = frame.get(14..).and_then(Seen::parse).and_then(|s| s.icmp.map(|i| (s.proto, i)));
    matches!(icmp, Some((1, (3, 13)) | (58, (1, 1))))
}

/// Multicast and broadcast have addresses of their own on Ethernet.
fn destination(packet: &Packet, router: [u8; 6]) -> [u8; 6] {
    match packet.to {
        std::net::IpAddr::V4(to) if to.is_broadcast() => [255; 6],
        std::net::IpAddr::V4(to) if to.is_multicast() => {
            let o = to.octets();
            [1, 0, 0x5e, o[1] & 0x7f, o[2], o[3]]
        }
        std::net::IpAddr::V6(to) if to.is_multicast() => {
            let o = to.octets();
            [0x33, 0x33, o[12], o[13], o[14], o[15]]
        }
        _ => router,
    }
}
