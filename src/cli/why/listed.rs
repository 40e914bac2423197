//! What was blocked lately, in words.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::leases::{self, Leases};
use crate::cli::args::Input;
use crate::cli::{DONE, Outcome, ask, text};
use crate::control::client;
use crate::control::{BlockedList, BlockedStatus, Reply, Request};
use crate::policy::reason::Zone;

const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(input: &Input) -> Outcome {
    let list = match client::call(&input.run_dir, &Request::Blocked, PATIENCE) {
        Ok(Reply::Blocked(list)) => list,
        Ok(_) => return Err("the daemon's reply makes no sense".to_owned()),
        Err(error) => return Err(ask::told(&error, "why")),
    };
    let leases = Leases::read(Path::new(input.option("leases").unwrap_or(leases::DEFAULT)));
    text::say(&if input.flag("json") { as_json(&list, &leases) } else { human(&list, &leases) });
    Ok(DONE)
}

fn human(list: &BlockedList, leases: &Leases) -> String {
    let mut out = String::new();
    if let Some(trouble) = &list.trouble {
        let _ = writeln!(out, "! blocked packets are not heard of: {trouble}");
    }
    if list.blocked.is_empty() {
        out.push_str("nothing that was blocked is remembered");
    }
    for entry in &list.blocked {
        let times = if entry.count == 1 { String::new() } else { format!(" ({} times)", entry.count) };
        let _ = writeln!(
            out,
            "{} ago{times}: {} -> {}, {}",
            text::span(entry.last_s),
            sender(entry, leases),
            destination(entry),
            way(entry)
        );
        let _ = writeln!(out, "    row {}: {}", entry.row, entry.why);
        let _ = writeln!(out, "    allowed by: {}", entry.remedy);
    }
    out.truncate(out.trim_end().len());
    out
}

fn sender(entry: &BlockedStatus, leases: &Leases) -> String {
    let name = match entry.from {
        Zone::Router => Some("the router"),
        Zone::Lan => leases.name(entry.source, entry.mac.as_deref()),
        _ => None,
    };
    name.map_or_else(|| entry.source.to_string(), |name| format!("{name} ({})", entry.source))
}

fn destination(entry: &BlockedStatus) -> String {
    format!("{} {}", entry.destination, super::protocol_and_port(entry.protocol, entry.port))
}

fn way(entry: &BlockedStatus) -> String {
    let end = |zone: Zone, device: &Option<String>| match device {
        Some(device) => format!("{} ({device})", zone.as_str()),
        None => zone.as_str().to_owned(),
    };
    format!("{} to {}", end(entry.from, &entry.input), end(entry.to, &entry.output))
}

/// The endpoint's reply, with each sender's name.
fn as_json(list: &BlockedList, leases: &Leases) -> String {
    let named = list.blocked.iter().map(|entry| {
        let mut value = serde_json::to_value(entry).unwrap_or_default();
        let name = leases.name(entry.source, entry.mac.as_deref()).filter(|_| entry.from == Zone::Lan);
        if let Value::Object(map) = &mut value {
            map.insert("name".to_owned(), json!(name));
        }
        value
    });
    let value = json!({ "blocked": named.collect::<Vec<_>>(), "trouble": list.trouble });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(from: Zone, source: &str, protocol: u8, port: Option<u16>) -> BlockedStatus {
        BlockedStatus {
            from,
            to: Zone::Wan,
            input: Some("br-lan".into()).filter(|_| from != Zone::Router),
            output: Some("eth1".into()),
            mac: None,
            source: source.parse().unwrap(),
            destination: "192.0.2.9".parse().unwrap(),
            protocol,
            port,
            state: crate::policy::PolicyState::Connected,
            row: "0.0".into(),
            why: "a reason".into(),
            remedy: "a remedy".into(),
            count: 3,
            first_s: 400,
            last_s: 130,
        }
    }

    #[test]
    fn each_entry_is_three_lines() {
        let blocked = vec![
            entry(Zone::Lan, "192.168.1.20", 17, Some(53)),
            BlockedStatus { count: 1, ..entry(Zone::Router, "192.168.1.1", 1, Some(8)) },
            entry(Zone::Wan, "198.51.100.7", 50, None),
            entry(Zone::Wan, "198.51.100.7", 99, None),
        ];
        let list = BlockedList { blocked, trouble: Some("no such thing".into()) };
        assert_eq!(
            human(&list, &Leases::default()),
            "! blocked packets are not heard of: no such thing\n\
             2 min ago (3 times): 192.168.1.20 -> 192.0.2.9 udp 53, LAN (br-lan) to WAN (eth1)\n    \
                 row 0.0: a reason\n    allowed by: a remedy\n\
             2 min ago: the router (192.168.1.1) -> 192.0.2.9 icmp type 8, router to WAN (eth1)\n    \
                 row 0.0: a reason\n    allowed by: a remedy\n\
             2 min ago (3 times): 198.51.100.7 -> 192.0.2.9 esp, WAN (br-lan) to WAN (eth1)\n    \
                 row 0.0: a reason\n    allowed by: a remedy\n\
             2 min ago (3 times): 198.51.100.7 -> 192.0.2.9 protocol 99, WAN (br-lan) to WAN (eth1)\n    \
                 row 0.0: a reason\n    allowed by: a remedy"
        );
        assert_eq!(
            human(&BlockedList::default(), &Leases::default()),
            "nothing that was blocked is remembered"
        );
    }
}
