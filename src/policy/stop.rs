//! What stops LAN traffic ahead of the kernel's flowtables from a transition's commit until its old
//! flows are deleted (contract, section 3: flows are part of a transition). Pure.
//!
//! A flow that was offloaded passes no chain but those of the ingress hook, and listing and deleting
//! connections takes time. For that time whatever comes in from the LAN is dropped there, but for
//! what stays at home.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{IfName, Settings};

use super::Policy;
use super::draft::host;
use super::nets::{BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6};
use super::stance::Stance;

/// Where LAN packets come in, as the kernel has it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entrances {
    /// The LAN devices that exist and the devices below them, on whose ingress hooks a flowtable
    /// may be: bridge and bond ports, and what carries a VLAN. Sorted, each once.
    pub devices: Vec<IfName>,
    /// The router's own addresses, on any device.
    pub own: Vec<IpAddr>,
}

/// Which packets wait until the old flows are deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Coming in by these; never empty.
    pub devices: Vec<IfName>,
    /// But not to these, aggregated.
    pub spared: Vec<IpNet>,
}

/// The stop that goes with `policy`. It spares the router itself, LAN networks and those behind
/// them (2.2, 2.7), listed prefixes (2.8), link-local, multicast and broadcast: nobody is locked
/// out, should nobody live to end it. None where nothing can come in, or no LAN is known.
#[must_use]
pub fn stop(policy: &Policy, settings: &Settings, entrances: &Entrances) -> Option<Stop> {
    let zones = policy.zones();
    if entrances.devices.is_empty() || zones.emergency() {
        return None;
    }
    let mut spared = vec![BROADCAST, LINK_LOCAL_V4, LINK_LOCAL_V6, MULTICAST_V4, MULTICAST_V6];
    spared.extend(zones.lan.iter().flat_map(|zone| zone.reachable()));
    spared.extend(settings.allow_wan_private.iter().copied());
    spared.extend(entrances.own.iter().copied().map(host));
    let spared: Vec<IpNet> = spared.iter().map(IpNet::trunc).collect();
    Some(Stop { devices: entrances.devices.clone(), spared: IpNet::aggregate(&spared) })
}

/// Whether LAN packets must wait at all when `next` takes the place of `former`, under the same settings
/// and with nothing left over from before. Not where both have the same tunnel: what an old flow may
/// still do until it is deleted a new one may as well, which is to go into the tunnel. But for names,
/// which nobody may ask for before a tunnel is verified (contract 3.5).
#[must_use]
pub fn is_due(former: &Stance, next: &Stance) -> bool {
    let asks = |stance: &Stance| !matches!(stance, Stance::Connecting { dns: false, .. });
    former.tunnel().is_none() || former.tunnel() != next.tunnel() || asks(former) && !asks(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Lan;
    use crate::policy::{Facts, Stance, compose, samples};

    #[test]
    fn what_stays_at_home_is_spared_and_nothing_else() {
        let (settings, facts) = (samples::full(), samples::full_facts());
        let policy = compose(&Stance::Blocked { api: true }, &settings, &facts).unwrap();
        let entrances = Entrances {
            devices: vec!["br-lan".parse().unwrap(), "lan1".parse().unwrap()],
            own: vec!["198.51.100.7".parse().unwrap(), "2001:db8:203::7".parse().unwrap()],
        };
        let stop = stop(&policy, &settings, &entrances).unwrap();
        assert_eq!(stop.devices, entrances.devices);
        let spares = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            stop.spared.iter().any(|net| net.contains(&address))
        };
        let lan = policy.zones().lan.iter().flat_map(|zone| zone.reachable());
        let listed = settings.allow_wan_private.iter().copied();
        for net in lan.chain(listed) {
            assert!(spares(&net.network().to_string()) && spares(&net.broadcast().to_string()), "{net}");
        }
        for home in ["198.51.100.7", "2001:db8:203::7", "255.255.255.255", "239.1.2.3", "ff02::2", "fe80::1"]
        {
            assert!(spares(home), "{home}");
        }
        for out in ["198.51.100.8", "1.1.1.1", "2001:db8:203::8", "0.0.0.1", "8000::1", "254.0.0.1"] {
            assert!(!spares(out), "{out}");
        }
    }

    #[test]
    fn without_a_way_in_or_a_lan_there_is_none() {
        let (settings, facts) = (samples::full(), samples::full_facts());
        let policy = compose(&Stance::Boot, &settings, &facts).unwrap();
        assert_eq!(stop(&policy, &settings, &Entrances::default()), None);
        let nothing = Settings::fallback(Lan::default());
        let emergency = compose(&Stance::Boot, &nothing, &Facts::default()).unwrap();
        let entrances = Entrances { devices: vec!["eth0".parse().unwrap()], own: Vec::new() };
        assert_eq!(stop(&emergency, &nothing, &entrances), None);
    }

    #[test]
    fn between_stances_with_the_same_tunnel_nobody_waits() {
        let relay = "192.0.2.11:51820".parse().unwrap();
        let tunnel = |address: &str| crate::policy::TunnelStance {
            device: "vpnd0".parse().unwrap(),
            addresses: vec![address.parse().unwrap()],
        };
        let (one, other) = (tunnel("10.64.0.1/32"), tunnel("10.64.0.2/32"));
        let connected = |tunnel: &crate::policy::TunnelStance| Stance::Connected {
            relay,
            listen_port: 51820,
            tunnel: tunnel.clone(),
        };
        let with = |tunnel: Option<&crate::policy::TunnelStance>, dns| Stance::Connecting {
            relays: vec![relay],
            listen_port: 51820,
            tunnel: tunnel.cloned(),
            dns,
        };
        let connecting = |tunnel| with(tunnel, false);
        for (former, next, due) in [
            (connected(&one), with(Some(&one), true), false),
            (with(Some(&one), true), connected(&one), false),
            (connected(&one), connecting(Some(&one)), true),
            (connecting(Some(&one)), connecting(Some(&one)), false),
            (connecting(Some(&one)), connected(&one), false),
            (connected(&one), connected(&other), true),
            (connecting(None), connecting(Some(&one)), true),
            (connecting(None), connecting(None), true),
            (connected(&one), Stance::Blocked { api: false }, true),
            (Stance::Blocked { api: false }, connecting(Some(&one)), true),
            (Stance::Open, connected(&one), true),
        ] {
            assert_eq!(is_due(&former, &next), due, "{former:?} -> {next:?}");
        }
    }
}
