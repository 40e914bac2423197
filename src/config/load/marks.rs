//! Other programs that mark packets, as their own files in `/etc/config` say.

use std::path::Path;

use super::network::is_on;
use super::read_package;
use crate::config::names::Mark;
use crate::config::problem::{Place, Report};
use crate::config::uci::{Package, Section};
use crate::config::value;

/// `mmx_mask` of mwan3 (its common.sh), and where its file does not say otherwise.
const MWAN3: u32 = 0x3f00;
/// `fw_mask` of pbr.
const PBR: u32 = 0x00ff_0000;
/// Of tailscaled (its `util/linuxfw`); no setting of its own.
const TAILSCALE: u32 = 0x00ff_0000;

/// Warns where the bits of vpnd's mark are also another program's: a packet of the tunnel that it
/// marks is no longer taken for one, and is held back.
pub(super) fn warn_shared(config_dir: &Path, mark: Mark, title: &str, report: &mut Report) {
    let markers = [("mwan3", mwan3 as fn(&Package) -> Option<u32>), ("pbr", pbr), ("tailscale", tailscale)];
    let markers = markers.into_iter().filter_map(|(name, bits)| {
        // One that is not there, or that nobody can read, marks nothing.
        Some((name, bits(&read_package(&config_dir.join(name)).ok()?)?))
    });
    let markers: Vec<_> = markers.collect();
    let free = markers.iter().fold(u32::MAX, |free, (_, bits)| free & !bits);
    let other = Mark::new(Mark::DEFAULT.value() & free, free);
    for (name, bits) in markers.into_iter().filter(|(_, bits)| bits & mark.mask() != 0) {
        let mut message = format!(
            "has bits that {name} marks packets with (0x{bits:x}): packets of the tunnel that it marks are held back"
        );
        if let Ok(other) = other {
            let (value, mask) = (other.value(), other.mask());
            message += &format!("; with mark '0x{value:x}' and mark_mask '0x{mask:x}' they are not");
        }
        let shown = format!("0x{:x}", mark.mask());
        let place = Place { value: shown.as_bytes(), ..Place::missing(title, "mark_mask") };
        report.warning(place, message);
    }
}

fn named<'a>(package: &'a Package, name: &str) -> Option<&'a Section> {
    package.sections.iter().find(|section| !section.anonymous && section.name == name)
}

/// Once it watches an interface.
fn mwan3(package: &Package) -> Option<u32> {
    package.sections.iter().find(|section| section.kind == "interface" && is_on(section, "enabled"))?;
    let mask = named(package, "globals").and_then(|globals| globals.text("mmx_mask"));
    Some(mask.and_then(|mask| value::number32(&mask).ok()).unwrap_or(MWAN3))
}

/// Its mask is in hexadecimal digits, with 0x or without.
fn pbr(package: &Package) -> Option<u32> {
    let config = named(package, "config").filter(|config| is_on(config, "enabled"))?;
    let mask = config.text("fw_mask").unwrap_or_default();
    let digits = mask.strip_prefix("0x").unwrap_or(&mask);
    Some(u32::from_str_radix(digits, 16).unwrap_or(PBR))
}

/// Whether it runs its file does not say; it is only there with the package.
fn tailscale(package: &Package) -> Option<u32> {
    named(package, "settings").filter(|settings| settings.text("fw_mode").as_deref() != Some("off"))?;
    Some(TAILSCALE)
}
