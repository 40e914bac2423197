//! A WAN by PPPoE, with the real pppd and pppoe-server: the kernel needs PPP, which the guests of
//! Debian's cloud kernels do not have. Run where `HOME_PPPOE` says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vpnd::policy::Row;

use super::{Scenario, Way, blocked, connect, expect};
use crate::classify::State;
use crate::flood::Flood;
use crate::house::{MAC_ROUTER_WAN, ip, link_local};
use crate::town::{LONG, Town};
use crate::wire::{Capture, Frame, Take};

pub const NAME: &str =
    "a WAN by PPPoE comes up, is renamed, kept and dialled again while blocked, and carries the tunnel";

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![(NAME, pppoe)]
}

/// What pppd makes of `ppp0`, as OpenWrt's ppp.sh has it.
const DEVICE: &str = "pppoe-wan";

const FW4: &str = include_str!("../../fixtures/fw4-home.nft");

/// What netifd does when IPCP is through: a route by the gateway, without `onlink`.
const IP_UP: &str = "#!/bin/sh
ip -6 addr add 2001:db8:203::2/64 dev $1 nodad
ip -6 route replace default dev $1
if ip route add default via $5 dev $1; then echo up; else echo refused; fi >> DIR/up
";

const ISP_UP: &str = "#!/bin/sh
ip -6 addr add 2001:db8:203::1/64 dev $1 nodad
ip route replace 192.168.0.0/16 dev $1
ip -6 route replace fd00::/16 dev $1
";

const ISP_OPTIONS: &str = "noauth
noccp
lcp-echo-interval 1
lcp-echo-failure 20
+ipv6
ipv6 ::1,::2
ip-up-script DIR/isp-up
";

/// The ISP's server, and the router's pppd as ppp.sh calls it.
struct Line {
    server: Option<Child>,
    client: Option<Child>,
}

impl Line {
    fn open(town: &Town) -> Result<Self> {
        let dir = town.dir.display().to_string();
        for (name, text) in [("ip-up", IP_UP), ("isp-up", ISP_UP), ("isp-options", ISP_OPTIONS)] {
            let path = town.dir.join(name);
            fs::write(&path, text.replace("DIR", &dir))?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        let _ = fs::remove_file(town.dir.join("up"));
        // An Ethernet device without addresses, as netifd leaves it for pppd.
        for (ns, device) in [(&town.house.router, "wan"), (&town.house.isp, "cpe")] {
            ns.run("ip", &["addr", "flush", "dev", device, "scope", "global"])?;
            // IPv6's routes outlive the addresses.
            ns.run("ip", &["-6", "route", "flush", "dev", device, "proto", "boot"])?;
        }
        let options = format!("{dir}/isp-options");
        let words = [
            "-F",
            "-I",
            "cpe",
            "-C",
            "isp",
            "-L",
            "203.0.113.1",
            "-R",
            "203.0.113.2",
            "-N",
            "1",
            "-O",
            &options,
        ];
        let server = start(town, &town.house.isp, "pppoe-server", &words)?;
        Ok(Self { server: Some(server), client: None })
    }

    fn dial(&mut self, town: &Town) -> Result<()> {
        let up = format!("{}/ip-up", town.dir.display());
        let words = [
            "nodetach",
            "plugin",
            "rp-pppoe.so",
            "nic-wan",
            "ifname",
            DEVICE,
            "ipparam",
            "wan",
            "user",
            "home",
            "password",
            "secret",
            "noauth",
            "noccp",
            "noipdefault",
            "nodefaultroute",
            "+ipv6",
            "ipv6",
            "::2,::1",
            "lcp-echo-interval",
            "1",
            "lcp-echo-failure",
            "20",
            "mtu",
            "1492",
            "mru",
            "1492",
            "persist",
            "maxfail",
            "0",
            "holdoff",
            "1",
            "ip-up-script",
            &up,
        ];
        self.client = Some(start(town, &town.house.router, "pppd", &words)?);
        Ok(())
    }

    fn tell(&self, signal: i32) -> Result<()> {
        let pid = self.client.as_ref().context("nobody dialled")?.id();
        // SAFETY: plain call; the child is ours and not yet waited for.
        ensure!(unsafe { libc::kill(pid as i32, signal) } == 0, "signal {signal} to pppd");
        Ok(())
    }

    fn hang_up(&mut self) -> Result<()> {
        self.tell(libc::SIGTERM)?;
        self.client.take().context("no pppd")?.wait()?;
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for mut child in [self.client.take(), self.server.take()].into_iter().flatten() {
            // SAFETY: as in `tell`. The server ends its sessions when it is told to end.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            let _ = child.wait();
        }
    }
}

fn start(town: &Town, ns: &crate::ns::Netns, program: &str, words: &[&str]) -> Result<Child> {
    let log = fs::File::create(town.dir.join(program))?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    ns.spawn(&mut command)
}

/// How often IPCP came through, every time with its route.
fn ups(town: &Town) -> Result<usize> {
    let text = fs::read_to_string(town.dir.join("up")).unwrap_or_default();
    ensure!(!text.contains("refused"), "the kernel refused the default route: {}", town.log());
    Ok(text.lines().count())
}

fn until_up(town: &Town, count: usize) -> Result<()> {
    let up =
        town.until(&format!("the session is up for the {count}. time"), LONG, |town| Ok(ups(town)? == count));
    let said = |name: &str| fs::read_to_string(town.dir.join(name)).unwrap_or_default();
    up.with_context(|| format!("pppd: {}\npppoe-server: {}", said("pppd"), said("pppoe-server")))
}

/// The egress hook holds the session's device and the Ethernet device below it.
fn until_held(town: &Town) -> Result<()> {
    town.until("both devices are held", LONG, |town| {
        let devices = town.status()?["layers"]["egress"]["devices"].to_string();
        Ok(devices == format!("[\"{DEVICE}\",\"wan\"]"))
    })
}

/// pppd's echoes (LCP, codes 9 and 10) that the router sent since `position`: requests and replies.
fn echoes(town: &Town, position: usize) -> [usize; 2] {
    let code = |f: &Frame, code| {
        f.bytes.get(12..14) == Some(&[0x88, 0x64]) && f.bytes.get(20..23) == Some(&[0xc0, 0x21, code])
    };
    [9, 10].map(|wanted| town.wan.select(position, |f| code(f, wanted)).len())
}

fn pppoe(town: &mut Town) -> Result<String> {
    ensure!(std::path::Path::new("/dev/ppp").exists(), "this kernel has no PPP (/dev/ppp)");
    let former = town.uplink.clone();
    let mut line = Line::open(town)?;
    let seen = held(town, &mut line)?;
    drop(line);
    // For whoever comes next: the cable as it was.
    town.uplink = former;
    let _ = town.say(&["disarm", "--yes"])?;
    town.kill()?;
    town.house.router.ip("link del wan")?;
    town.house.wan()?;
    town.wan = Capture::start(&town.house.isp, "cpe", Take::Arriving)?;
    Ok(seen)
}

fn held(town: &mut Town, line: &mut Line) -> Result<String> {
    town.uplink.pppoe = true;
    town.uplink.own =
        vec![ip("203.0.113.2"), ip("2001:db8:203::2"), ip("fe80::2"), link_local(MAC_ROUTER_WAN)];
    town.house.no_tables()?;
    town.house.router.nft(&FW4.replace("\"wan\"", &format!("\"{DEVICE}\"")))?;

    // The control: an open router's packets are seen inside the session.
    line.dial(town)?;
    until_up(town, 1)?;
    let position = town.wan.position();
    expect(&town.house.tv, Way::Outside)?;
    ensure!(town.judged(position, &blocked()).is_err(), "plaintext in PPPoE frames was not recognized");
    let tally = town.judged(position, &[State::Open])?;
    line.hang_up()?;

    let config = town.dir.join("config");
    town.config.write(&config)?;
    let network = fs::read_to_string(config.join("network"))?;
    let dialled = network.replace(
        "option proto 'dhcp'",
        "option proto 'pppoe'\n\toption username 'home'\n\toption password 'secret'",
    );
    ensure!(dialled != network, "no WAN in {network}");
    fs::write(config.join("network"), dialled)?;
    town.start_as_it_is()?;
    town.does(&["lockdown", "on"])?;
    town.until_word("blocked", LONG)?;

    // Dialled while blocked; whatever the LAN sends at that moment.
    let position = town.wan.position();
    let flood = Flood::of_lan(&town.house, 100)?;
    line.dial(town)?;
    until_up(town, 2)?;
    until_held(town)?;
    town.until("both ends ask whether the other is there", LONG, |town| {
        Ok(echoes(town, position).iter().all(|count| *count >= 4))
    })?;
    // Redialled: another device takes the name.
    let before = town.house.router.run("ip", &["-o", "link", "show", DEVICE])?;
    line.tell(libc::SIGHUP)?;
    until_up(town, 3)?;
    until_held(town)?;
    let after = town.house.router.run("ip", &["-o", "link", "show", DEVICE])?;
    ensure!(before.split(':').next() != after.split(':').next(), "it is the same device: {after}");
    let lan = flood.flown().lan;
    drop(flood);
    town.judged(position, &blocked())?;
    expect(&town.house.tv, Way::Nowhere)?;

    // With the router's own, and control frames, through the session.
    let position = town.wan.position();
    let flood = Flood::by(&town.house, 100, DEVICE)?;
    std::thread::sleep(Duration::from_secs(2));
    let flown = flood.stop(&town.wan, position)?;
    town.judged(position, &blocked())?;

    let position = town.wan.position();
    connect(town, "r1")?;
    expect(&town.house.tv, Way::Relay(0))?;
    let flood = Flood::by(&town.house, 100, DEVICE)?;
    std::thread::sleep(Duration::from_secs(2));
    flood.stop(&town.wan, position)?;
    let tunnelled = town.judged(position, &town.tunnelled_or_blocked())?;
    ensure!(tunnelled.of(Row::TunnelOuter) > 0, "no packet of the tunnel was seen: {tunnelled:?}");
    let [asked, answered] = echoes(town, 0);
    Ok(format!(
        "{lan} LAN packets while it was dialled twice, then {flown}; {asked} LCP echoes asked, {answered} answered, {} packets of the tunnel; open: {} kinds of frames",
        tunnelled.of(Row::TunnelOuter),
        tally.0.len()
    ))
}
