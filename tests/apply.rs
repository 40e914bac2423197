//! `vpnd apply` against a real daemon and a real nftables, each test in network and mount
//! namespaces of its own. Needs root; no WireGuard: the router is open or blocked throughout.

// Helpers of tests, which clippy.toml allows only inside #[test] functions.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const NETWORK: &str = "config interface 'lan'\n\toption device 'br-lan'\n\toption proto 'static'\n\
                       \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n\toption input 'ACCEPT'\n";
const MAIN: &str =
    "config vpnd 'main'\n\toption enabled '1'\n\tlist allow_wan_service 'tcp 22 203.0.113.0/24'\n";
const REST: &str = "\nconfig tunnel\n\toption private_key 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='\n\
    \tlist address '10.64.0.2/32'\n\tlist dns '10.64.0.1'\n\n\
    config relay 'one'\n\toption endpoint '198.51.100.1:51820'\n\
    \toption public_key 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg='\n";

/// Sessions that the person asks from.
const CONSOLE: &str = "";
const LAN: &str = "192.168.1.20 40000 192.168.1.1 22";
const WAN: &str = "203.0.113.9 40000 198.51.100.2 22";

const LONG: Duration = Duration::from_secs(30);

struct Router {
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Router {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-apply-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("flash")).unwrap();
        // The flash: small, one file system, gone with the namespace.
        let flash = dir.join("flash").display().to_string();
        sh(&format!("mount -t tmpfs -o size=192k none {flash}; mkdir {flash}/config {flash}/state"));
        sh("ip link set lo up; ip link add br-lan type bridge; ip link add br-guest type bridge;
            ip addr add 192.168.1.1/24 dev br-lan; ip link set br-lan up");
        let router = Self { dir, daemon: None };
        router.config("network", NETWORK);
        router.config("firewall", FIREWALL);
        router.write("");
        router
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("flash").join(name)
    }
    fn config(&self, file: &str, text: &str) {
        std::fs::write(self.path("config").join(file), text).unwrap();
    }
    /// The configuration with these lines in its main section.
    fn write(&self, lines: &str) -> String {
        let lines: String = lines.lines().map(|line| format!("\t{}\n", line.trim())).collect();
        let text = format!("{MAIN}{lines}{REST}");
        self.config("vpnd", &text);
        text
    }
    fn file(&self) -> String {
        std::fs::read_to_string(self.path("config/vpnd")).unwrap()
    }
    fn rejected(&self) -> String {
        std::fs::read_to_string(self.path("state/vpnd.rejected")).unwrap_or_default()
    }
    /// For this namespace, an nft that refuses to load anything while the file returned is there.
    fn false_nft(&self) -> PathBuf {
        let output = Command::new("sh").args(["-c", "readlink -f $(command -v nft)"]).output().unwrap();
        let nft = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let (dir, fails) = (self.dir.display(), self.dir.join("nft-fails"));
        let script = format!(
            "#!/bin/sh
case \"$*\" in
*'-f -'*) [ -e {} ] && exit 1;;
*-j*list*) [ \"$(cat {} 2>/dev/null)\" = $PPID ] && sleep 1;;
esac
exec {dir}/real-nft \"$@\"
",
            fails.display(),
            self.slow().display()
        );
        std::fs::write(self.dir.join("false-nft"), script).unwrap();
        sh(&format!(
            "cp {nft} {dir}/real-nft; chmod 755 {dir}/false-nft; mount --bind {dir}/false-nft {nft}"
        ));
        fails
    }
    /// The false nft takes a second for a listing by the process that this file names.
    fn slow(&self) -> PathBuf {
        self.dir.join("nft-slow")
    }
    fn kept_lan(&self) -> String {
        std::fs::read_to_string(self.path("state/lan.json")).unwrap()
    }
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnd"));
        let dir = |option: &str, path: PathBuf| format!("--{option}={}", path.display());
        command.args(words).env_remove("SSH_CONNECTION").env_remove("SSH_CLIENT").args([
            dir("config-dir", self.path("config")),
            dir("state-dir", self.path("state")),
            dir("run-dir", self.dir.join("run")),
        ]);
        command
    }
    fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.command(&["daemon"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        self.until("the daemon answers", |r| !r.status()["daemon"]["status"].is_null());
    }
    fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    fn say(&self, session: &str, line: &str) -> (i32, String) {
        let mut command = self.command(&line.split_whitespace().collect::<Vec<_>>());
        if !session.is_empty() {
            command.env("SSH_CONNECTION", session);
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
    }
    #[track_caller]
    fn expect(&self, session: &str, line: &str, code: i32, words: &str) -> String {
        let (found, all) = self.say(session, line);
        assert!(
            found == code && all.contains(words),
            "vpnd {line}: exit {found}, wanted {code} and '{words}':\n{all}\nlog: {}",
            std::fs::read_to_string(self.dir.join("log")).unwrap()
        );
        all
    }
    fn status(&self) -> Value {
        serde_json::from_str(&self.say("", "status --json").1).unwrap()
    }
    fn on_trial(&self) -> bool {
        self.status()["daemon"]["status"]["trial"]["left_s"].is_u64()
    }
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !holds(self) {
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap();
            assert!(Instant::now() < end, "in vain until {what}: {:#}\n{}", self.status(), log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    /// The kernel's own rules: whether this device is LAN.
    fn is_lan(&self, device: &str) -> bool {
        let output = Command::new("nft").args(["list", "chain", "inet", "vpnd", "input"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains(&format!("\"{device}\" : goto lan_to_router"))
    }
    /// Number and cause of the newest generation.
    fn newest(&self) -> (u64, String) {
        let all: Value = serde_json::from_str(&self.say("", "generations --json").1).unwrap();
        let newest = all["generations"].as_array().unwrap().last().unwrap();
        assert_eq!(all["in_force"], newest["number"], "{all:#}");
        (newest["number"].as_u64().unwrap(), newest["cause"].as_str().unwrap().to_owned())
    }
    fn nothing_left(&self) {
        let left: Vec<_> = ["trial.json", "vpnd.former"]
            .into_iter()
            .filter(|name| self.path("state").join(name).exists())
            .collect();
        assert_eq!(left, Vec::<&str>::new());
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill();
        }
        let _ = Command::new("umount").arg("-l").arg(self.dir.join("flash")).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[track_caller]
fn sh(line: &str) {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Blocked under lockdown, with a daemon.
fn blocked(name: &'static str, test: impl FnOnce(Router) + Send + 'static) {
    router(name, |mut r| {
        r.start();
        r.expect(CONSOLE, "lockdown on", 0, "");
        r.until("it is blocked", |r| r.status()["state"] == "blocked");
        assert!(r.is_lan("br-lan") && !r.is_lan("br-guest"));
        test(r);
    });
}

fn router(name: &'static str, test: impl FnOnce(Router) + Send + 'static) {
    // SAFETY: geteuid has no preconditions.
    assert_eq!(unsafe { libc::geteuid() }, 0, "this test builds namespaces: run it as root");
    let thread = std::thread::spawn(move || {
        // SAFETY: affects this thread only, which ends with this test.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) }, 0);
        sh("mount --make-rprivate /");
        test(Router::new(name));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

const GUEST: &str = "list lan_device 'br-lan'\nlist lan_device 'br-guest'";

#[test]
fn a_changed_lan_list_goes_back_by_itself() {
    blocked("back", |r| {
        let former = r.file();
        let (number, _) = r.newest();
        let new = r.write(GUEST);
        let said = r.expect(LAN, "apply --confirm-within 3", 0, "LAN device br-guest is now protected");
        assert!(said.contains("on trial for 3 s, because the LAN list or its addresses change"), "{said}");
        assert!(r.is_lan("br-guest"), "in force at once");
        assert_eq!(r.newest(), (number + 1, "settings applied, on trial for 3 s".to_owned()));
        r.expect("", "status", 3, "  on trial   changed settings, for ");
        assert!(r.on_trial());
        assert_eq!(r.file(), new, "the file is as it was written");
        assert!(!r.kept_lan().contains("br-guest"), "kept for a broken day is what was confirmed");
        r.until("the former settings are back", |r| !r.on_trial());
        assert!(!r.is_lan("br-guest") && r.is_lan("br-lan"));
        assert_eq!((r.file(), r.rejected()), (former, new));
        assert_eq!(r.newest(), (number + 2, "former settings again: not confirmed within 3 s".to_owned()));
        let rejected = r.path("state/vpnd.rejected").display().to_string();
        assert!(
            r.expect("", "status", 3, "not confirmed within 3 s").contains(&rejected),
            "the path is told"
        );
        r.expect("", "apply --confirm", 1, "nothing is on trial; the changed settings are not in force");
        r.expect("", "apply --undo", 1, "nothing is on trial");
        r.expect("", &format!("diff {number} {}", number + 2), 0, "the same may pass");
        r.nothing_left();
        assert!(!r.kept_lan().contains("br-guest"));
    });
}

#[test]
fn what_is_confirmed_stays() {
    blocked("stays", |mut r| {
        let new = r.write(GUEST);
        r.expect(LAN, "apply --confirm-within 2", 0, "on trial for 2 s");
        r.expect(LAN, "apply --confirm", 0, "confirmed: the changed settings stay");
        r.nothing_left();
        std::thread::sleep(Duration::from_secs(3));
        assert!(r.is_lan("br-guest") && !r.on_trial() && r.file() == new);
        assert!(r.kept_lan().contains("br-guest"));
        r.kill();
        r.start();
        assert!(r.is_lan("br-guest") && r.file() == new, "nothing is undone at the next start");
        // Confirmed, they are what the next trial goes back to.
        r.write("");
        r.expect(
            LAN,
            "apply",
            0,
            "LAN device br-guest is no longer protected: what comes from it counts as WAN",
        );
        r.expect(LAN, "apply --undo", 0, "(asked): the former ones are, and back in");
        assert!(r.is_lan("br-guest") && r.file() == new);
    });
}

#[test]
fn a_daemon_that_dies_in_the_trial_is_followed_by_one_that_goes_back() {
    blocked("dies", |mut r| {
        let former = r.file();
        let new = r.write(&format!("option enabled '0'\n{GUEST}"));
        r.expect(LAN, "apply --confirm-within 600", 0, "the daemon does not start any more");
        assert!(r.is_lan("br-guest"));
        r.kill();
        let said = r.expect("", "status", 3, "on trial   changed settings that nobody confirmed");
        assert!(said.contains("daemon not running"), "{said}");
        for verb in ["apply --confirm", "apply --undo"] {
            r.expect("", verb, 1, "are undone when it starts");
        }
        // The boot block of a reboot trusts the former, too.
        sh("nft delete table inet vpnd");
        r.expect("", "block --if-armed", 0, "LAN from the configuration");
        assert!(!r.is_lan("br-guest") && r.is_lan("br-lan"));
        assert_eq!(r.file(), new, "but it writes nothing");
        r.start();
        assert!(!r.is_lan("br-guest") && r.is_lan("br-lan"));
        assert_eq!((r.file(), r.rejected()), (former, new));
        r.expect("", "status", 3, "vpnd ended before they were confirmed");
        assert!(!r.on_trial());
        r.nothing_left();
    });
}

#[test]
fn wrong_settings_are_refused_with_all_that_is_wrong_and_change_nothing() {
    blocked("wrong", |r| {
        let before = r.newest();
        let wrong = r.write("list lan_device 'br lan'\nlist allow_wan_private 'x'\noption lockdown 'maybe'");
        for verb in ["apply --dry-run", "apply", "apply --confirm-within 5"] {
            let said = r.expect(LAN, verb, 1, "nothing was changed:");
            for problem in ["br lan", "allow_wan_private", "maybe"] {
                assert!(said.contains(problem), "{problem}: {said}");
            }
        }
        assert_eq!((r.newest(), r.file()), (before.clone(), wrong), "the file is theirs to mend");
        assert!(!r.on_trial() && r.status()["state"] == "blocked" && r.is_lan("br-lan"));
        std::fs::remove_file(r.path("config/vpnd")).unwrap();
        r.expect(LAN, "apply", 1, "cannot be read");
        assert_eq!(r.newest(), before);
        r.nothing_left();
        for (line, words) in [
            ("apply --confirm-within 0", "from 1 to 3600"),
            ("apply --confirm-within soon", "from 1 to 3600"),
            ("apply --confirm --undo", "one of them"),
            ("apply --confirm --confirm-within 9", "goes with new settings only"),
        ] {
            r.expect(LAN, line, 1, words);
        }
    });
}

#[test]
fn who_cannot_be_cut_off_need_not_confirm() {
    blocked("harmless", |r| {
        r.expect(LAN, "apply", 0, "no traffic is treated differently");
        let (number, _) = r.newest();
        let private = "list allow_wan_private '192.168.100.0/24'";
        r.write(private);
        let sentence = "LAN device br-lan and the router may now also reach 192.168.100.0/24 behind the WAN, past the tunnel";
        let said = r.expect(WAN, "apply --dry-run", 0, sentence);
        assert!(
            said.contains("this would change")
                && said.contains("it would be on trial for 60 s, because you ask from 203.0.113.9"),
            "{said}"
        );
        assert_eq!(r.newest().0, number, "a dry run changes nothing");
        let said = r.expect(LAN, "apply", 0, sentence);
        assert!(!said.contains("trial") && !r.on_trial(), "{said}");
        assert_eq!(r.newest(), (number + 1, "settings applied".to_owned()));
        r.expect("", "diff", 0, "+ may pass now: a listed prefix behind the WAN is reached");
        r.nothing_left();
        // The same step back, from the WAN.
        r.write("");
        r.expect(
            WAN,
            "apply",
            0,
            "on trial for 60 s, because you ask from 203.0.113.9, which is on no LAN network",
        );
        r.expect(WAN, "apply --undo", 0, "asked");
        // A service that carries the session goes away.
        r.write(private);
        r.config("vpnd", &r.file().replace("\tlist allow_wan_service 'tcp 22 203.0.113.0/24'\n", ""));
        let said = r.expect(
            WAN,
            "apply --dry-run",
            0,
            "the router's SSH (tcp 22) may no longer be reached from 203.0.113.0/24 on the WAN",
        );
        assert!(
            said.contains("your own session (203.0.113.9 to tcp 22) would not be let in any more"),
            "{said}"
        );
        r.expect(CONSOLE, "apply --dry-run", 0, "where you ask from is not known");
        let said = r.expect(LAN, "apply", 0, "no longer");
        assert!(!said.contains("trial"), "{said}");
    });
}

/// The LAN's addresses are those of /etc/config/network, which is not vpnd's to put back.
#[test]
fn what_vpnd_cannot_take_back_is_not_tried() {
    blocked("network", |r| {
        r.config("network", &NETWORK.replace("192.168.1.1", "192.168.7.1"));
        let said = r.expect(
            LAN,
            "apply",
            0,
            "router and LAN may now also reach 192.168.7.0/24 on LAN device br-lan",
        );
        assert!(
            said.contains("not on trial: this comes from the network or firewall configuration"),
            "{said}"
        );
        assert!(!said.contains("--confirm") && !r.on_trial(), "{said}");
        r.nothing_left();
        let said = r.expect(LAN, "apply", 0, "no traffic is treated differently");
        assert!(!said.contains("note"), "{said}");
        // With vpnd's own file changed as well, that one is put back.
        r.config("network", NETWORK);
        r.write(GUEST);
        r.expect(LAN, "apply", 0, "on trial for 60 s");
        r.expect(LAN, "apply --undo", 0, "asked");
        assert!(!r.is_lan("br-guest"));
    });
}

/// What nft refuses is neither in force nor a generation, on trial or not.
#[test]
fn a_ruleset_that_is_refused_is_no_generation() {
    router("refused", |mut r| {
        let fails = r.false_nft();
        r.start();
        r.expect(CONSOLE, "lockdown on", 0, "");
        r.until("it is blocked", |r| r.status()["state"] == "blocked");
        let before = r.newest();
        r.write(GUEST);
        std::fs::write(&fails, "").unwrap();
        let said = r.expect(LAN, "apply", 0, "on trial for 60 s");
        assert!(
            said.contains("note: installing the firewall policy") && said.contains("nft refused"),
            "{said}"
        );
        assert!(r.is_lan("br-lan") && !r.is_lan("br-guest"), "the former rules stay");
        assert_eq!(r.newest(), before, "in force, by the kernel's word");
        std::fs::remove_file(&fails).unwrap();
        r.until("it is tried again", |r| r.is_lan("br-guest"));
        let (number, cause) = r.newest();
        assert_eq!((number, cause.as_str()), (before.0 + 1, "tried again after a pause"));
        std::fs::write(&fails, "").unwrap();
        r.expect(LAN, "apply --undo", 0, "asked");
        assert!(r.is_lan("br-guest") && r.newest().0 == number);
        std::fs::remove_file(&fails).unwrap();
        r.until("it is back", |r| !r.is_lan("br-guest"));
        assert_eq!(r.newest().0, number + 1);
    });
}

/// In force in the kernel, but not read back and noted yet: nobody else's ruleset.
#[test]
fn a_ruleset_on_its_way_is_not_taken_for_a_foreign_one() {
    router("onitsway", |mut r| {
        r.false_nft();
        r.start();
        r.expect(CONSOLE, "lockdown on", 0, "");
        r.until("it is blocked", |r| r.status()["state"] == "blocked");
        let (number, _) = r.newest();
        r.write(GUEST);
        std::fs::write(r.slow(), r.daemon.as_ref().unwrap().id().to_string()).unwrap();
        let mut reload = r.command(&["reload"]).stdout(Stdio::null()).spawn().unwrap();
        r.until("the kernel has it", |r| r.is_lan("br-guest"));
        assert_eq!(r.newest().0, number + 1);
        std::fs::remove_file(r.slow()).unwrap();
        assert!(reload.wait().unwrap().success());
    });
}

#[test]
fn during_a_trial() {
    blocked("during", |r| {
        let former = r.file();
        let tried = r.write(GUEST);
        r.expect(LAN, "apply --confirm-within 600", 0, "on trial for 600 s");
        // Another apply has to wait; looking does not.
        r.expect(LAN, "apply", 1, "other settings are on trial for");
        r.expect(LAN, "apply --dry-run", 0, "no traffic is treated differently");
        // A reload stays what it is: what lies there comes into force, and the trial goes on.
        let changed = r.write(&format!("{GUEST}\nlist allow_wan_private '192.168.100.0/24'"));
        r.expect(LAN, "reload", 0, "");
        assert!(r.on_trial());
        r.expect("", "diff", 0, "a listed prefix behind the WAN is reached");
        r.expect(LAN, "apply --undo", 0, "the others are in");
        assert_eq!((r.file(), r.rejected()), (former.clone(), changed));
        assert!(!r.is_lan("br-guest"));
        r.nothing_left();
        // Changed again on disk before the confirmation: that is not what is confirmed.
        std::fs::write(r.path("config/vpnd"), &tried).unwrap();
        r.expect(LAN, "apply", 0, "on trial for 60 s");
        let again = r.write("list resolver '10.64.0.7'");
        let said = r.expect(LAN, "apply --confirm", 0, "confirmed: the changed settings stay");
        assert!(
            said.contains("was changed again since: that is not in force; 'vpnd apply' takes it"),
            "{said}"
        );
        assert!(r.is_lan("br-guest") && r.file() == again);
        r.nothing_left();
        // The next trial goes back to what was in force, not to what once lay there.
        r.expect(LAN, "apply", 0, "LAN device br-guest is no longer protected");
        r.expect(LAN, "apply --undo", 0, "asked");
        assert_eq!((r.file(), r.rejected()), (tried.clone(), again));
        // A broken file that is reloaded meanwhile blocks, and goes aside with the trial.
        r.write(&format!("{GUEST}\nlist lan_route '192.168.50.0/24 via 192.168.1.2'"));
        r.expect(LAN, "apply", 0, "on trial for 60 s");
        r.config("vpnd", "config vpnd 'main");
        r.expect(LAN, "reload", 0, "");
        r.expect(LAN, "apply --undo", 0, "asked");
        assert_eq!((r.file(), r.rejected()), (tried, "config vpnd 'main".to_owned()));
        assert!(r.is_lan("br-guest"));
    });
}

#[test]
fn on_a_full_flash_nothing_begins_but_what_began_is_undone() {
    blocked("full", |r| {
        let former = r.file();
        let before = r.newest();
        let fill = format!("dd if=/dev/zero of={} bs=1k 2>/dev/null || true", r.path("fill").display());
        let new = r.write(GUEST);
        sh(&fill);
        let said = r.expect(LAN, "apply", 1, "nothing was changed: the former settings cannot be kept");
        assert!(said.contains("the flash is full"), "{said}");
        assert!(!r.is_lan("br-guest") && !r.on_trial());
        assert_eq!((r.newest(), r.file()), (before, new.clone()));
        r.nothing_left();
        std::fs::remove_file(r.path("fill")).unwrap();
        r.expect(LAN, "apply", 0, "on trial for 60 s");
        sh(&fill);
        r.expect(LAN, "apply --undo", 0, "the others are in");
        assert_eq!((r.file(), r.rejected()), (former, new));
        assert!(!r.is_lan("br-guest"));
        r.nothing_left();
    });
}

/// A file that cannot be put back: the former settings count all the same, and it is said.
#[test]
fn what_cannot_be_put_back_is_said_until_it_can() {
    blocked("stuck", |r| {
        let former = r.file();
        r.write(GUEST);
        r.expect(LAN, "apply", 0, "on trial for 60 s");
        std::fs::remove_file(r.path("config/vpnd")).unwrap();
        std::fs::create_dir_all(r.path("config/vpnd/x")).unwrap();
        r.expect(LAN, "apply --undo", 0, "could not be put back");
        assert!(!r.is_lan("br-guest") && r.is_lan("br-lan"), "in force all the same");
        assert_eq!(r.status()["state"], "blocked");
        r.expect("", "status", 3, "could not be put back");
        r.expect(LAN, "apply", 1, "could not be put back in their file yet");
        std::fs::remove_dir_all(r.path("config/vpnd")).unwrap();
        r.expect(LAN, "reload", 0, "");
        assert_eq!(r.file(), former);
        r.nothing_left();
        r.expect(LAN, "apply", 0, "no traffic is treated differently");
    });
}

/// Lockdown that is tried from the WAN closes the router; unconfirmed it must open again, or who
/// asked is shut out for good.
#[test]
fn lockdown_on_trial_opens_again() {
    for dies in [false, true] {
        router(if dies { "lockdown-dies" } else { "lockdown" }, move |mut r| {
            r.start();
            assert_eq!(r.status()["state"], "open");
            let former = r.file();
            r.write("option lockdown '1'");
            let said = r.expect(
                WAN,
                "apply --confirm-within 2",
                0,
                "lockdown: when disconnected, the router blocks",
            );
            assert!(said.contains("on trial for 2 s"), "{said}");
            assert_eq!(r.status()["state"], "blocked");
            if dies {
                r.kill();
                r.start();
            }
            r.until("the router is open again", |r| r.status()["state"] == "open");
            assert_eq!(r.file(), former);
            assert!(!r.path("state/armed").exists(), "not blocked after a reboot either");
            // Confirmed, it stays, and an edited file alone does not open it.
            r.write("option lockdown '1'");
            r.expect(WAN, "apply", 0, "on trial for 60 s");
            r.expect(WAN, "apply --confirm", 0, "confirmed");
            r.write("");
            r.expect(LAN, "apply", 0, "lockdown ends with the next 'vpnd disconnect'");
            assert_eq!(r.status()["state"], "blocked");
            r.expect(LAN, "disconnect", 0, "");
            r.until("it is open", |r| r.status()["state"] == "open");
        });
    }
}

#[test]
fn without_a_daemon_there_is_nothing_to_go_back_to() {
    router("dead", |r| {
        for verb in ["apply", "apply --dry-run"] {
            r.expect(LAN, verb, 1, "nothing is in force to compare with or to go back to");
        }
        r.expect(LAN, "apply --confirm", 1, "the daemon is not running");
        r.expect(LAN, "apply --undo", 1, "'service vpnd start' starts it");
        r.nothing_left();
    });
}
