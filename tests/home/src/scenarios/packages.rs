//! The life of the real packages on a router with files of its own: installed, upgraded and removed in
//! opkg's and apk's order of steps (tests/packages), armed and not, under a flood whose every frame
//! is judged. `HOME_PACKAGES` names what tests/packages/carry packed.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::barrier::{lan_frames, router_frames};
use super::{Scenario, Way, all_ways, blocked, connect, expect};
use crate::classify::State;
use crate::flood::Flood;
use crate::house::{at, ip};
use crate::packets::Kind;
use crate::root::Root;
use crate::services::{ECHO, echo, talk};
use crate::town::{LONG, SOON, Said, Town};

pub(super) fn scenarios() -> Vec<(&'static str, Scenario)> {
    vec![
        ("packages: opkg installs, upgrades and removes them, and nothing leaks", |town| life(town, "opkg")),
        ("packages: apk installs, upgrades and removes them, and nothing leaks", |town| life(town, "apk")),
    ]
}

/// Packets a second, from LAN and router each.
const FLOOD: u32 = 30;
const SSH: u16 = 22;

/// Files of the router's that are not the package's, and what makes them a router.
const FILES: [(&str, u32, &str); 5] = [
    ("/sbin/fw4", 0o755, include_str!("../../fixtures/fw4")),
    ("/sbin/fw4-home.nft", 0o644, include_str!("../../fixtures/fw4-home.nft")),
    ("/sbin/netifd", 0o755, include_str!("../../fixtures/netifd")),
    ("/etc/init.d/firewall", 0o755, include_str!("../../fixtures/firewall.init")),
    ("/etc/init.d/network", 0o755, include_str!("../../fixtures/network.init")),
];

/// A file's mode, and what it holds.
type Files = BTreeMap<PathBuf, (u32, u64)>;

struct Life<'a> {
    town: &'a mut Town,
    tool: &'static str,
    flood: Flood,
    /// Where the flood began.
    since: usize,
    flown: u32,
    settings: BTreeMap<PathBuf, String>,
}

fn life(town: &mut Town, tool: &'static str) -> Result<String> {
    let mut life = Life::begin(town, tool)?;
    let files = life.files()?;
    life.open("before it is installed")?;

    let mut shell = life.ssh()?;
    let mut download = life.stream(at::INTERNET[0], ECHO)?;
    let position = life.position();
    life.manage(&["install", "1"])?;
    life.open_since(position, "installed, not armed")?;
    ensure!(talk(&mut download, SOON).is_some(), "the installation cut a connection to the internet");
    expect(&life.town.house.tv, Way::Outside)?;

    life.configure()?;
    life.town.until("the daemon answers", LONG, |town| Ok(!town.status()?["daemon"]["status"].is_null()))?;
    life.open("configured, not armed")?;

    life.town.does(&["lockdown", "on"])?;
    life.town.until_word("blocked", LONG)?;
    let position = life.position();
    life.manage(&["install", "2"])?;
    life.runs("2", "blocked")?;
    life.judged(position, &blocked(), "upgraded while blocked")?;
    life.still_in(&mut shell, "upgraded while blocked")?;

    connect(life.town, "r1")?;
    expect(&life.town.house.tv, Way::Relay(0))?;
    life.manage(&["install", "3"])?;
    life.runs("3", "connected")?;
    expect(&life.town.house.tv, Way::Relay(0))?;
    life.judged(position, &life.town.tunnelled_or_blocked(), "upgraded while connected")?;
    life.still_in(&mut shell, "upgraded while connected")?;

    let said = life.manage(&["remove"])?;
    ensure!(said.contains("STAYS CLOSED") && said.contains("/etc/vpnd/way-out"), "the owner is told: {said}");
    life.gone()?;
    let (ways, _) = all_ways(&life.town.house.tv)?;
    ensure!(!ways.contains(&Way::Outside), "removed: the internet is reached by {ways:?}");
    life.judged(position, &life.town.tunnelled_or_blocked(), "removed while armed")?;
    life.still_in(&mut shell, "removed while armed")?;

    let position = life.reboot()?;
    expect(&life.town.house.tv, Way::Nowhere)?;
    life.judged(position, &[State::Boot], "booted without the package")?;
    let mut shell = life.ssh()?;

    let said = life.say(&["/etc/vpnd/way-out", "--yes"])?;
    ensure!(
        said.code == 0 && said.out.contains("open: as if vpnd were not there"),
        "{}{}",
        said.out,
        said.err
    );
    life.open("opened by way-out")?;
    expect(&life.town.house.tv, Way::Outside)?;

    let position = life.position();
    life.manage(&["install", "1"])?;
    life.runs("1", "open")?;
    life.manage(&["remove"])?;
    life.gone()?;
    life.open_since(position, "installed again and removed, not armed")?;
    life.still_in(&mut shell, "installed again and removed, not armed")?;
    life.left(&files)?;
    let flown = life.end()?;
    Ok(format!("{flown} LAN packets flew, none unlisted left while armed"))
}

impl<'a> Life<'a> {
    /// A router without vpnd, as fw4 lets everybody out of it; the flood flies.
    fn begin(town: &'a mut Town, tool: &'static str) -> Result<Self> {
        let packages = std::env::var_os("HOME_PACKAGES")
            .context("HOME_PACKAGES names no archive: 'tests/run guest' makes and gives one")?;
        let here = town.dir.join("packages");
        let _ = fs::remove_dir_all(&here);
        fs::create_dir_all(&here)?;
        let router = &town.house.router;
        let (archive, into) = (Path::new(&packages).display().to_string(), here.display().to_string());
        router.run("tar", &["-x", "-C", &into, "-f", &archive])?;
        town.root = Some(Root::new(router, &town.dir.join("root"))?);
        let position = town.wan.position();
        let flood = Flood::start(&town.house, FLOOD)?;
        let settings = settings(town)?;
        let life = Self { town, tool, flood, since: position, flown: 0, settings };
        life.manage(&["furnish"])?;
        let config = life.town.config.clone();
        life.inside(move || {
            for (path, mode, text) in FILES {
                fs::write(path, text).with_context(|| path.to_owned())?;
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            config.write(Path::new("/etc/config"))?;
            fs::remove_file("/etc/config/vpnd")?;
            Ok(())
        })?;
        for name in ["firewall", "network"] {
            life.does(&[&format!("/etc/init.d/{name}"), "enable"])?;
        }
        Ok(life)
    }

    fn root(&self) -> Result<&Root> {
        self.town.root.as_ref().context("the router has no files")
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.root()?.inside(&self.town.house.router, work)
    }

    fn say(&self, words: &[&str]) -> Result<Said> {
        self.root()?.say(&self.town.house.router, words)
    }

    fn does(&self, words: &[&str]) -> Result<()> {
        let said = self.say(words)?;
        ensure!(said.code == 0, "{}: exit {}: {}{}", words.join(" "), said.code, said.out, said.err);
        Ok(())
    }

    /// What opkg or apk does; what the package's scripts said meanwhile.
    fn manage(&self, words: &[&str]) -> Result<String> {
        let root = self.root()?;
        let work = self.town.dir.join("packages");
        let [manager, root_at, folder] = [work.join("manager").as_path(), root.at(), work.as_path()]
            .map(|path| path.display().to_string());
        let said = work.join("said");
        let _ = fs::write(&said, "");
        let all: Vec<&str> = [&*manager, &root_at, &folder, self.tool].iter().chain(words).copied().collect();
        // Not by its name: busybox would take itself.
        let output = root.beside(&self.town.house.router, || crate::ns::output("/bin/sh", &all, ""))?;
        let text = fs::read_to_string(&said)?;
        let told = Said::from(&output);
        ensure!(told.code == 0, "{} {}: {}{}{text}", self.tool, words.join(" "), told.out, told.err);
        Ok(text)
    }

    fn position(&self) -> usize {
        self.town.wan.position()
    }

    /// The positive control: what the flood sends is seen at the ISP's end.
    fn open(&self, when: &str) -> Result<()> {
        self.open_since(self.position(), when)
    }

    /// And LAN and router were open from `position` on.
    fn open_since(&self, position: usize, when: &str) -> Result<()> {
        let now = self.position();
        self.town.until(&format!("LAN and router are open: {when}"), LONG, |town| {
            Ok(lan_frames(town, now) > 5 && router_frames(town, now) > 5)
        })?;
        // Nobody was cut off in between: of the LAN's packets, which are numbered, no run is missing.
        let frames = self.town.wan.select(position, |f| f.marker.is_some_and(|m| m.kind == Kind::LanFlood));
        let numbers: Vec<u32> = frames.iter().filter_map(|f| f.marker.map(|m| m.seq)).collect();
        let missing =
            numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default();
        ensure!(missing < FLOOD / 2, "{when}: {missing} packets of the LAN in a row did not leave");
        Ok(())
    }

    fn judged(&self, position: usize, states: &[State], when: &str) -> Result<()> {
        self.town.judged(position, states).map(drop).with_context(|| when.to_owned())
    }

    /// A LAN host's connection.
    fn stream(&self, to: &str, port: u16) -> Result<TcpStream> {
        let to = (ip(to), port).into();
        self.town.house.tv.enter(|| Ok(TcpStream::connect_timeout(&to, SOON)?))
    }

    /// The owner's shell on the router: a server that answers stands in for it.
    fn ssh(&self) -> Result<TcpStream> {
        let router = at::ROUTER_LAN[0];
        let mut stream = match self.stream(router, SSH) {
            Err(error) if format!("{error:#}").contains("refused") => {
                echo(&self.town.house.router, ip(router), SSH)?;
                self.stream(router, SSH)
            }
            stream => stream,
        }
        .context("no SSH from the LAN")?;
        self.still_in(&mut stream, "a new connection")?;
        Ok(stream)
    }

    fn still_in(&self, stream: &mut TcpStream, when: &str) -> Result<()> {
        ensure!(talk(stream, SOON) == Some(ip(at::TV[0])), "{when}: SSH from the LAN hangs");
        Ok(())
    }

    /// The owner writes the configuration and starts the service.
    fn configure(&self) -> Result<()> {
        let text = self.town.config.vpnd();
        self.inside(move || {
            ensure!(fs::metadata("/etc/config/vpnd")?.mode() & 0o777 == 0o600, "the key's file can be read");
            Ok(fs::write("/etc/config/vpnd", text)?)
        })?;
        self.does(&["/etc/init.d/vpnd", "start"])
    }

    /// The daemon is that of version `n`, and the router is `word`.
    fn runs(&self, n: &str, word: &str) -> Result<()> {
        let shipped =
            fs::read(self.town.dir.join(format!("packages/{}/{n}/files/usr/sbin/vpnd", self.tool)))?;
        self.town.until(&format!("version {n} runs and is {word}"), LONG, |town| {
            let pid = self.daemon();
            let same =
                pid.is_some_and(|pid| fs::read(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == shipped));
            let status = town.status()?;
            Ok(same && status["state"] == word && !status["daemon"]["status"].is_null())
        })
    }

    /// The process that holds the daemon's lock.
    fn daemon(&self) -> Option<u32> {
        let root = self.root().ok()?;
        root.read(&self.town.house.router, "/var/run/vpnd/vpnd.lock").ok()?.trim().parse().ok()
    }

    /// Neither program nor daemon.
    fn gone(&self) -> Result<()> {
        let pid = self.daemon();
        self.town.until("the daemon ends", LONG, |_| {
            Ok(pid.is_none_or(|pid| fs::read(format!("/proc/{pid}/exe")).is_err()))
        })?;
        self.inside(|| {
            for path in ["/usr/sbin/vpnd", "/etc/init.d/vpnd", "/etc/rc.d/S18vpnd-boot", "/usr/share/vpnd"] {
                ensure!(!Path::new(path).exists(), "removed, but there is {path}");
            }
            Ok(())
        })
    }

    /// Power goes and comes back: what was in RAM is gone, and /etc/rc.d runs in order. Returns
    /// where the WAN came up.
    fn reboot(&mut self) -> Result<usize> {
        let lan = Flood::of_lan(&self.town.house, FLOOD)?;
        let flood = std::mem::replace(&mut self.flood, lan);
        self.flown += flood.stop(&self.town.wan, self.since)?.lan;
        let router = &self.town.house.router;
        router.ip("link set wan down\naddr flush dev wan")?;
        self.root()?.power_off()?;
        self.town.forget()?;
        router.enter(|| {
            for (path, value) in &self.settings {
                if fs::read_to_string(path).is_ok_and(|now| now != *value) {
                    fs::write(path, value).with_context(|| path.display().to_string())?;
                }
            }
            Ok(())
        })?;
        let scripts = self.inside(|| {
            for folder in ["/tmp", "/var/run", "/var/log"] {
                fs::remove_dir_all(folder)?;
                fs::create_dir(folder)?;
            }
            for device in fs::read_dir("/sys/class/net")? {
                fs::write(device?.path().join("netdev_group"), "0")?;
            }
            let mut names = Vec::new();
            for entry in fs::read_dir("/etc/rc.d")? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            Ok(names)
        })?;
        let mut scripts: Vec<String> = scripts.into_iter().filter(|name| name.starts_with('S')).collect();
        scripts.sort();
        let mut position = None;
        for script in scripts {
            self.does(&[&format!("/etc/rc.d/{script}"), "boot"])?;
            if script == "S20network" {
                position = Some(self.position());
                self.town.house.wan_up()?;
            }
        }
        let position = position.context("the network did not come up")?;
        let flown = self.flood.flown().lan;
        ensure!(flown > 0, "the LAN was silent during the boot");
        self.flown += flown;
        self.since = self.position();
        self.flood = Flood::start(&self.town.house, FLOOD)?;
        Ok(position)
    }

    /// Every file of the router's but what is in RAM and the scripts' records.
    fn files(&self) -> Result<Files> {
        self.inside(|| {
            let mut found = Files::new();
            for folder in ["/etc", "/lib", "/usr", "/sbin", "/bin"] {
                walk(Path::new(folder), &mut found)?;
            }
            Ok(found)
        })
    }

    /// Nothing but the configuration is left: what `before` had is as it was.
    fn left(&self, before: &Files) -> Result<()> {
        let after = self.files()?;
        // opkg lays a new package's configuration beside a changed one, under the latter name.
        let kept = |path: &Path| {
            ["/etc/config/vpnd", "/etc/config/vpnd-opkg"].iter().any(|own| path == Path::new(own))
                || path.starts_with("/etc/vpnd")
        };
        let wrong: Vec<_> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path) && !kept(path))
            .collect();
        ensure!(wrong.is_empty(), "removed, but these are not what they were: {wrong:?}");
        Ok(())
    }

    fn end(self) -> Result<u32> {
        let flown = self.flood.stop(&self.town.wan, self.since)?;
        Ok(self.flown + flown.lan)
    }
}

fn walk(folder: &Path, found: &mut Files) -> Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    let mut hash = DefaultHasher::new();
    if meta.is_dir() {
        for entry in fs::read_dir(folder)? {
            walk(&entry?.path(), found)?;
        }
    } else if meta.is_symlink() {
        fs::read_link(folder)?.hash(&mut hash);
    } else if meta.is_file() {
        fs::read(folder)?.hash(&mut hash);
    }
    found.insert(folder.to_owned(), (meta.mode(), hash.finish()));
    Ok(())
}

/// The kernel's settings of the router's devices, as they are before vpnd.
fn settings(town: &Town) -> Result<BTreeMap<PathBuf, String>> {
    town.house.router.enter(|| {
        let mut found = BTreeMap::new();
        for family in ["ipv4", "ipv6"] {
            for device in fs::read_dir(format!("/proc/sys/net/{family}/conf"))? {
                for setting in fs::read_dir(device?.path())? {
                    let path = setting?.path();
                    // Some are secrets, which cannot be read.
                    if let Ok(value) = fs::read_to_string(&path) {
                        found.insert(path, value);
                    }
                }
            }
        }
        Ok(found)
    })
}
