//! The LAN's part of IPv6: what netifd and odhcpd hand to it while the router is armed.
//!
//! The ISP's prefix leads nowhere then, so LAN networks are assigned their own only (`ip6class local`); and where
//! the VPN carries IPv6, odhcpd is to announce a default route for that, which it does not by itself: it sees
//! none in `main`, and no public address. Both are options of the owner's sections. They are added only where the
//! owner set none, with a marker beside them ([`Loan`]), and taken back as they came.

use std::path::Path;

use crate::config::Settings;
use crate::config::uci::{Loan, Section, lend};
use crate::init_script::InitScript;
use crate::uci_file::{Error, Teller, UciFile, told};

/// What is added, where, and who goes by it. `files/usr/share/vpnd/way-out` knows the markers.
#[derive(Debug)]
struct Part {
    file: &'static str,
    script: &'static str,
    loan: Loan,
    fits: fn(&Section, &[String]) -> bool,
    /// None where the VPN has no IPv6.
    only_with_ipv6: bool,
}

/// netifd's interface.c (`ip6class`: classes of prefixes that `ip6assign` takes from) and interface-ip.c (the
/// class of `ula_prefix` is `local`); odhcpd's router.c, `send_router_advert` (1: a default route, though there
/// is no public address).
const PARTS: [Part; 2] = [
    Part {
        file: "network",
        script: "/etc/init.d/network",
        loan: Loan { word: "list", name: "ip6class", marker: "vpnd_ip6class", value: "local" },
        fits: |section, networks| {
            section.kind == "interface"
                && networks.contains(&section.name)
                && section.get("ip6assign").is_some()
        },
        only_with_ipv6: false,
    },
    Part {
        file: "dhcp",
        script: "/etc/init.d/odhcpd",
        loan: Loan { word: "option", name: "ra_default", marker: "vpnd_ra_default", value: "1" },
        fits: |section, networks| {
            section.kind == "dhcp"
                && section.text("interface").is_some_and(|name| networks.contains(&name))
                && section.text("ra").is_some_and(|mode| mode == "server" || mode == "hybrid")
        },
        only_with_ipv6: true,
    },
];

impl Part {
    fn file(&self, config_dir: &Path) -> UciFile {
        UciFile::new(config_dir, self.file)
    }

    fn script(&self, run_dir: &Path) -> InitScript {
        InitScript::new(self.script, "reload", run_dir)
    }

    fn networks<'a>(&self, settings: Option<&'a Settings>, armed: bool) -> &'a [String] {
        settings
            .filter(|settings| armed && (settings.has_ipv6() || !self.only_with_ipv6))
            .map_or(&[], |settings| &settings.lan_networks)
    }

    fn is_lent(&self, file: &UciFile) -> bool {
        file.package().is_some_and(|package| package.sections.iter().any(|section| self.loan.is_in(section)))
    }

    fn bring_to(&self, file: &UciFile, networks: &[String]) -> Result<bool, Error> {
        // No such file: no OpenWrt, or nobody's IPv6.
        if networks.is_empty() && !self.is_lent(file) {
            return Ok(false);
        }
        file.edit(|text| lend(text, &self.loan, |section| (self.fits)(section, networks)))
    }
}

/// Whether the files hold something of vpnd's, or somebody is still to be told that they do not.
#[must_use]
pub fn is_there(config_dir: &Path, run_dir: &Path) -> bool {
    PARTS.iter().any(|part| part.is_lent(&part.file(config_dir)) || part.script(run_dir).is_owed())
}

/// For the command line: writes, and waits until the services have heard; true when something was written.
/// `settings`: what the configuration says, where it is good.
///
/// # Errors
/// Words for a person; what could be written is.
pub fn bring_to(
    config_dir: &Path,
    run_dir: &Path,
    settings: Option<&Settings>,
    armed: bool,
) -> Result<bool, String> {
    let (mut any, mut result) = (false, Ok(()));
    for part in &PARTS {
        let written = part.bring_to(&part.file(config_dir), part.networks(settings, armed));
        match told(part.script(run_dir), written) {
            Ok(one) => any |= one,
            Err(words) => result = Err(words),
        }
    }
    result.map(|()| any)
}

/// What the daemon does about it.
#[derive(Debug)]
pub struct Follower {
    parts: Vec<(&'static Part, UciFile, Teller)>,
    done: [Option<Vec<String>>; PARTS.len()],
}

impl Follower {
    #[must_use]
    pub fn new(config_dir: &Path, run_dir: &Path) -> Self {
        static ALL: [Part; 2] = PARTS;
        let part =
            |part: &'static Part| (part, part.file(config_dir), Teller::new(part.file, part.script(run_dir)));
        Self { parts: ALL.iter().map(part).collect(), done: Default::default() }
    }

    /// Somebody else may have written the files.
    pub fn forget(&mut self) {
        self.done = Default::default();
    }

    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.parts.iter().any(|(_, _, teller)| teller.is_telling())
    }

    /// `known`: what the configuration says, where it is good. `set_up`: whether the owner wants vpnd to write
    /// into OpenWrt's files (`vpnd setup`), asked only when something changed. Nothing waits for the services.
    pub fn follow(&mut self, known: Option<&Settings>, closed: bool, set_up: impl Fn() -> bool) {
        for ((part, file, teller), done) in self.parts.iter_mut().zip(&mut self.done) {
            teller.look();
            // What is there holds on.
            if known.is_none() && closed {
                continue;
            }
            let networks = part.networks(known, closed);
            if done.as_deref() == Some(networks) {
                continue;
            }
            let wanted = if networks.is_empty() || set_up() { networks } else { &[] };
            if teller.write(|| part.bring_to(file, wanted)) {
                *done = Some(networks.to_vec());
            }
        }
    }

    /// Why a file or a service is not as it should be, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.parts.iter().find_map(|(_, _, teller)| teller.trouble())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Lan, TunnelSettings, WireguardKey};

    const NETWORK: &str = "# mine\nconfig globals 'globals'\n\toption ula_prefix 'fd12:3456:789a::/48'\n\n\
        config interface 'lan'   # the house\n\toption device 'br-lan'\n\toption proto static\n\toption ip6assign '60'\n\n\
        config interface 'guest'\n\toption device 'br-guest'\n\toption ip6assign '60'\n\tlist ip6class 'wan6'\n\n\
        config interface 'old'\n\toption device 'br-old'\n\nconfig interface 'wan'\n\toption proto dhcp\n\toption ip6assign '64'\n";
    const DHCP: &str = "config dnsmasq\n\toption localuse 1\n\nconfig dhcp 'lan'\n\toption interface 'lan'\n\toption ra 'server'\n\n\
        config dhcp\n\toption interface guest\n\toption ra server\n\toption ra_default '2'\n\n\
        config dhcp 'old'\n\toption interface 'old'\n\toption ra 'disabled'\n";

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("vpnd-lan6-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("network"), NETWORK).unwrap();
            fs::write(dir.join("dhcp"), DHCP).unwrap();
            Self(dir)
        }
        fn read(&self) -> [String; 2] {
            ["network", "dhcp"].map(|name| fs::read_to_string(self.0.join(name)).unwrap())
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn settings(addresses: &[&str]) -> Settings {
        let tunnel = TunnelSettings {
            private_key: WireguardKey::new([1; 32]),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            dns: Vec::new(),
            mtu: None,
            probe: Vec::new(),
        };
        Settings {
            tunnel: Some(tunnel),
            lan_networks: ["guest", "lan", "old"].map(str::to_owned).into(),
            ..Settings::fallback(Lan::default())
        }
    }

    #[test]
    fn added_where_the_owner_set_none_and_taken_back_to_the_byte() {
        let folder = Folder::new("lent");
        let mut follower = Follower::new(&folder.0, &folder.0);
        let both = settings(&["10.64.0.2/32", "fc00:bbbb::2/128"]);
        follower.follow(Some(&both), true, || false);
        assert_eq!(folder.read(), [NETWORK, DHCP], "nobody asked for it");
        follower.forget();
        follower.follow(Some(&both), true, || true);
        let lent = [
            NETWORK.replace(
                "# the house\n",
                "# the house\n\tlist ip6class 'local'\n\toption vpnd_ip6class 'local'\n",
            ),
            DHCP.replace(
                "dhcp 'lan'\n",
                "dhcp 'lan'\n\toption ra_default '1'\n\toption vpnd_ra_default '1'\n",
            ),
        ];
        assert_eq!(folder.read(), lent);
        assert!(is_there(&folder.0, &folder.0));
        // No IPv6 in the VPN: no default route, but no ISP's prefix either.
        follower.follow(Some(&settings(&["10.64.0.2/32"])), true, || true);
        assert_eq!(folder.read(), [lent[0].as_str(), DHCP]);
        // Nobody knows what the configuration says: closed stays as it is, and open is undone.
        follower.follow(None, true, || true);
        assert_eq!(folder.read(), [lent[0].as_str(), DHCP]);
        follower.follow(None, false, || true);
        assert_eq!(folder.read(), [NETWORK, DHCP]);
        assert!(!is_there(&folder.0, &folder.0) && follower.trouble().is_none());
        // By the command line, over another process's work.
        follower.follow(Some(&both), true, || true);
        assert_eq!(bring_to(&folder.0, &folder.0, Some(&both), false), Ok(true));
        assert_eq!(folder.read(), [NETWORK, DHCP]);
    }

    #[test]
    fn the_owners_changes_in_between_are_the_owners() {
        let folder = Folder::new("between");
        let both = settings(&["fc00:bbbb::2/128"]);
        let set = |armed| bring_to(&folder.0, &folder.0, Some(&both), armed).unwrap();
        assert!(set(true));
        // As `uci commit` writes it; the value was changed, the other taken away.
        let committed = "config interface 'lan'\n\toption device 'br-lan'\n\toption vpnd_ip6class 'local'\n\toption ip6assign '60'\n\tlist ip6class 'wan6'\n";
        fs::write(folder.0.join("network"), committed).unwrap();
        let taken = DHCP.replace("dhcp 'lan'\n", "dhcp 'lan'\n\toption vpnd_ra_default '1'\n");
        fs::write(folder.0.join("dhcp"), &taken).unwrap();
        assert!(!set(true), "who took it away does not want it");
        assert!(set(false));
        assert_eq!(folder.read(), [&committed.replace("\toption vpnd_ip6class 'local'\n", ""), DHCP]);
        // A file that nobody can read, or edit line by line, stays.
        for broken in [
            "config interface 'lan'\n\toption x 'open\n",
            "config interface 'lan';option 'ip6assign' '60';config x y\n",
        ] {
            fs::write(folder.0.join("network"), broken).unwrap();
            assert!(bring_to(&folder.0, &folder.0, Some(&both), true).unwrap_err().contains("network: "));
            assert_eq!(folder.read()[0], broken);
        }
    }
}
