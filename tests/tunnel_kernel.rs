//! The tunnel room against a real kernel: device, peer, probe, liveness and path MTU, with an ISP
//! and two relays in network namespaces, the relays' ends made with `wg` (or, where the machine has
//! none, as in a guest of big-endian mips, with a crate that has nothing in common with vpnd).
//!
//! Needs root, WireGuard in the kernel, `ip`, and for two tests `nft`; so most tests are ignored by
//! default. Where the host has no WireGuard, build it static and run it in a guest:
//! `tunnel_kernel --include-ignored --test-threads=1`.

#![allow(clippy::unwrap_used, clippy::panic)] // every function here is part of a test

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout;
use vpnd::config::{Mark, Relay, TunnelSettings, WireguardKey};
use vpnd::tunnel::{self, Error, ProbeEvent, Spec, mtu_for};
use wireguard_control::{Backend, DeviceUpdate, Key, PeerConfigBuilder};

const PORT: u16 = 51000;
const RELAY_PORT: u16 = 51820;
/// The namespaces' names are the machine's, so one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `test` in a thread with a network namespace of its own: the router.
fn in_router<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let router = thread::spawn(|| {
        // SAFETY: no pointers; it concerns this thread alone.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(unshared, 0, "unshare: {} (needs root)", io::Error::last_os_error());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test());
    });
    let result = router.join();
    for relay in ["isp", "r1", "r2"] {
        let _ = Command::new("ip").args(["netns", "del", &format!("tk-{relay}")]).output();
    }
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// One command a line; each must succeed. Returns what they printed.
fn sh(lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let run = Command::new("sh").args(["-c", line]).output().unwrap();
        let (ok, error) = (run.status.success(), String::from_utf8_lossy(&run.stderr));
        assert!(ok, "{line}: {error}");
        out += &String::from_utf8_lossy(&run.stdout);
    }
    out
}

/// The router's WAN, the ISP and two relays; `router` is the tunnel's key.
struct Home {
    router: Key,
    relays: [Relay; 2],
}

impl Home {
    fn build() -> Self {
        let router = Key::generate_private();
        sh("ip link set lo up
            ip netns add tk-isp
            ip link add wan0 type veth peer name eth0 netns tk-isp
            ip addr add 203.0.113.2/24 dev wan0
            ip addr add 2001:db8:203::2/64 dev wan0 nodad
            ip link set wan0 up
            ip -n tk-isp addr add 203.0.113.1/24 dev eth0
            ip -n tk-isp addr add 2001:db8:203::1/64 dev eth0 nodad
            ip -n tk-isp link set lo up
            ip -n tk-isp link set eth0 up
            ip route add default via 203.0.113.1
            ip -6 route add default via 2001:db8:203::1
            ip netns exec tk-isp sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
            ip netns exec tk-isp sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'");
        let relays = [1, 2].map(|number| Self::relay(number, &router.get_public()));
        Self { router, relays }
    }

    /// Relay 2 has a preshared key. Both answer echo and UDP port 7 on 10.64.0.1 and fd64::1.
    fn relay(n: u8, router: &Key) -> Relay {
        let key = Key::generate_private();
        let psk = (n == 2).then(Key::generate_preshared);
        sh(&format!(
            "ip netns add tk-r{n}
             ip link add r{n} netns tk-isp type veth peer name eth0 netns tk-r{n}
             ip -n tk-isp addr add 198.18.{n}.1/24 dev r{n}
             ip -n tk-isp addr add 2001:db8:{n}::1/64 dev r{n} nodad
             ip -n tk-isp link set r{n} up
             ip -n tk-r{n} addr add 198.18.{n}.2/24 dev eth0
             ip -n tk-r{n} addr add 2001:db8:{n}::2/64 dev eth0 nodad
             ip -n tk-r{n} link set lo up
             ip -n tk-r{n} link set eth0 up
             ip -n tk-r{n} route add default via 198.18.{n}.1
             ip -n tk-r{n} -6 route add default via 2001:db8:{n}::1
             ip -n tk-r{n} link add wg0 type wireguard
             ip -n tk-r{n} addr add 10.64.0.1/24 dev wg0
             ip -n tk-r{n} addr add fd64::1/64 dev wg0 nodad
             ip -n tk-r{n} link set wg0 up"
        ));
        let has_wg = Command::new("wg").arg("--version").output().is_ok();
        (if has_wg { relay_by_wg } else { relay_by_crate })(n, &key, psk.as_ref(), router);
        some_relay(n, WireguardKey::new(key.get_public().0), psk.map(|psk| WireguardKey::new(psk.0)))
    }

    fn settings(&self, addresses: &[&str]) -> TunnelSettings {
        TunnelSettings {
            private_key: WireguardKey::new(self.router.0),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            dns: Vec::new(),
            mtu: None,
            probe: vec![v4(), v6()],
        }
    }

    async fn create(&self) {
        let settings = self.settings(&["10.64.0.2/32", "fd64::2/128"]);
        tunnel::create(&spec(&settings)).await.unwrap();
        sh("ip route replace 10.64.0.0/24 dev vpnd0
            ip -6 route replace fd64::/64 dev vpnd0");
    }
}

const RELAY_ALLOWS: [(&str, u8); 2] = [("10.64.0.0", 24), ("fd64::", 64)];

fn relay_by_wg(n: u8, key: &Key, psk: Option<&Key>, router: &Key) {
    let psk_words = if psk.is_some() { format!("preshared-key /tmp/tk-psk{n}") } else { String::new() };
    std::fs::write(format!("/tmp/tk-key{n}"), key.to_base64()).unwrap();
    std::fs::write(format!("/tmp/tk-psk{n}"), psk.map(Key::to_base64).unwrap_or_default()).unwrap();
    let allows = RELAY_ALLOWS.map(|(net, bits)| format!("{net}/{bits}")).join(",");
    sh(&format!(
        "ip netns exec tk-r{n} wg set wg0 private-key /tmp/tk-key{n} listen-port {RELAY_PORT} \
           peer {} {psk_words} allowed-ips {allows}
         rm /tmp/tk-key{n} /tmp/tk-psk{n}",
        router.to_base64()
    ));
}

fn relay_by_crate(n: u8, key: &Key, psk: Option<&Key>, router: &Key) {
    let mut peer = PeerConfigBuilder::new(router);
    for (net, bits) in RELAY_ALLOWS {
        peer = peer.add_allowed_ip(net.parse().unwrap(), bits);
    }
    if let Some(psk) = psk {
        peer = peer.set_preshared_key(psk.clone());
    }
    let update = DeviceUpdate::new().set_private_key(key.clone()).set_listen_port(RELAY_PORT).add_peer(peer);
    let place = File::open(format!("/run/netns/tk-r{n}")).unwrap();
    let applied = thread::spawn(move || {
        // SAFETY: the descriptor is open for the length of the call; it concerns this thread alone.
        assert_eq!(unsafe { libc::setns(place.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        update.apply(&"wg0".parse().unwrap(), Backend::Kernel)
    });
    applied.join().unwrap().unwrap();
}

fn is_root() -> bool {
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("not run: needs root for a network namespace");
    }
    root
}

fn some_settings() -> TunnelSettings {
    TunnelSettings {
        private_key: WireguardKey::new([1; 32]),
        addresses: vec!["10.64.0.2/32".parse().unwrap()],
        dns: Vec::new(),
        mtu: None,
        probe: Vec::new(),
    }
}

fn some_relay(n: u8, public_key: WireguardKey, preshared_key: Option<WireguardKey>) -> Relay {
    Relay {
        name: format!("relay{n}").parse().unwrap(),
        endpoint: format!("198.18.{n}.2:{RELAY_PORT}").parse().unwrap(),
        public_key,
        preshared_key,
        allowed_ips: Vec::new(),
        country: String::new(),
        city: String::new(),
    }
}

fn v4() -> IpAddr {
    "10.64.0.1".parse().unwrap()
}
fn v6() -> IpAddr {
    "fd64::1".parse().unwrap()
}

fn spec(settings: &TunnelSettings) -> Spec<'_> {
    Spec { settings, mark: Mark::DEFAULT, listen_port: PORT, mtu: 1420 }
}

/// The first event of a probe, and the probe's remaining events; dropping them ends it.
async fn first_event(
    targets: Vec<IpAddr>,
    wait: Duration,
) -> (Option<ProbeEvent>, mpsc::Receiver<ProbeEvent>) {
    let (sender, mut events) = mpsc::channel(4);
    tokio::spawn(tunnel::probe(targets, sender));
    let event = timeout(wait, events.recv()).await.ok().flatten();
    (event, events)
}

async fn answered(targets: Vec<IpAddr>) -> mpsc::Receiver<ProbeEvent> {
    let (event, events) = first_event(targets, Duration::from_secs(10)).await;
    assert!(matches!(event, Some(ProbeEvent::Answered { .. })), "{event:?}");
    events
}

fn addresses() -> Vec<String> {
    let text = sh("ip -o addr show dev vpnd0");
    text.lines().filter_map(|l| l.split_whitespace().nth(3)).map(str::to_owned).collect()
}

fn sockets() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.filter(|fd| {
        std::fs::read_link(fd.path())
            .is_ok_and(|to| to.starts_with("socket:") || to.to_string_lossy().starts_with("socket:"))
    })
    .count()
}

#[test]
fn a_kernel_without_wireguard_is_named() {
    if !is_root() {
        return;
    }
    in_router(|| async {
        let settings = some_settings();
        match tunnel::create(&spec(&settings)).await {
            Ok(()) => assert!(tunnel::stats().unwrap().is_some()),
            Err(error) => {
                assert!(matches!(error, Error::NoWireguard), "{error}");
                assert_eq!(tunnel::stats().unwrap(), None);
            }
        }
        tunnel::destroy().await.unwrap();
        tunnel::clear_peer().unwrap();
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn created_once_adopted_changed_and_destroyed() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        let made = sh("cat /proc/net/dev | grep -c vpnd0; ip -o link show vpnd0 | cut -d: -f1");
        let stats = tunnel::stats().unwrap().unwrap();
        assert_eq!((stats.listen_port, stats.mark, stats.mtu), (Some(PORT), 0x6d6f_6c65, 1420));
        assert_eq!(stats.public_key, None);
        assert_eq!(addresses(), ["10.64.0.2/32", "fd64::2/128"]);
        assert!(
            !sh("ip route show table main; ip -6 route show table main").contains("proto kernel dev vpnd0")
        );
        tunnel::set_peer(&home.relays[0]).unwrap();
        drop(answered(vec![v4()]).await);
        let before = tunnel::stats().unwrap().unwrap();
        assert!(before.rx > 0 && before.last_handshake.is_some());

        // A restarted daemon: device, peer and session stay.
        home.create().await;
        tunnel::set_peer(&home.relays[0]).unwrap();
        let after = tunnel::stats().unwrap().unwrap();
        assert_eq!(after.last_handshake, before.last_handshake);
        assert!(after.rx >= before.rx);
        assert_eq!(made, sh("cat /proc/net/dev | grep -c vpnd0; ip -o link show vpnd0 | cut -d: -f1"));
        // Asked for, the handshake is a new one.
        tunnel::clear_peer().unwrap();
        assert_eq!(tunnel::stats().unwrap().unwrap().public_key, None);
        tunnel::set_peer(&home.relays[0]).unwrap();
        assert_eq!(tunnel::stats().unwrap().unwrap().rx, 0);

        // Addresses change, also inside one subnet, where the kernel drops the later ones.
        for set in [
            &["10.64.0.7/24", "10.64.0.8/24"][..],
            &["10.64.0.9/24", "fd64::9/64"][..],
            &["10.64.0.2/32"][..],
        ] {
            tunnel::create(&spec(&home.settings(set))).await.unwrap();
            assert_eq!(addresses(), set);
        }
        // A configured MTU that is too small for IPv6 does not cost the address.
        let both = home.settings(&["10.64.0.2/32", "fd64::2/128"]);
        tunnel::create(&Spec { mtu: 1000, ..spec(&both) }).await.unwrap();
        assert_eq!(tunnel::stats().unwrap().unwrap().mtu, 1280);
        assert_eq!(addresses(), ["10.64.0.2/32", "fd64::2/128"]);
        // A new key: the peer goes, the mark and the port follow the spec.
        let mut other = home.settings(&["10.64.0.2/32"]);
        other.private_key = WireguardKey::new(Key::generate_private().0);
        let changed =
            Spec { settings: &other, mark: Mark::new(0x80, 0xf0).unwrap(), listen_port: PORT + 1, mtu: 1300 };
        tunnel::create(&changed).await.unwrap();
        let stats = tunnel::stats().unwrap().unwrap();
        assert_eq!(
            (stats.public_key, stats.listen_port, stats.mark, stats.mtu),
            (None, Some(PORT + 1), 0x80, 1300)
        );

        // A relay with our own public key is refused by the kernel without a word.
        let mut own = home.relays[0].clone();
        own.public_key = WireguardKey::new(Key(*other.private_key.bytes()).get_public().0);
        assert!(matches!(tunnel::set_peer(&own), Err(Error::PeerRefused { .. })));

        tunnel::destroy().await.unwrap();
        tunnel::destroy().await.unwrap();
        assert_eq!(tunnel::stats().unwrap(), None);
        assert!(matches!(tunnel::set_peer(&home.relays[0]), Err(Error::Gone { .. })));
        assert_eq!(tunnel::stats().unwrap(), None, "set_peer creates no device");
    });
}

#[test]
fn a_foreign_device_is_left_alone() {
    if !is_root() {
        return;
    }
    in_router(|| async {
        sh("ip link add vpnd0 type bridge");
        let settings = some_settings();
        match tunnel::create(&spec(&settings)).await {
            Err(Error::Foreign { kind }) => assert_eq!(kind, "bridge"),
            other => panic!("{other:?}"),
        }
        assert_eq!(tunnel::stats().unwrap(), None);
        let relay = some_relay(1, WireguardKey::new([1; 32]), None);
        assert!(matches!(tunnel::set_peer(&relay), Err(Error::Gone { .. })));
        assert!(matches!(tunnel::set_mtu(1300).await, Err(Error::Gone { .. })));
        tunnel::clear_peer().unwrap();
        tunnel::destroy().await.unwrap();
        assert!(sh("ip link show vpnd0").contains("mtu 1500"));
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_taken_port_is_told_and_another_one_works() {
    in_router(|| async {
        let home = Home::build();
        let settings = home.settings(&["10.64.0.2/32", "fd64::2/128"]);
        let taken = UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        let error = tunnel::create(&spec(&settings)).await.unwrap_err();
        assert!(matches!(error, Error::PortTaken { port: PORT }), "{error}");
        let other = Spec { listen_port: PORT + 1, ..spec(&settings) };
        tunnel::create(&other).await.unwrap();
        // The same on a running device, which keeps its socket.
        let error = tunnel::create(&spec(&settings)).await.unwrap_err();
        assert!(matches!(error, Error::PortTaken { port: PORT }), "{error}");
        drop(taken);
        tunnel::create(&spec(&settings)).await.unwrap();
        sh("ip route add 10.64.0.0/24 dev vpnd0");
        tunnel::set_peer(&home.relays[0]).unwrap();
        drop(answered(vec![v4()]).await);
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn answered_inside_over_both_families_and_only_inside() {
    in_router(|| async {
        let home = Home::build();
        let at_rest = sockets();
        home.create().await;
        // The target answers on the WAN, too: that is no answer. (The ping is the control.)
        sh("ip -n tk-isp addr add 10.64.0.1/32 dev lo
            ip route replace 10.64.0.1/32 via 203.0.113.1 dev wan0
            ping -c 1 -W 3 10.64.0.1");
        let (event, events) = first_event(vec![v4()], Duration::from_secs(2)).await;
        assert_eq!(event, None);
        drop(events);
        sh("ip route del 10.64.0.1/32 via 203.0.113.1 dev wan0");

        for endpoint in ["198.18.1.2", "2001:db8:1::2"] {
            let mut relay = home.relays[0].clone();
            relay.endpoint = SocketAddr::new(endpoint.parse().unwrap(), RELAY_PORT);
            for target in [v4(), v6()] {
                tunnel::clear_peer().unwrap();
                tunnel::set_peer(&relay).unwrap();
                let start = Instant::now();
                // A target that never answers does not hold up the others: within these 10 s.
                let (event, events) =
                    first_event(vec!["10.64.0.99".parse().unwrap(), target], Duration::from_secs(10)).await;
                let Some(ProbeEvent::Answered { from, rtt }) = event else { panic!("{event:?}") };
                assert_eq!(from, target);
                eprintln!(
                    "peer set to answer over {endpoint} from {target}: {:?} (rtt {rtt:?})",
                    start.elapsed()
                );
                drop(events);
                assert_eq!(tunnel::stats().unwrap().unwrap().endpoint, Some(relay.endpoint));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(sockets(), at_rest, "a dropped probe leaves no socket");
        // An aborted one neither.
        let (sender, mut events) = mpsc::channel(4);
        let task = tokio::spawn(tunnel::probe(vec![v4(), v6()], sender));
        assert!(events.recv().await.is_some());
        assert!(sockets() > at_rest);
        task.abort();
        assert!(task.await.is_err_and(|e| e.is_cancelled()));
        assert_eq!(sockets(), at_rest);
    });
}

/// Answers UDP port 7 in relay `n`'s namespace with the relay's number.
fn echo_server(n: u8, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    use std::os::fd::AsRawFd;
    let ns = std::fs::File::open(format!("/run/netns/tk-r{n}")).unwrap();
    thread::spawn(move || {
        // SAFETY: the descriptor is open; it concerns this thread alone.
        assert_eq!(unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        let socket = UdpSocket::bind("10.64.0.1:7").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while !stop.load(Ordering::Relaxed) {
            if let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(&[n], from);
            }
        }
    })
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn relays_change_in_place_under_traffic() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        let stop = Arc::new(AtomicBool::new(false));
        let servers = [1, 2].map(|n| echo_server(n, Arc::clone(&stop)));
        tunnel::set_peer(&home.relays[0]).unwrap();
        drop(answered(vec![v4()]).await);
        let index = sh("cat /proc/net/dev_mcast | grep vpnd0 || true; ip -o link show vpnd0 | cut -d: -f1");
        let client = UdpSocket::bind("10.64.0.2:0").unwrap();
        client.set_nonblocking(true).unwrap();
        let (mut last, mut sent, mut gap) = (0u8, 0u32, Duration::ZERO);
        let mut heard = Instant::now();
        let mut seen = [0u32; 3];
        let mut swaps = 0;
        let mut set = Duration::ZERO;
        for step in 0..1200u32 {
            if step % 200 == 199 && swaps < 5 {
                swaps += 1;
                let now = Instant::now();
                tunnel::set_peer(&home.relays[usize::from(swaps % 2 == 1)]).unwrap();
                set = set.max(now.elapsed());
            }
            sent += u32::from(client.send_to(&[0], "10.64.0.1:7").is_ok());
            tokio::time::sleep(Duration::from_millis(3)).await;
            let mut from = [0];
            while client.recv_from(&mut from).is_ok() {
                seen[usize::from(from[0])] += 1;
                gap = gap.max(heard.elapsed());
                heard = Instant::now();
                last = from[0];
            }
        }
        eprintln!(
            "5 swaps: sent {sent}, answered by relay 1 {}, 2 {}; longest gap {gap:?}, longest call {set:?}",
            seen[1], seen[2]
        );
        assert_eq!(last, 2, "the last relay set is the one that answers");
        assert!(seen[1] > 200 && seen[2] > 200, "{seen:?}");
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        assert_eq!(
            index,
            sh("cat /proc/net/dev_mcast | grep vpnd0 || true; ip -o link show vpnd0 | cut -d: -f1")
        );
        sh("ip route get 10.64.0.1 | grep 'dev vpnd0'");
        stop.store(true, Ordering::Relaxed);
        for server in servers {
            server.join().unwrap();
        }
    });
}

/// Sends a datagram into the tunnel every 200 ms until `events` brings one; how long it took.
async fn until_silent(events: &mut mpsc::Receiver<ProbeEvent>, limit: Duration) -> Duration {
    let client = UdpSocket::bind("10.64.0.2:0").unwrap();
    client.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let event = timeout(limit, async {
        loop {
            let _ = client.send_to(&[0; 200], "10.64.0.1:9");
            if let Ok(event) = timeout(Duration::from_millis(200), events.recv()).await {
                return event;
            }
        }
    });
    assert_eq!(event.await, Ok(Some(ProbeEvent::Silent)));
    assert_eq!(events.recv().await, None, "nothing after Silent");
    start.elapsed()
}

const DEAD: std::ops::Range<Duration> = Duration::from_secs(18)..Duration::from_secs(26);

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_killed_relay_is_found_dead() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        tunnel::set_peer(&home.relays[0]).unwrap();
        let mut events = answered(vec![v4(), v6()]).await;
        let alive = timeout(Duration::from_secs(8), events.recv()).await;
        assert!(alive.is_err(), "{alive:?} from a tunnel that works");
        sh("ip -n tk-r1 link set wg0 down");
        let took = until_silent(&mut events, Duration::from_secs(40)).await;
        eprintln!("killed relay found dead after {took:?}");
        assert!(DEAD.contains(&took), "{took:?}");
        assert!(sh("ip -o link show vpnd0").contains("UP"), "health is not the link state");
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_relay_that_only_completes_handshakes_is_never_verified_and_found_dead() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        let drop_inner = "ip netns exec tk-r1 nft 'add table inet t; add chain inet t c { type filter hook input priority -400 ; policy accept ; } ; add rule inet t c iifname wg0 drop'";
        sh(drop_inner);
        tunnel::set_peer(&home.relays[0]).unwrap();
        let (event, events) = first_event(vec![v4(), v6()], Duration::from_secs(7)).await;
        assert_eq!(event, None);
        let stats = tunnel::stats().unwrap().unwrap();
        assert!(stats.last_handshake.is_some() && stats.rx >= 92, "the handshake was done: {stats:?}");
        drop(events);

        sh("ip netns exec tk-r1 nft delete table inet t");
        let mut events = answered(vec![v4(), v6()]).await;
        sh(drop_inner);
        // The kernel makes new handshakes meanwhile, and they succeed.
        let took = until_silent(&mut events, Duration::from_secs(60)).await;
        eprintln!("relay that drops data found dead after {took:?}");
        assert!(DEAD.contains(&took), "{took:?}");
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_vanished_device_is_silence() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        tunnel::set_peer(&home.relays[0]).unwrap();
        let mut events = answered(vec![v4()]).await;
        sh("ip link del vpnd0");
        let event = timeout(Duration::from_secs(3), events.recv()).await;
        assert_eq!(event, Ok(Some(ProbeEvent::Silent)));
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_path_mtu_black_hole_is_found_and_mended() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        let relay = &home.relays[0];
        tunnel::set_peer(relay).unwrap();
        drop(answered(vec![v4(), v6()]).await);
        let start = Instant::now();
        assert_eq!(tunnel::find_mtu(v4(), 1420).await, None);
        assert_eq!(tunnel::find_mtu(v6(), 1420).await, None);
        assert!(start.elapsed() < Duration::from_secs(1), "a good path is told at once");

        let mut relay6 = relay.clone();
        relay6.endpoint = format!("[2001:db8:1::2]:{RELAY_PORT}").parse().unwrap();
        // What vanishes on the way: all that is too large, without a word; or only fragments,
        // which the router itself makes on a small WAN.
        let large = "meta length gt 1400";
        let fragments = "meta protocol ip @nh,48,16 & 0x3fff != 0";
        for (wan, lost, relay, target) in [
            (1500, large, relay, v4()),
            (1500, large, relay, v6()),
            (1500, large, &relay6, v4()),
            (1400, fragments, relay, v4()),
        ] {
            sh(&format!(
                "ip link set wan0 mtu {wan}
                 ip netns exec tk-isp nft 'add table inet t; add chain inet t c {{ type filter hook forward priority 0 ; policy accept ; }} ; add rule inet t c {lost} counter drop'"
            ));
            tunnel::set_peer(relay).unwrap();
            let start = Instant::now();
            let found = tunnel::find_mtu(target, 1420).await;
            eprintln!(
                "lost: {lost}, relay {}, {target}: found {found:?} in {:?}",
                relay.endpoint,
                start.elapsed()
            );
            assert!(start.elapsed() < Duration::from_secs(6));
            let (found, fits) = (found.unwrap(), mtu_for(1400, relay.endpoint, true));
            assert!(found <= fits && found + 16 > fits, "{found}, not {fits}");
            assert_eq!(tunnel::set_mtu(found).await.unwrap(), found);
            assert_eq!(tunnel::stats().unwrap().unwrap().mtu, found);
            assert_eq!(tunnel::find_mtu(target, found).await, None, "mended");
            sh("ip netns exec tk-isp nft delete table inet t
                ip link set wan0 mtu 1500");
            assert_eq!(tunnel::set_mtu(1420).await.unwrap(), 1420);
        }
        // IPv6 inside survives.
        assert_eq!(tunnel::set_mtu(1000).await.unwrap(), 1280);
        assert_eq!(addresses(), ["10.64.0.2/32", "fd64::2/128"]);
        // Nothing answers: nothing is told.
        sh("ip -n tk-r1 link set wg0 down");
        assert_eq!(tunnel::find_mtu(v4(), 1280).await, None);
    });
}

/// More than one message holds, in either direction: what the kernel reports of this peer is split.
#[test]
#[ignore = "needs WireGuard in the kernel"]
fn a_relay_that_allows_very_many_networks_is_known_again() {
    in_router(|| async {
        let home = Home::build();
        home.create().await;
        let mut relay = home.relays[1].clone();
        relay.allowed_ips = (0..2000).map(|n| format!("fd00:{n:x}::/64").parse().unwrap()).collect();
        relay
            .allowed_ips
            .extend(["10.64.0.0/24", "fd64::/64"].map(|net| net.parse::<ipnet::IpNet>().unwrap()));
        tunnel::set_peer(&relay).unwrap();
        drop(answered(vec![v4()]).await);
        let before = tunnel::stats().unwrap().unwrap();
        tunnel::set_peer(&relay).unwrap();
        let after = tunnel::stats().unwrap().unwrap();
        assert!(before.rx > 0 && after.rx >= before.rx && after.last_handshake == before.last_handshake);
        // One network less is another peer.
        relay.allowed_ips.remove(1000);
        tunnel::set_peer(&relay).unwrap();
        assert_eq!(tunnel::stats().unwrap().unwrap().rx, 0);
    });
}
