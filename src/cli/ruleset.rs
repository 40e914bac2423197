//! `vpnd ruleset`: composes, compiles and prints; needs neither root nor a kernel.

use std::net::{Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use super::args::Input;
use super::{DONE, Outcome, text};
use crate::config::{self, IfName, Settings};
use crate::firewall;
use crate::policy::{self, Facts, Stance, TunnelStance, WanDevice};
use crate::sorted::Map;
use crate::tunnel;

pub(super) const LISTEN_PORT: u16 = 51820;

pub fn run(input: &Input) -> Outcome {
    let mut loaded = config::load(&input.config_dir);
    if let Some(problem) = loaded.problems.first() {
        return Err(format!("{problem}; 'vpnd check' says all that is wrong"));
    }
    for text in input.all("api") {
        let api = text.parse().map_err(|_| format!("--api: '{text}' is no ADDRESS:PORT"))?;
        loaded.settings.api.push(api);
    }
    let stance = stance(input, &loaded.settings)?;
    let facts = facts(input, &loaded.settings)?;
    let policy = policy::compose(&stance, &loaded.settings, &facts).ok_or("this state has no rules")?;
    let rules = firewall::compile(&policy);
    match input.option("format").unwrap_or("nft") {
        "nft" => text::say(rules.to_string().trim_end()),
        "json" => text::say(&rules.to_json().map_err(|error| error.to_string())?),
        other => return Err(format!("--format: '{other}' is neither nft nor json")),
    }
    Ok(DONE)
}

pub(super) fn stance(input: &Input, settings: &Settings) -> Result<Stance, String> {
    let state = input.option("state").ok_or("--state is needed: boot, blocked, connecting or connected")?;
    let listen_port = match input.option("listen-port") {
        None => LISTEN_PORT,
        Some(text) => text.parse().map_err(|_| format!("--listen-port: '{text}' is no port"))?,
    };
    match state {
        "boot" => Ok(Stance::Boot),
        "blocked" | "error" | "lockdown" => Ok(Stance::Blocked { api: true }),
        "connecting" => Ok(Stance::Connecting {
            relays: vec![relay(input, settings)?],
            listen_port,
            tunnel: Some(tunnel(settings)?),
            dns: input.flag("dns"),
        }),
        "connected" => {
            Ok(Stance::Connected { relay: relay(input, settings)?, listen_port, tunnel: tunnel(settings)? })
        }
        other => Err(format!(
            "--state: '{other}' is none of boot, blocked, error, lockdown, connecting, connected"
        )),
    }
}

fn relay(input: &Input, settings: &Settings) -> Result<SocketAddr, String> {
    let found = match input.option("relay") {
        None => settings.relays.first(),
        Some(name) => settings.relays.iter().find(|relay| relay.name.as_str() == name),
    };
    found.map(|relay| relay.endpoint).ok_or_else(|| match input.option("relay") {
        Some(name) => format!("--relay: no relay is called '{name}'"),
        None => "no relay is configured".to_owned(),
    })
}

pub(super) fn tunnel(settings: &Settings) -> Result<TunnelStance, String> {
    let configured = settings.tunnel.as_ref().ok_or("there is no 'config tunnel' in the configuration")?;
    Ok(TunnelStance { device: tunnel::DEVICE.parse()?, addresses: configured.addresses.clone() })
}

/// The LAN as configured; the WAN as the options say.
pub(super) fn facts(input: &Input, settings: &Settings) -> Result<Facts, String> {
    let lan_prefixes = settings.lan.devices.iter().map(|d| (d.name.clone(), d.prefixes.clone())).collect();
    let mut wan: Map<IfName, (Vec<IpNet>, Option<Ipv4Addr>)> = Map::new();
    for text in input.all("wan") {
        let (device, list) = pair("wan", text)?;
        let (prefixes, _) = wan.get_or(device, Default::default);
        for prefix in list.split(',') {
            prefixes.push(
                prefix.parse().map_err(|_| format!("--wan: '{prefix}' is no prefix (ADDRESS/LENGTH)"))?,
            );
        }
    }
    for text in input.all("lease") {
        let (device, server) = pair("lease", text)?;
        let server = server.parse().map_err(|_| format!("--lease: '{server}' is no IPv4 address"))?;
        wan.get_or(device, Default::default).1 = Some(server);
    }
    let wan =
        wan.into_iter().map(|(name, (prefixes, lease_server))| WanDevice { name, prefixes, lease_server });
    Ok(Facts { lan_prefixes, wan: wan.collect() })
}

fn pair<'a>(option: &str, text: &'a str) -> Result<(IfName, &'a str), String> {
    let (device, rest) =
        text.split_once('=').ok_or_else(|| format!("--{option}: '{text}' is no DEVICE=…"))?;
    Ok((device.parse().map_err(|e| format!("--{option}: '{device}' {e}"))?, rest))
}
