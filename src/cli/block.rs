//! `vpnd block`: the boot policy at once, with no daemon, no ubus, no DNS and nothing written but
//! the generation, to RAM.
//!
//! While a daemon lives this only tightens: it puts the daemon's own policy back at its next
//! event. It never opens anything.

use std::time::Instant;

use super::args::Input;
use super::{DONE, Outcome, kernel, text};
use crate::config::{self, Settings};
use crate::daemon::enforce;
use crate::dns;
use crate::firewall::{Nft, conntrack};
use crate::policy::{self, Facts, Stance, flows};
use crate::state::{Boot, RunDir, StateDir, boot};

pub fn run(input: &Input) -> Outcome {
    let start = Instant::now();
    let state = input.state();
    if input.flag("if-armed") && !state.armed() {
        text::say("not armed: nothing to block");
        return Ok(DONE);
    }
    let (settings, source) = settings(input, &state);
    let policy = policy::compose(&Stance::Boot, &settings, &Facts::default())
        .ok_or("no boot policy could be composed; this is a bug")?;
    let cause = if input.flag("if-armed") { "blocked at boot ('vpnd block')" } else { "'vpnd block' asked" };
    let run = RunDir::new(&input.run_dir);
    let nft = Nft::new(kernel::nft_program()).keeping(enforce::recorded(&run));
    let boots = input.flag("if-armed") && run.is_unused();
    let (in_force, _) =
        enforce::enforce(&nft, &run, &policy, cause).map_err(|e| format!("NOT BLOCKED: {e}"))?;
    if boots {
        // dnsmasq comes after (S19).
        let names = dns::upstream(&Stance::Boot, &settings);
        if let (_, Err(why)) = dns::Dnsmasq::new(&input.config_dir).bring_to(&names) {
            eprintln!("vpnd block: dnsmasq may ask in vain: {}", text::clean(&why));
        }
        let boot =
            Boot { blocked_ms: boot::since_boot_ms(), sent: boot::sent_by_wan(&settings), ..Boot::default() };
        if let Err(error) = run.keep_boot(&boot) {
            eprintln!("vpnd block: when it stood is not noted: {}", text::clean(&error.to_string()));
        }
    }
    text::say(&format!(
        "blocked: table {} ({}) in force after {} ms; LAN from {source}",
        in_force.hash,
        in_force.state,
        start.elapsed().as_millis() as u64
    ));
    // At boot there are none, and the kernel may not be ready to list them.
    let fits = |flow: &flows::Flow| flows::fits(flow, &Stance::Boot, &settings, &Facts::default(), false);
    match conntrack::delete_unfit(fits) {
        Err(error) if !input.flag("if-armed") => {
            eprintln!("vpnd block: connections from before may go on where they are offloaded: {error}");
        }
        _ => {}
    }
    Ok(DONE)
}

/// The configuration; without a good one the LAN list that was kept; without that, contract
/// section 0's "neither": forwarding closed, the owner still answered.
pub fn settings(input: &Input, state: &StateDir) -> (Settings, String) {
    let file = state.settings_to_trust(input.config_dir.join("vpnd"));
    let config::Loaded { settings, problems, .. } = config::load_from(&file, &input.config_dir);
    if problems.is_empty() {
        return (settings, "the configuration".to_owned());
    }
    for problem in &problems {
        eprintln!("vpnd block: {}", text::clean(&problem.to_string()));
    }
    let kept = state.kept_lan().unwrap_or_else(|error| {
        eprintln!("vpnd block: {}", text::clean(&error.to_string()));
        None
    });
    let source = match (settings.lan.devices.is_empty(), &kept) {
        (false, None) => "a configuration with errors",
        (false, Some(_)) => "a configuration with errors and the list kept from before",
        (true, Some(_)) => "the list kept from before",
        (true, None) => "nowhere: forwarding is closed",
    };
    let lan = settings.lan.clone().with_kept(kept.unwrap_or_default());
    (Settings::fallback(lan), source.to_owned())
}
