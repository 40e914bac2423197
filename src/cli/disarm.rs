//! `vpnd disarm`: the way out, with or without a daemon.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::args::Input;
use super::{DONE, Outcome, ask, force, kernel, text};
use crate::config::Settings;
use crate::control::client::{self, Error};
use crate::control::{PAUSE_MAX, Request};
use crate::daemon::enforce;
use crate::dns;
use crate::firewall::{Nft, conntrack, guard};
use crate::fw4;
use crate::lan6;
use crate::machine::{LockdownWord, Stored};
use crate::policy::{Stance, flows};
use crate::routing::{Router, sysctl};
use crate::state::RunDir;
use crate::tunnel;

const WHAT: &str = "This ends all blocking: tunnel, rules, routing barrier and lockdown go, and\n\
                    every device of the LAN reaches the internet WITHOUT the VPN, also after a reboot.";
/// For a daemon that is just being started again.
const NEXT: Duration = Duration::from_secs(20);
/// For the daemon to write that file, and for a small router's fw4 to take it.
const FW4: Duration = Duration::from_secs(45);
const AGAIN: Duration = Duration::from_millis(500);

pub fn run(input: &Input) -> Outcome {
    let Some(time) = input.option("for") else {
        confirmed(input, WHAT)?;
        return match daemon_is_told(input, &Request::Disarm) {
            Ok(()) => done_by_daemon(input),
            Err(Told::Refused(words)) => Err(words),
            Err(Told::Silent(why)) => by_force(input, &why),
        };
    };
    let seconds = seconds(time)?;
    let what = format!(
        "This opens the router for {}: tunnel, rules and routing barrier go, and every device of the\n\
         LAN reaches the internet WITHOUT the VPN. Then it blocks again by itself; a reboot blocks at once.",
        text::span(seconds.into())
    );
    confirmed(input, &what)?;
    match daemon_is_told(input, &Request::Pause { seconds }) {
        Ok(()) => {}
        Err(Told::Refused(words)) => return Err(words),
        Err(Told::Silent(why)) => next_daemon_is_told(input, seconds, &why)?,
    }
    match kernel::table() {
        Ok(Some(table)) => Err(format!(
            "the daemon took the word, but its rules ({}) are still in force: see 'vpnd status'",
            table.state
        )),
        _ => {
            text::say(&format!("open for {}, then blocked again", text::span(seconds.into())));
            Ok(DONE)
        }
    }
}

enum Told {
    /// The daemon's own word.
    Refused(String),
    /// Dead, hung, or going round in circles.
    Silent(String),
}

fn daemon_is_told(input: &Input, request: &Request) -> Result<(), Told> {
    match client::call(&input.run_dir, request, ask::PATIENCE) {
        Ok(_) => Ok(()),
        // Its threads answer, its loop does not (docs/cli.md, the endpoint's errors).
        Err(error @ Error::Refused { code: 503 | 504, .. }) => Err(Told::Silent(error.to_string())),
        Err(error @ (Error::Refused { .. } | Error::NoAccess { .. })) => {
            Err(Told::Refused(error.to_string()))
        }
        Err(error) => Err(Told::Silent(error.to_string())),
    }
}

/// Somebody has to close again at the time: a hung daemon is ended, and the one that procd starts
/// after it gets the word.
fn next_daemon_is_told(input: &Input, seconds: u32, why: &str) -> Result<(), String> {
    text::say(&format!("{why}; waiting for the next"));
    force::kill(&input.run_dir);
    let until = Instant::now() + NEXT;
    loop {
        std::thread::sleep(AGAIN);
        match daemon_is_told(input, &Request::Pause { seconds }) {
            Ok(()) => return Ok(()),
            Err(Told::Refused(words)) => return Err(words),
            Err(Told::Silent(why)) if Instant::now() >= until => {
                return Err(format!(
                    "nothing was opened: {why}, and without a daemon nobody would block again at the time. 'service vpnd start', or 'vpnd disarm' without --for"
                ));
            }
            Err(Told::Silent(_)) => {}
        }
    }
}

/// `90`, `90s`, `10m`, `2h`: seconds, at most a day.
fn seconds(time: &str) -> Result<u32, String> {
    let (number, unit) = match time.char_indices().last() {
        Some((at, 's')) => (&time[..at], 1),
        Some((at, 'm')) => (&time[..at], 60),
        Some((at, 'h')) => (&time[..at], 3600),
        _ => (time, 1),
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(unit));
    seconds
        .filter(|seconds| (1..=PAUSE_MAX).contains(seconds))
        .ok_or_else(|| format!("--for: '{time}' is no time from 1s to 24h, such as 90s, 10m or 2h"))
}

fn confirmed(input: &Input, what: &str) -> Result<(), String> {
    if input.flag("yes") {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(format!("{what}\nThis is no terminal to ask on: say it again with --yes"));
    }
    print!("{what}\nGo on? Type yes: ");
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
    // The daemon takes it away after everything else.
    let (file, until) = (fw4::File::new(&input.config_dir), Instant::now() + FW4);
    let reload = fw4::reload(&input.run_dir);
    while file.is_closed() || reload.is_owed() {
        if Instant::now() >= until {
            return Err("open, but for fw4, which may still refuse LAN to WAN (sections 'vpnd_closed_…' and 'vpnd_dns_…' of \
                /etc/config/firewall): 'vpnd status' says why, '/etc/vpnd/way-out' takes them away"
                .to_owned());
        }
        std::thread::sleep(AGAIN);
    }
    while lan6::is_there(&input.config_dir, &input.run_dir) {
        if Instant::now() >= until {
            return Err(
                "open, but the LAN may still lack the ISP's IPv6 (options 'vpnd_…' of /etc/config/network \
                and dhcp): 'vpnd status' says why, '/etc/vpnd/way-out' takes them away"
                    .to_owned(),
            );
        }
        std::thread::sleep(AGAIN);
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

/// dnsmasq asks whom its owner named.
fn names_as_before(input: &Input) -> Result<(), String> {
    let (told, result) = dns::Dnsmasq::new(&input.config_dir).bring_to(&dns::Upstream::Anybody);
    let mut restart = dns::restart(&input.run_dir);
    if told == dns::Told::Nothing && !restart.is_owed() {
        return result;
    }
    restart.begin();
    result.and(restart.finish())
}

/// Without the daemon's help: no other is started meanwhile, whatever becomes of this one.
fn by_force(input: &Input, why: &str) -> Outcome {
    text::say(&format!("{why}: doing it directly"));
    let stopped = force::stop_respawn();
    if let Some(Err(error)) = &stopped {
        eprintln!("  {}", text::clean(error));
    }
    // Held until the end. What can be taken away is, even if this one cannot be ended.
    let held = force::take_over(&input.run_dir);
    if let Err(error) = &held {
        eprintln!("  {}", text::clean(error));
    }
    RunDir::new(&input.run_dir).end_pause();
    by_hand(input)?;
    if let Err(error) = held {
        return Err(format!("open for now, but {error}: it may block again"));
    }
    if stopped.is_some() {
        text::say("the daemon is stopped: 'service vpnd start' starts it");
    }
    Ok(DONE)
}

/// Contract section 1, opening: under the old policy the tunnel and then its flows go; the open
/// policy comes after them, the marker last.
fn by_hand(input: &Input) -> Result<(), String> {
    let state = input.state();
    let (settings, _) = super::block::settings(input, &state);
    let steps: [Step<'_>; 10] = [
        ("wanted state", &|| {
            let run = RunDir::new(&input.run_dir);
            let word = disarmed(run.last_word(&state), &settings);
            run.store_word(&state, &word).map_err(|e| e.to_string())
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
        ("dnsmasq", &|| names_as_before(input)),
        ("firewall's configuration", &|| super::setup::follow(input)),
    ];
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times() {
        let all = ["1", "90s", "10m", "24h"].map(|time| seconds(time).unwrap());
        assert_eq!(all, [1, 90, 600, 86_400]);
        for wrong in ["", "0", "0m", "25h", "10 m", "-1", "m", "10d", "1.5h", "4294967297", "99999999h", "5µ"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
