//! What comes in from files and from the kernel.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, IfName, Lan, Settings};
use crate::machine::Event;
use crate::policy::{Entrances, Facts};
use crate::routing::{Router, Uplink};
use crate::sorted::Map;
use crate::state::{RunDir, StateDir};
use crate::tunnel;

use super::shell::Shell;
use super::{Dirs, Error};

/// The latest of everything that the machine is told about.
pub(super) struct Inputs {
    pub settings: Arc<Settings>,
    /// What is wrong with the configuration, one line each.
    pub broken: Vec<String>,
    pub warnings: Vec<String>,
    /// fw4's, as the last good configuration has them.
    pub zones: Vec<config::FirewallZone>,
    pub facts: Facts,
    pub entrances: Entrances,
    pub uplinks: Vec<Uplink>,
    pub online: bool,
    pub leases: Map<IfName, Ipv4Addr>,
    pub router: Router,
    /// The file that the settings in force come from, as it was then, if it was good.
    pub text: Option<Vec<u8>>,
    pub vpnd_file: PathBuf,
    /// Read in its place: the copy of former settings that could not be put back.
    pub instead: Option<PathBuf>,
    config_dir: PathBuf,
    run: RunDir,
}

/// The configuration as it was read, and the bytes of its main file; None: it changed meanwhile.
pub(super) struct Read {
    pub loaded: config::Loaded,
    pub text: Option<Vec<u8>>,
}

impl Inputs {
    pub fn open(dirs: &Dirs, state: &StateDir, instead: Option<PathBuf>) -> Result<Self, Error> {
        let run = RunDir::new(&dirs.run);
        let mut inputs = Self {
            settings: Arc::new(Settings::fallback(Lan::default())),
            broken: Vec::new(),
            warnings: Vec::new(),
            zones: Vec::new(),
            facts: Facts::default(),
            entrances: Entrances::default(),
            uplinks: Vec::new(),
            online: false,
            leases: run.leases(),
            router: Router::open()?,
            text: None,
            vpnd_file: dirs.config.join("vpnd"),
            instead,
            config_dir: dirs.config.clone(),
            run,
        };
        let read = inputs.read();
        inputs.take(read, state, true);
        Ok(inputs)
    }

    /// Whether another process of vpnd's is putting rules in force just now.
    pub fn is_somebody_applying(&self) -> bool {
        self.run.is_applying()
    }

    /// Reads the configuration; the bytes are those that were read, unless somebody writes without
    /// end.
    pub fn read(&self) -> Read {
        let file = self.instead.as_ref().unwrap_or(&self.vpnd_file);
        let mut before = bytes(file);
        for _ in 0..3 {
            let loaded = config::load_from(file, &self.config_dir);
            let after = bytes(file);
            if after == before {
                return Read { loaded, text: after };
            }
            before = after;
        }
        Read { loaded: config::load_from(file, &self.config_dir), text: None }
    }

    /// Makes what was read the settings that count. What it cannot say of the LAN, the kept list
    /// does; `keep`: it becomes the kept list.
    pub fn take(&mut self, read: Read, state: &StateDir, keep: bool) -> Event {
        let config::Loaded { mut settings, problems, warnings, zones } = read.loaded;
        // A configuration with errors says nothing of what fw4 should do.
        if problems.is_empty() {
            self.zones = zones;
        }
        self.broken = problems.iter().map(ToString::to_string).collect();
        self.warnings = warnings.iter().map(ToString::to_string).collect();
        if !self.broken.is_empty() {
            match state.kept_lan() {
                Ok(Some(kept)) => settings.lan = settings.lan.with_kept(kept),
                Ok(None) => {}
                Err(error) => self.warnings.push(error.to_string()),
            }
        } else {
            self.text = read.text;
            if keep {
                self.warnings.extend(state.keep_lan(&settings.lan).err().map(|error| error.to_string()));
            }
        }
        self.settings = Arc::new(settings);
        Event::Settings { settings: Arc::clone(&self.settings), broken: self.broken.clone() }
    }

    pub async fn first_event(&mut self, shell: &Shell) -> Event {
        if let Err(error) = self.observe().await {
            self.warnings.push(error);
        }
        let stored = match self.run.last_word(&shell.state) {
            // Missing beside an armed marker is as unknown as unreadable (contract 4.5).
            None if shell.state.armed() => {
                Some(crate::machine::Stored { connect: true, ..crate::machine::Stored::default() })
            }
            stored => stored,
        };
        Event::Start {
            stored,
            settings: Arc::clone(&self.settings),
            broken: self.broken.clone(),
            facts: self.facts.clone(),
            online: self.online,
            seed: seed(),
        }
    }

    /// Looks at the kernel again; what changed comes back as events.
    pub async fn look(&mut self, shell: &mut Shell) -> Vec<Event> {
        let (facts, online) = (self.facts.clone(), self.online);
        if let Err(error) = self.observe().await {
            eprintln!("vpnd: {error}");
            return Vec::new();
        }
        let mut events = Vec::new();
        if self.facts != facts {
            events.push(Event::Facts(self.facts.clone()));
        }
        if self.online != online {
            events.push(Event::Online(self.online));
        }
        // Deleted, set down or without addresses: built anew.
        if shell.tunnel_up && !self.is_usable().await {
            shell.tunnel_up = false;
            events.push(Event::TunnelGone);
        }
        events
    }

    async fn is_usable(&self) -> bool {
        let addresses = self.settings.tunnel.as_ref().map_or(&[][..], |tunnel| &tunnel.addresses);
        tunnel::stats().map_or(true, |stats| stats.is_some_and(|stats| stats.up))
            && !tunnel::stripped(addresses).await
    }

    async fn observe(&mut self) -> Result<(), String> {
        let device = tunnel::DEVICE.parse::<IfName>()?;
        let seen = self.router.look(&self.settings, &device, &self.leases).await;
        (self.facts, self.entrances) = seen.map_err(|error| error.to_string())?;
        self.uplinks = self.router.uplinks(&self.settings).await.map_err(|error| error.to_string())?;
        self.online = self.any_relay_routed(&device).await;
        Ok(())
    }

    /// Whether a packet of the tunnel's socket would find a way to any relay. Where none is
    /// configured that is for the machine to say, not a matter of being offline.
    async fn any_relay_routed(&self, tunnel: &IfName) -> bool {
        for relay in &self.settings.relays {
            let path = self.router.route_to(relay.endpoint.ip(), self.settings.mark).await;
            if matches!(path, Ok(Some(path)) if path.device != *tunnel) {
                return true;
            }
        }
        self.settings.relays.is_empty()
    }

    /// Remembers a lease's server across a restart of the daemon, in RAM.
    pub fn lease(&mut self, device: &IfName, server: Option<Ipv4Addr>) -> Result<(), String> {
        self.run.set_lease(device, server).map_err(|error| error.to_string())?;
        self.leases = self.run.leases();
        Ok(())
    }
}

/// At most as many as the reader of configurations takes.
fn bytes(path: &Path) -> Option<Vec<u8>> {
    // Asked before opening: opening a pipe waits for its writer.
    std::fs::metadata(path).ok()?.is_file().then_some(())?;
    let mut text = Vec::new();
    let most = config::uci::MAX_BYTES as u64 + 1;
    std::fs::File::open(path).ok()?.take(most).read_to_end(&mut text).ok()?;
    Some(text)
}

/// For choosing ports only, not for keys.
fn seed() -> u32 {
    let mut bytes = [0_u8; 4];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() {
        return std::process::id();
    }
    u32::from_ne_bytes(bytes)
}
