//! `--from` and `--to`: which rules are asked, and the answer in words.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::explain::{Answer, Asked, End};
use super::leases::{self, Leases};
use super::question::{Sender, Target};
use crate::cli::args::Input;
use crate::cli::judge::{Daemon, Table};
use crate::cli::{DONE, Outcome, kernel, ruleset, status, text};
use crate::config::{self, Settings};
use crate::firewall::compile;
use crate::firewall::evaluate::{Refusal, Verdict};
use crate::policy::reason::Zone;
use crate::policy::{Facts, Policy, PolicyState, Stance, compose};
use crate::routing::Router;
use crate::state::{Generation, RunDir};
use crate::tunnel;

/// The answer is no.
const BLOCKED: u8 = 3;

/// The rules that are asked, and where they come from.
struct Rules {
    settings: Settings,
    facts: Facts,
    policy: Policy,
    origin: Origin,
}

/// Whether these are the rules in force.
struct Origin {
    hash: String,
    /// None: a state that was asked for.
    in_force: Option<bool>,
}

pub fn run(input: &Input, from: &str, to: &str) -> Outcome {
    let (sender, target) = (Sender::parse(from)?, Target::parse(to)?);
    let rules = match input.option("state") {
        Some(_) => Some(supposed(input)?),
        None => in_force(input)?,
    };
    let Some(rules) = rules else {
        let words = "it passes: no rules are in force, as if vpnd were not there";
        text::say(&if input.flag("json") {
            json!({ "passes": true, "open": true }).to_string()
        } else {
            words.to_owned()
        });
        return Ok(DONE);
    };
    let leases = Leases::read(Path::new(input.option("leases").unwrap_or(leases::DEFAULT)));
    let asked = Asked {
        settings: &rules.settings,
        facts: &rules.facts,
        policy: &rules.policy,
        lease: &|name, v4| leases.address(name, v4),
    };
    let answer = asked.answer(&sender, &target)?;
    let run_dir = RunDir::new(&input.run_dir);
    text::say(&if input.flag("json") {
        as_json(&answer, &target, &rules, &run_dir)
    } else {
        human(&answer, &target, &rules, &run_dir)
    });
    Ok(if answer.reason.is_some() { BLOCKED } else { DONE })
}

/// `--state`: from the configuration alone.
fn supposed(input: &Input) -> Result<Rules, String> {
    let loaded = config::load(&input.config_dir);
    if let Some(problem) = loaded.problems.first() {
        return Err(format!("{problem}; 'vpnd check' says all that is wrong"));
    }
    let settings = loaded.settings;
    let (stance, facts) = (ruleset::stance(input, &settings)?, ruleset::facts(input, &settings)?);
    let policy = compose(&stance, &settings, &facts).ok_or("this state has no rules")?;
    let hash = compile(&policy).hash().map_err(|error| error.to_string())?.to_string();
    Ok(Rules { settings, facts, policy, origin: Origin { hash, in_force: None } })
}

/// What the kernel enforces, composed again from configuration, kernel and daemon; the hash tells
/// whether it is the same. None: nothing is in force.
fn in_force(input: &Input) -> Result<Option<Rules>, String> {
    let state_words = "or say --state, which asks the configuration alone";
    let table = kernel::table().map_err(|why| format!("{why}; run as root, {state_words}"))?;
    let Some(table) = table else { return Ok(None) };
    let loaded = config::load(&input.config_dir);
    let mut settings = loaded.settings;
    if !loaded.problems.is_empty() {
        let kept = input.state().kept_lan().map_err(|error| error.to_string())?;
        settings.lan = settings.lan.with_kept(kept.unwrap_or_default());
    }
    let facts = look(input, &settings)?;
    let mut first = None;
    for stance in stances(input, &table, &settings) {
        let Some(policy) = compose(&stance, &settings, &facts) else { continue };
        let ruleset = compile(&policy);
        // The second where the kernel cannot tell of blocked packets.
        let same = [ruleset.hash(), ruleset.without_log().hash()]
            .iter()
            .flatten()
            .any(|hash| hash.to_string() == table.hash);
        if same || first.is_none() {
            first = Some((policy, same));
        }
        if same {
            break;
        }
    }
    let (policy, same) = first.ok_or_else(|| {
        format!(
            "the rules in force ({}) cannot be composed from the configuration; {state_words}",
            table.state
        )
    })?;
    let origin = Origin { hash: table.hash, in_force: Some(same) };
    Ok(Some(Rules { settings, facts, policy, origin }))
}

fn look(input: &Input, settings: &Settings) -> Result<Facts, String> {
    let device = tunnel::DEVICE.parse()?;
    let leases = RunDir::new(&input.run_dir).leases();
    kernel::in_runtime(async {
        let router = Router::open().map_err(|error| error.to_string())?;
        router.facts(settings, &device, &leases).await.map_err(|error| error.to_string())
    })
}

/// What may be in force, the likeliest first.
fn stances(input: &Input, table: &Table, settings: &Settings) -> Vec<Stance> {
    let stats = tunnel::stats().ok().flatten();
    let told = match status::ask(input) {
        Daemon::Answers(status) => status.relay.map(|relay| relay.endpoint),
        _ => None,
    };
    let relay = told.or_else(|| stats.as_ref()?.endpoint).or_else(|| Some(settings.relays.first()?.endpoint));
    let listen_port = stats.as_ref().and_then(|stats| stats.listen_port).unwrap_or(ruleset::LISTEN_PORT);
    let tunnel = ruleset::tunnel(settings).ok();
    match (table.state, relay, tunnel) {
        (PolicyState::Boot, ..) => vec![Stance::Boot],
        (PolicyState::Connecting, Some(relay), Some(tunnel)) => {
            let devices = [Some(tunnel), None];
            let stance = |(device, dns): (&Option<_>, bool)| Stance::Connecting {
                relays: vec![relay],
                listen_port,
                tunnel: device.clone(),
                dns,
            };
            devices.iter().flat_map(|device| [(device, false), (device, true)]).map(stance).collect()
        }
        (PolicyState::Connected, Some(relay), Some(tunnel)) => {
            vec![Stance::Connected { relay, listen_port, tunnel }]
        }
        (PolicyState::Blocked, ..) => [true, false].map(|api| Stance::Blocked { api }).to_vec(),
        _ => Vec::new(),
    }
}

fn human(answer: &Answer, target: &Target, rules: &Rules, run_dir: &RunDir) -> String {
    let mut out = String::new();
    let state = rules.policy.state();
    let word = if answer.reason.is_some() { "blocked" } else { "passes" };
    let _ = writeln!(out, "{word}, while {state}: {} to {}", end(&answer.from), end(&answer.to));
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:10} {value}");
    };
    row("packet", &packet(answer, target));
    if let Some(rule) = &answer.rule {
        row("row", &format!("{} {}", rule.row.number(), rule.row.title()));
        row("rule", &format!("{} (chain {})", rule.comment, rule.chain));
    }
    match (&answer.reason, answer.verdict) {
        (None, _) => row("then", "the router's own firewall (fw4), which may still refuse it"),
        (Some(_), Verdict::Accept) => row("rule", "none: the routing barrier ends it, unreachable"),
        (Some(_), Verdict::Drop) => row("how", "silently"),
        (Some(_), Verdict::Reject(Refusal::Reset)) => row("how", "at once, with a TCP reset"),
        (Some(_), Verdict::Reject(Refusal::Prohibited)) => row("how", "at once, with ICMP 'prohibited'"),
    }
    if let Some(reason) = &answer.reason {
        row("why", &reason.why);
        row("allowed by", &reason.remedy);
    }
    row("rules", &origin(&rules.origin, run_dir));
    for line in &answer.assumed {
        row("assumed", line);
    }
    out.truncate(out.trim_end().len());
    out
}

fn origin(origin: &Origin, run_dir: &RunDir) -> String {
    let hash = &origin.hash;
    match origin.in_force {
        None => format!("{hash}, composed from the configuration for the state that was asked for"),
        Some(true) => match generation(hash, run_dir) {
            Some(Generation { number, cause, .. }) => {
                format!("{hash}, in force: generation {number} ({cause})")
            }
            None => format!("{hash}, in force"),
        },
        Some(false) => {
            format!("those in force ({hash}) are others than these: the configuration or the relay changed")
        }
    }
}

/// The newest of that hash.
fn generation(hash: &str, run_dir: &RunDir) -> Option<Generation> {
    run_dir.generations().into_iter().rev().find(|generation| generation.hash == hash)
}

fn end(end: &End) -> String {
    match &end.device {
        Some(device) if end.zone != Zone::Router => format!("{} ({device})", end.zone.as_str()),
        _ => end.zone.as_str().to_owned(),
    }
}

fn packet(answer: &Answer, target: &Target) -> String {
    let end = |end: &End| match end.zone {
        Zone::Router => "router".to_owned(),
        _ => end.address.to_string(),
    };
    let what = super::protocol_and_port(target.protocol, target.port);
    format!("{} -> {} {what}", end(&answer.from), end(&answer.to))
}

fn as_json(answer: &Answer, target: &Target, rules: &Rules, run_dir: &RunDir) -> String {
    let end = |end: &End| json!({ "zone": end.zone, "device": end.device, "address": end.address });
    let rule = answer.rule.as_ref().map(|rule| {
        json!({ "row": rule.row.number(), "title": rule.row.title(), "chain": rule.chain, "comment": rule.comment })
    });
    let reason = answer.reason.as_ref();
    let value = json!({
        "passes": reason.is_none(),
        "state": rules.policy.state(),
        "from": end(&answer.from),
        "to": end(&answer.to),
        "protocol": target.protocol,
        "port": target.port,
        "rule": rule,
        "why": reason.map(|reason| &reason.why),
        "remedy": reason.map(|reason| &reason.remedy),
        "rules": { "hash": rules.origin.hash, "in_force": rules.origin.in_force },
        "generation": generation(&rules.origin.hash, run_dir).map(|found| found.number),
        "assumed": answer.assumed,
    });
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::policy::samples;

    const QUESTIONS: &[(&str, &str, &str)] = &[
        ("connected-plain", "lan:192.168.1.20", "1.1.1.1:53/udp"),
        ("connected-plain", "lan:192.168.1.20", "10.64.0.1:53/udp"),
        ("connected-plain, redirect_dns", "lan:192.168.1.20", "1.1.1.1:53/udp"),
        ("blocked-plain, redirect_dns", "lan:192.168.1.20", "1.1.1.1:53"),
        ("connected-plain", "192.168.1.20", "1.1.1.1"),
        ("connected-plain", "lan:tv", "[2606:4700::1111]:443"),
        ("connected-plain", "lan:br-lan", "203.0.113.1:51820/udp"),
        ("connected-plain", "lan:192.168.1.20", "router:51820/udp"),
        ("connected-plain", "lan:192.168.1.20", "router:22"),
        ("connected-plain", "lan:192.168.1.20", "192.168.1.30:80"),
        ("connected-plain", "lan:192.168.1.20", "10.64.10.20/icmp"),
        ("connected-plain", "router", "203.0.113.1:51820/udp"),
        ("connected-plain", "router", "198.51.100.1:123/udp"),
        ("connected-plain", "router", "router:53/udp"),
        ("connected-plain", "router", "192.168.1.30:53/udp"),
        ("connected-plain", "router", "255.255.255.255:67/udp"),
        ("connected-plain", "wan:198.51.100.9", "router:22"),
        ("connected-plain", "wan:198.51.100.9", "192.168.1.20:80"),
        ("connected-plain", "wan:198.51.100.9", "8.8.8.8"),
        ("connected-plain", "wan:203.0.113.9", "10.64.10.20:80"),
        ("connected-plain", "tunnel:10.64.0.1", "192.168.1.20:80"),
        ("connected-plain", "tunnel:10.64.0.1", "router:22"),
        ("connected-full", "lan:192.168.1.20", "192.168.100.1:80"),
        ("connected-full", "lan:192.168.1.20", "192.168.100.9:51820/udp"),
        ("connected-full", "lan:fd00:1::20", "[fd00:dead::1]:80"),
        ("connected-full", "lan:192.168.1.20", "10.9.1.1/gre"),
        ("connected-full", "lan:192.168.7.2", "192.168.1.20"),
        ("connected-full", "lan:192.168.1.20", "239.35.1.1:5000/udp"),
        ("connected-full", "lan:192.168.1.20", "239.99.1.1:5000/udp"),
        ("connected-full", "wan:203.0.113.65", "router:22"),
        ("connected-full", "wan:203.0.113.9", "router:22"),
        ("connected-full", "tunnel:198.51.100.77", "10.64.10.20:8080"),
        ("connecting-device", "lan:192.168.1.20", "10.64.0.1:53/udp"),
        ("connecting-plain", "lan:192.168.1.20", "1.1.1.1"),
        ("blocked-plain", "lan:192.168.1.20", "1.1.1.1:53/udp"),
        ("blocked-plain", "lan:192.168.1.20", "192.168.100.1:80"),
        ("blocked-plain", "router", "1.1.1.1:53/udp"),
        ("blocked-plain", "router", "1.1.1.1/esp"),
        ("blocked-full", "lan:192.168.1.20", "192.168.100.1:80"),
        ("boot-plain", "lan:192.168.1.20", "1.1.1.1/icmp"),
        // What cannot be asked.
        ("connected-plain", "lan:172.16.0.1", "1.1.1.1"),
        ("connected-plain", "lan:toaster", "1.1.1.1"),
        ("connected-plain", "lan:192.168.1.20", "2001:db8::1"),
    ];

    fn answered(case: &str, from: &str, to: &str) -> (Result<Answer, String>, String) {
        let (case, redirect_dns) =
            case.strip_suffix(", redirect_dns").map_or((case, false), |case| (case, true));
        let mut case = samples::cases().into_iter().find(|known| known.name == case).unwrap();
        case.settings.redirect_dns = redirect_dns;
        let policy = compose(&case.stance, &case.settings, &case.facts).unwrap();
        let (settings, facts) = (case.settings, case.facts);
        let origin = Origin { hash: "0123456789abcdef".to_owned(), in_force: None };
        let rules = Rules { settings, facts, policy, origin };
        let asked = Asked {
            settings: &rules.settings,
            facts: &rules.facts,
            policy: &rules.policy,
            lease: &|name, v4| (name == "tv" && v4).then(|| [192, 168, 1, 20].into()),
        };
        let target = Target::parse(to).unwrap();
        let answer = asked.answer(&Sender::parse(from).unwrap(), &target);
        let run_dir = RunDir::new("/nonexistent");
        let said = match &answer {
            Ok(answer) => human(answer, &target, &rules, &run_dir),
            Err(error) => format!("error: {error}"),
        };
        if let Ok(answer) = &answer {
            let json: Value = serde_json::from_str(&as_json(answer, &target, &rules, &run_dir)).unwrap();
            assert_eq!(json["passes"], answer.reason.is_none());
            assert_eq!(json["rule"]["row"].as_str(), answer.rule.as_ref().map(|rule| rule.row.number()));
        }
        (answer, said)
    }

    /// As written down; `UPDATE_GOLDEN=1` writes it anew.
    #[test]
    fn answers_read_as_written_down() {
        let mut out = String::new();
        for (case, from, to) in QUESTIONS {
            writeln!(out, "# {case}: --from {from} --to {to}\n{}\n", answered(case, from, to).1).unwrap();
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/why.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &out).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap_or_default() == out, "{} differs", path.display());
    }

    /// By the contract's rows, without looking at the rules.
    #[test]
    fn answers_are_the_contracts() {
        for (case, from, to, passes, row) in [
            ("connected-plain", "lan:192.168.1.20", "1.1.1.1:53/udp", false, "3.5"),
            ("connected-plain", "lan:192.168.1.20", "10.64.0.1:53", true, "3.5"),
            ("connected-plain", "lan:192.168.1.20", "1.1.1.1:443/udp", true, "3.3"),
            ("connected-plain", "lan:192.168.1.20", "router:22", true, "2.2"),
            ("connected-plain", "lan:192.168.1.20", "router:51820/udp", false, "3.6"),
            ("connected-plain", "lan:192.168.1.20", "10.64.10.20:80", false, "3.7"),
            ("connected-plain", "router", "router:80", true, "2.1"),
            ("connected-plain", "wan:198.51.100.9", "router:22", false, "0.0"),
            ("connected-plain", "tunnel:10.64.0.1", "192.168.1.20:80", false, "0.0"),
            ("connected-full", "lan:192.168.1.20", "192.168.100.1:80", true, "2.8"),
            ("connected-full", "lan:192.168.1.20", "192.168.100.9:51820/udp", false, "3.6"),
            ("connected-full", "lan:192.168.1.20", "192.168.2.7:80", true, "2.7"),
            ("connected-full", "wan:203.0.113.65", "router:22", true, "2.9"),
            ("connected-full", "tunnel:198.51.100.77", "10.64.10.20:8080", true, "3.4"),
            ("blocked-plain", "lan:192.168.1.20", "1.1.1.1", false, "0.0"),
            ("blocked-full", "lan:192.168.1.20", "192.168.100.1:80", true, "2.8"),
            ("connected-plain", "lan:tv", "[2606:4700::1111]:443", true, "3.3"),
        ] {
            let answer = answered(case, from, to).0.unwrap();
            assert_eq!(answer.reason.is_none(), passes, "{case} {from} {to}: {answer:?}");
            assert_eq!(answer.rule.map(|rule| rule.row.number()), Some(row), "{case} {from} {to}");
        }
    }
}
