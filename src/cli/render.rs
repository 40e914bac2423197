//! A [`Seen`] for people and for programs. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use super::generations::{Standing, standing};
use super::judge::Daemon;
use super::status::Seen;
use super::text::{bytes, span};
use crate::control::Status;

/// The verdict, what it rests on, and what to worry about; no line needs another to be understood.
#[must_use]
pub fn human(seen: &Seen) -> String {
    let report = &seen.report;
    let mut out = format!("{}: {}\n", report.word.text(), report.why);
    for warning in &report.warnings {
        let _ = writeln!(out, "  ! {warning}");
    }
    if let Daemon::Answers(status) = &seen.daemon {
        told_by_daemon(&mut out, status);
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

fn told_by_daemon(out: &mut String, status: &Status) {
    let _ = writeln!(out, "  {:10} {} for {}", "daemon", status.state, span(status.since_s));
    if let Some(relay) = &status.relay {
        let place: Vec<_> =
            [&relay.city, &relay.country].into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect();
        let place = if place.is_empty() { String::new() } else { format!(" ({})", place.join(", ")) };
        let _ = writeln!(out, "  {:10} {}{place}, {}", "relay", relay.name, relay.endpoint);
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

/// What was seen, or an object with the reason why it could not be.
fn either<T>(result: &Result<T, String>, show: impl Fn(&T) -> Option<Value>) -> Value {
    match result {
        Ok(found) => show(found).unwrap_or(Value::Null),
        Err(why) => json!({ "error": why }),
    }
}

#[cfg(test)]
mod tests;
