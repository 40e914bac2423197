//! Verbs that are one word to the daemon.

use std::path::Path;
use std::time::Duration;

use crate::control::client::{self, Error};
use crate::control::{Reply, Request};

use super::args::Input;
use super::{DONE, Outcome, text};

/// Longer than the daemon gives itself, so that its own words arrive.
pub const PATIENCE: Duration = Duration::from_secs(15);

pub fn run(verb: &str, input: &Input) -> Outcome {
    let first = input.values.first().map_or("", String::as_str);
    let request = match verb {
        "disconnect" => Request::Disconnect,
        "reconnect" => Request::Reconnect,
        "reload" => Request::Reload,
        "lockdown" => match first {
            "on" => Request::Lockdown { on: true },
            "off" => Request::Lockdown { on: false },
            other => return Err(format!("say on or off, not '{other}'")),
        },
        "lease" => lease(input, first)?,
        other => return Err(format!("verb '{other}' is not known")),
    };
    let notes = done(&input.run_dir, &request).map_err(|e| told(&e, verb))?;
    for note in notes {
        text::say(&note);
    }
    Ok(DONE)
}

/// Asks for something to be done; the notes are for the person.
///
/// # Errors
/// The client's.
pub fn done(run_dir: &Path, request: &Request) -> Result<Vec<String>, Error> {
    match client::call(run_dir, request, PATIENCE)? {
        Reply::Done { notes } => Ok(notes),
        _ => Ok(Vec::new()),
    }
}

/// The error, and what can be done without the daemon.
pub fn told(error: &Error, verb: &str) -> String {
    let way_out = match (error, verb) {
        (Error::NotRunning { .. }, "lease") => "; it will read the lease when it starts",
        (Error::NotRunning { .. }, "disconnect") => {
            "; 'service vpnd start' starts it, 'vpnd disarm' ends blocking without it"
        }
        (Error::NotRunning { .. }, _) => "; 'service vpnd start' starts it",
        (Error::NoAnswer { .. }, _) => "; 'service vpnd restart' ends it and keeps blocking",
        _ => "",
    };
    format!("{error}{way_out}")
}

/// Kept in the run dir first, for a daemon that starts later.
fn lease(input: &Input, device: &str) -> Result<Request, String> {
    let device: crate::config::IfName = device.parse().map_err(|e| format!("'{device}' {e}"))?;
    let server = match input.values.get(1).map(String::as_str) {
        None | Some("") => None,
        Some(text) => {
            Some(text.parse().map_err(|_| format!("'{text}' is no IPv4 address of a DHCP server"))?)
        }
    };
    crate::state::RunDir::new(&input.run_dir).set_lease(&device, server).map_err(|e| e.to_string())?;
    Ok(Request::Lease { device, server })
}
