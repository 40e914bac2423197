//! Whom dnsmasq may ask. Pure.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::config::uci::{Package, Section};
use crate::policy::Stance;

/// Whom dnsmasq asks (contract, row 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// Whoever its owner and the ISP name: the router is open.
    Anybody,
    /// These, and nobody else; with none, it answers REFUSED at once.
    Only(Vec<IpAddr>),
}

/// The rules hold this, too: a resolver more here would only be one that never answers.
#[must_use]
pub fn upstream(stance: &Stance, settings: &Settings) -> Upstream {
    let listed = &settings.resolvers;
    let home = |addr: &IpAddr| addr.is_loopback() || settings.lan.connects(addr);
    let inside = match stance {
        Stance::Open => return Upstream::Anybody,
        Stance::Connected { .. } | Stance::Connecting { dns: true, tunnel: Some(_), .. } => true,
        Stance::Blocked { .. } | Stance::Boot | Stance::Connecting { .. } => false,
    };
    let tunnels = settings.tunnel.iter().flat_map(|tunnel| &tunnel.dns);
    Upstream::Only(match (listed.is_empty(), inside) {
        (true, true) => tunnels.copied().collect(),
        (true, false) => Vec::new(),
        (false, true) => listed.clone(),
        (false, false) => listed.iter().copied().filter(home).collect(),
    })
}

/// How one of dnsmasq's instances is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The folders where it looks for more configuration: OpenWrt's releases differ, and one that
    /// nobody looks into does no harm.
    pub folders: Vec<PathBuf>,
    /// It has a servers file of its owner's; it takes only one, and refuses to start with two.
    pub has_servers_file: bool,
}

/// Read by dnsmasq when it starts. The name must end so: an owner may have it look for `*.conf` only.
pub const CONF: &str = "vpnd.conf";
/// Read again at SIGHUP. The dot keeps dnsmasq from taking it for configuration.
pub const SERVERS: &str = ".vpnd.servers";

impl Instance {
    /// From `/etc/config/dhcp`: `option confdir` (dnsmasq.init: `PATH[,FILTER]`), or the defaults.
    #[must_use]
    pub fn all(dhcp: &Package, tmp: &Path) -> Vec<Self> {
        dhcp.sections
            .iter()
            .filter(|section| section.kind == "dnsmasq")
            .map(|one| Self::of(one, tmp))
            .collect()
    }

    fn of(section: &Section, tmp: &Path) -> Self {
        let set = section.text("confdir").and_then(|value| {
            let folder = value.split(',').next().unwrap_or_default().to_owned();
            folder.starts_with('/').then(|| PathBuf::from(folder))
        });
        let usual = || vec![tmp.join("dnsmasq.d"), tmp.join(format!("dnsmasq.{}.d", section.name))];
        Self {
            folders: set.map_or_else(usual, |folder| vec![folder]),
            has_servers_file: section.get("serversfile").is_some(),
        }
    }

    /// What dnsmasq reads when it starts, in `folder`; with other text it has to start anew.
    #[must_use]
    pub fn conf(&self, folder: &Path, servers: &[IpAddr]) -> String {
        let mut out =
            "# vpnd: names are asked for inside the tunnel only. Gone when the router is open.\nno-resolv\n"
                .to_owned();
        if self.has_servers_file {
            out.push_str(&lines(servers));
        } else {
            let _ = writeln!(out, "servers-file={}", folder.join(SERVERS).display());
        }
        out
    }
}

/// dnsmasq(8), `--servers-file`.
#[must_use]
pub fn lines(servers: &[IpAddr]) -> String {
    servers.iter().fold(String::new(), |mut out, server| {
        let _ = writeln!(out, "server={server}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::uci::parse;
    use crate::config::{Lan, LanDevice};
    use crate::policy::TunnelStance;

    fn settings(resolvers: &[&str]) -> Settings {
        let lan = LanDevice {
            name: "br-lan".parse().unwrap(),
            prefixes: vec!["192.168.1.0/24".parse().unwrap()],
            forward: true,
        };
        let tunnel = crate::config::TunnelSettings {
            private_key: crate::config::import::parse(
                "x.conf",
                b"[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.64.0.2/32\n\
                  [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:1\n",
            )
            .unwrap()
            .private_key,
            addresses: Vec::new(),
            dns: vec!["10.64.0.1".parse().unwrap()],
            mtu: None,
            probe: Vec::new(),
        };
        Settings {
            resolvers: resolvers.iter().map(|text| text.parse().unwrap()).collect(),
            tunnel: Some(tunnel),
            ..Settings::fallback(Lan { devices: vec![lan], routes: Vec::new() })
        }
    }

    #[test]
    fn in_the_tunnel_or_nowhere() {
        let tunnel = TunnelStance { device: "vpnd0".parse().unwrap(), addresses: Vec::new() };
        let relay = "192.0.2.1:51820".parse().unwrap();
        let dialling = |tunnel: Option<&TunnelStance>, dns| Stance::Connecting {
            relays: vec![relay],
            listen_port: 1,
            tunnel: tunnel.cloned(),
            dns,
        };
        let connected = Stance::Connected { relay, listen_port: 1, tunnel: tunnel.clone() };
        let closed = [
            Stance::Blocked { api: false },
            Stance::Blocked { api: true },
            Stance::Boot,
            dialling(None, false),
            dialling(Some(&tunnel), false),
        ];
        let said = |stance: &Stance, listed: &[&str]| match upstream(stance, &settings(listed)) {
            Upstream::Anybody => "anybody".to_owned(),
            Upstream::Only(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        };
        let listed = ["10.9.9.9", "192.168.1.53", "127.0.0.1"];
        assert_eq!(said(&Stance::Open, &listed), "anybody");
        for stance in &closed {
            assert_eq!(said(stance, &[]), "", "{stance:?}");
            assert_eq!(said(stance, &listed), "192.168.1.53 127.0.0.1", "{stance:?}");
        }
        for stance in [&connected, &dialling(Some(&tunnel), true)] {
            assert_eq!(said(stance, &[]), "10.64.0.1", "{stance:?}");
            assert_eq!(said(stance, &listed), "10.9.9.9 192.168.1.53 127.0.0.1", "{stance:?}");
        }
    }

    #[test]
    fn where_dnsmasq_looks() {
        let dhcp = parse(
            b"config dnsmasq\n\toption noresolv 0\nconfig dnsmasq 'guest'\n\toption confdir '/tmp/g.d,*.conf'\n\toption serversfile /x\n\
              config dnsmasq 'odd'\n\toption confdir 'relative'\nconfig dhcp lan\n",
        )
        .unwrap();
        let found = Instance::all(&dhcp, Path::new("/tmp"));
        let folders: Vec<Vec<&str>> =
            found.iter().map(|one| one.folders.iter().map(|path| path.to_str().unwrap()).collect()).collect();
        // The first one's name is libuci's: dnsmasq.init makes a folder's name of it.
        assert_eq!(
            folders,
            [
                vec!["/tmp/dnsmasq.d", "/tmp/dnsmasq.cfg01411c.d"],
                vec!["/tmp/g.d"],
                vec!["/tmp/dnsmasq.d", "/tmp/dnsmasq.odd.d"]
            ]
        );
        assert_eq!(found.iter().map(|one| one.has_servers_file).collect::<Vec<_>>(), [false, true, false]);
        let servers = ["10.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(lines(&servers), "server=10.64.0.1\nserver=fd00::1\n");
        assert!(
            found[0]
                .conf(Path::new("/tmp/dnsmasq.d"), &servers)
                .ends_with("\nno-resolv\nservers-file=/tmp/dnsmasq.d/.vpnd.servers\n")
        );
        assert!(
            found[1]
                .conf(Path::new("/tmp/g.d"), &servers)
                .ends_with("\nno-resolv\nserver=10.64.0.1\nserver=fd00::1\n")
        );
    }
}
