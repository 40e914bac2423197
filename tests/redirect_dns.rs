//! `redirect_dns`: LAN hosts with hard-coded resolvers, the real dnsmasq, vpnd's rules and barrier, and fw4's
//! rules with the redirect as fw4 makes it of our sections. The tunnel is a wire. Needs root.
#![allow(clippy::unwrap_used)]

mod names;
mod netns;

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use names::{Answer, ask, ask_by_tcp};
use netns::{House, connected, leaks, net, settings};
use vpnd::config::uci::NewValue;
use vpnd::config::{FirewallZone, Settings, TunnelSettings, WireguardKey, ZoneSide};
use vpnd::dns::{Dnsmasq, hang_up, upstream};
use vpnd::fw4::{Closed, sections};
use vpnd::policy::Stance;

const FW4: &str = include_str!("home/fixtures/fw4-home.nft");
/// What a television has built in.
const OUTSIDE: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];
const OUTSIDE_SAY: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
const TUNNEL_ADDRESSES: [&str; 2] = ["10.64.0.9/32", "fc00:bbbb::9/128"];
const TUNNELS: &str = "10.64.0.1";
/// Also for a busy machine; a client's own patience is five seconds.
const AT_ONCE: Duration = Duration::from_millis(500);

struct Home {
    house: Arc<House>,
    dir: PathBuf,
    dnsmasq: Option<Child>,
    outside: Vec<Arc<AtomicU32>>,
    number: u32,
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(child) = &mut self.dnsmasq {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Home {
    fn new() -> Self {
        let house = Arc::new(House::build());
        house.sh("isp", &format!("for a in {}; do ip addr add $a dev lo; done", OUTSIDE.join(" ")));
        house.lay_tunnel();
        let dir = std::env::temp_dir().join(house.name("dns"));
        fs::create_dir_all(dir.join("dnsmasq.d")).unwrap();
        fs::write(dir.join("dhcp"), "config dnsmasq\n").unwrap();
        fs::write(dir.join("resolv.conf.auto"), format!("nameserver {}\n", OUTSIDE[0])).unwrap();
        let outside = house.inside("isp", || {
            names::resolver(TUNNELS, TUNNELS.parse().unwrap());
            std::thread::spawn(|| {
                let dot = TcpListener::bind((OUTSIDE[0], 853)).unwrap();
                dot.incoming().for_each(drop);
            });
            OUTSIDE.map(|address| names::resolver(address, OUTSIDE_SAY))
        });
        Self { house, dir, dnsmasq: None, outside: outside.into(), number: 0 }
    }

    /// As OpenWrt's does: on every address, with the folder for more.
    fn start_dnsmasq(&mut self) {
        if let Some(mut child) = self.dnsmasq.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let path = |name: &str| self.dir.join(name).display().to_string();
        let (main, resolv, folder) = (path("main.conf"), path("resolv.conf.auto"), path("dnsmasq.d"));
        fs::write(&main, format!("user=root\nno-hosts\nresolv-file={resolv}\nconf-dir={folder}\n")).unwrap();
        let netns = self.house.name("rtr");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &netns, "dnsmasq", "-k", "-C", &main, "-x", &path("pid")]);
        self.dnsmasq = Some(command.stdin(Stdio::null()).spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(10);
        while !self.house.try_sh("rtr", "ss -lnuH sport = 53 | grep -q .") {
            assert!(Instant::now() < until, "dnsmasq did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the daemon does in that state.
    fn enter(&mut self, stance: &Stance, settings: &Settings) {
        self.house.enforce(stance, settings);
        let hand = Dnsmasq::with_tmp(&self.dir, &self.dir);
        hand.bring_to(&upstream(stance, settings)).1.unwrap();
        self.fw4(settings, true);
        self.start_dnsmasq();
        self.house.inside("rtr", hang_up);
    }

    /// fw4's rules with what it makes of our sections.
    fn fw4(&self, settings: &Settings, armed: bool) {
        let zone = |name: &str, side| FirewallZone { name: name.to_owned(), side };
        let zones = [zone("lan", ZoneSide::Lan), zone("wan", ZoneSide::Wan)];
        let mut rules = String::new();
        let closed = if armed { Closed::Yes { healed: false } } else { Closed::No };
        for made in sections(settings, &zones, "vpnd0", closed) {
            let text = |wanted: &str| {
                let found = made.options.iter().find(|(name, _)| *name == wanted);
                match found.map(|(_, value)| value) {
                    Some(NewValue::Text(text)) => text.clone(),
                    _ => String::new(),
                }
            };
            if made.kind == "redirect" {
                assert_eq!([text("src"), text("target"), text("dest_ip")], ["lan", "DNAT", ""]);
                for proto in text("proto").split(' ') {
                    redirect(
                        &mut rules,
                        &text("family"),
                        &text("src_ip"),
                        proto,
                        [&text("src_dport"), &text("dest_port")],
                    );
                }
            }
        }
        let lan = "{ \"lan0\", \"lan1\" }";
        let mut table = FW4.replace("{ \"br-lan\", \"br-guest\" }", lan).replace("\"wan\"", "\"wan0\"");
        // ruleset.uc, for a zone with a redirect.
        if !rules.is_empty() {
            let dstnat = "type nat hook prerouting priority dstnat; policy accept;";
            assert!(table.contains(dstnat));
            table = table.replace(
                dstnat,
                &format!("{dstnat}\n\t\tiifname {lan} jump dstnat_lan\n\t}}\n\tchain dstnat_lan {{\n{rules}"),
            );
            table = table.replace("chain input_lan {", "chain input_lan {\n\t\tct status dnat accept");
        }
        let file = self.dir.join("fw4.nft");
        fs::write(&file, table).unwrap();
        self.house.sh("rtr", &format!("nft -f {}", file.display()));
    }

    /// By UDP and TCP; all say the same, at once.
    #[track_caller]
    fn all_say(&mut self, place: &'static str, these: &[&str], wanted: &Answer) {
        for (to, tcp) in these.iter().flat_map(|to| [(to, false), (to, true)]) {
            let to = SocketAddr::new(to.parse::<IpAddr>().unwrap(), 53);
            let before = self.number;
            let (answer, took) = self.house.inside(place, move || {
                let mut number = before;
                if tcp { ask_by_tcp(to, &mut number) } else { ask(to, &mut number) }
            });
            self.number += 1;
            assert!(
                answer == *wanted && took < AT_ONCE,
                "{place}: {to}, TCP {tcp}: {answer:?} after {took:?}"
            );
        }
    }

    fn outside_asked(&self) -> u32 {
        self.outside.iter().map(|count| count.load(Ordering::SeqCst)).sum()
    }

    fn dot_connects(&self) -> bool {
        let to = SocketAddr::new(OUTSIDE[0].parse().unwrap(), 853);
        self.house.inside("cli", move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
    }
}

/// redirect.uc: a family only where no address says it.
fn redirect(rules: &mut String, family: &str, src_ip: &str, proto: &str, [from, to]: [&str; 2]) {
    let ip = if family == "ipv4" { "ip" } else { "ip6" };
    let who = match (family, src_ip.strip_prefix('!')) {
        ("any", None) => String::new(),
        (_, None) => format!("meta nfproto {family} "),
        (_, Some(spared)) => format!("{ip} saddr != {spared} "),
    };
    writeln!(rules, "\t\t{who}{proto} dport {from} counter redirect to {to}").unwrap();
}

fn home_settings(redirect_dns: bool, resolvers: &[&str]) -> Settings {
    let tunnel = TunnelSettings {
        private_key: WireguardKey::new([1; 32]),
        addresses: TUNNEL_ADDRESSES.map(net).into(),
        dns: vec![TUNNELS.parse().unwrap()],
        mtu: None,
        probe: Vec::new(),
    };
    let resolvers = resolvers.iter().map(|text| text.parse().unwrap()).collect();
    Settings { tunnel: Some(tunnel), redirect_dns, resolvers, ..settings() }
}

#[test]
fn hard_coded_resolvers_are_answered_by_the_router_or_refused_at_once() {
    let mut home = Home::new();
    let blocked = Stance::Blocked { api: false };
    // The control: without vpnd each reaches the resolver that it asks.
    home.fw4(&home_settings(true, &[]), false);
    home.all_say("cli", &OUTSIDE, &Answer::From(OUTSIDE_SAY));
    assert!(home.outside_asked() == 4 && home.dot_connects());

    let router_says = Answer::From(TUNNELS.parse().unwrap());
    let states = [
        (connected(&TUNNEL_ADDRESSES), false, &Answer::Unreachable),
        (connected(&TUNNEL_ADDRESSES), true, &router_says),
        (blocked.clone(), true, &Answer::Refused),
        (blocked, false, &Answer::Unreachable),
        (connected(&TUNNEL_ADDRESSES), true, &router_says),
        // The setting was taken back.
        (connected(&TUNNEL_ADDRESSES), false, &Answer::Unreachable),
    ];
    for (stance, on, wanted) in states {
        home.enter(&stance, &home_settings(on, &[]));
        let house = Arc::clone(&home.house);
        let frames = house.capture(|| home.all_say("cli", &OUTSIDE, wanted));
        assert_eq!(leaks(&frames), 0, "past the tunnel, redirect {on}");
        // DNS over TLS is none of its business.
        assert_eq!(home.dot_connects(), matches!(stance, Stance::Connected { .. }), "redirect {on}");
    }
    assert_eq!(home.outside_asked(), 4, "a resolver outside was asked");
}

#[test]
fn what_a_resolver_in_the_lan_asks_does_not_come_back_to_it() {
    let mut home = Home::new();
    // The first LAN's host is one.
    home.enter(&connected(&TUNNEL_ADDRESSES), &home_settings(true, &["192.168.1.2", TUNNELS]));
    let v4 = &OUTSIDE[..1];
    home.all_say("cli2", v4, &Answer::From(TUNNELS.parse().unwrap()));
    home.all_say("cli", v4, &Answer::Unreachable);
    home.all_say("cli", &[TUNNELS], &Answer::From(TUNNELS.parse().unwrap()));
}
