//! The binary as a person runs it: exit codes, words, and what it does to a kernel in a network
//! namespace of its own.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

const NETWORK: &str = "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n\
                       \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const VPND: &str = "config vpnd 'main'\n\toption enabled '1'\n\n\
    config tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint '198.51.100.1:51820'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n\toption country 'Sweden'\n";

struct Router(PathBuf);

impl Router {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-cli-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("config")).unwrap();
        let router = Self(dir);
        router.config("network", NETWORK);
        router.config("firewall", FIREWALL);
        router.config("vpnd", VPND);
        router
    }
    fn config(&self, file: &str, text: &str) {
        std::fs::write(self.0.join("config").join(file), text).unwrap();
    }
    fn arm(&self) {
        std::fs::create_dir_all(self.0.join("state")).unwrap();
        std::fs::write(self.0.join("state/armed"), "").unwrap();
    }
    fn vpnd(&self, line: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_vpnd"))
            .args(line.split_whitespace())
            .args(
                ["config", "run", "state"].iter().map(|d| format!("--{d}-dir={}", self.0.join(d).display())),
            )
            .output()
            .unwrap();
        let Output { status, stdout, stderr } = output;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
    #[track_caller]
    fn expect(&self, line: &str, code: i32, words: &str) -> String {
        let (found, out, err) = self.vpnd(line);
        let all = out + &err;
        assert!(
            found == code && all.contains(words),
            "vpnd {line}: exit {found}, wanted {code} and '{words}':\n{all}"
        );
        all
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn mistakes_exit_1_and_say_what_is_right() {
    let r = Router::new("mistakes");
    r.expect("", 1, "which verb?");
    r.expect("conect", 1, "there is no verb 'conect'");
    r.expect("status --verbose", 1, "knows no option --verbose");
    r.expect("lockdown maybe", 1, "say on or off, not 'maybe'");
    r.expect("lease ../x", 1, "is no device name");
    r.expect("lease wan x", 1, "is no IPv4 address");
    r.expect("connect --wait soon", 1, "is no number of seconds");
    r.expect("import /nonexistent.conf", 1, "/nonexistent.conf");
    r.expect("--help", 0, "Exit: status 0 connected");
    r.expect("status --help", 0, "--json");
    r.expect("--version", 0, "vpnd ");
}

#[test]
fn without_a_daemon() {
    let r = Router::new("nodaemon");
    for verb in ["disconnect", "reconnect", "lockdown on", "reload"] {
        r.expect(verb, 1, "the daemon is not running (nobody listens on");
    }
    let stored = r.0.join("state/wanted.json");
    assert!(!stored.exists());
    r.expect("connect one", 1, "the wish is stored");
    assert!(std::fs::read_to_string(&stored).unwrap().contains("\"relay\":\"one\""));
    assert_eq!(std::fs::metadata(&stored).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(r.0.join("state/armed").exists());
    r.expect("lease wan 192.0.2.1", 1, "it will read the lease when it starts");
    assert!(std::fs::read_to_string(r.0.join("run/leases.json")).unwrap().contains("192.0.2.1"));
    r.expect("relays", 0, "one  Sweden  198.51.100.1:51820");
    r.expect("relays SWE --json", 0, "\"endpoint\": \"198.51.100.1:51820\"");
    r.expect("relays norway", 1, "none that fits");
    r.expect("disarm", 1, "say it again with --yes");
}

#[test]
fn check_says_everything_at_once() {
    let r = Router::new("check");
    r.expect("check", 0, "good: LAN br-lan; 1 relays");
    r.config(
        "vpnd",
        &VPND.replace("198.51.100.1:51820", "se.example:51820").replace("10.64.0.2/32", "10.64.0.2/33"),
    );
    let said = r.expect("check", 1, "2 errors");
    assert!(said.contains("relay 'one'") && said.contains("10.64.0.2/33"), "{said}");
    let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    r.config("vpnd", &VPND.replace(key, "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBm"));
    let said = r.expect("check", 1, "private_key");
    assert!(!said.contains("yAnz5TF"), "a key is never shown: {said}");
}

#[test]
fn rulesets_need_no_kernel() {
    let r = Router::new("ruleset");
    for state in ["boot", "blocked", "error", "lockdown", "connecting", "connected"] {
        r.expect(&format!("ruleset --state {state}"), 0, "table inet vpnd");
        let (code, json, _) = r.vpnd(&format!("ruleset --state {state} --format json"));
        assert_eq!(code, 0);
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
    }
    r.expect("ruleset --state connected --listen-port 40001 --wan eth1=192.0.2.0/24,2001:db8::/64 --lease eth1=192.0.2.1", 0, "40001");
    r.expect("ruleset", 1, "--state is needed");
    r.expect("ruleset --state open", 1, "'open' is none of boot");
    r.expect("ruleset --state connected --relay two", 1, "no relay is called 'two'");
    r.expect("ruleset --state connected --wan eth1", 1, "is no DEVICE=");
    r.expect("ruleset --state connected --wan eth1=x", 1, "'x' is no prefix");
    r.expect("ruleset --state boot --format xml", 1, "neither nft nor json");
}

#[test]
fn why_needs_no_kernel_for_a_state() {
    let r = Router::new("why");
    std::fs::write(r.0.join("leases"), "1 02:00:00:00:00:01 192.168.1.20 tv *\n").unwrap();
    let leases = format!("--leases {}", r.0.join("leases").display());
    let said = r.expect(
        &format!("why --from lan:tv --to 8.8.8.8:53/udp --state connected {leases}"),
        3,
        "row        3.5 DNS goes to the in-tunnel or listed resolvers only",
    );
    assert!(said.starts_with("blocked, while connected: LAN (br-lan) to tunnel (vpnd0)\n"), "{said}");
    assert!(said.contains("allowed by use the router as resolver"), "{said}");
    r.expect(
        "why --from lan:192.168.1.20 --to 10.64.0.1:53/udp --state connected",
        0,
        "passes, while connected",
    );
    r.expect("why --from router --to 198.51.100.9 --state error", 3, "'vpnd connect'");
    r.expect(
        "why --from wan:192.0.2.9 --to router:22 --state connected --wan eth1=192.0.2.0/24",
        3,
        "WAN (eth1) to router",
    );
    let (code, json, _) = r.vpnd("why --from lan:br-lan --to 1.1.1.1 --state blocked --json");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["passes"], &json["rule"]["row"]), (3, &false.into(), &"0.0".into()));
    assert_eq!(json["rules"]["in_force"], serde_json::Value::Null);
    r.expect("why --from lan:tv --to example.com --state connected", 1, "names are not looked up");
    r.expect("why --from mars --to 1.1.1.1 --state connected", 1, "is neither router nor lan:");
    r.expect(
        "why --from lan:10.9.9.9 --to 1.1.1.1 --state connected",
        1,
        "is on no LAN network; those are 192.168.1.0/24 (br-lan)",
    );
    r.expect("why --from lan:tv --to 1.1.1.1 --state open", 1, "'open' is none of boot");
    r.expect("why --from router", 1, "go together");
    r.expect("why --state connected", 1, "go together");
    r.expect("why", 1, "the daemon is not running");
}

#[test]
fn an_import_keeps_everything_else() {
    let r = Router::new("import");
    r.config("vpnd", &format!("# mine\n{VPND}"));
    let file = r.0.join("no-osl.conf");
    let conf = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.64.0.3/32\n\
                [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\n\
                Endpoint = 203.0.113.9:51820\n";
    std::fs::write(&file, conf).unwrap();
    let said = r.expect(&format!("import {}", file.display()), 0, "relay no-osl");
    assert!(!said.contains("yAnz5TF"), "{said}");
    let target = r.0.join("config/vpnd");
    let text = std::fs::read_to_string(&target).unwrap();
    assert!(text.contains("# mine") && text.contains("10.64.0.3/32") && text.contains("'one'"), "{text}");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    r.expect("check", 0, "2 relays");
    r.expect("relays osl", 0, "203.0.113.9:51820");
    std::fs::write(&file, conf.replace("Endpoint = 203.0.113.9", "Endpoint = nowhere.invalid")).unwrap();
    r.expect(&format!("import {}", file.display()), 1, "nowhere.invalid");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), text, "nothing was changed");
}

/// The kernel's side, in a network namespace of its own: children inherit this thread's.
#[test]
fn block_status_disarm_without_a_daemon() {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("needs root for a network namespace: not run");
        return;
    }
    std::thread::spawn(|| {
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let r = Router::new("kernel");
        r.expect("status", 4, "open: not armed; daemon not running");
        r.expect("block --if-armed", 0, "not armed: nothing to block");
        r.expect("status", 4, "open: not armed");
        r.arm();
        r.expect("status", 4, "NOT PROTECTED: the router is armed");
        r.expect("block --if-armed", 0, "(boot) in force after");
        r.expect("status", 3, "blocked: daemon not running; table ");
        r.expect("block", 0, "(boot) in force after");
        let json = r.expect("status --json", 3, "\"state\": \"blocked\"");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["kernel"]["rules"]["state"], "boot");
        assert_eq!(json["daemon"]["running"], false);

        // A mistake in one line of the LAN list does not lock out those whom the list named.
        std::fs::write(
            r.0.join("state/lan.json"),
            r#"{"devices":[{"name":"br-lan","prefixes":[],"forward":true}],"routes":[]}"#,
        )
        .unwrap();
        r.config("vpnd", "config vpnd main\n\tlist lan_device 'br lan'\n\tlist lan_device 'br-guest'\n");
        r.expect("block", 0, "a configuration with errors and the list kept from before");
        let rules = Command::new("nft").args(["list", "chain", "inet", "vpnd", "input"]).output().unwrap();
        let rules = String::from_utf8(rules.stdout).unwrap();
        for device in ["br-lan", "br-guest"] {
            assert!(rules.contains(&format!("\"{device}\" : goto lan_to_router")), "{device}: {rules}");
        }
        std::fs::remove_file(r.0.join("state/lan.json")).unwrap();

        // No configuration, then a corrupt one: still blocked (contract 4.5).
        for text in ["config vpnd 'main", "\0\u{1b}[2J"] {
            r.config("vpnd", text);
            r.config("network", text);
            r.expect("block --if-armed", 0, "(boot) in force after");
            r.expect("status", 3, "blocked");
        }
        for file in ["vpnd", "network", "firewall"] {
            std::fs::remove_file(r.0.join("config").join(file)).unwrap();
        }
        r.expect("block --if-armed", 0, "forwarding is closed");
        r.expect("status", 3, "blocked");

        r.expect("disarm --yes", 0, "disarmed: as if vpnd were not there");
        r.expect("status", 4, "open: not armed");
        assert!(!r.0.join("state/armed").exists());
        r.expect("disarm --yes", 0, "disarmed");
    })
    .join()
    .unwrap();
}

/// The rulesets of this boot, by number, with no daemon at all.
#[test]
fn generations_and_their_difference_without_a_daemon() {
    let r = Router::new("nogenerations");
    r.expect("generations --json", 0, "\"generations\": []");
    r.expect("diff", 1, "no rules were put since boot");
    r.expect("diff 1 2 3", 1, "'3' is one argument too many");
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("needs root for a network namespace: not run");
        return;
    }
    std::thread::spawn(|| {
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let nft = |line: &str| assert!(Command::new("nft").arg(line).status().unwrap().success(), "{line}");
        let r = Router::new("generations");
        r.arm();
        r.expect("block --if-armed", 0, "(boot) in force");
        r.expect("block", 0, "(boot) in force");
        let first = r.expect("generations", 0, "blocked at boot");
        assert_eq!(first.lines().count(), 1, "the same rules are the same generation: {first}");
        assert!(first.starts_with("*    1  boot "), "{first}");
        r.expect("diff", 1, "generation 1 is the only one");

        let listed = "option enabled '1'\n\tlist allow_wan_private '192.168.100.0/24'";
        r.config("vpnd", &VPND.replace("option enabled '1'", listed));
        r.expect("block", 0, "(boot) in force");
        let list = r.expect("generations", 0, "*    2  boot ");
        assert!(list.contains("'vpnd block' asked"), "{list}");
        let said = r.expect("diff 1 2", 0, "generation 1 (boot) -> 2 (boot)");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[1], "2.8 Listed prefixes and multicast groups behind the WAN are reachable.");
        assert!(lines[2].starts_with("  + may pass now: a listed prefix behind the WAN is reached (router to WAN, LAN to WAN): to 192.168.100.0/24"), "{said}");
        assert_eq!(lines.len(), 5, "nothing else has changed: {said}");
        r.expect("diff 2 1", 0, "  - may not pass any more: a listed prefix");
        r.expect("diff 1 1", 0, "the same may pass");
        r.expect("diff 1 9", 1, "'9' is no generation that is remembered; those from 1 to 2 are");
        let json: serde_json::Value = serde_json::from_str(&r.expect("diff 1 2 --json", 0, "{")).unwrap();
        assert_eq!(json["rows"][0]["row"], "2.8");
        assert_eq!(json["rows"][0]["now"][0]["items"], serde_json::json!(["192.168.100.0/24"]));
        assert_eq!(json["rows"].as_array().unwrap().len(), 1);

        // What the kernel holds is compared, not what was noted.
        r.expect("status", 3, "  generation 2, ");
        nft("add rule inet vpnd forward accept");
        r.expect("generations", 0, "! the rules in force are none that vpnd noted; generation 2 was the last");
        r.expect("status", 1, "the kernel enforces rules that are none of vpnd's");
        nft("delete table inet vpnd");
        r.expect("generations", 0, "! the rules of generation 2 are gone");
        r.expect("status", 4, "  generation none; the last was 2");
        r.config("vpnd", VPND);
        r.expect("block", 0, "(boot) in force");
        r.expect("generations", 0, "*    3  boot ");
        r.expect("disarm --yes", 0, "disarmed");
        let list = r.expect("generations", 0, "*    4  open        no rules");
        assert!(list.contains("disarm without a daemon"), "{list}");
        r.expect("diff 3 4", 0, "generation 4 has no rules: vpnd blocks nothing");
        r.expect("disarm --yes", 0, "disarmed");
        assert_eq!(r.expect("generations", 0, "*    4").lines().count(), 4, "open already");
        let json: serde_json::Value =
            serde_json::from_str(&r.expect("generations --json", 0, "{")).unwrap();
        assert_eq!((&json["in_force"], &json["generations"][0]["state"]), (&4.into(), &"boot".into()));

        // A record that cannot be written keeps no rules away.
        let run = r.0.join("run/generations");
        std::fs::remove_dir_all(&run).unwrap();
        std::fs::write(&run, "").unwrap();
        r.expect("block", 0, "this generation is not noted");
        r.expect("status", 3, "blocked: daemon not running");
    })
    .join()
    .unwrap();
}

/// Contract section 1: a disarm by hand is what the daemon's would be.
#[test]
fn disarm_without_a_daemon_ends_lockdown_and_the_tunnels_flows() {
    use vpnd::firewall::conntrack;
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("needs root for a network namespace: not run");
        return;
    }
    std::thread::spawn(|| {
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        let sh = |line: &str| assert!(Command::new("sh").args(["-c", line]).status().unwrap().success());
        sh("ip link set lo up; ip addr add 10.64.0.2/32 dev lo; nft add table inet nat;
            nft 'add chain inet nat post { type nat hook postrouting priority 100; }';
            nft add rule inet nat post ip daddr 127.0.0.1 udp dport 7777 snat ip to 10.64.0.2");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in [7777, 7778] {
            let _ = socket.send_to(b"x", ("127.0.0.1", port));
        }
        let ports = || -> Vec<u16> {
            let mut all: Vec<_> =
                conntrack::flows().unwrap().iter().map(|flow| flow.original.destination_port).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(ports(), [7777, 7778], "control");

        let r = Router::new("disarm");
        r.config("vpnd", &VPND.replace("option enabled '1'", "option enabled '1'\n\toption lockdown '1'"));
        r.arm();
        r.expect("disarm --yes", 0, "disarmed: as if vpnd were not there");
        assert_eq!(ports(), [7778], "translated to the tunnel's address, it would go out in plaintext");
        let wanted = std::fs::read_to_string(r.0.join("state/wanted.json")).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(&wanted).unwrap();
        assert_eq!(
            wanted["lockdown"],
            serde_json::json!({ "on": false, "option_then": true }),
            "the next start would block again"
        );
    })
    .join()
    .unwrap();
}
