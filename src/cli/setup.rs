//! `vpnd setup`, `vpnd teardown`: what vpnd needs of fw4, and nothing of it any more.

use super::args::Input;
use super::{DONE, Outcome, kernel, text};
use crate::config::uci::NewSection;
use crate::config::{self, Settings};
use crate::firewall::{self, Nft};
use crate::fw4::{self, Closed, File, sections};
use crate::lan6;
use crate::state::RunDir;
use crate::tunnel;
use crate::uci_file::{Error, told};

pub fn setup(input: &Input) -> Outcome {
    let loaded = config::load(&input.config_dir);
    if !loaded.problems.is_empty() {
        let lines: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
        return Err(format!("nothing was written, as the configuration is wrong\n{}", lines.join("\n")));
    }
    let wanted = sections(&loaded.settings, &loaded.zones, tunnel::DEVICE, closed_how(input));
    if wanted.is_empty() {
        return Err(
            "/etc/config/firewall has a zone named 'vpnd' that vpnd did not make: rename it".to_owned()
        );
    }
    if loaded.zones.is_empty() {
        return Err("/etc/config/firewall has no zone that could be read: nothing was written".to_owned());
    }
    let settings = Some(&loaded.settings);
    write(input, &wanted, settings, "set up: the firewall has a zone for the tunnel")
}

pub fn teardown(input: &Input) -> Outcome {
    if input.state().armed() {
        return Err(
            "the router is armed, and would not be closed in fw4 any more: 'vpnd disarm' first".to_owned()
        );
    }
    write(input, &[], None, "the firewall's configuration is what it was without vpnd")
}

/// Armed, and not open for a while.
fn closed(input: &Input) -> bool {
    input.state().armed() && RunDir::new(&input.run_dir).pause_left().is_none()
}

/// Written without what nft refuses: it would keep fw4 from loading.
fn closed_how(input: &Input) -> Closed {
    if !closed(input) {
        return Closed::No;
    }
    let fits = Nft::new(kernel::nft_program()).accepts(fw4::HEAL);
    if let Err(why) = &fits {
        eprintln!("vpnd: fw4 will not bring back what blocks: {}", text::clean(&why.to_string()));
    }
    Closed::Yes { healed: fits.is_ok() }
}

/// As the daemon does when the marker comes or goes: only where it was set up.
///
/// # Errors
/// Words for a person.
pub fn follow(input: &Input) -> Result<(), String> {
    let file = File::new(&input.config_dir);
    if !file.is_set_up() {
        return ipv6(input, None).map(drop);
    }
    let config::Loaded { settings, zones, problems, .. } = config::load(&input.config_dir);
    if problems.is_empty() {
        let wanted = sections(&settings, &zones, tunnel::DEVICE, closed_how(input));
        return reloaded(input, file.bring_to(&wanted)).and(ipv6(input, Some(&settings))).map(drop);
    }
    // Nobody knows what it says: what is there stays, but for what an open router must not have.
    if closed(input) {
        return Ok(());
    }
    reloaded(input, file.open()).and(ipv6(input, None)).map(drop)
}

/// What the LAN gets of IPv6.
fn ipv6(input: &Input, settings: Option<&Settings>) -> Result<bool, String> {
    lan6::bring_to(&input.config_dir, &input.run_dir, settings, closed(input))
}

fn write(input: &Input, wanted: &[NewSection], settings: Option<&Settings>, done: &str) -> Outcome {
    let fw4 = reloaded(input, File::new(&input.config_dir).bring_to(wanted))?;
    let changed = ipv6(input, settings)? || fw4;
    text::say(&if changed { done.to_owned() } else { format!("{done}; nothing had to be changed") });
    Ok(DONE)
}

/// True when something was written, and fw4 has taken it.
fn reloaded(input: &Input, written: Result<bool, Error>) -> Result<bool, String> {
    let written = told(fw4::reload(&input.run_dir), written)?;
    if !closed(input) {
        // fw4 may have loaded its former file meanwhile.
        firewall::end_heal().map_err(|e| format!("written, but what fw4 brought back still blocks: {e}"))?;
    }
    Ok(written)
}
