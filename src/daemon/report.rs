//! What the daemon says of itself.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{IfName, WanService};
use crate::control::{DeviceStatus, PolicyStatus, RelayStatus, Status, TunnelState, WantedStatus};
use crate::firewall::hardware_flowtables;
use crate::routing::{grouped_devices, sysctl};
use crate::tunnel;

use super::Daemon;
use super::inputs::Inputs;
use super::trial::Trial;

pub(super) fn status(daemon: &Daemon) -> Status {
    let view = daemon.machine.view();
    let mut warnings: Vec<_> = view.warnings.iter().map(|warning| warning.0.clone()).collect();
    warnings.extend(daemon.inputs.warnings.clone());
    warnings.extend(daemon.undone.clone());
    warnings.extend(daemon.fw4.trouble());
    warnings.extend(daemon.lan6.trouble());
    warnings.extend(daemon.dns.trouble());
    warnings.extend(in_hardware());
    warnings.extend(daemon.boots.warnings(&view));
    if daemon.shell.barrier {
        warnings.extend(sysctl::strict_devices(&daemon.inputs.facts).iter().map(validated));
        warnings.extend(grouped_devices(&daemon.inputs.facts).iter().map(grouped));
        warnings.extend(handed_on(daemon));
    }
    if !view.holds {
        warnings.insert(0, "NOT BLOCKED: no blocking policy could be installed".to_owned());
    }
    Status {
        state: state(view.state),
        lockdown: view.lockdown,
        armed: daemon.shell.state.armed(),
        cause: view.cause.map(|cause| cause.to_string()),
        since_s: daemon.entered.elapsed().as_secs(),
        wanted: Some(WantedStatus { connect: view.wanted.connect, relay: view.wanted.relay }),
        relay: relay(daemon, view.relay.as_ref()),
        policy: daemon.shell.in_force.as_ref().map(|in_force| PolicyStatus {
            state: in_force.state.to_string(),
            hash: in_force.hash.to_string(),
            generation: daemon.shell.generation,
        }),
        device: device(),
        trial: daemon.trial.as_ref().map(Trial::status),
        open_for_s: daemon
            .pause
            .map(|until| until.saturating_duration_since(tokio::time::Instant::now()).as_secs()),
        wan_services: daemon.inputs.settings.allow_wan_service.iter().map(service).collect(),
        missing_layers: (daemon.shell.guards.missing().iter().cloned())
            .chain(unheard(daemon))
            .chain(daemon.shell.unstopped.as_deref().map(unstopped))
            .chain(unwatched(daemon))
            .collect(),
        warnings,
        incidents: daemon.incidents.report(),
        incident_count: daemon.incidents.count(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
    }
}

/// Blocked packets are blocked all the same.
fn unheard(daemon: &Daemon) -> Option<String> {
    let mute = "the kernel refused the rules that tell of them (install kmod-nfnetlink-log and restart vpnd)";
    let trouble = if daemon.shell.mute() { Some(mute) } else { daemon.blocked.trouble() };
    trouble.map(|why| format!("reasons: 'vpnd why' does not hear of blocked packets: {why}"))
}

fn unstopped(why: &str) -> String {
    format!(
        "stop ahead of flow offloading: flows from before the last change were ended by a change of the routes and deleted, but not stopped at once: {why}"
    )
}

/// What vpnd cannot hold: connections that the network hardware carries by itself.
pub(super) fn in_hardware() -> Vec<String> {
    let words = |table: &String| {
        format!(
            "hardware flow offloading is on (flowtable {table}): connections from before a change may go on for some seconds where no rule sees them; switch it off ('uci set firewall.@defaults[0].flow_offloading_hw=0', 'uci commit firewall', 'service firewall reload'); offloading in software is fine"
        )
    };
    hardware_flowtables().unwrap_or_default().iter().map(words).collect()
}

/// Changes of others are then mended with the next event only.
fn unwatched(daemon: &Daemon) -> impl Iterator<Item = String> {
    let rules = daemon.repair.trouble.as_ref().map(|why| format!("watcher: {why}"));
    rules.into_iter().chain(daemon.deaf.map(|why| format!("watcher: {why}")))
}

fn validated(device: &IfName) -> String {
    format!(
        "rp_filter could not be switched off on {device}: without a tunnel its gateway is not heard; set net.ipv4.conf.all.rp_filter and net.ipv4.conf.{device}.rp_filter to 0"
    )
}

/// Public IPv6 prefixes that are on a LAN device without the configuration saying so.
fn handed_on(daemon: &Daemon) -> impl Iterator<Item = String> {
    let Inputs { facts, settings, .. } = &daemon.inputs;
    let lans = facts.lan_prefixes.iter().flat_map(|(lan, nets)| nets.iter().map(move |net| (lan, net)));
    let public = |net: &IpNet| match net.addr() {
        IpAddr::V4(_) => false,
        // RFC 4291, section 2.4: what is assigned of it.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    };
    lans.filter(move |(_, net)| public(net) && !settings.lan.connects(&net.addr())).map(|(lan, net)| {
        format!(
            "the public IPv6 prefix {net} is handed to the LAN ({lan}), whose hosts may show it to others: 'vpnd setup', or \
             'list ip6class local' for its interface in /etc/config/network"
        )
    })
}

fn grouped(device: &IfName) -> String {
    format!(
        "{device} is in an interface group: should vpnd die, a LAN device that goes down and up is no longer answered; `ip link set {device} group 0`"
    )
}

fn state(word: &str) -> TunnelState {
    match word {
        "connecting" => TunnelState::Connecting,
        "connected" => TunnelState::Connected,
        "disconnecting" => TunnelState::Disconnecting,
        "disconnected" => TunnelState::Disconnected,
        _ => TunnelState::Error,
    }
}

fn relay(daemon: &Daemon, name: Option<&crate::config::RelayName>) -> Option<RelayStatus> {
    let relays = &daemon.inputs.settings.relays;
    relays.iter().find(|relay| Some(&relay.name) == name).map(RelayStatus::from)
}

fn device() -> Option<DeviceStatus> {
    let stats = tunnel::stats().ok()??;
    let age = stats.last_handshake.and_then(|when| when.elapsed().ok());
    Some(DeviceStatus {
        name: tunnel::DEVICE.to_owned(),
        handshake_age_s: age.map(|age| age.as_secs()),
        rx: stats.rx,
        tx: stats.tx,
        mtu: stats.mtu,
    })
}

fn service(service: &WanService) -> String {
    let proto = match service.proto {
        crate::config::PortProto::Tcp => "tcp",
        crate::config::PortProto::Udp => "udp",
    };
    let source = service.source.map_or("anywhere".to_owned(), |source| source.to_string());
    format!("{proto} {} from {source}", service.port)
}
