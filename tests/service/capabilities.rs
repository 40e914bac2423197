//! The daemon with the powers of `/etc/capabilities/vpnd.json` alone, as OpenWrt's ujail starts it. Every
//! test of this program runs it so; here it is asked what happens where one of them is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Router, read, router, sh};

const LISTS: [&str; 5] = ["bounding", "effective", "ambient", "permitted", "inheritable"];
const FILE: &str = "/etc/capabilities/vpnd.json";

/// The package's, each as the others.
fn listed() -> Vec<String> {
    let file: Value = serde_json::from_str(include_str!("../../files/etc/capabilities/vpnd.json")).unwrap();
    let list = |name: &str| -> Vec<String> { serde_json::from_value(file[name].clone()).unwrap() };
    let all = list("bounding");
    assert!(LISTS.iter().all(|name| list(name) == all) && file.as_object().unwrap().len() == LISTS.len());
    all
}

fn leave(powers: &[String]) {
    let lists = LISTS.map(|name| format!("\"{name}\": {}", serde_json::to_string(powers).unwrap()));
    fs::write(FILE, format!("{{ {} }}", lists.join(", "))).unwrap();
}

/// Its restart as OpenWrt's init script does it, as far as it takes powers: what it makes is dnsmasq's,
/// what it writes to is dnsmasq's already, and a DHCP server is looked for by udhcpc.
const DNSMASQ: &str = "#!/bin/sh
[ \"$1\" = restart ] || exit 0
cd /run/service || exit 1
rm -f made chown write raw
: > made && chown nobody made 2> /dev/null && touch chown
echo more >> leases && touch write
busybox udhcpc -n -q -f -t 1 -T 1 -i br-lan -s /bin/true 2>&1 | grep -q 'no lease' && touch raw
touch done
";

/// Stands in for dnsmasq, as another user: notes each SIGHUP.
fn dnsmasq() -> Child {
    let script = "trap 'echo x >> /run/service/told' HUP; touch /run/service/up; while :; do sleep 0.1; done";
    let mut command = Command::new("/bin/sh");
    command.arg0("/usr/sbin/dnsmasq").uid(65534).args(["-c", script]).stdin(Stdio::null());
    // A shell cannot trap what was ignored when it began, and under nohup(1) that is SIGHUP.
    // SAFETY: signal(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// The powers that the running daemon has, as capability sets of its process; and that it gets no more.
fn held(r: &Router) -> (Vec<u64>, String) {
    let status = read(&format!("/proc/{}/status", r.pid()));
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
    (sets.map(|name| u64::from_str_radix(&value(name), 16).unwrap()).into(), value("NoNewPrivs:"))
}

/// What of it works: blocking, telling dnsmasq (within `patience`), and what dnsmasq's restart takes.
fn works(r: &Router, patience: std::time::Duration) -> Vec<&'static str> {
    sh("rm -rf /run/service; mkdir -m 777 /run/service; touch /run/service/leases /run/service/told; chmod 666 /run/service/told
        chown nobody /run/service/leases; chmod 644 /run/service/leases
        printf 'config dnsmasq\\n\\toption confdir /run/confd\\n' > /etc/config/dhcp; mkdir -p /run/confd");
    fs::write("/etc/init.d/dnsmasq", DNSMASQ).unwrap();
    fs::set_permissions("/etc/init.d/dnsmasq", fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = dnsmasq();
    let there = |name: &str| std::path::Path::new("/run/service").join(name).exists();
    r.until("dnsmasq runs", |_| there("up"));
    r.start();
    let mut works = Vec::new();
    r.say("lockdown on");
    r.until("dnsmasq was started anew", |_| {
        there("done") && !std::path::Path::new("/run/vpnd/dnsmasq.owed").exists()
    });
    if r.leaves() == 0 && r.status()["kernel"]["rules"]["state"] == "blocked" {
        works.push("CAP_NET_ADMIN");
    }
    // Another resolver in the LAN: a SIGHUP will do.
    sh("sed -i \"s/option enabled '1'/&\\n\\tlist resolver '192.168.1.7'/\" /etc/config/vpnd");
    r.say("reload");
    let end = std::time::Instant::now() + patience;
    while read("/run/service/told").is_empty() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for (file, power) in [("chown", "CAP_CHOWN"), ("write", "CAP_DAC_OVERRIDE"), ("raw", "CAP_NET_RAW")] {
        if there(file) {
            works.push(power);
        }
    }
    if !read("/run/service/told").is_empty() {
        works.push("CAP_KILL");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    works
}

/// For a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// CAP_SYS_TIME is not tried: the clock is the machine's, of all namespaces.
const TRIED: [&str; 5] = ["CAP_NET_ADMIN", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_RAW", "CAP_KILL"];

#[test]
fn it_works_with_these_powers_and_has_no_others() {
    router("powers", |r| {
        assert_eq!(works(&r, PATIENCE), TRIED, "{}", r.log());
        let (sets, alone) = held(&r);
        // linux/capability.h
        let wanted = listed().iter().fold(0, |sum, name| {
            sum | 1_u64
                << match name.as_str() {
                    "CAP_CHOWN" => 0,
                    "CAP_DAC_OVERRIDE" => 1,
                    "CAP_KILL" => 5,
                    "CAP_NET_ADMIN" => 12,
                    "CAP_NET_RAW" => 13,
                    "CAP_SYS_TIME" => 25,
                    other => panic!("{other} is new: say what it is for"),
                }
        });
        assert_eq!((sets, alone.as_str()), (vec![wanted; 5], "1"));
        assert_eq!(read("/run/procd/vpnd.jail"), "vpnd\n", "a mount of its own would hide files from it");
    });
}

#[test]
fn without_each_of_them_something_fails() {
    for missing in TRIED {
        router(missing, move |r| {
            let rest: Vec<_> = listed().into_iter().filter(|name| name != missing).collect();
            assert_eq!(rest.len() + 1, listed().len());
            leave(&rest);
            // What must not come is not waited for as long.
            let patience = if missing == "CAP_KILL" { PATIENCE / 5 } else { PATIENCE };
            let works = works(&r, patience);
            assert!(!works.contains(&missing), "{missing} is not needed: {works:?}");
            assert!(
                works.len() + 1 == TRIED.len() || missing == "CAP_NET_ADMIN",
                "without {missing}: {works:?}"
            );
        });
    }
}

#[test]
fn without_ujail_it_runs_all_the_same() {
    router("nojail", |r| {
        fs::remove_file("/usr/sbin/ujail").unwrap();
        r.locked();
        assert_ne!(held(&r).0[3] & 1 << 21, 0, "CAP_SYS_ADMIN: all of root's powers");
        assert!(!read("/run/procd/vpnd").contains("ujail"));
    });
}
