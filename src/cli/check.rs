//! `vpnd check`: everything that is wrong with the configuration, at once.

use super::args::Input;
use super::{DONE, FAILED, Outcome, text};
use crate::config;

pub fn run(input: &Input) -> Outcome {
    let loaded = config::load(&input.config_dir);
    for problem in &loaded.problems {
        text::say(&format!("error: {problem}"));
    }
    for warning in &loaded.warnings {
        text::say(&format!("warning: {warning}"));
    }
    if !loaded.problems.is_empty() {
        let count = loaded.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        text::say(&format!("{count} error{plural}; with this configuration the router stays blocked"));
        return Ok(FAILED);
    }
    let lan: Vec<_> = loaded.settings.lan.devices.iter().map(|d| d.name.as_str()).collect();
    text::say(&format!("good: LAN {}; {} relays", lan.join(", "), loaded.settings.relays.len()));
    Ok(DONE)
}
