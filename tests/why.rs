//! Real packets, blocked by the real rules of a real daemon, and what `vpnd why` says of them.
#![allow(clippy::unwrap_used, clippy::panic)]

mod netns;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use netns::{House, INTERNET, INTERNET6, leaks};
use serde_json::Value;
use vpnd::firewall::nflog_message::{self, Hook};
use vpnd::firewall::{Nft, compile, nflog};
use vpnd::policy::{Facts, Row, Stance, TunnelStance, compose};

const NETWORK: &str = "config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\
    \toption ipaddr '192.168.1.1/24'\n\toption ip6addr 'fd00:1::1/64'\n\n\
    config interface 'guest'\n\toption device 'lan1'\n\toption proto 'static'\n\
    \toption ipaddr '192.168.2.1/24'\n\n\
    config interface 'wan'\n\toption device 'wan0'\n\toption proto 'dhcp'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\tlist network 'guest'\n\
    \toption input 'ACCEPT'\n";
const VPND: &str = "config vpnd 'main'\n\toption enabled '1'\n\toption lockdown '1'\n\
    \tlist api_endpoint '198.51.100.1:443'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint '203.0.113.1:51820'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n";

/// A house whose router runs vpnd's daemon. Disconnected with lockdown on: blocked, and nothing
/// changes by itself.
struct Router {
    house: House,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Router {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-why-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("config")).unwrap();
        for (file, text) in [("network", NETWORK), ("firewall", FIREWALL), ("vpnd", VPND)] {
            std::fs::write(dir.join("config").join(file), text).unwrap();
        }
        Self { house: House::build(), dir, daemon: None }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnd"));
        command.args(line.split_whitespace());
        command.args(["config", "run", "state"].map(|d| format!("--{d}-dir={}", self.dir.join(d).display())));
        command
    }

    fn start(&mut self) {
        let mut command = self.command("daemon");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(self.house.inside("rtr", move || command.spawn().unwrap()));
        self.until("status", |(code, _)| *code == 3);
    }

    fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    fn vpnd(&self, line: &str) -> (i32, String) {
        let mut command = self.command(line);
        let Output { status, stdout, stderr } = self.house.inside("rtr", move || command.output().unwrap());
        let text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        (status.code().unwrap(), text)
    }

    #[track_caller]
    fn until(&self, line: &str, good: impl Fn(&(i32, String)) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let said = self.vpnd(line);
            if good(&said) {
                return said.1;
            }
            assert!(Instant::now() < end, "vpnd {line}: exit {}:\n{}", said.0, said.1);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn listed(&self) -> Vec<Value> {
        let (code, text) = self.vpnd(&format!("why --json --leases {}", self.dir.join("leases").display()));
        assert_eq!(code, 0, "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["trouble"], Value::Null);
        value["blocked"].as_array().unwrap().clone()
    }

    fn rss_kib(&self) -> u64 {
        let pid = self.daemon.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn row_packets(&self, row: &str) -> u64 {
        let (_, text) = self.vpnd("status --json");
        let value: Value = serde_json::from_str(&text).unwrap();
        let rows = value["kernel"]["rules"]["rows"].as_array().unwrap();
        let found = rows.iter().find(|count| count["row"] == row);
        found.map_or(0, |count| count["packets"].as_u64().unwrap())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn send(to: SocketAddr, device: Option<&'static str>, times: usize) {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::DGRAM, None).unwrap();
    socket.bind_device(device.map(str::as_bytes)).unwrap();
    for _ in 0..times {
        // Refusals come back as errors.
        let _ = socket.send_to(b"probe", &to.into());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn knock(to: SocketAddr, device: Option<&'static str>) {
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).unwrap();
    socket.bind_device(device.map(str::as_bytes)).unwrap();
    assert!(socket.connect_timeout(&to.into(), Duration::from_millis(300)).is_err());
}

/// What is blocked, on every way that can be had without a tunnel: who, where to, row, sentence.
#[test]
fn blocked_packets_are_listed_with_row_count_and_remedy() {
    let mut router = Router::new("listed");
    let mac = router.house.sh("cli", "cat /sys/class/net/eth0/address").trim().to_owned();
    let leases =
        format!("1 {mac} 192.168.1.2 tv *\n1 02:00:00:00:00:01 192.168.2.2 \u{1b}[31mevil\u{7}\u{202e} *\n");
    std::fs::write(router.dir.join("leases"), leases).unwrap();
    let to_internet = |house: &House| {
        house.inside("cli", || {
            send(at(INTERNET, 9999), None, 5);
            send(at(INTERNET6, 9998), None, 4);
        });
        house.inside("cli2", || send(at(INTERNET, 9997), None, 3));
    };
    // The same packets pass without vpnd.
    let frames = router.house.capture(|| to_internet(&router.house));
    assert!(leaks(&frames) >= 12, "control: {}", leaks(&frames));

    router.start();
    let frames = router.house.capture(|| {
        to_internet(&router.house);
        router.house.inside("cli", || send(at("10.64.0.2", 9999), None, 2));
        router.house.inside("rtr", || {
            send(at(INTERNET, 53), Some("wan0"), 3);
            knock(at(INTERNET, 443), Some("wan0"));
        });
        router.house.inside("isp", || knock(at("203.0.113.2", 22), None));
    });
    // The ISP's end hears its own SYNs' absence of answers only.
    assert_eq!(leaks(&frames), 0, "something left");

    let wanted = [
        ("0.0", "lan", "nowhere", INTERNET, 17, 9999, 5, "tv", "a tunnel ('vpnd connect')"),
        ("0.0", "lan", "nowhere", INTERNET6, 17, 9998, 4, "tv", "a tunnel ('vpnd connect')"),
        ("0.0", "lan", "nowhere", INTERNET, 17, 9997, 3, "??31mevil??", "a tunnel ('vpnd connect')"),
        ("3.7", "lan", "nowhere", "10.64.0.2", 17, 9999, 2, "tv", "nothing: the contract never allows it"),
        ("3.5", "router", "wan", INTERNET, 17, 53, 3, "", "use the router as resolver"),
        ("3.6", "router", "wan", INTERNET, 6, 443, 1, "", "nothing: the contract never allows it"),
        ("0.0", "wan", "router", "203.0.113.2", 6, 22, 1, "", "list allow_wan_service 'tcp 22'"),
    ];
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let listed = router.listed();
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(row, from, to, destination, protocol, port, count, name, remedy)| {
                !listed.iter().any(|entry| {
                    entry["row"] == *row
                        && entry["from"] == *from
                        && entry["to"] == *to
                        && entry["destination"] == *destination
                        && entry["protocol"] == *protocol
                        && entry["port"] == *port
                        && entry["count"].as_u64().unwrap() >= *count
                        && entry["name"].as_str().unwrap_or_default() == *name
                        && entry["remedy"].as_str().unwrap().contains(remedy)
                })
            })
            .collect();
        if missing.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "missing {missing:#?}\nof {listed:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let (_, text) = router.vpnd(&format!("why --leases {}", router.dir.join("leases").display()));
    println!("{text}");
    assert!(text.contains("tv (192.168.1.2) -> 198.51.100.1 udp 9999, LAN (lan0) to nowhere"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");

    // What was blocked is what the evaluator says, of the very rules in force.
    let leases = format!("--leases {}", router.dir.join("leases").display());
    for (from, to, row) in [
        ("lan:tv", "198.51.100.1:9999/udp", "0.0"),
        ("lan:fd00:1::2", "[2001:db8:100::1]:9998/udp", "0.0"),
        ("lan:tv", "10.64.0.2:9999/udp", "3.7"),
        ("router", "198.51.100.1:53/udp", "3.5"),
        ("router", "198.51.100.1:443", "3.6"),
        ("wan:203.0.113.1", "router:22", "0.0"),
    ] {
        let (code, text) = router.vpnd(&format!("why --from {from} --to {to} --json {leases}"));
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        assert_eq!((code, value["passes"].as_bool()), (3, Some(false)), "{text}");
        assert_eq!(value["rule"]["row"], row, "{text}");
        assert_eq!(value["rules"]["in_force"], true, "{text}");
        assert!(value["generation"].as_u64() >= Some(1), "{text}");
    }

    // By row, from the kernel, with a dead daemon too.
    let (unlisted, dns, source) =
        (router.row_packets("0.0"), router.row_packets("3.5"), router.row_packets("3.7"));
    assert!(unlisted >= 13 && dns >= 3 && source >= 2, "{unlisted} {dns} {source}");
    router.kill();
    assert!(router.row_packets("0.0") >= unlisted);
    let (code, text) = router.vpnd("why");
    assert!(code == 1 && text.contains("the daemon is not running"), "{text}");
    let (code, text) = router.vpnd("why --from lan:192.168.1.2 --to 198.51.100.1");
    assert!(code == 3 && text.contains(", in force"), "{text}");
    assert!(router.vpnd("disarm --yes").0 == 0);
    let (code, text) = router.vpnd("why --from lan:192.168.1.2 --to 198.51.100.1");
    assert!(code == 0 && text.contains("no rules are in force"), "{text}");
}

/// The rules of *connected*, with a veth in the tunnel's place: what is blocked on the ways in and
/// out of the tunnel is told of by the right row; what is not, passes.
#[test]
fn in_and_out_of_a_tunnel_the_right_row_is_told() {
    let house = House::build();
    house.sh("rtr", "ip link add vpnd0 type veth peer name t0");
    house.sh("rtr", &format!("ip link set t0 netns {}", house.name("isp")));
    house.sh("rtr", "ip addr add 10.64.0.2/24 dev vpnd0; ip link set vpnd0 up; ip route replace default via 10.64.0.1 dev vpnd0; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.vpnd0.rp_filter=0");
    house.sh(
        "isp",
        "ip addr add 10.64.0.1/24 dev t0; ip link set t0 up; ip route replace 192.168.0.0/16 via 10.64.0.2",
    );
    let tunnel = TunnelStance { device: netns::name("vpnd0"), addresses: vec![netns::net("10.64.0.2/24")] };
    let relay = at("203.0.113.1", 51820);
    let stance = Stance::Connected { relay, listen_port: 51821, tunnel };
    let ruleset = compile(&compose(&stance, &netns::settings(), &Facts::default()).unwrap());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let file = std::fs::File::open(format!("/run/netns/{}", house.name("rtr"))).unwrap();
    let listener = std::thread::spawn(move || {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open for the length of the call.
        assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        let nft = Nft::new("nft".into());
        nft.apply(&ruleset).unwrap();
        assert!(!nft.mute());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut blocked = nflog::listen().unwrap();
            ready.send(()).unwrap();
            let mut heard = Vec::new();
            let end = tokio::time::Instant::now() + Duration::from_secs(5);
            while let Ok(packets) = tokio::time::timeout_at(end, blocked.next()).await {
                heard.extend(packets.unwrap());
            }
            let index = |name: &str| {
                let name = std::ffi::CString::new(name).unwrap();
                // SAFETY: a valid C string.
                unsafe { libc::if_nametoindex(name.as_ptr()) }
            };
            (heard, [index("lan0"), index("vpnd0")])
        })
    });
    is_ready.recv().unwrap();
    let answered = {
        // Answers pass, and so does what goes into the tunnel.
        let echo = house.inside("isp", || UdpSocket::bind("198.51.100.1:9999").unwrap());
        let asked = house.inside("cli", || {
            let socket = UdpSocket::bind("192.168.1.2:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.send_to(b"ping", at(INTERNET, 9999)).unwrap();
            socket
        });
        echo.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (length, from) = echo.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((length, from.ip().to_string().as_str()), (4, "10.64.0.2"), "translated");
        echo.send_to(b"pong", from).unwrap();
        asked.recv_from(&mut [0; 16]).is_ok()
    };
    assert!(answered, "control: the way through the tunnel is open");
    house.inside("cli", || send(at(INTERNET, 53), None, 3));
    house.inside("isp", || send(at("192.168.1.2", 4444), None, 2));
    house.inside("isp", || send(at("10.64.0.2", 4445), None, 1));
    // A flood of another destination's: the rules let few of them be told of.
    house.inside("cli", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        (0..20_000).for_each(|_| drop(socket.send_to(b"x", at("198.51.100.53", 53))));
    });
    let (mut heard, [lan, vpnd0]) = listener.join().unwrap();
    let all = heard.len();
    heard.retain(|packet| packet.destination.to_string() != "198.51.100.53");
    let flood = all - heard.len();
    println!("{flood} of a flood of 20000 were told of");
    assert!((10..=20 + 10 * 6).contains(&flood), "{flood}");
    let told = |row, hook, devices: (u32, u32), port| {
        let device = |index| Some(index).filter(|index| *index != 0);
        let same = |packet: &&nflog_message::Packet| {
            (packet.row, packet.hook, packet.port) == (row, hook, Some(port))
                && (packet.input, packet.output) == (device(devices.0), device(devices.1))
        };
        heard.iter().filter(same).count()
    };
    assert_eq!(told(Row::Dns, Hook::Forward, (lan, vpnd0), 53), 3, "{heard:#?}");
    assert_eq!(told(Row::Default, Hook::Forward, (vpnd0, lan), 4444), 2, "{heard:#?}");
    assert_eq!(told(Row::Default, Hook::Input, (vpnd0, 0), 4445), 1, "{heard:#?}");
    assert!(heard.iter().all(|packet| packet.port != Some(9999)), "{heard:#?}");
    let dns = heard.iter().find(|packet| packet.row == Row::Dns).unwrap();
    assert!(dns.mac.is_some() && dns.source.to_string() == "192.168.1.2", "{dns:?}");
}

/// One host sends as fast as it can: the list stays short, the daemon small and answering, and
/// what others sent is still there. `disconnect` and `disarm` forget it all.
#[test]
fn a_flood_neither_grows_the_daemon_nor_hides_the_others() {
    const FLOOD: Duration = Duration::from_secs(6);
    let mut router = Router::new("flood");
    router.start();
    router.house.inside("cli2", || send(at(INTERNET, 7777), None, 2));
    let is_quiet_ones = |entry: &Value| entry["port"] == 7777 && entry["count"].as_u64() == Some(2);
    let end = Instant::now() + Duration::from_secs(10);
    while !router.listed().iter().any(is_quiet_ones) {
        assert!(Instant::now() < end, "{:#?}", router.listed());
        std::thread::sleep(Duration::from_millis(100));
    }
    let (before, counted) = (router.rss_kib(), router.row_packets("0.0"));
    let flood = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let (start, mut sent) = (Instant::now(), 0_u64);
        for port in (1..=40_000).cycle() {
            if start.elapsed() > FLOOD {
                break;
            }
            // Once refused, a second try is needed.
            sent += u64::from((0..2).any(|_| socket.send_to(b"x", at(INTERNET, port)).is_ok()));
        }
        sent
    };
    let during = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| router.house.inside("cli", flood));
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        let (code, text) = router.vpnd("status");
        let answered = start.elapsed();
        assert!(code == 3 && answered < Duration::from_secs(8), "{answered:?} {text}");
        (flooding.join().unwrap(), answered)
    });
    std::thread::sleep(Duration::from_secs(1));
    let listed = router.listed();
    let heard: u64 = listed.iter().map(|entry| entry["count"].as_u64().unwrap()).sum();
    let (after, blocked) = (router.rss_kib(), router.row_packets("0.0") - counted);
    println!(
        "sent {}, blocked {blocked}, heard of {heard}, {} entries, {before} -> {after} KiB, status in {:?}",
        during.0,
        listed.len(),
        during.1
    );
    assert!(blocked > 20_000, "control: {blocked}");
    // More were heard of than fit.
    assert_eq!(listed.len(), 64);
    assert!(after < before + 768, "{before} -> {after} KiB");
    assert!(listed.iter().any(is_quiet_ones), "the quiet host's packets are hidden");

    let (code, text) = router.vpnd("disconnect");
    assert!(code == 0 && text.contains("still blocked"), "{text}");
    assert!(router.listed().is_empty());
    router.house.inside("cli2", || send(at(INTERNET, 7777), None, 2));
    router.until("why", |(_, text)| text.contains("udp 7777"));
    let (code, text) = router.vpnd("disarm --yes");
    assert_eq!(code, 0, "{text}");
    assert!(router.listed().is_empty());
    assert!(router.house.pings("cli2", INTERNET), "control: open again");
}

/// Where another program hears the packets, `status` says so; they are blocked all the same, and
/// heard of once that program is gone.
#[test]
fn what_cannot_be_heard_is_said() {
    let mut router = Router::new("unheard");
    let (held, hold) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let file = std::fs::File::open(format!("/run/netns/{}", router.house.name("rtr"))).unwrap();
    let other = std::thread::spawn(move || {
        use std::os::fd::AsRawFd;
        // SAFETY: the descriptor is open for the length of the call.
        assert_eq!(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let source = nflog::listen().unwrap();
        held.send(()).unwrap();
        released.recv().unwrap();
        drop(source);
    });
    hold.recv().unwrap();
    router.start();
    let (code, text) = router.vpnd("status");
    assert!(code == 3 && text.contains("another program listens to log group 7651"), "{text}");
    let frames = router.house.capture(|| router.house.inside("cli", || send(at(INTERNET, 9999), None, 3)));
    assert_eq!(leaks(&frames), 0);
    release.send(()).unwrap();
    other.join().unwrap();
    assert!(router.listed().is_empty());
    router.house.inside("cli", || send(at(INTERNET, 9999), None, 3));
    router.until("why", |(code, text)| *code == 0 && text.contains("(3 times): 192.168.1.2"));
    assert!(!router.vpnd("status").1.contains("does not hear"));
}
