//! fw4's part in it: a zone for the tunnel, and nothing from LAN to WAN while the router is armed.
//!
//! `sections.rs` says what is to stand in `/etc/config/firewall` (pure); here it is written, only when
//! it changes, and fw4 is told.

mod sections;

use std::path::Path;

use crate::config::uci::{NewSection, own};
use crate::config::{FirewallZone, Settings};
use crate::init_script::{InitScript, say_once};
use crate::uci_file::{Error, Teller, UciFile};

pub use sections::{Closed, HEAL, closes, is_ours, sections};

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

    /// Whether it refuses LAN to WAN on vpnd's word, or brings back what does.
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

    /// Takes away what closes, where nobody knows what the rest should be; true when something
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
    /// Whether fw4 may include [`HEAL`], where that was found out since it closed.
    healed: Option<bool>,
    /// Why not.
    unhealed: Option<String>,
}

impl Follower {
    #[must_use]
    pub fn new(config_dir: &Path, run_dir: &Path) -> Self {
        let (file, teller) = (File::new(config_dir), Teller::new("fw4", reload(run_dir)));
        Self { file, done: None, teller, healed: None, unhealed: None }
    }

    /// Whether vpnd's sections are in it.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.file.is_set_up()
    }

    /// Somebody else may have written the file.
    pub fn forget(&mut self) {
        (self.done, self.healed) = (None, None);
    }

    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.teller.is_telling()
    }

    /// `known`: what the configuration says, where it is good. `fit`: whether nft takes [`HEAL`], asked once
    /// for each time that it closes. Costs nothing else where nothing changed; nothing waits for fw4.
    pub fn follow(
        &mut self,
        known: Option<(&Settings, &[FirewallZone])>,
        device: &str,
        closed: bool,
        fit: impl FnOnce() -> Result<(), String>,
    ) {
        self.teller.look();
        let closed_how = self.closed(closed, fit);
        let wanted = match known {
            Some((settings, zones)) => Wanted::Sections(sections(settings, zones, device, closed_how)),
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

    fn closed(&mut self, closed: bool, fit: impl FnOnce() -> Result<(), String>) -> Closed {
        if !closed {
            (self.healed, self.unhealed) = (None, None);
            return Closed::No;
        }
        if self.healed.is_none() {
            let fits = if self.file.is_set_up() { fit() } else { Ok(()) };
            self.healed = Some(fits.is_ok());
            match fits {
                Ok(()) => self.unhealed = None,
                Err(why) => {
                    say_once(&mut self.unhealed, "fw4", format!("it does not bring back what blocks: {why}"))
                }
            }
        }
        Closed::Yes { healed: self.healed == Some(true) }
    }

    /// Why the file or fw4 is not as it should be, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.teller.trouble().or(self.unhealed.clone())
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
        let never = || -> Result<(), String> { panic!("nobody asked for it") };
        follower.follow(Some((&settings, &zones())), "vpnd0", true, never);
        assert_eq!(fs::read_to_string(&path).unwrap(), stock, "nobody asked for it");

        let file = File::new(&dir);
        assert!(file.bring_to(&sections(&settings, &zones(), "vpnd0", Closed::No)).unwrap());
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = inode(&path);
        let fit = || Ok(());
        follower.follow(Some((&settings, &zones())), "vpnd0", false, never);
        assert_eq!(inode(&path), before, "flash was written for nothing");
        follower.follow(Some((&settings, &zones())), "vpnd0", true, fit);
        let closed = fs::read_to_string(&path).unwrap();
        assert!(closed.contains("nothing past the VPN") && closed.contains(HEAL), "{closed}");
        follower.follow(Some((&settings, &zones())), "vpnd0", true, never);
        follower.follow(Some((&settings, &zones())), "vpnd0", false, never);
        let open = fs::read_to_string(&path).unwrap();
        assert!(!open.contains("nothing past the VPN") && !open.contains(HEAL), "{open}");

        // nft refuses what fw4 would include: closed all the same, and it is said; asked again the next time.
        follower.follow(Some((&settings, &zones())), "vpnd0", true, || Err("line 9".to_owned()));
        let closed = fs::read_to_string(&path).unwrap();
        assert!(closed.contains("nothing past the VPN") && !closed.contains(HEAL), "{closed}");
        assert!(follower.trouble().is_some_and(|trouble| trouble.ends_with("line 9")));
        follower.forget();
        follower.follow(Some((&settings, &zones())), "vpnd0", true, fit);
        assert!(fs::read_to_string(&path).unwrap().contains(HEAL) && follower.trouble().is_none());

        // A changed setting: the redirect comes, and goes without a trace; an open router has none.
        follower.follow(Some((&settings, &zones())), "vpnd0", true, fit);
        let without = fs::read_to_string(&path).unwrap();
        let redirecting = Settings { redirect_dns: true, ..settings.clone() };
        follower.follow(Some((&redirecting, &zones())), "vpnd0", true, fit);
        assert!(fs::read_to_string(&path).unwrap().contains("config redirect 'vpnd_dns_1'"));
        follower.follow(Some((&settings, &zones())), "vpnd0", true, fit);
        assert_eq!(fs::read_to_string(&path).unwrap(), without);
        follower.follow(Some((&redirecting, &zones())), "vpnd0", true, fit);
        follower.follow(None, "vpnd0", false, never);
        assert!(!fs::read_to_string(&path).unwrap().contains("vpnd_dns_1"));

        // Nobody knows what the configuration says any more: closed stays closed, and open opens.
        follower.follow(Some((&settings, &zones())), "vpnd0", true, fit);
        let closed = fs::read_to_string(&path).unwrap();
        follower.follow(None, "vpnd0", true, never);
        assert_eq!(fs::read_to_string(&path).unwrap(), closed);
        follower.follow(None, "vpnd0", false, never);
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
        for closed in [Closed::No, Closed::Yes { healed: true }] {
            assert!(file.bring_to(&sections(&before.settings, &load().zones, "vpnd0", closed)).unwrap());
            assert_eq!(load(), before);
            assert!(!file.bring_to(&sections(&before.settings, &load().zones, "vpnd0", closed)).unwrap());
        }
        assert!(file.is_closed());
        fs::remove_dir_all(&dir).unwrap();
    }
}
