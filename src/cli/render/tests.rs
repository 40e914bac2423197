use super::super::judge::tests::{kept, kernel, noted, says};
use super::super::judge::{Daemon, Device, judge};
use super::*;
use crate::control::{DeviceStatus, TunnelState, WantedStatus};
use crate::golden;
use crate::machine::Stored;

fn seen(daemon: &str, kernel_words: &str, armed: bool) -> Seen {
    let mut daemon = says(daemon);
    let (kernel, mut kept) = (kernel(kernel_words), kept(armed));
    if armed {
        kept.generations = noted("01 a1b2c3d4e5f60718");
    }
    if let Daemon::Answers(status) = &mut daemon {
        let connect = status.state != TunnelState::Disconnected;
        kept.wanted = Some(Stored { connect, ..Stored::default() });
        status.wanted = Some(WantedStatus { connect, relay: None });
        status.armed = armed;
        status.wan_services = vec!["tcp 22 from 203.0.113.0/24".into()];
        status.version = "0.1.0".into();
        status.pid = 77;
        if let Ok(Some(device)) = &kernel.device {
            let Device { handshake_age_s, rx, tx } = *device;
            status.device = Some(DeviceStatus { name: "vpnd0".into(), handshake_age_s, rx, tx, mtu: 1420 });
        }
    }
    let report = judge(&daemon, &kernel, &kept);
    Seen { daemon, kernel, kept, report }
}

const CASES: &[(&str, &str, bool)] = &[
    ("connected", "connected barrier guard age=12", true),
    ("connecting", "connecting barrier guard", true),
    ("connecting", "connecting barrier guard age=3", true),
    ("error", "blocked barrier guard", true),
    ("disconnected lockdown", "blocked barrier guard", true),
    ("disconnected", "none", false),
    ("dead", "blocked barrier guard", true),
    ("dead", "connected barrier guard age=12", true),
    ("hung", "connected barrier guard age=200", true),
    ("connected", "none", true),
    ("dead", "none barrier guard", true),
    ("connected", "unreadable", true),
];

#[test]
fn for_people() {
    let all: Vec<_> = CASES
        .iter()
        .map(|(daemon, kernel, armed)| {
            let seen = seen(daemon, kernel, *armed);
            let armed = if *armed { "armed" } else { "not armed" };
            let code = seen.report.word.exit_code();
            format!("# daemon: {daemon}; kernel: {kernel}; {armed}\n{}\n# exit {code}\n", human(&seen))
        })
        .collect();
    golden("status.txt", &all.join("\n"));
}

#[test]
fn for_programs() {
    golden(
        "status-connected.json",
        &(json(&seen("connected", "connected barrier guard age=12", true)) + "\n"),
    );
    golden("status-dead.json", &(json(&seen("dead", "blocked barrier guard", true)) + "\n"));
}
