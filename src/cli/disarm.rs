//! `vpnd disarm`: the way out, with or without a daemon.

use std::io::{IsTerminal, Write};

use super::args::Input;
use super::{DONE, Outcome, ask, kernel, text};
use crate::config::Settings;
use crate::control::Request;
use crate::control::client::{self, Error};
use crate::daemon::enforce;
use crate::firewall::{Nft, conntrack, guard};
use crate::machine::{LockdownWord, Stored};
use crate::policy::{Stance, flows};
use crate::routing::{Router, sysctl};
use crate::state::RunDir;
use crate::tunnel;

const WHAT: &str = "This ends all blocking: tunnel, rules, routing barrier and lockdown go, and\n\
                    every device of the LAN reaches the internet WITHOUT the VPN, also after a reboot.";

pub fn run(input: &Input) -> Outcome {
    confirmed(input)?;
    match client::call(&input.run_dir, &Request::Disarm, ask::PATIENCE) {
        Ok(_) => done_by_daemon(input),
        Err(Error::NotRunning { .. }) => by_hand(input),
        Err(Error::NoAnswer { pid, limit, .. }) => Err(format!(
            "the daemon is running but does not answer within {} s. It would block again, so stop it first: {}, then 'vpnd disarm' again",
            limit.as_secs(),
            pid.map_or("'service vpnd stop'".to_owned(), |pid| format!(
                "'service vpnd stop' or 'kill -9 {pid}'"
            ))
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn confirmed(input: &Input) -> Result<(), String> {
    if input.flag("yes") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(format!("{WHAT}\nThis is no terminal to ask on: say 'vpnd disarm --yes'"));
    }
    print!("{WHAT}\nGo on? Type yes: ");
    let _ = std::io::stdout().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| e.to_string())?;
    if answer.trim() == "yes" { Ok(()) } else { Err("nothing was changed".to_owned()) }
}

/// The daemon said yes; the kernel and the marker have to say so, too.
fn done_by_daemon(input: &Input) -> Outcome {
    if let Ok(Some(table)) = kernel::table() {
        return Err(format!(
            "the daemon took the word, but its rules ({}) are still in force: see 'vpnd status'",
            table.state
        ));
    }
    if input.state().armed() {
        return Err(format!(
            "open now, but blocked again after a reboot: {} is still there",
            input.state().marker().display()
        ));
    }
    text::say("disarmed: as if vpnd were not there");
    Ok(DONE)
}

/// What goes, and how.
type Step<'a> = (&'static str, &'a dyn Fn() -> Result<(), String>);

/// What [`crate::machine::Event::Disarm`] leaves behind: no tunnel, and lockdown off against the
/// option of that name, or the next start would block again.
fn disarmed(before: Option<Stored>, settings: &Settings) -> Stored {
    let lockdown = Some(LockdownWord { on: false, option_then: settings.lockdown });
    Stored { connect: false, lockdown, latched: false, ..before.unwrap_or_default() }
}

/// Flows that the open router must not take over: one that is translated to the tunnel's address
/// would go out in plaintext. LAN flows stay, an SSH session is one.
async fn delete_flows(input: &Input, settings: &Settings) -> Result<(), String> {
    let device = tunnel::DEVICE.parse()?;
    let leases = RunDir::new(&input.run_dir).leases();
    let router = Router::open().map_err(|e| e.to_string())?;
    let facts = router.facts(settings, &device, &leases).await.map_err(|e| e.to_string())?;
    let fits = |flow: &_| flows::fits(flow, &Stance::Blocked { api: false }, settings, &facts, false);
    conntrack::delete_unfit(fits).map(drop).map_err(|e| e.to_string())
}

/// Contract section 1, opening: under the old policy the tunnel and then its flows go; the open
/// policy comes after them, the marker last.
fn by_hand(input: &Input) -> Outcome {
    let state = input.state();
    let (settings, _) = super::block::settings(input, &state);
    let steps: [Step<'_>; 8] = [
        ("wanted state", &|| {
            let word = disarmed(state.wanted(), &settings);
            state.store_wanted(&word).map_err(|e| e.to_string())
        }),
        ("tunnel device", &|| {
            kernel::in_runtime(async { tunnel::destroy().await.map_err(|e| e.to_string()) })
        }),
        ("flows", &|| kernel::in_runtime(delete_flows(input, &settings))),
        ("routing barrier", &|| {
            kernel::in_runtime(async {
                Router::open().map_err(|e| e.to_string())?.lower().await.map_err(|e| e.to_string())
            })
        }),
        ("sysctls", &|| sysctl::lower(&input.run_dir).map_err(|e| e.to_string())),
        ("guard", &|| guard::remove_left_over().map_err(|e| e.to_string())),
        ("rules", &|| {
            let (nft, run) = (Nft::new(kernel::nft_program()), RunDir::new(&input.run_dir));
            enforce::open(&nft, &run, "disarm without a daemon").map_err(|e| e.to_string())
        }),
        ("marker", &|| {
            state.disarm().map_err(|e| format!("open now, but blocked again after a reboot: {e}"))
        }),
    ];
    text::say("the daemon is not running: doing it directly");
    let mut failed = 0;
    for (name, step) in steps {
        match step() {
            Ok(()) => text::say(&format!("  {name}: done")),
            Err(why) => {
                failed += 1;
                eprintln!("  {name}: {}", text::clean(&why));
            }
        }
    }
    if failed > 0 {
        return Err(format!(
            "{failed} of {} steps failed; what is left may still block: see 'vpnd status'",
            steps.len()
        ));
    }
    text::say("disarmed: as if vpnd were not there");
    Ok(DONE)
}
