//! The rulesets that are tried: every state, in a plain home and in one where everything is listed.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use vpnd::config::{
    Lan, LanDevice, LanRoute, Mark, PortProto, Relay, Settings, TunnelForward, TunnelSettings, WanService,
    WireguardKey,
};
use vpnd::firewall::{self, Ruleset};
use vpnd::policy::{self, Facts, Stance, TunnelStance, WanDevice};
use vpnd::sorted::Map;

pub struct Case {
    pub name: &'static str,
    pub ruleset: Ruleset,
}

fn one<T: FromStr>(text: &str) -> Result<T>
where
    T::Err: Debug,
{
    text.parse().map_err(|e| anyhow!("{text}: {e:?}"))
}

fn all<T: FromStr>(texts: &[&str]) -> Result<Vec<T>>
where
    T::Err: Debug,
{
    texts.iter().map(|text| one(text)).collect()
}

pub const RELAYS: [&str; 2] = ["192.0.2.11:51820", "[2001:db8:51::11]:53"];
pub const TUNNEL: [&str; 2] = ["10.64.10.2/32", "fd64::10:2/128"];

fn lan(name: &str, prefixes: &[&str], forward: bool) -> Result<LanDevice> {
    Ok(LanDevice { name: one(name)?, prefixes: all(prefixes)?, forward })
}

fn relay(name: &str, endpoint: &str) -> Result<Relay> {
    Ok(Relay {
        name: one(name)?,
        endpoint: one(endpoint)?,
        public_key: WireguardKey::new([7; 32]),
        preshared_key: None,
        allowed_ips: all(&["0.0.0.0/0", "::/0"])?,
        country: String::new(),
        city: String::new(),
    })
}

fn plain() -> Result<Settings> {
    let devices = vec![lan("br-lan", &["192.168.1.0/24", "fd00:1::/64"], true)?];
    let mut settings = Settings::fallback(Lan { devices, routes: Vec::new() });
    settings.tunnel = Some(TunnelSettings {
        private_key: WireguardKey::new([9; 32]),
        addresses: all(&TUNNEL)?,
        dns: all(&["10.64.0.1"])?,
        mtu: None,
        probe: Vec::new(),
    });
    settings.relays = vec![relay("one", RELAYS[0])?];
    Ok(settings)
}

/// Everything that can be listed, a partial mark mask, and a LAN device that forwards nothing.
fn full() -> Result<Settings> {
    let mut settings = plain()?;
    settings.lan.devices = vec![
        lan("br-guest", &["192.168.2.0/24"], true)?,
        lan("br-lan", &["192.168.1.0/24", "fd00:1::/64"], true)?,
        lan("eth7", &["192.168.7.0/24"], false)?,
    ];
    settings.lan.routes =
        vec![LanRoute { prefix: one("10.9.0.0/16")?, gateway: one("192.168.1.9")?, device: one("br-lan")? }];
    settings.allow_wan_private = all(&["192.168.100.0/24", "fd00:dead::/48"])?;
    settings.allow_wan_multicast = all(&["239.35.0.0/16", "ff3e::/32"])?;
    settings.allow_wan_service = vec![
        WanService { proto: PortProto::Tcp, port: 22, source: Some(one("198.51.100.64/26")?) },
        WanService { proto: PortProto::Udp, port: 1194, source: None },
    ];
    settings.allow_tunnel_forward = vec![
        TunnelForward { proto: PortProto::Tcp, port: 8080, to: one("192.168.1.5:80")? },
        TunnelForward { proto: PortProto::Udp, port: 9999, to: one("[fd00:1::5]:9999")? },
    ];
    settings.resolvers = all(&["10.64.0.7", "192.168.1.53", "fd64::53"])?;
    settings.mark = Mark::new(0x0041_0000, 0x00ff_0000).map_err(|e| anyhow!("{e}"))?;
    settings.api = all(&["192.0.2.10:443", "[2001:db8:a::10]:443"])?;
    settings.relays.push(relay("two", RELAYS[1])?);
    settings.relays.push(relay("behind", "192.168.100.9:51820")?);
    Ok(settings)
}

fn facts(more: bool) -> Result<Facts> {
    let mut lan_prefixes = Map::from([(one("br-lan")?, all(&["192.168.1.0/24"])?)]);
    if more {
        lan_prefixes.insert(one("br-guest")?, all(&["192.168.2.0/24", "192.168.3.0/24"])?);
    }
    let wan = WanDevice {
        name: one("wan")?,
        prefixes: all(&["203.0.113.0/24", "2001:db8:203::/64"])?,
        lease_server: Some(one("203.0.113.1")?),
    };
    Ok(Facts { lan_prefixes, wan: vec![wan] })
}

/// Every state, and what can be different within it.
///
/// # Errors
/// When a name or address is none: a mistake here.
pub fn cases() -> Result<Vec<Case>> {
    let relays: Vec<SocketAddr> = all(&RELAYS)?;
    let tunnel = |families: std::ops::Range<usize>| -> Result<TunnelStance> {
        Ok(TunnelStance { device: one("vpnd0")?, addresses: all(&TUNNEL[families])? })
    };
    let connecting = |count: usize, tunnel: Option<TunnelStance>, dns: bool| Stance::Connecting {
        relays: relays[..count].to_vec(),
        listen_port: 51820,
        tunnel,
        dns,
    };
    let connected = |relay: usize, tunnel: TunnelStance| Stance::Connected {
        relay: relays[relay],
        listen_port: 51820,
        tunnel,
    };
    let nothing = Settings::fallback(Lan::default());
    let table = [
        ("connected, all listed", connected(1, tunnel(0..2)?), full()?, true),
        ("connecting, all listed", connecting(2, Some(tunnel(0..2)?), true), full()?, true),
        ("blocked, all listed", Stance::Blocked { api: true }, full()?, true),
        ("boot, all listed", Stance::Boot, full()?, true),
        ("connected, plain", connected(0, tunnel(0..2)?), plain()?, false),
        ("connected, IPv4 only", connected(0, tunnel(0..1)?), plain()?, false),
        ("connecting, no device yet", connecting(1, None, false), plain()?, false),
        ("connecting, plain", connecting(1, Some(tunnel(0..2)?), false), plain()?, false),
        ("blocked, plain", Stance::Blocked { api: false }, plain()?, false),
        ("boot, nothing known", Stance::Boot, nothing.clone(), false),
        ("blocked, nothing known", Stance::Blocked { api: true }, nothing, false),
    ];
    table
        .into_iter()
        .map(|(name, stance, settings, more)| {
            let policy = policy::compose(&stance, &settings, &facts(more)?).context("no policy")?;
            Ok(Case { name, ruleset: firewall::compile(&policy) })
        })
        .collect()
}
