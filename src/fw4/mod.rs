//! fw4's part in it: a zone for the tunnel, and nothing from LAN to WAN while the router is armed.
//!
//! `sections.rs` says what is to stand in `/etc/config/firewall` (pure); here it is written, only when
//! it changes, and fw4 is told.

mod sections;

use std::path::Path;

use crate::config::uci::{NewSection, own};
use crate::config::{FirewallZone, Settings};
use crate::init_script::InitScript;
use crate::uci_file::{Error, Teller, UciFile};

pub use sections::{closes, is_ours, sections};

/// `/etc/config/firewall`.
#[derive(Debug, Clone)]
pub struct File(UciFile);

impl File {
    #[must_use]
    pub fn new(config_dir: &Path) -> Self {
        Self(UciFile::new(config_dir, "firewall"))
    }

    /// Whether vpnd's sections are in it; where it cannot be read, nobody may write into it.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.0.package().is_some_and(|package| package.sections.iter().any(is_ours))
    }

    /// Whether it refuses LAN to WAN on vpnd's word.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.package().is_some_and(|package| package.sections.iter().any(closes))
    }

    /// Has vpnd's sections be those of `wanted`; true when something was written.
    ///
    /// # Errors
    /// The file stands as it was.
    pub fn bring_to(&self, wanted: &[NewSection]) -> Result<bool, Error> {
        self.0.edit(|text| own(text, wanted, is_ours))
    }

    /// Takes away what refuses LAN to WAN, where nobody knows what the rest should be; true when something
    /// was written.
    ///
    /// # Errors
    /// The file stands as it was.
    pub fn open(&self) -> Result<bool, Error> {
        self.0.edit(|text| own(text, &[], closes))
    }
}

/// Tells fw4 that its file changed.
#[must_use]
pub fn reload(run_dir: &Path) -> InitScript {
    InitScript::new("/etc/init.d/firewall", "reload", run_dir)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Sections(Vec<NewSection>),
    /// Nothing that closes; the rest as it is.
    Open,
}

/// What the daemon does about it: follows what it is told, once it was set up.
#[derive(Debug)]
pub struct Follower {
    file: File,
    done: Option<Wanted>,
    teller: Teller,
}

impl Follower {
    #[must_use]
    pub fn new(config_dir: &Path, run_dir: &Path) -> Self {
        Self { file: File::new(config_dir), done: None, teller: Teller::new("fw4", reload(run_dir)) }
    }

    /// Whether vpnd's sections are in it.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.file.is_set_up()
    }

    /// Somebody else may have written the file.
    pub fn forget(&mut self) {
        self.done = None;
    }

    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.teller.is_telling()
    }

    /// `known`: what the configuration says, where it is good. Costs nothing where nothing changed; nothing
    /// waits for fw4.
    pub fn follow(&mut self, known: Option<(&Settings, &[FirewallZone])>, device: &str, closed: bool) {
        self.teller.look();
        let wanted = match known {
            Some((settings, zones)) => Wanted::Sections(sections(settings, zones, device, closed)),
            // What is there holds on.
            None if closed => return,
            None => Wanted::Open,
        };
        if self.done.as_ref() == Some(&wanted) {
            return;
        }
        // One that cannot be read now may be later.
        let Some(package) = self.file.0.package() else { return };
        if !package.sections.iter().any(is_ours) {
            // Nothing is read again until something changes; `vpnd setup` writes by itself what is wanted then.
            self.done = Some(wanted);
            return;
        }
        let written = self.teller.write(|| match &wanted {
            Wanted::Sections(sections) => self.file.bring_to(sections),
            Wanted::Open => self.file.open(),
        });
        if written {
            self.done = Some(wanted);
        }
    }

    /// Why the file or fw4 is not as it should be, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.teller.trouble()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Lan, ZoneSide};

    fn zones() -> Vec<FirewallZone> {
        [("lan", ZoneSide::Lan), ("wan", ZoneSide::Wan)]
            .map(|(name, side)| FirewallZone { name: name.to_owned(), side })
            .into()
    }

    #[test]
    fn follows_only_what_was_set_up_and_writes_only_changes() {
        let dir = std::env::temp_dir().join(format!("vpnd-fw4-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("firewall");
        let stock = "config zone\n\toption name lan\n\toption network lan\n";
        fs::write(&path, stock).unwrap();
        let settings = Settings::fallback(Lan::default());
        let mut follower = Follower::new(&dir, &dir);
        follower.follow(Some((&settings, &zones())), "vpnd0", true);
        assert_eq!(fs::read_to_string(&path).unwrap(), stock, "nobody asked for it");

        let file = File::new(&dir);
        assert!(file.bring_to(&sections(&settings, &zones(), "vpnd0", false)).unwrap());
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        follower.follow(Some((&settings, &zones())), "vpnd0", false);
        assert_eq!(inode(&path), before, "flash was written for nothing");
        follower.follow(Some((&settings, &zones())), "vpnd0", true);
        assert!(fs::read_to_string(&path).unwrap().contains("nothing past the VPN"));
        follower.follow(Some((&settings, &zones())), "vpnd0", false);
        assert!(!fs::read_to_string(&path).unwrap().contains("nothing past the VPN"));

        // A changed setting: the redirect comes, and goes without a trace; an open router has none.
        follower.follow(Some((&settings, &zones())), "vpnd0", true);
        let without = fs::read_to_string(&path).unwrap();
        let redirecting = Settings { redirect_dns: true, ..settings.clone() };
        follower.follow(Some((&redirecting, &zones())), "vpnd0", true);
        assert!(fs::read_to_string(&path).unwrap().contains("config redirect 'vpnd_dns_1'"));
        follower.follow(Some((&settings, &zones())), "vpnd0", true);
        assert_eq!(fs::read_to_string(&path).unwrap(), without);
        follower.follow(Some((&redirecting, &zones())), "vpnd0", true);
        follower.follow(None, "vpnd0", false);
        assert!(!fs::read_to_string(&path).unwrap().contains("vpnd_dns_1"));

        // Nobody knows what the configuration says any more: closed stays closed, and open opens.
        follower.follow(Some((&settings, &zones())), "vpnd0", true);
        let closed = fs::read_to_string(&path).unwrap();
        follower.follow(None, "vpnd0", true);
        assert_eq!(fs::read_to_string(&path).unwrap(), closed);
        follower.follow(None, "vpnd0", false);
        let open = fs::read_to_string(&path).unwrap();
        assert!(
            !file.is_closed() && open.contains("vpnd_zone_1") && open.contains("vpnd_tunnel_1"),
            "{open}"
        );

        // Somebody broke the file: it stays as it is, and that is said.
        fs::write(&path, "config rule 'vpnd_rule_1'\n\toption broken 'open quote\n").unwrap();
        assert!(!file.is_set_up());
        let error = file.bring_to(&[]).unwrap_err().to_string();
        assert!(
            error.contains("firewall: cannot be read, so nothing was written into it: line 2"),
            "{error}"
        );
        fs::remove_dir_all(&dir).unwrap();
    }

    /// What is written is not read as the owner's wish: a zone of our own is neither LAN nor WAN.
    #[test]
    fn the_zones_of_a_file_with_ours_in_it_are_those_of_one_without() {
        let dir = std::env::temp_dir().join(format!("vpnd-zones-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        put("vpnd", "config vpnd main\n\tlist lan_network lan\n");
        put(
            "network",
            "config interface lan\n\toption proto static\n\toption device br-lan\n\toption ipaddr 192.168.1.1/24\n\
             config interface wan\n\toption proto dhcp\n\toption device eth1\n",
        );
        put(
            "firewall",
            "config zone\n\toption name lan\n\tlist network lan\nconfig zone\n\toption name wan\n\tlist network wan\n\
             config zone\n\toption name guest\n",
        );
        let file = File::new(&dir);
        let load = || crate::config::load(&dir);
        let before = load();
        let sides: Vec<_> = before.zones.iter().map(|zone| (zone.name.as_str(), zone.side)).collect();
        // The WAN's zone does not masquerade here, but holds an uplink.
        let wanted = [("lan", ZoneSide::Lan), ("wan", ZoneSide::Wan), ("guest", ZoneSide::Neither)];
        assert_eq!((before.problems.len(), sides), (0, wanted.into()));
        for armed in [false, true] {
            assert!(file.bring_to(&sections(&before.settings, &load().zones, "vpnd0", armed)).unwrap());
            assert_eq!(load(), before);
            assert!(!file.bring_to(&sections(&before.settings, &load().zones, "vpnd0", armed)).unwrap());
        }
        assert!(file.is_closed());
        fs::remove_dir_all(&dir).unwrap();
    }
}
