//! The real dnsmasq, handed over and handed back: whom it asks, how fast it refuses, that it is not started
//! anew for it. Stand-ins of resolvers on loopback addresses; in a network namespace of its own. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)]

mod names;

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use names::Answer;
use vpnd::dns::{Dnsmasq, Told, Upstream, hang_up};

const ISP: &str = "127.0.0.66";
const TUNNEL: &str = "127.0.0.77";

/// In a network namespace of its own, with loopback.
fn alone(work: impl FnOnce() + Send + 'static) {
    let inside = std::thread::spawn(|| {
        // SAFETY: unshare(2) takes a number and touches no memory of ours.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        work();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

fn resolver(address: &str) -> Arc<AtomicU32> {
    names::resolver(address, address.parse().unwrap())
}

fn ask(number: &mut u32) -> (Answer, Duration) {
    names::ask("127.0.0.1:53".parse().unwrap(), number)
}

fn from(address: &str) -> Answer {
    Answer::From(address.parse().unwrap())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As OpenWrt's dnsmasq.init does: a file with the ISP's resolvers, the folder and the owner's options.
fn dnsmasq_command(dir: &Path, owners: &str) -> Command {
    let path = |name: &str| dir.join(name).display().to_string();
    let (resolv, folder) = (path("resolv.conf.auto"), path("dnsmasq.d"));
    let text = format!(
        "listen-address=127.0.0.1\nbind-interfaces\nuser=root\n{owners}\nresolv-file={resolv}\nconf-dir={folder}\n"
    );
    fs::write(dir.join("main.conf"), text).unwrap();
    let mut command = Command::new("dnsmasq");
    command.arg("-C").arg(path("main.conf")).args(["-x", &path("pid")]).stdin(Stdio::null());
    command
}

fn dnsmasq(dir: &Path, owners: &str) -> Running {
    let child = Running(dnsmasq_command(dir, owners).arg("-k").spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(10);
    while UdpSocket::bind("127.0.0.1:53").is_ok() {
        assert!(Instant::now() < until, "dnsmasq did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn only(servers: &[&str]) -> Upstream {
    Upstream::Only(servers.iter().map(|text| text.parse().unwrap()).collect())
}

fn scratch(name: &str, dhcp: &str) -> (PathBuf, Dnsmasq) {
    let dir = std::env::temp_dir().join(format!("vpnd-dns-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("dnsmasq.d")).unwrap();
    fs::write(dir.join("dhcp"), dhcp).unwrap();
    fs::write(dir.join("resolv.conf.auto"), format!("nameserver {ISP}\n")).unwrap();
    let hand = Dnsmasq::with_tmp(&dir, &dir);
    (dir, hand)
}

/// Asked until dnsmasq has read what changed.
fn settles_on(wanted: &Answer, number: &mut u32) -> Duration {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let (answer, took) = ask(number);
        if answer == *wanted {
            return took;
        }
        assert!(Instant::now() < until, "still {answer:?}, and not {wanted:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn handed_over_and_back() {
    alone(|| {
        let (isp, tunnel) = (resolver(ISP), resolver(TUNNEL));
        let asked = |who: &Arc<AtomicU32>| who.load(Ordering::SeqCst);
        let (dir, hand) = scratch("over", "config dnsmasq\n");
        let mut number = 0;

        // The control: without vpnd it asks the ISP.
        let running = dnsmasq(&dir, "");
        assert_eq!(ask(&mut number).0, from(ISP));
        drop(running);

        // Blocked: as 'vpnd block' writes it before dnsmasq starts.
        assert_eq!(hand.bring_to(&only(&[])), (Told::Conf, Ok(())));
        let running = dnsmasq(&dir, "");
        let before = asked(&isp);
        let took = settles_on(&Answer::Refused, &mut number);
        assert!(took < Duration::from_secs(1), "refused after {took:?}");
        // Said twice, nothing is done.
        assert_eq!(hand.bring_to(&only(&[])), (Told::Nothing, Ok(())));

        // Connected, blocked, connected: by SIGHUP alone.
        let tunnel_says = from(TUNNEL);
        for (upstream, answer) in
            [(only(&[TUNNEL]), &tunnel_says), (only(&[]), &Answer::Refused), (only(&[TUNNEL]), &tunnel_says)]
        {
            assert_eq!(hand.bring_to(&upstream), (Told::Servers, Ok(())));
            hang_up();
            settles_on(answer, &mut number);
        }
        assert!(asked(&tunnel) >= 2);
        // The ISP renews the lease meanwhile, and netifd writes its resolvers again.
        fs::write(dir.join("resolv.conf.auto"), format!("nameserver {ISP}\n# again\n")).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(ask(&mut number).0, tunnel_says);
        assert_eq!(asked(&isp), before, "the ISP's resolver was asked");
        assert!(fs::metadata(format!("/proc/{}", running.0.id())).is_ok());
        drop(running);

        // Open again: nothing of ours is left, and the ISP is asked.
        assert_eq!(hand.bring_to(&Upstream::Anybody), (Told::Conf, Ok(())));
        assert_eq!(fs::read_dir(dir.join("dnsmasq.d")).unwrap().count(), 0);
        let _running = dnsmasq(&dir, "");
        assert_eq!(ask(&mut number).0, from(ISP));
        fs::remove_dir_all(&dir).unwrap();
    });
}

/// dnsmasq refuses to start with two servers files: that would take the LAN's DHCP with it.
#[test]
fn beside_a_servers_file_of_the_owners() {
    alone(|| {
        let (isp, _tunnel) = (resolver(ISP), resolver(TUNNEL));
        let (dir, hand) = scratch("beside", "config dnsmasq\n\toption serversfile '/tmp/adblock.servers'\n");
        fs::write(dir.join("adblock.servers"), "local=/ads.example/\n").unwrap();
        let owners = format!("servers-file={}", dir.join("adblock.servers").display());
        let mut number = 0;

        assert_eq!(hand.bring_to(&only(&[TUNNEL])), (Told::Conf, Ok(())));
        let running = dnsmasq(&dir, &owners);
        settles_on(&from(TUNNEL), &mut number);
        drop(running);
        // It has to start anew then, each time.
        assert_eq!(hand.bring_to(&only(&[])), (Told::Conf, Ok(())));
        let running = dnsmasq(&dir, &owners);
        settles_on(&Answer::Refused, &mut number);
        assert_eq!(isp.load(Ordering::SeqCst), 0);
        drop(running);

        // The control: what would become of it with two.
        fs::write(dir.join("dnsmasq.d/two.conf"), "servers-file=/dev/null\n").unwrap();
        let two = dnsmasq_command(&dir, &owners).arg("--test").stderr(Stdio::null()).status().unwrap();
        assert!(!two.success(), "dnsmasq takes two by now: this care is not needed any more");
        fs::remove_dir_all(&dir).unwrap();
    });
}
