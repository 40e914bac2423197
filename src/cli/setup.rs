//! `vpnd setup`, `vpnd teardown`: what vpnd needs of fw4, and nothing of it any more.

use super::args::Input;
use super::{DONE, Outcome, kernel, text};
use crate::config;
use crate::firewall::{self, Nft};
use crate::fw4::{self, Closed, File, sections};
use crate::state::RunDir;
use crate::tunnel;

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
    write(input, &wanted, "set up: the firewall has a zone for the tunnel")
}

pub fn teardown(input: &Input) -> Outcome {
    if input.state().armed() {
        return Err(
            "the router is armed, and would not be closed in fw4 any more: 'vpnd disarm' first".to_owned()
        );
    }
    write(input, &[], "the firewall's configuration is what it was without vpnd")
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
        return Ok(());
    }
    let config::Loaded { settings, zones, problems, .. } = config::load(&input.config_dir);
    if problems.is_empty() {
        let wanted = sections(&settings, &zones, tunnel::DEVICE, closed_how(input));
        return reloaded(input, file.bring_to(&wanted)).map(drop);
    }
    // Nobody knows what it says: what is there stays, but for what closes an open router.
    if closed(input) { Ok(()) } else { reloaded(input, file.open()).map(drop) }
}

fn write(input: &Input, wanted: &[config::uci::NewSection], done: &str) -> Outcome {
    let changed = reloaded(input, File::new(&input.config_dir).bring_to(wanted))?;
    text::say(&if changed { done.to_owned() } else { format!("{done}; nothing had to be changed") });
    Ok(DONE)
}

/// True when something was written, and fw4 has taken it.
fn reloaded(input: &Input, written: Result<bool, fw4::Error>) -> Result<bool, String> {
    let written = written.map_err(|e| e.to_string())?;
    let mut reload = fw4::reload(&input.run_dir);
    if written || reload.is_owed() {
        reload.begin();
        reload.finish().map_err(|trouble| format!("written, but {trouble}"))?;
    }
    if !closed(input) {
        // fw4 may have loaded its former file meanwhile.
        firewall::end_heal().map_err(|e| format!("written, but what fw4 brought back still blocks: {e}"))?;
    }
    Ok(written)
}
