//! `/etc/config/{vpnd,network,firewall}` -> [`Settings`], with everything that is wrong at once.

mod fields;
mod lan;
mod marks;
mod network;
mod peers;
mod wan;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::names::Mark;
use super::problem::{Place, Problem, Report};
use super::settings::{FirewallZone, Lan, Relay, Settings, TunnelForward, TunnelSettings};
use super::uci::{MAX_BYTES, Package, Section, parse};
use super::value;
use crate::sorted::{self, Set};
use fields::{Fields, title};
use peers::Ranges;

/// The outcome of [`load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// With any problem: [`Settings::fallback`] with the LAN as far as it could be decided.
    pub settings: Settings,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Of the firewall file, in its order; empty where it could not be read or nobody asked for it.
    pub zones: Vec<FirewallZone>,
}

/// Reads the configuration in `config_dir` (normally /etc/config). Never fails and never panics:
/// what is wrong is in [`Loaded::problems`], in the order vpnd, network, firewall.
#[must_use]
pub fn load(config_dir: &Path) -> Loaded {
    load_from(&config_dir.join("vpnd"), config_dir)
}

/// As [`load`], with another file in the place of `config_dir`'s `vpnd`.
#[must_use]
pub fn load_from(vpnd_file: &Path, config_dir: &Path) -> Loaded {
    let report = |name: &str| Report::new(config_dir.join(name).display().to_string());
    let mut vpnd = Report::new(vpnd_file.display().to_string());
    let (mut network, mut firewall) = (report("network"), report("firewall"));
    let (settings, zones) = match read_package(vpnd_file) {
        Ok(package) => settings(&package, config_dir, &mut vpnd, &mut network, &mut firewall),
        Err(fault) => {
            fault.into_problem(&mut vpnd);
            (Settings::fallback(Lan::default()), Vec::new())
        }
    };
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for mut report in [vpnd, network, firewall] {
        // Down the file, as its reader goes; what is missing comes last.
        let by_line = |problem: &Problem| problem.line.unwrap_or(usize::MAX);
        for list in [&mut report.problems, &mut report.warnings] {
            sorted::sort_by(list, |a, b| by_line(a).cmp(&by_line(b)));
        }
        problems.extend(report.problems);
        warnings.extend(report.warnings);
    }
    let settings = if problems.is_empty() { settings } else { Settings::fallback(settings.lan) };
    Loaded { settings, problems, warnings, zones }
}

/// Why a file gave nothing.
struct Unreadable {
    line: Option<usize>,
    message: String,
    missing: bool,
}

impl Unreadable {
    fn place(&self) -> Place<'static> {
        Place { line: self.line, section: "", option: "", value: b"" }
    }
    fn into_problem(self, report: &mut Report) {
        report.problem(self.place(), self.message);
    }
    fn into_warning(self, report: &mut Report) {
        report.warning(self.place(), self.message);
    }
}

fn read_package(path: &Path) -> Result<Package, Unreadable> {
    let unreadable = |error: std::io::Error| Unreadable {
        line: None,
        message: format!("cannot be read: {error}"),
        missing: error.kind() == std::io::ErrorKind::NotFound,
    };
    // Asked before opening: opening a pipe waits for its writer.
    let is_file = std::fs::metadata(path).map_err(unreadable)?.is_file();
    if !is_file {
        let message = "cannot be read: is no regular file".to_owned();
        return Err(Unreadable { line: None, message, missing: false });
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut data = Vec::new();
    // One byte more than allowed, so that parse() sees that there is too much.
    let most = u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut data).map_err(unreadable)?;
    parse(&data).map_err(|fault| Unreadable {
        line: Some(fault.line),
        message: fault.reason.to_string(),
        missing: false,
    })
}

fn settings(
    package: &Package,
    config_dir: &Path,
    report: &mut Report,
    network_report: &mut Report,
    firewall_report: &mut Report,
) -> (Settings, Vec<FirewallZone>) {
    let sections = &package.sections;
    warn_unknown_sections(sections, report);
    let Some(main) = sections.iter().find(|section| is_main(section)) else {
        report.problem(
            Place::missing("vpnd 'main'", ""),
            "is missing; the file needs a section config vpnd 'main'",
        );
        return (Settings::fallback(Lan::default()), Vec::new());
    };
    let mut main = Fields::new(main, title(main, sections));
    let decided = lan::Decision::new(report, network_report, firewall_report).decide(&mut main, config_dir);
    let mut settings = Settings::fallback(decided.lan);
    settings.lan_networks = decided.lan_networks;
    settings.wan_names = decided.wan_names;
    settings.wan_pppoe = decided.wan_pppoe;
    settings.enabled = main.one(report, "enabled", &value::flag).unwrap_or(false);
    settings.auto_connect = main.one(report, "auto_connect", &value::flag).unwrap_or(false);
    settings.lockdown = main.one(report, "lockdown", &value::flag).unwrap_or(false);
    settings.mark = mark(&mut main, report);
    marks::warn_shared(config_dir, settings.mark, &main.title, report);
    settings.tunnel = tunnel(sections, report, &settings.lan);
    let mut ranges = Ranges::new(&settings.lan, settings.tunnel.as_ref());
    exceptions(&mut settings, &mut main, report, &ranges);
    ranges.listed.clone_from(&settings.allow_wan_private);
    for (api, item) in main.all(report, "api_endpoint", &|text| ranges.endpoint(text)) {
        ranges.warn_listed(report, main.place("api_endpoint", item), api.ip());
        settings.api.push(api);
    }
    main.warn_unknown(report);
    settings.relays = relays(sections, report, &ranges);
    let of_its_own =
        |device: &super::settings::LanDevice| device.prefixes.iter().any(|net| net.addr().is_ipv6());
    if settings.has_ipv6()
        && !settings.lan_networks.is_empty()
        && !decided.has_ula
        && !settings.lan.devices.iter().any(of_its_own)
    {
        network_report.warning(
            Place::missing("globals", "ula_prefix"),
            "is missing: the VPN carries IPv6, and the LAN has no addresses of its own for it",
        );
    }
    (settings, decided.zones)
}

fn is_main(section: &Section) -> bool {
    section.kind == "vpnd" && section.name == "main"
}

fn warn_unknown_sections(sections: &[Section], report: &mut Report) {
    for section in sections {
        let message = match section.kind.as_str() {
            "tunnel" | "relay" => continue,
            "vpnd" if section.name == "main" => continue,
            "vpnd" => "was not read; the section's name must be 'main'",
            _ => "is of an unknown type and was not read; vpnd, tunnel and relay are known",
        };
        report.warning(Place::section(&title(section, sections), section.line), message);
    }
}

fn mark(main: &mut Fields<'_>, report: &mut Report) -> Mark {
    let mask = main.one(report, "mark_mask", &value::number32);
    let mask_written = !main.items("mark_mask").is_empty();
    let Some(item) = main.item(report, "mark") else {
        let mark = Mark::new(Mark::DEFAULT.value(), mask.unwrap_or(Mark::DEFAULT.mask()));
        if let (Err(message), Some(item)) = (&mark, main.items("mark_mask").first()) {
            report.problem(
                main.place("mark_mask", item),
                format!("does not go with the default mark 0x6d6f6c65, which {message}"),
            );
        }
        return mark.unwrap_or(Mark::DEFAULT);
    };
    // With an unreadable mask only the mask is to be complained about.
    let mask = mask.or((!mask_written).then_some(Mark::DEFAULT.mask()));
    main.read(report, "mark", item, &|text| {
        let value = value::number32(text)?;
        mask.map_or(Ok(Mark::DEFAULT), |mask| Mark::new(value, mask))
    })
    .unwrap_or(Mark::DEFAULT)
}

fn exceptions(settings: &mut Settings, main: &mut Fields<'_>, report: &mut Report, ranges: &Ranges) {
    settings.resolvers = main.values(report, "resolver", &|text| value::host(text, true));
    redirect_dns(settings, main, report);
    let private = main.all(report, "allow_wan_private", &|text| {
        let net = value::unicast_prefix(text)?;
        match ranges.lan_overlap(&net) {
            Some(lan) => Err(format!("overlaps the LAN ({lan}); a network behind the WAN is meant")),
            None => Ok(net),
        }
    });
    let inside = inside_the_tunnel(settings);
    let private = private.into_iter().filter(|(net, item)| {
        let clash = inside.iter().find(|(_, there)| value::overlap(net, there));
        if let Some((what, there)) = clash {
            report.problem(
                main.place("allow_wan_private", item),
                format!(
                    "covers {what} {}, which is inside the tunnel, and would send it out of the WAN; \
                     one of the two must change",
                    bare(there)
                ),
            );
        }
        clash.is_none()
    });
    for (net, item) in private.collect::<Vec<_>>() {
        if !is_private(&net) {
            report.warning(
                main.place("allow_wan_private", item),
                "is public: whatever goes there bypasses the VPN",
            );
        }
        settings.allow_wan_private.push(net);
    }
    settings.allow_wan_multicast = main.values(report, "allow_wan_multicast", &value::multicast_prefix);
    settings.allow_wan_service = main.values(report, "allow_wan_service", &value::wan_service);
    let mut forwards: Vec<TunnelForward> = Vec::new();
    for (forward, item) in main.all(report, "allow_tunnel_forward", &value::tunnel_forward) {
        let place = main.place("allow_tunnel_forward", item);
        if forwards.iter().any(|f| f.proto == forward.proto && f.port == forward.port) {
            report.problem(place, "forwards a port that another line forwards already");
            continue;
        }
        if ranges.lan_overlap(&IpNet::from(forward.to.ip())).is_none() {
            report.warning(place, "goes to an address that is in no LAN network known here");
        }
        forwards.push(forward);
    }
    settings.allow_tunnel_forward = forwards;
}

/// A resolver in the LAN has to get out itself, and fw4 can spare one sender of a family (fw4.uc,
/// `parse_redirect`: `src_ip` is no list).
fn redirect_dns(settings: &mut Settings, main: &mut Fields<'_>, report: &mut Report) {
    let Some(item) = main.item(report, "redirect_dns") else { return };
    settings.redirect_dns = main.read(report, "redirect_dns", item, &value::flag).unwrap_or(false);
    let spared = |v4| settings.lan_resolvers().filter(|addr| addr.is_ipv4() == v4).count();
    if settings.redirect_dns && (spared(true) > 1 || spared(false) > 1) {
        report.problem(
            main.place("redirect_dns", item),
            "goes with one resolver of each family in the LAN at the most: what a second one asks itself \
             would be redirected, too",
        );
    }
}

/// What only the tunnel leads to (contract 3.5 and 3.3). The rule of a listed prefix comes before
/// the tunnel's: it would take these past the tunnel.
fn inside_the_tunnel(settings: &Settings) -> Vec<(&'static str, IpNet)> {
    let mut inside: Vec<(&str, IpNet)> =
        settings.resolvers.iter().map(|resolver| ("the resolver", IpNet::from(*resolver))).collect();
    if let Some(tunnel) = &settings.tunnel {
        inside.extend(tunnel.addresses.iter().map(|address| ("the tunnel's address", *address)));
        inside.extend(tunnel.dns.iter().map(|dns| ("the tunnel's dns", IpNet::from(*dns))));
        inside.extend(tunnel.probe.iter().map(|probe| ("the tunnel's probe", IpNet::from(*probe))));
    }
    inside
}

/// A host without its prefix length.
fn bare(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// RFC 1918, RFC 6598 (carrier-grade NAT), RFC 3927 and RFC 4193, RFC 4291's link-local.
fn is_private(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => {
            let first = v6.segments()[0];
            first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80
        }
    }
}

fn tunnel(sections: &[Section], report: &mut Report, lan: &Lan) -> Option<TunnelSettings> {
    let mut tunnels = sections.iter().filter(|section| section.kind == "tunnel");
    let first = tunnels.next();
    for section in tunnels {
        report.problem(
            Place::section(&title(section, sections), section.line),
            "is a second tunnel; there can be one, with as many relays as you like",
        );
    }
    let first = first?;
    let mut fields = Fields::new(first, title(first, sections));
    let tunnel = peers::tunnel(&mut fields, report, lan);
    fields.warn_unknown(report);
    tunnel
}

fn relays(sections: &[Section], report: &mut Report, ranges: &Ranges) -> Vec<Relay> {
    let mut taken = Set::new();
    sections
        .iter()
        .filter(|section| section.kind == "relay")
        .filter_map(|section| {
            let mut fields = Fields::new(section, title(section, sections));
            let relay = peers::relay(&mut fields, report, section, ranges, &mut taken);
            fields.warn_unknown(report);
            relay
        })
        .collect()
}
