//! Every state x every event, against tests/golden/machine.txt. `UPDATE_GOLDEN=1` rewrites it:
//! read the difference before you commit it.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::config::Lan;
use crate::policy::{Facts, Stance, WanDevice};

use super::{Effect, Event, Machine, Settings, Stored, run, settings, settle, start};
use crate::machine::Timer;

fn lockdown(on: bool) -> Settings {
    Settings { lockdown: on, ..settings() }
}

fn states() -> Vec<(&'static str, Machine)> {
    let fresh = |settings| {
        let (machine, effects) = start(settings, None);
        settle(machine, effects).0
    };
    let connect = || Event::Connect(None);
    let connected = run(fresh(settings()), [connect(), Event::Verified]);
    // Half-way: the daemon has not come back with TunnelDown yet.
    let disconnecting = connected.clone().step(Event::Disconnect).0;
    vec![
        ("disconnected, open", fresh(settings())),
        ("disconnected, lockdown", fresh(lockdown(true))),
        ("connecting, first", run(fresh(settings()), [connect()])),
        ("connecting, lockdown", run(fresh(lockdown(true)), [connect()])),
        ("connecting, switch", run(connected.clone(), [Event::Silent])),
        ("connected", connected.clone()),
        ("connected, lockdown", run(fresh(lockdown(true)), [connect(), Event::Verified])),
        ("paused, connect wanted", run(connected.clone(), [Event::Pause])),
        ("paused, lockdown", run(fresh(lockdown(true)), [Event::Pause])),
        ("disconnecting", disconnecting),
        ("error, offline", run(connected.clone(), [Event::Online(false)])),
        ("error, config", run(connected, [broken()])),
    ]
}

fn broken() -> Event {
    Event::Settings { settings: Arc::new(Settings::fallback(Lan::default())), broken: vec!["bad".into()] }
}

fn failed(effect: Effect, rest: Vec<Effect>) -> Event {
    Event::Failed { effect: Box::new(effect), error: "injected".into(), rest }
}

fn events() -> Vec<(&'static str, Event)> {
    let changed = Facts {
        wan: vec![WanDevice { name: "wan".parse().unwrap(), prefixes: Vec::new(), lease_server: None }],
        ..Facts::default()
    };
    let new_key = Settings { relays: settings().relays.into_iter().skip(1).collect(), ..settings() };
    vec![
        ("connect", Event::Connect(None)),
        ("connect nl", Event::Connect(Some("nl".parse().unwrap()))),
        ("connect nowhere", Event::Connect(Some("nowhere".parse().unwrap()))),
        ("disconnect", Event::Disconnect),
        ("reconnect", Event::Reconnect),
        ("lockdown on", Event::Lockdown(true)),
        ("lockdown off", Event::Lockdown(false)),
        ("disarm", Event::Disarm),
        ("pause", Event::Pause),
        ("resume", Event::Resume),
        ("settings, the same", Event::Settings { settings: Arc::new(settings()), broken: Vec::new() }),
        ("settings, relay gone", Event::Settings { settings: Arc::new(new_key), broken: Vec::new() }),
        ("settings, broken", broken()),
        ("facts", Event::Facts(changed)),
        ("facts, the same", Event::Facts(Facts::default())),
        ("online", Event::Online(true)),
        ("offline", Event::Online(false)),
        ("verified", Event::Verified),
        ("silent", Event::Silent),
        ("tunnel gone", Event::TunnelGone),
        ("tunnel down", Event::TunnelDown),
        ("rules changed", Event::RulesChanged),
        ("attempt over", Event::TimerFired(Timer::Attempt)),
        ("retry", Event::TimerFired(Timer::Retry)),
        ("save", Event::TimerFired(Timer::Save)),
        (
            "failed: policy",
            failed(Effect::Enforce(Stance::Blocked { api: true }), vec![Effect::RaiseBarrier]),
        ),
        ("failed: barrier", failed(Effect::RaiseBarrier, vec![Effect::StopProbe])),
        ("failed: flows", failed(Effect::DeleteFlows { tunnel: true }, vec![Effect::StopProbe])),
        ("failed: device", failed(Effect::CreateTunnel { listen_port: 1 }, vec![Effect::StopProbe])),
        ("failed: teardown", failed(Effect::DestroyTunnel, vec![Effect::ReportDown])),
        ("failed: store", failed(Effect::Store(Stored::default()), vec![Effect::Arm])),
        ("failed: marker", failed(Effect::Disarm, Vec::new())),
    ]
}

fn short(effect: &Effect) -> String {
    match effect {
        Effect::Enforce(stance) => format!("Enforce({})", short_stance(stance)),
        Effect::Store(stored) => {
            let relay = stored.relay.as_ref().map_or("any", |relay| relay.as_str());
            let wish = if stored.connect { relay } else { "no" };
            let word = stored.lockdown.map_or(String::new(), |word| format!(", lockdown {}", word.on));
            let latch = if stored.latched { ", latched" } else { "" };
            format!("Store({wish}{word}{latch})")
        }
        Effect::SetTimer { timer, after } => format!("SetTimer({timer:?} {} s)", after.as_secs()),
        Effect::DeleteFlows { tunnel: true } => "DeleteFlows(tunnel too)".into(),
        Effect::DeleteFlows { tunnel: false } => "DeleteFlows".into(),
        Effect::SetPeer(relay) => format!("SetPeer({relay})"),
        Effect::CreateTunnel { .. } => "CreateTunnel".into(),
        Effect::CancelTimer(timer) => format!("CancelTimer({timer:?})"),
        other => format!("{other:?}"),
    }
}

fn short_stance(stance: &Stance) -> String {
    let last = |relay: &std::net::SocketAddr| relay.ip().to_string().rsplit('.').next().unwrap().to_owned();
    match stance {
        Stance::Connecting { relays, dns, .. } => {
            let relays: Vec<_> = relays.iter().map(last).collect();
            format!("connecting to .{}{}", relays.join("+."), if *dns { ", dns" } else { "" })
        }
        Stance::Connected { relay, .. } => format!("connected to .{}", last(relay)),
        Stance::Blocked { api: true } => "blocked".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn whole_table() {
    let mut text = String::from("# state x event -> state: effects in order (src/machine/tests/table.rs)\n");
    for (name, machine) in states() {
        writeln!(text, "\n## {name}").unwrap();
        for (event_name, event) in events() {
            let (after, effects) = machine.clone().step(event);
            let view = after.view();
            let cause = view.cause.map_or(String::new(), |cause| format!(" ({cause})"));
            let relay = view.relay.map_or(String::new(), |relay| format!(" to {relay}"));
            let effects: Vec<_> = effects.iter().map(short).collect();
            let effects = if effects.is_empty() { "-".to_owned() } else { effects.join(", ") };
            writeln!(text, "{event_name} -> {}{relay}{cause}: {effects}", view.state).unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/machine.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(golden, text, "the table differs from {path}");
}
