//! `vpnd connect`.

use std::time::{Duration, Instant};

use super::args::Input;
use super::judge::Daemon;
use super::{DONE, FAILED, Outcome, ask, status, text};
use crate::config::RelayName;
use crate::control::client::Error;
use crate::control::{Request, Status, TunnelState};
use crate::machine::Stored;
use crate::state::RunDir;

const WAIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

pub fn run(input: &Input) -> Outcome {
    // A city's name may hold spaces; on the way it does not.
    let relay = input.values.first().map(|wish| wish.trim().replace(' ', "-"));
    let wait = match input.option("wait") {
        None => WAIT,
        Some(text) => Duration::from_secs(
            text.parse().map_err(|_| format!("--wait: '{text}' is no number of seconds"))?,
        ),
    };
    match ask::done(&input.run_dir, &Request::Connect { relay: relay.clone() }) {
        Ok(notes) if input.flag("no-wait") => {
            notes.iter().for_each(|note| text::say(note));
            Ok(DONE)
        }
        // Ctrl-C ends the waiting only: the daemon has the word already.
        Ok(_) => wait_until(input, Instant::now() + wait),
        Err(error @ Error::NotRunning { .. }) => {
            store(input, relay.as_deref())?;
            Err(format!(
                "{error}; the wish is stored: 'service vpnd start' starts the daemon, which connects"
            ))
        }
        Err(error) => Err(ask::told(&error, "connect")),
    }
}

fn wait_until(input: &Input, until: Instant) -> Outcome {
    let mut last = None;
    loop {
        if let Daemon::Answers(status) = status::ask(input) {
            match status.state {
                TunnelState::Connected => {
                    let relay = status.relay.map(|r| format!(" to {}", r.name)).unwrap_or_default();
                    text::say(&format!("connected{relay}"));
                    return Ok(DONE);
                }
                TunnelState::Error => return failed(&status),
                _ => last = Some(status),
            }
        }
        if Instant::now() >= until {
            let cause = last.and_then(|s| s.cause).map(|c| format!(" ({c})")).unwrap_or_default();
            return Err(format!(
                "not connected yet{cause}; the daemon goes on trying: 'vpnd status --watch'"
            ));
        }
        std::thread::sleep(POLL);
    }
}

fn failed(status: &Status) -> Outcome {
    let cause = status.cause.as_deref().unwrap_or("cause unknown");
    eprintln!("vpnd connect: blocked: {}; the daemon tries again by itself", text::clean(cause));
    Ok(FAILED)
}

/// Without a daemon: what it will read when it starts. The marker first, so that the router is
/// never wanted connected and open after a reboot.
fn store(input: &Input, relay: Option<&str>) -> Result<(), String> {
    let relay: Option<RelayName> = relay.map(|r| r.parse().map_err(|e| format!("'{r}' {e}"))).transpose()?;
    let state = input.state();
    let run = RunDir::new(&input.run_dir);
    let former = run.last_word(&state).unwrap_or_default();
    state.arm().map_err(|e| e.to_string())?;
    run.store_word(&state, &Stored { connect: true, relay, ..former }).map_err(|e| e.to_string())
}
