//! What the real kernel tells of changed rules. Needs root.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::kernel::in_namespace;
use crate::firewall::watch::{Watch, watch};
use crate::firewall::watch_message::Heard;

/// Runs `test` with a watch in a namespace of its own.
fn watching(test: impl FnOnce(&mut Watch) + Send + 'static) {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        test(&mut watch().unwrap());
    });
}

/// The process's number.
fn nft(batch: &str) -> u32 {
    use std::io::Write;
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    pid
}

const TABLE: &str = "table inet vpnd
delete table inet vpnd
table inet vpnd {
    set spoke { type ifname . ipv4_addr; flags timeout; timeout 1s; }
    chain output { type filter hook output priority 0; add @spoke { oifname . ip daddr }; }
}
";

#[test]
fn the_process_is_told_and_ours_is_known() {
    watching(|watch| {
        assert_eq!(watch.hear(&[]).unwrap(), Heard::default());
        let pid = nft(TABLE);
        let heard = watch.hear(&[]).unwrap();
        assert!(heard.touched && !heard.lost && heard.changes.len() == 1, "{heard:?}");
        assert_eq!((heard.changes[0].pid, heard.changes[0].process.as_deref()), (Some(pid), Some("nft")));
        let pid = nft(TABLE);
        assert!(!watch.hear(&[pid]).unwrap().touched, "the port of nft is its process's number");
        nft("table inet vpnd2 {}\ntable ip vpnd {}\n");
        assert_eq!(watch.hear(&[]).unwrap(), Heard::default());
    });
}

/// Or each packet that fills a set would be somebody's doing.
#[test]
fn what_rules_and_time_do_to_a_set_is_not_told() {
    watching(|watch| {
        let pid = nft(TABLE);
        watch.hear(&[pid]).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let listed = || {
            let list = Command::new("nft").args(["list", "table", "inet", "vpnd"]).output().unwrap();
            String::from_utf8(list.stdout).unwrap().contains("127.0.0.1")
        };
        assert!(listed(), "the rule fills the set");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!listed(), "and time empties it");
        assert_eq!(watch.hear(&[]).unwrap(), Heard::default());
        nft("add element inet vpnd spoke { \"lo\" . 127.0.0.9 }\n");
        assert_eq!(watch.hear(&[]).unwrap().changes[0].what, "a set of table inet vpnd was altered");
    });
}

#[test]
fn what_overflows_is_told_and_then_it_hears_again() {
    watching(|watch| {
        let rules =
            "add rule inet vpnd output counter comment \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"\n";
        let pid = nft(&format!("{TABLE}{}", rules.repeat(400)));
        let heard = watch.hear(&[pid]).unwrap();
        assert!(!heard.lost && !heard.touched, "ours would fit: {heard:?}");
        let pid = nft(&format!("{TABLE}{}", rules.repeat(30_000)));
        let heard = watch.hear(&[pid]).unwrap();
        assert!(heard.lost, "{heard:?}");
        // In some turns all that was left is read.
        for _ in 0..10 {
            watch.hear(&[pid]).unwrap();
        }
        assert!(!watch.hear(&[]).unwrap().lost);
        nft("delete table inet vpnd\n");
        let heard = watch.hear(&[]).unwrap();
        assert!(heard.touched || heard.lost, "{heard:?}");
    });
}
