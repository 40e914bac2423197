//! The real daemon beside somebody who changes its rules, barrier and settings: they are back by
//! themselves, `status` says who it was, and nothing leaves meanwhile but what is said here. Blocked,
//! as there may be no WireGuard. Needs root.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

mod netns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns::House;
use serde_json::Value;
use vpnd::firewall::Nft;

const NETWORK: &str = "config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\
                       \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const VPND: &str = "config vpnd 'main'\n\toption enabled '1'\n\tlist lan_device 'lan0'\n\tlist lan_device 'lan1'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint '198.51.100.1:51820'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n";

const LONG: Duration = Duration::from_secs(30);
/// Ports that the floods' packets go to.
const LAN: u16 = 9001;
const LAN_V6: u16 = 9002;
const ROUTER: u16 = 9003;
/// By a socket bound to the WAN: no ip rule stops it over IPv4.
const BOUND: u16 = 9004;

struct Home {
    house: House,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Home {
    fn build() -> Self {
        let house = House::build();
        let dir = std::env::temp_dir().join(house.name("dir"));
        std::fs::create_dir_all(dir.join("config")).unwrap();
        for (file, text) in [("network", NETWORK), ("firewall", FIREWALL), ("vpnd", VPND)] {
            std::fs::write(dir.join("config").join(file), text).unwrap();
        }
        // The internet has no service: its refusals would be noise.
        house.sh("isp", "nft \"table inet quiet { chain c { type filter hook input priority 0; udp dport 9000-9999 drop; }; }\"");
        Self { house, dir, daemon: None }
    }

    fn words(&self, verb: &str) -> String {
        let dir = self.dir.display();
        format!(
            "{} {verb} --config-dir={dir}/config --state-dir={dir}/state --run-dir={dir}/run",
            env!("CARGO_BIN_EXE_vpnd")
        )
    }

    /// `before`: shell words in the daemon's own mount namespace.
    fn start(&mut self, before: &str) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new("ip");
        let line = format!("{before} exec {}", self.words("daemon"));
        command.args(["netns", "exec", &self.house.name("rtr"), "sh", "-ec", &line]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        self.until("the daemon answers", |home| !home.daemon()["state"].is_null());
    }

    /// Blocked under lockdown, beside fw4.
    fn blocked(before: &str) -> Self {
        let mut home = Self::build();
        home.fw4("start");
        home.start(before);
        home.rtr(&home.words("lockdown on"));
        home.until("it is blocked", |home| home.status()["state"] == "blocked");
        home
    }

    fn rtr(&self, words: &str) -> String {
        self.house.sh("rtr", words)
    }

    fn script(&self, name: &str, words: &str) -> String {
        let root = env!("CARGO_MANIFEST_DIR");
        format!(
            "FW4_LAN=lan0 FW4_GUEST=lan1 FW4_WAN=wan0 NETIFD_WAN=wan0 {root}/tests/home/fixtures/{name} {words}"
        )
    }

    fn fw4(&self, verb: &str) {
        self.rtr(&self.script("fw4", verb));
    }

    fn status(&self) -> Value {
        let line = format!("{} || true", self.words("status --json"));
        serde_json::from_str(&self.rtr(&line)).unwrap()
    }

    fn daemon(&self) -> Value {
        self.status()["daemon"]["status"].clone()
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < end, "in vain until {what}: {:#}\n{}", self.status(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What should stay as it is: the rules by their hash, ip rules, the barrier's routes, settings.
    fn sight(&self) -> Sight {
        self.house.inside("rtr", sight)
    }

    #[track_caller]
    fn back(&self, wanted: &Sight) {
        let end = Instant::now() + LONG;
        let mut found = self.sight();
        while found != *wanted && Instant::now() < end {
            found = self.sight();
        }
        assert_eq!(found, *wanted, "not as before; {}", self.log());
    }

    fn incidents(&self) -> u64 {
        self.daemon()["incident_count"].as_u64().unwrap()
    }

    /// Runs `words` on the router, and says how long until everything was as before, in
    /// milliseconds from the end of them (and from their beginning).
    #[track_caller]
    fn mended(&self, words: &str) -> (u128, u128) {
        let wanted = self.sight();
        let start = Instant::now();
        self.rtr(words);
        let done = Instant::now();
        let (wanted, found) = self.house.inside("rtr", move || {
            let mut found = sight();
            let end = Instant::now() + Duration::from_secs(10);
            while found != wanted && Instant::now() < end {
                found = sight();
            }
            (wanted, found)
        });
        assert_eq!(found, wanted, "not put back: {words}\n{}", self.log());
        (done.elapsed().as_millis(), start.elapsed().as_millis())
    }

    /// The same, and that `status` tells what it was and which process did it.
    #[track_caller]
    fn undone(&self, words: &str, what: &str, process: Option<&str>) {
        // Each as the first of its kind: a repair is followed by a pause.
        std::thread::sleep(Duration::from_secs(1));
        let before = self.incidents();
        let (after, all) = self.mended(words);
        self.until("it is told", |home| home.incidents() > before);
        let last = self.daemon()["incidents"][0].clone();
        println!("{words:70} as before {after:3} ms after it ended, {all:3} ms after it began; {last}");
        assert!(last["what"].as_str().unwrap().contains(what), "{words}: {last:#}");
        assert!(last["mended_ms"].is_u64() && last["error"].is_null(), "{words}: {last:#}");
        if let Some(process) = process {
            assert_eq!(last["process"], process, "{words}: {last:#}");
            assert!(last["pid"].is_u64(), "{words}: {last:#}");
        }
        let text = self.rtr(&format!("{} || true", self.words("status")));
        assert!(text.starts_with("blocked: ") && text.contains(what), "{words}: {text}");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Sight {
    hash: Option<String>,
    rules: String,
    settings: Vec<String>,
}

/// How strict LAN devices are is their owner's business.
const SETTINGS: [&str; 5] =
    ["all/src_valid_mark", "all/arp_ignore", "all/arp_announce", "all/rp_filter", "wan0/rp_filter"];

fn sight() -> Sight {
    let hash = Nft::new("nft".into()).in_force().ok().flatten().map(|table| table.hash.to_string());
    let all = "ip rule; ip -6 rule; ip -o route show table 7651; ip -o route show table 7652; \
               ip -6 -o route show table 7651; ip -6 -o route show table 7652";
    let output = Command::new("sh").args(["-c", all]).output().unwrap();
    let mut rules: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    // IPv6's come in another order when one was put again.
    rules.sort();
    let read = |name: &&str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}")).unwrap();
    Sight { hash, rules: rules.join("\n"), settings: SETTINGS.iter().map(read).collect() }
}

/// Datagrams from a LAN host in both families, and from the router by an unbound socket and by one
/// that is bound to the WAN.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: [Arc<AtomicUsize>; 4],
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(home: &Home, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ways: [(&str, &str, u16, Option<&'static str>); 4] = [
            ("cli", netns::INTERNET, LAN, None),
            ("cli", netns::INTERNET6, LAN_V6, None),
            ("rtr", netns::INTERNET, ROUTER, None),
            ("rtr", netns::INTERNET, BOUND, Some("wan0")),
        ];
        let sent: [Arc<AtomicUsize>; 4] = Default::default();
        let mut threads = Vec::new();
        for ((place, to, port, device), sent) in ways.into_iter().zip(&sent) {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(sent));
            let to = SocketAddr::new(to.parse().unwrap(), port);
            threads.push(home.house.inside(place, move || {
                // The thread stays in the namespace of the one that started it.
                std::thread::spawn(move || {
                    let socket = udp(to, device);
                    while !stop.load(Ordering::Relaxed) {
                        // What is refused was sent as well.
                        let _ = socket.send_to(b"flood", to);
                        sent.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(pause);
                    }
                })
            }));
        }
        Self { stop, sent, threads }
    }

    /// Until so many of each were sent, which on a busy machine takes its time.
    fn until(&self, sent: usize) {
        let end = Instant::now() + LONG;
        while self.sent.iter().any(|count| count.load(Ordering::Relaxed) < sent) {
            assert!(Instant::now() < end, "the flood does not get along");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) -> [usize; 4] {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.sent.map(|sent| sent.load(Ordering::Relaxed))
    }
}

fn udp(to: SocketAddr, device: Option<&str>) -> std::net::UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = std::net::UdpSocket::bind(any).unwrap();
    if let Some(device) = device {
        socket2::SockRef::from(&socket).bind_device(Some(device.as_bytes())).unwrap();
    }
    socket
}

/// How many frames to each of the four ports were captured at the ISP's end of the wire.
fn counted(frames: &[Vec<u8>]) -> [usize; 4] {
    [LAN, LAN_V6, ROUTER, BOUND].map(|port| {
        frames.iter().filter(|frame| netns::udp_to(frame).is_some_and(|to| to.port() == port)).count()
    })
}

/// Frames of all four kinds reach the ISP where nothing blocks them.
fn control(home: &Home, when: &str) {
    let mut sent = [0; 4];
    let frames = home.house.capture(|| {
        let flood = Flood::start(home, Duration::from_millis(2));
        flood.until(60);
        sent = flood.stop();
    });
    let seen = counted(&frames);
    // The first of a flow may wait for a neighbour.
    assert!(seen.iter().zip(sent).all(|(seen, sent)| *seen + 10 > sent), "{when}: {seen:?} of {sent:?}");
}

#[test]
fn each_change_of_the_rules_is_undone_and_told() {
    let home = Home::blocked("");
    println!("{}", home.rtr("nft list table inet vpnd | grep -c comment"));
    let handle =
        "$(nft -a list chain inet vpnd forward | sed -n \"s/.* handle \\([0-9]*\\)\\$/\\1/p\" | sed -n 2p)";
    for (words, what) in [
        ("nft flush ruleset", "table inet vpnd was deleted"),
        ("nft delete table inet vpnd", "table inet vpnd was deleted"),
        (
            "nft \"flush chain inet vpnd forward; delete chain inet vpnd forward\"",
            "a chain of table inet vpnd was deleted",
        ),
        (
            &format!("nft delete rule inet vpnd forward handle {handle}"),
            "a rule of table inet vpnd was deleted",
        ),
        ("nft insert rule inet vpnd forward accept", "a rule was put into table inet vpnd"),
        (
            "nft add chain inet vpnd forward \"{ policy accept; }\"",
            "a chain of table inet vpnd was added or altered",
        ),
        ("nft add table inet vpnd \"{ flags dormant; }\"", "switched off"),
        ("nft add set inet vpnd more \"{ type ipv4_addr; }\"", "a set of table inet vpnd was altered"),
        (&home.script("fw4", "flush"), "table inet vpnd was deleted"),
    ] {
        home.undone(words, what, Some("nft"));
        home.fw4("start");
    }
    // A program of another name.
    home.rtr(&format!("cp $(readlink -f $(command -v nft)) {}/evil", home.dir.display()));
    home.undone(&format!("{}/evil flush ruleset", home.dir.display()), "was deleted", Some("evil"));
    // The boot block's rules are as tight, but not those of the state. It is told that they were in
    // force, however quick the daemon is: here nft takes its time before it reads them back.
    let dir = home.dir.display();
    home.rtr(&format!("cp $(readlink -f $(command -v nft)) {dir}/slow-nft"));
    let slowly = format!("#!/bin/sh\n[ \"$2\" = -f ] || sleep 0.5\nexec {dir}/slow-nft \"$@\"\n");
    std::fs::write(home.dir.join("slowly"), slowly).unwrap();
    let block = format!(
        "chmod 755 {dir}/slowly; unshare -m sh -ec \"mount --bind {dir}/slowly $(readlink -f $(command -v nft)); exec {}\"",
        home.words("block")
    );
    home.undone(&block, "table inet vpnd was deleted", Some("slow-nft"));
    // What fw4 does to its own table is its own business.
    let before = home.incidents();
    let sight = home.sight();
    for verb in ["start", "reload", "restart", "stop", "start"] {
        home.fw4(verb);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((home.incidents(), home.sight()), (before, sight), "{}", home.daemon());
    let log = home.log();
    assert!(log.contains("vpnd: table inet vpnd was deleted by evil (pid "), "{log}");
}

#[test]
fn each_change_of_the_barrier_is_undone_and_told() {
    let home = Home::blocked("");
    let rule = "rule";
    for (words, what) in [
        ("ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default", rule),
        ("ip -6 rule flush; ip -6 rule add pref 32766 lookup main", rule),
        ("ip rule del pref 199", "rule 199: unreachable was missing"),
        ("ip -6 rule del pref 199", "rule 199: unreachable was missing"),
        ("ip rule add pref 105 lookup main", "a rule of priority 105 was somebody else's"),
        ("ip -6 rule add pref 150 lookup main", "a rule of priority 150 was somebody else's"),
        ("ip route flush table 7651", "route"),
        ("ip route add 198.51.100.0/24 via 203.0.113.1 dev wan0 onlink table 7652", "a route in table 7652"),
        (
            "ip -6 route add default via 2001:db8:203::1 dev wan0 onlink table 7652 metric 5",
            "a route in table 7652",
        ),
        ("ip -6 route flush table 7652", "route"),
        (&home.script("netifd", "flush-rules"), rule),
    ] {
        home.undone(words, what, None);
    }
    for (name, value) in [
        ("all/src_valid_mark", "0"),
        ("all/arp_ignore", "0"),
        ("all/arp_announce", "0"),
        ("wan0/rp_filter", "1"),
    ] {
        let words = format!("echo {value} >/proc/sys/net/ipv4/conf/{name}");
        home.undone(&words, &format!("net.ipv4.conf.{} was {value}", name.replace('/', ".")), None);
    }
    // LAN devices become as strict as `all` was made, the WAN does not.
    home.undone("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter", "rp_filter was", None);
    assert_eq!(home.rtr("cat /proc/sys/net/ipv4/conf/lan0/rp_filter"), "1\n");
}

/// Devices that come and go take routes and settings along: nobody's doing.
#[test]
fn what_goes_with_a_device_is_no_incident() {
    let home = Home::blocked("");
    let wan =
        "ip link add wan0 type veth peer name cpe0; ip link set wan0 up; ip addr add 203.0.113.2/24 dev wan0;
        ip route add default via 203.0.113.1 dev wan0 onlink";
    for words in [
        "ip link set lan0 down; ip link set lan0 up; ip -6 addr add fd00:1::1/64 dev lan0 nodad".to_owned(),
        home.script("netifd", &format!("recreate \"{wan}\"")),
        "ip addr del 192.168.2.1/24 dev lan1; ip addr add 192.168.2.1/24 dev lan1".to_owned(),
    ] {
        home.rtr(&words);
        std::thread::sleep(Duration::from_millis(500));
        home.until("it is blocked", |home| home.status()["state"] == "blocked");
        assert_eq!(home.incidents(), 0, "{words}: {:#}", home.daemon());
    }
    // With the rules flushed at the same time it is one.
    home.rtr(&home.script("netifd", &format!("restart \"{wan}\"")));
    home.until("it is told", |home| home.incidents() > 0);
    home.until("the barrier is back", |home| {
        home.rtr("ip rule; ip -6 rule").matches("unreachable").count() == 2
    });
}

/// In the daemon's mount namespace, an nft that counts its runs in a file.
fn counting_nft(home: &str) -> String {
    format!(
        "nft=$(readlink -f $(command -v nft)); cp $nft {home}-nft; \
         printf \"#!/bin/sh\\necho >>{home}-runs\\nexec {home}-nft \\\"\\$@\\\"\\n\" >{home}-counting; \
         chmod 755 {home}-counting; mount --bind {home}-counting $nft;"
    )
}

/// Removes what [`counting_nft`] wrote.
fn no_longer_counted(tag: &str) {
    for name in ["nft", "runs", "counting"] {
        let _ = std::fs::remove_file(format!("{tag}-{name}"));
    }
}

/// Clock ticks (100 a second) of a process and of the children that it waited for.
fn ticks(pid: u32) -> [u64; 2] {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name comes field 3 of proc(5); utime, stime, cutime and cstime are 14 to 17.
    let field = |number: usize| -> u64 {
        text.rsplit(") ").next().unwrap().split(' ').nth(number - 3).unwrap().parse().unwrap()
    };
    [field(14) + field(15), field(16) + field(17)]
}

/// Tables are deleted 2,000 times, as fast as it goes, under a flood.
#[test]
fn a_storm_of_flushes_neither_opens_the_lan_nor_drowns_the_daemon() {
    let tag = std::env::temp_dir().join(format!("vpnd-watch-{}", std::process::id())).display().to_string();
    let home = Home::blocked(&counting_nft(&tag));
    let wanted = home.sight();
    let runs = || std::fs::read_to_string(format!("{tag}-runs")).unwrap().lines().count();
    let pid = home.daemon.as_ref().unwrap().id();
    std::thread::sleep(Duration::from_secs(1));
    let (runs_before, ticks_before) = (runs(), ticks(pid));
    let mut slowest = Duration::ZERO;
    let (mut asked, mut sent, mut took) = (0, [0; 4], Duration::ZERO);
    let frames = home.house.capture(|| {
        let flood = Flood::start(&home, Duration::from_millis(1));
        let start = Instant::now();
        let storm = "i=0; while [ $i -lt 2000 ]; do nft flush ruleset; i=$((i + 1)); done";
        let name = home.house.name("rtr");
        let mut storm =
            Command::new("ip").args(["netns", "exec", &name, "sh", "-ec", storm]).spawn().unwrap();
        while storm.try_wait().unwrap().is_none() {
            let start = Instant::now();
            assert!(home.daemon()["state"].is_string(), "status is not answered in the storm");
            slowest = slowest.max(start.elapsed());
            asked += 1;
            std::thread::sleep(Duration::from_millis(200));
        }
        took = start.elapsed();
        home.back(&wanted);
        println!(
            "the storm took {} ms, all as before {} ms later",
            took.as_millis(),
            (start.elapsed() - took).as_millis()
        );
        sent = flood.stop();
    });
    let (runs, ticks) = (runs() - runs_before, ticks(pid));
    let seconds = took.as_secs_f64();
    let share = |which: usize| (ticks[which] - ticks_before[which]) as f64 / seconds;
    let seen = counted(&frames);
    println!(
        "frames on the WAN: {} of {} of the LAN over IPv4, {} of {} over IPv6, {} of {} of the router, {} of {} of \
         sockets bound to the WAN\n{runs} runs of nft ({:.1} a second; those of status not counted), CPU: daemon {:.1} %, its nft {:.1} %; \
         status asked {asked} times, slowest {} ms",
        seen[0],
        sent[0],
        seen[1],
        sent[1],
        seen[2],
        sent[2],
        seen[3],
        sent[3],
        runs as f64 / seconds,
        share(0),
        share(1),
        slowest.as_millis(),
    );
    let told = home.daemon();
    println!("{} incidents: {}", told["incident_count"], told["incidents"][0]);
    assert_eq!(seen[..3], [0, 0, 0], "the barrier holds without a table");
    assert!(sent.iter().all(|sent| *sent > 1000), "{sent:?}");
    assert!(told["incident_count"].as_u64().unwrap() > 5 && told["incidents"].as_array().unwrap().len() < 5);
    // Five repairs a second, a few runs each, and no more than a fifth of the time.
    assert!((runs as f64) < 40.0 * seconds + 20.0, "{runs} runs of nft in {seconds} s");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    home.until("it is blocked", |home| home.status()["state"] == "blocked");
    // The rules really hold again, and were not only listed.
    let frames = home.house.capture(|| {
        let flood = Flood::start(&home, Duration::from_millis(2));
        flood.until(100);
        flood.stop();
    });
    assert_eq!(counted(&frames), [0; 4]);
    home.rtr(&home.words("disarm --yes"));
    home.until("it is open", |home| home.status()["state"] == "open");
    control(&home, "opened again");
    no_longer_counted(&tag);
}

/// Runs `words` ten times under a flood; frames on the WAN from each until all was as before, of how
/// many that flew. After that, none.
fn leaving(home: &Home, words: &str) -> ([usize; 4], [usize; 4]) {
    let wanted = home.sight();
    let mut seen = [0; 4];
    let flood = Flood::start(home, Duration::from_millis(1));
    for _ in 0..10 {
        let frames = home.house.capture(|| {
            home.rtr(words);
            home.back(&wanted);
        });
        for (all, new) in seen.iter_mut().zip(counted(&frames)) {
            *all += new;
        }
        let flown: Vec<_> = flood.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).collect();
        let frames = home.house.capture(|| flood.until(flown.into_iter().max().unwrap() + 100));
        assert_eq!(counted(&frames), [0; 4], "all is as before, and frames leave");
        std::thread::sleep(Duration::from_millis(500));
    }
    (seen, flood.stop())
}

#[test]
fn what_leaves_between_a_flush_and_its_repair() {
    let home = Home::build();
    control(&home, "without vpnd");
    drop(home);
    let (seen, sent) = leaving(&Home::blocked(""), "nft flush ruleset");
    println!("10 flushes: frames on the WAN of LAN, LAN IPv6, router, bound sockets: {seen:?} of {sent:?}");
    assert_eq!(seen[..3], [0, 0, 0], "the barrier holds without a table");
    assert!(seen[3] < sent[3], "bound sockets: {} of {}", seen[3], sent[3]);
}

/// Both at once, as when network and firewall are stopped together: nothing is left that could hold.
#[test]
fn what_leaves_when_rules_and_barrier_go_together() {
    let (seen, sent) = leaving(&Home::blocked(""), ALL_GONE);
    println!("10 times all at once: frames of LAN, LAN IPv6, router, bound sockets: {seen:?} of {sent:?}");
}

const ALL_GONE: &str =
    "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default;
    ip -6 rule flush; ip -6 rule add pref 32766 lookup main; nft flush ruleset";

/// Somebody fights for the ip rules and settings: the rules of nftables hold, and the daemon does not spin.
#[test]
fn a_storm_of_rule_flushes_does_not_drown_the_daemon() {
    const STORM: &str = "i=0
        while [ $i -lt 1000 ]; do
            ip rule flush; echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore; i=$((i + 1))
        done
        ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default";
    let home = Home::blocked("");
    let wanted = home.sight();
    let pid = home.daemon.as_ref().unwrap().id();
    std::thread::sleep(Duration::from_secs(1));
    let before = ticks(pid);
    let mut sent = [0; 4];
    let mut took = Duration::ZERO;
    let frames = home.house.capture(|| {
        let flood = Flood::start(&home, Duration::from_millis(1));
        let start = Instant::now();
        home.rtr(STORM);
        took = start.elapsed();
        home.back(&wanted);
        let later = start.elapsed() - took;
        println!("the storm took {} ms, all as before {} ms later", took.as_millis(), later.as_millis());
        sent = flood.stop();
    });
    let share = (ticks(pid)[0] - before[0]) as f64 / took.as_secs_f64();
    let told = home.daemon();
    println!("CPU: daemon {share:.1} %; {} incidents: {:#}", told["incident_count"], told["incidents"]);
    assert_eq!(counted(&frames), [0; 4], "the rules hold without the barrier: {sent:?}");
    assert!(share < 40.0, "{share} % of a processor");
}

/// What others do to their own tables, large sets and many small changes, is none of vpnd's business.
#[test]
fn changes_of_other_tables_cost_little() {
    let tag = std::env::temp_dir().join(format!("vpnd-others-{}", std::process::id())).display().to_string();
    let home = Home::blocked(&counting_nft(&tag));
    let runs = || std::fs::read_to_string(format!("{tag}-runs")).unwrap().lines().count();
    let (sight, pid) = (home.sight(), home.daemon.as_ref().unwrap().id());
    let elements: Vec<_> =
        (0..40_000).map(|n: u32| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)).collect();
    let batch = format!(
        "table inet ban {{ set bad {{ type ipv4_addr; elements = {{ {} }}; }}; }}",
        elements.join(", ")
    );
    std::fs::write(home.dir.join("batch"), batch).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let (before, runs_before, start) = (ticks(pid), runs(), Instant::now());
    home.rtr(&format!("nft -f {}", home.dir.join("batch").display()));
    home.rtr(
        "i=0; while [ $i -lt 500 ]; do nft add element inet ban bad \"{ 192.0.2.1 }\"
        nft delete element inet ban bad \"{ 192.0.2.1 }\"; i=$((i + 1)); done; nft delete table inet ban",
    );
    let seconds = start.elapsed().as_secs_f64();
    let share = (ticks(pid)[0] - before[0] + ticks(pid)[1] - before[1]) as f64 / seconds;
    let looks = runs() - runs_before;
    println!(
        "a set of 40,000 and 1,000 changes in {seconds:.1} s: the daemon and its {looks} looks by nft take {share:.1} % of a processor"
    );
    // A single message may be too large to be heard: then it looks once.
    assert!(looks < 10, "{looks} looks");
    assert!(share < 20.0, "{share}");
    assert_eq!((home.incidents(), home.sight()), (0, sight), "{}", home.log());
    // And it still hears.
    home.undone("nft flush ruleset", "was deleted", Some("nft"));
    no_longer_counted(&tag);
}

/// While a repair waits for its time, a transition puts the rules: then there is nothing left to do.
#[test]
fn a_transition_before_the_repair_leaves_nothing_to_do() {
    let home = Home::blocked("");
    let (wanted, pid) = (home.sight(), home.daemon.as_ref().unwrap().id());
    std::thread::sleep(Duration::from_secs(1));
    home.rtr("nft flush ruleset; while ! nft list table inet vpnd >/dev/null 2>&1; do :; done; sleep 0.1; nft flush ruleset");
    home.rtr(&home.words("reload"));
    home.back(&wanted);
    std::thread::sleep(Duration::from_secs(1));
    let before = ticks(pid)[0];
    std::thread::sleep(Duration::from_secs(2));
    let spent = ticks(pid)[0] - before;
    assert!(spent < 10, "{spent} hundredths of a second in two without anything to do");
    assert_eq!(home.sight(), wanted);
    assert!(home.incidents() >= 2, "{}", home.daemon());
}

/// What cannot be put back is said, and tried until it can.
#[test]
fn a_repair_that_fails_is_told_and_tried_again() {
    let tag = std::env::temp_dir().join(format!("vpnd-refuses-{}", std::process::id())).display().to_string();
    let refusing = format!(
        "nft=$(readlink -f $(command -v nft)); cp $nft {tag}-nft; \
         printf \"#!/bin/sh\\n[ -e {tag}-off ] && exit 1\\nexec {tag}-nft \\\"\\$@\\\"\\n\" >{tag}-refusing; \
         chmod 755 {tag}-refusing; mount --bind {tag}-refusing $nft;"
    );
    let home = Home::blocked(&refusing);
    let wanted = home.sight();
    std::fs::write(format!("{tag}-off"), "").unwrap();
    home.rtr("nft flush ruleset");
    home.until("it is told", |home| home.incidents() > 0);
    let last = home.daemon()["incidents"][0].clone();
    assert!(
        last["error"].as_str().unwrap().contains("nft refused") && last["mended_ms"].is_null(),
        "{last:#}"
    );
    let text = home.rtr(&format!("{} || true", home.words("status")));
    assert!(text.contains("THE RULES ARE GONE") && text.contains("NOT put back"), "{text}");
    std::fs::remove_file(format!("{tag}-off")).unwrap();
    home.back(&wanted);
    home.until("it is told that it is mended", |home| home.daemon()["incidents"][0]["mended_ms"].is_u64());
    println!("{}", home.daemon()["incidents"][0]);
    for name in ["nft", "refusing"] {
        let _ = std::fs::remove_file(format!("{tag}-{name}"));
    }
}
