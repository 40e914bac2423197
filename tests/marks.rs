//! Beside programs that mark packets, too: the mark that `vpnd check` proposes lets the tunnel's packets
//! out, and nothing else, whatever pbr and mwan3 write into their bits. Needs root; no WireGuard.

#![allow(clippy::unwrap_used, clippy::panic)]

mod netns;

use std::path::PathBuf;
use std::process::Command;

use netns::{FRAMES, From, House, INTERNET, leaks, send_udp};

const NETWORK: &str = "config interface 'lan'\n\toption device 'lan0'\n\toption proto 'static'\n\
    \toption ipaddr '192.168.1.1'\n\toption netmask '255.255.255.0'\n\
    config interface 'wan'\n\toption device 'wan0'\n\toption proto 'dhcp'\n";
const FIREWALL: &str = "config zone\n\toption name 'lan'\n\tlist network 'lan'\n";
const PBR: &str = "config pbr 'config'\n\toption enabled '1'\n";
const MWAN3: &str = "config interface 'wan'\n\toption enabled '1'\n";
/// As the two do it: in their bits only, pbr over whatever stands there, mwan3 where nothing does.
const OTHERS: &str = "
    nft add table inet others
    nft add chain inet others out \"{ type route hook output priority mangle; }\"
    nft add chain inet others in \"{ type filter hook prerouting priority mangle; }\"
    for chain in out in; do
        nft add rule inet others $chain meta l4proto udp meta mark set meta mark \\& 0xff00ffff \\| 0x00010000 counter
        nft add rule inet others $chain meta mark \\& 0x00003f00 == 0 meta mark set meta mark \\& 0xffffc0ff \\| 0x00000100 counter
    done";

/// `option mark` and `option mark_mask` of what the check proposes, and the rules of `connected`.
struct Router {
    house: House,
    dir: PathBuf,
}

impl Router {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("vpnd-marks-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("network", NETWORK), ("firewall", FIREWALL), ("pbr", PBR), ("mwan3", MWAN3)] {
            std::fs::write(dir.join(file), text).unwrap();
        }
        let router = Self { house: House::build(), dir };
        router.house.sh("rtr", OTHERS);
        router
    }

    fn configure(&self, mark: &str) {
        let relay = format!(
            "config vpnd 'main'\n\toption enabled '1'\n{mark}config tunnel\n\
             \toption private_key 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE='\n\tlist address '10.64.0.2/32'\n\
             config relay 'r1'\n\toption endpoint '{INTERNET}:51820'\n\
             \toption public_key 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI='\n"
        );
        std::fs::write(self.dir.join("vpnd"), relay).unwrap();
    }

    fn vpnd(&self, line: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vpnd"));
        command.args(line.split(' ')).arg("--config-dir").arg(&self.dir);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    }

    /// Frames that leave: of a socket with the tunnel's mark to the relay; of one without, and of the LAN.
    fn leaving(&self, mark: u32) -> (usize, usize) {
        std::fs::write(
            self.dir.join("rules"),
            self.vpnd("ruleset --state connected --wan wan0=203.0.113.0/24"),
        )
        .unwrap();
        let rules = self.dir.join("rules").display().to_string();
        self.house.sh("rtr", &format!("nft delete table inet vpnd 2>/dev/null || true; nft -f {rules}"));
        let to = format!("{INTERNET}:51820").parse().unwrap();
        let from = |place, mark| {
            leaks(&self.house.capture(|| {
                self.house.inside(place, move || {
                    send_udp(to, &From { mark, ..From::default() });
                });
            }))
        };
        (from("rtr", Some(mark)), from("rtr", None) + from("cli", None))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn the_proposed_mark_is_told_apart_from_theirs() {
    let router = Router::new();
    let house = &router.house;
    let to = format!("{INTERNET}:51820").parse().unwrap();
    let open = leaks(&house.capture(|| {
        for place in ["rtr", "cli"] {
            house.inside(place, move || {
                send_udp(to, &From::default());
            });
        }
    }));
    assert_eq!(open, 2 * FRAMES, "control: without vpnd's rules it leaves");

    router.configure("");
    let check = router.vpnd("check");
    for what in ["mwan3 marks packets with (0x3f00)", "pbr marks packets with (0xff0000)"] {
        assert!(check.contains(what), "{check}");
    }
    assert_eq!(router.leaving(0x6d6f_6c65), (0, 0), "control: they do write into the mark");

    let proposed = |name: &str| {
        let after = check.split(&format!("{name} '")).nth(1).unwrap();
        after.split('\'').next().unwrap().to_owned()
    };
    let (mark, mask) = (proposed("with mark"), proposed("and mark_mask"));
    router.configure(&format!("\toption mark '{mark}'\n\toption mark_mask '{mask}'\n"));
    let check = router.vpnd("check");
    assert!(!check.contains("marks packets with"), "{check}");
    let value = u32::from_str_radix(mark.strip_prefix("0x").unwrap(), 16).unwrap();
    assert_eq!(router.leaving(value), (FRAMES, 0));
    let counted = house.sh("rtr", "nft list table inet others");
    assert!(!counted.contains("packets 0 "), "control: each of theirs has written: {counted}");
}
