//! A [`Seen`] for people and for programs. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use super::generations::{Standing, standing};
use super::judge::Daemon;
use super::status::Seen;
use super::text::{bytes, span};
use crate::control::Status;
use crate::firewall::guard::{Hold, Standing as Guards};

/// The verdict, what it rests on, and what to worry about; no line needs another to be understood.
#[must_use]
pub fn human(seen: &Seen) -> String {
    let report = &seen.report;
    let mut out = format!("{}: {}\n", report.word.text(), report.why);
    for warning in &report.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    if let Daemon::Answers(status) = &seen.daemon {
        told_by_daemon(&mut out, status, seen.kept.uptime);
        // Without rules, nothing here says what is open.
        if matches!(seen.kernel.table, Ok(Some(_))) {
            for service in &status.wan_services {
                let _ = writeln!(out, "  {:10} {service}", "open to WAN");
            }
        }
    }
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "  {name:10} {value}");
    };
    row(
        "rules",
        match &seen.kernel.table {
            Ok(Some(table)) => format!("{}, {}", table.state, table.hash),
            Ok(None) => "none".to_owned(),
            Err(why) => format!("cannot be looked at: {why}"),
        },
    );
    let standing = standing(&seen.kernel.table, &seen.kept.generations);
    if standing != Standing::NotNoted {
        row("generation", standing.words(seen.kept.uptime));
    }
    row(
        "barrier",
        match &seen.kernel.barrier {
            Ok(true) => "stands".to_owned(),
            Ok(false) => "none".to_owned(),
            Err(why) => format!("cannot be looked at: {why}"),
        },
    );
    if let Ok(guards) = &seen.kernel.guards {
        row("guard", guard_words(guards.guard));
        row("egress", egress_words(guards));
    }
    row(
        "tunnel",
        match &seen.kernel.device {
            Ok(Some(device)) => {
                let age =
                    device.handshake_age_s.map_or("none yet".to_owned(), |age| format!("{} ago", span(age)));
                format!("handshake {age}, received {}, sent {}", bytes(device.rx), bytes(device.tx))
            }
            Ok(None) => "no device".to_owned(),
            Err(why) => format!("cannot be looked at: {why}"),
        },
    );
    if let Some(trial) = on_trial(seen) {
        row("on trial", trial);
    }
    if let Some(left) = seen.kept.pause_s {
        row("open for", format!("{} more; a reboot blocks at once", span(left)));
    }
    row("wanted", wanted(seen));
    row("armed", if seen.kept.armed { "yes: blocked after a reboot, too" } else { "no" }.to_owned());
    if let Some(boot) = &seen.kept.boot {
        row("boot", boot.words());
    }
    out.truncate(out.trim_end().len());
    out
}

fn guard_words(hold: Option<Hold>) -> String {
    match hold {
        None => "none",
        Some(Hold { owned: true, persist: true }) => "stands, the daemon's own, and stays without it",
        Some(Hold { owned: true, persist: false }) => "stands, the daemon's own, and goes with it",
        Some(Hold { owned: false, .. }) => "stands, but nobody owns it: a flush of nftables removes it",
    }
    .to_owned()
}

fn egress_words(guards: &Guards) -> String {
    if guards.devices.is_empty() { "none".to_owned() } else { format!("on {}", guards.devices.join(", ")) }
}

/// For `layers`: null where it does not stand.
fn hold(hold: Option<Hold>) -> Value {
    hold.map_or(Value::Null, |hold| json!({ "owned": hold.owned, "persist": hold.persist }))
}

fn told_by_daemon(out: &mut String, status: &Status, uptime: u64) {
    let _ = writeln!(out, "  {:10} {} for {}", "daemon", status.state, span(status.since_s));
    if let Some(relay) = &status.relay {
        let place: Vec<_> =
            [&relay.city, &relay.country].into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect();
        let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
        let _ = writeln!(out, "  {:10} {}{place}, {}", "relay", relay.name, relay.endpoint);
    }
    if let Some(last) = status.incidents.first() {
        let ago = span(uptime.saturating_sub(last.uptime_s));
        let _ = writeln!(out, "  {:10} {} by others; {ago} ago: {last}", "undone", status.incident_count);
    }
}

/// Settings that nobody confirmed yet.
fn on_trial(seen: &Seen) -> Option<String> {
    match &seen.daemon {
        Daemon::Answers(status) => status.trial.as_ref().map(|trial| {
            format!(
                "changed settings, for {} more; 'vpnd apply --confirm' keeps them, else the former come back",
                span(trial.left_s)
            )
        }),
        _ => seen.kept.on_trial.then(|| {
            "changed settings that nobody confirmed; the former come back when the daemon starts".to_owned()
        }),
    }
}

fn wanted(seen: &Seen) -> String {
    let word = match &seen.kept.wanted {
        None => "nothing stored".to_owned(),
        Some(stored) if stored.connect => {
            stored.relay.as_ref().map_or("connect, any relay".to_owned(), |relay| format!("connect, {relay}"))
        }
        Some(_) => "disconnect".to_owned(),
    };
    match &seen.daemon {
        Daemon::Answers(status) if status.lockdown => format!("{word}; lockdown on"),
        Daemon::Answers(_) => format!("{word}; lockdown off"),
        _ => word,
    }
}

/// The same as one JSON object; docs/cli.md names the fields.
#[must_use]
pub fn json(seen: &Seen) -> String {
    let (running, status, trouble) = match &seen.daemon {
        Daemon::Answers(status) => (true, serde_json::to_value(status).unwrap_or(Value::Null), Value::Null),
        Daemon::Dead => (false, Value::Null, "not running".into()),
        Daemon::Hung(why) => (true, Value::Null, why.as_str().into()),
    };
    let kernel = &seen.kernel;
    let value = json!({
        "state": seen.report.word,
        "exit_code": seen.report.word.exit_code(),
        "summary": seen.report.why,
        "warnings": seen.report.warnings,
        "kernel": {
            "rules": either(&kernel.table, |table| table.as_ref().map(|t| {
                json!({ "state": t.state, "hash": t.hash, "rows": t.rows })
            })),
            "barrier": either(&kernel.barrier, |stands| Some(json!(stands))),
            "tunnel": either(&kernel.device, |device| device.as_ref().map(|d| {
                json!({ "handshake_age_s": d.handshake_age_s, "rx": d.rx, "tx": d.tx })
            })),
        },
        "layers": {
            "rules": matches!(kernel.table, Ok(Some(_))),
            "barrier": kernel.barrier == Ok(true),
            "guard": either(&kernel.guards, |guards| Some(hold(guards.guard))),
            "egress": either(&kernel.guards, |guards| {
                let devices = &guards.devices;
                guards.egress.map(|egress| {
                    json!({ "owned": egress.owned, "persist": egress.persist, "devices": devices })
                })
            }),
            "missing": status_of(&seen.daemon).map(|status| &status.missing_layers),
        },
        "generation": standing(&kernel.table, &seen.kept.generations).json(),
        "armed": seen.kept.armed,
        "on_trial": seen.kept.on_trial,
        "open_for_s": seen.kept.pause_s,
        "boot": seen.kept.boot,
        "wanted": seen.kept.wanted,
        "daemon": { "running": running, "trouble": trouble, "status": status },
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn status_of(daemon: &Daemon) -> Option<&Status> {
    match daemon {
        Daemon::Answers(status) => Some(status),
        _ => None,
    }
}

/// What was seen, or an object with the reason why it could not be.
fn either<T>(result: &Result<T, String>, show: impl Fn(&T) -> Option<Value>) -> Value {
    match result {
        Ok(found) => show(found).unwrap_or(Value::Null),
        Err(why) => json!({ "error": why }),
    }
}

#[cfg(test)]
mod tests;
