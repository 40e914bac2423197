//! dnsmasq's part in it: names are asked for inside the tunnel, or nowhere (contract, row 3.5).
//!
//! Two small files in dnsmasq's own folder for more configuration, in RAM: nothing of the owner's is
//! changed, no flash is written, and a router whose vpnd is gone has its dnsmasq back after a reboot.
//! Which servers are asked changes with a SIGHUP; dnsmasq starts anew only when vpnd begins or ends
//! to say so. The rules hold the same, so nothing leaks where this fails: names are then answered late
//! or not at all, and `status` says why.

mod upstream;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::config::uci::parse;
use crate::init_script::{InitScript, say_once};
use crate::policy::Stance;

pub use upstream::{CONF, Instance, SERVERS, Upstream, lines, upstream};

/// Where dnsmasq is told, and how.
#[derive(Debug, Clone)]
pub struct Dnsmasq {
    dhcp: PathBuf,
    tmp: PathBuf,
}

/// What has to be done for dnsmasq to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Told {
    #[default]
    Nothing,
    /// SIGHUP: the servers changed.
    Servers,
    /// It has to start anew.
    Conf,
}

impl Dnsmasq {
    #[must_use]
    pub fn new(config_dir: &Path) -> Self {
        Self::with_tmp(config_dir, Path::new("/tmp"))
    }

    /// `tmp`: another folder than that in which OpenWrt's dnsmasq.init keeps what it makes.
    #[must_use]
    pub fn with_tmp(config_dir: &Path, tmp: &Path) -> Self {
        Self { dhcp: config_dir.join("dhcp"), tmp: tmp.to_owned() }
    }

    /// Writes what `upstream` says, only what differs. No dnsmasq in the configuration: nothing.
    ///
    /// # Errors
    /// Words for a person; what could be written is.
    pub fn bring_to(&self, upstream: &Upstream) -> (Told, Result<(), String>) {
        let instances = match fs::read(&self.dhcp) {
            Ok(text) => match parse(&text) {
                Ok(package) => Instance::all(&package, &self.tmp),
                Err(fault) => return (Told::Nothing, Err(format!("{}: {fault}", self.dhcp.display()))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return (Told::Nothing, Err(format!("{}: cannot be read: {error}", self.dhcp.display())));
            }
        };
        let (mut told, mut result) = (Told::Nothing, Ok(()));
        for instance in &instances {
            for folder in &instance.folders {
                match one(instance, folder, upstream) {
                    Ok(one) => told = told.max(one),
                    Err(error) => result = Err(format!("{}: {error}", folder.display())),
                }
            }
        }
        (told, result)
    }
}

fn one(instance: &Instance, folder: &Path, upstream: &Upstream) -> io::Result<Told> {
    let (conf, servers) = (folder.join(CONF), folder.join(SERVERS));
    let Upstream::Only(list) = upstream else {
        match fit(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Told::Nothing),
            other => other?,
        }
        let gone = remove(&conf)?;
        remove(&servers)?;
        return Ok(if gone { Told::Conf } else { Told::Nothing });
    };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    fit(folder)?;
    // The servers first: dnsmasq may start between the two.
    let told = if put(&servers, &lines(list))? { Told::Servers } else { Told::Nothing };
    let anew = put(&conf, &instance.conf(folder, list))?;
    Ok(if anew { Told::Conf } else { told })
}

/// /tmp is everybody's: a folder that another user made or may write into is not written into.
fn fit(folder: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(folder)?;
    if meta.is_dir() && meta.uid() == 0 && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("is no folder of root's alone, so nothing was written there"))
}

/// Readable for dnsmasq's own user, which reads the servers again. True: it was another.
fn put(path: &Path, text: &str) -> io::Result<bool> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
        && fs::read(path).is_ok_and(|former| former == text.as_bytes())
    {
        return Ok(false);
    }
    // What is half written is not read: dnsmasq passes over names with a dot.
    let mut new = path.file_name().unwrap_or_default().to_owned();
    new.push(".new");
    let new = path.with_file_name(format!(".{}", new.to_string_lossy().trim_start_matches('.')));
    remove(&new)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok(true)
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// SIGHUP to each dnsmasq in this network namespace, jailed ones included: their pid files hold the
/// number that they have inside. Asks for nothing that takes the right to trace others' processes
/// (`/etc/capabilities/vpnd.json`): not for the program's file, nor for `ns/net`.
pub fn hang_up() {
    // The kernel numbers the files of each namespace anew (fs/proc/proc_net.c).
    let net = |pid: &str| fs::metadata(format!("/proc/{pid}/net/dev")).ok().map(|meta| meta.ino());
    // Of this thread: a process may have several.
    let ours = net("thread-self");
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((text, pid)) = name.to_str().and_then(|text| Some((text, text.parse::<i32>().ok()?))) else {
            continue;
        };
        // Not by the process's name: the script that starts it has the same, but a shell as its program.
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = line.split(|&byte| byte == 0).next().unwrap_or_default();
        if program.rsplit(|&byte| byte == b'/').next() == Some(b"dnsmasq") && net(text) == ours {
            // SAFETY: kill(2) takes two numbers and touches no memory of ours.
            unsafe { libc::kill(pid, libc::SIGHUP) };
        }
    }
}

/// What starts dnsmasq anew.
#[must_use]
pub fn restart(run_dir: &Path) -> InitScript {
    InitScript::new("/etc/init.d/dnsmasq", "restart", run_dir)
}

/// What the daemon does about it.
#[derive(Debug)]
pub struct Follower {
    dnsmasq: Dnsmasq,
    done: Option<Upstream>,
    restart: InitScript,
    /// Why a file could not be written.
    trouble: Option<String>,
}

impl Follower {
    #[must_use]
    pub fn new(dnsmasq: Dnsmasq, run_dir: &Path) -> Self {
        Self { dnsmasq, done: None, restart: restart(run_dir), trouble: None }
    }

    /// Somebody else may have changed what it goes by.
    pub fn forget(&mut self) {
        self.done = None;
    }

    #[must_use]
    pub fn is_telling(&self) -> bool {
        self.restart.is_running()
    }

    /// Costs nothing where nothing changed. Nothing waits for dnsmasq.
    pub fn follow(&mut self, stance: &Stance, settings: &Settings) {
        self.restart.look();
        let wanted = upstream(stance, settings);
        if self.done.as_ref() == Some(&wanted) {
            return;
        }
        let owed = self.restart.is_owed();
        self.restart.owe();
        let (told, result) = self.dnsmasq.bring_to(&wanted);
        match told {
            Told::Conf => self.restart.begin(),
            // Whoever is starting may have read them already, or not.
            Told::Servers if self.restart.is_running() => self.restart.begin(),
            Told::Servers => hang_up(),
            Told::Nothing => {}
        }
        if told < Told::Conf && !owed && !self.restart.is_running() {
            self.restart.settle();
        }
        match result {
            Ok(()) => (self.done, self.trouble) = (Some(wanted), None),
            // Tried again at the next event.
            Err(words) => say_once(&mut self.trouble, "dnsmasq", words),
        }
    }

    /// Why names may not be answered, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.clone().or(self.restart.trouble().map(str::to_owned))
    }
}
