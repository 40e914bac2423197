//! Runs effects, one after the other. It decides nothing.

mod policy_change;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{RelayName, Settings};
use crate::firewall::{InForce, Nft};
use crate::machine::{Effect, Event};
use crate::policy::{Stance, TunnelStance};
use crate::routing::{self, Mended, sysctl};
use crate::runtime;
use crate::state::{RunDir, StateDir};
use crate::tunnel::{self, ProbeEvent};

use super::Dirs;
use super::guards::Guards;
use super::inputs::Inputs;
use super::timers::Timers;

pub(super) struct Shell {
    pub state: StateDir,
    pub timers: Timers,
    pub barrier: bool,
    pub tunnel_up: bool,
    /// What of it was amiss the last time that it was raised.
    pub mended: Vec<Mended>,
    /// It was changed by somebody else faster than it could be raised.
    pub contested: bool,
    /// What the kernel was last seen to hold.
    pub in_force: Option<InForce>,
    /// Its number, where it could be noted.
    pub generation: Option<u32>,
    /// What led to the effects that are run, for people.
    pub cause: String,
    /// Old flows are deleted after the effect that is run.
    pub flows_follow: bool,
    /// Why old flows are not stopped ahead of the flowtables, when that was last wanted.
    pub unstopped: Option<String>,
    /// They are, until they are deleted.
    stopped: bool,
    /// Some may be left: they were not deleted since the policy last changed.
    leftovers: bool,
    pub guards: Guards,
    stance: Stance,
    /// What the policy in force was made of.
    settings: Option<Arc<Settings>>,
    nft: Nft,
    run_dir: PathBuf,
    probe: Option<Probe>,
    mtu_search: Option<Task>,
    /// By the configuration: then it is not searched.
    mtu_is_set: bool,
    /// The host inside the tunnel that answered last, until the probe is stopped.
    answers: Option<IpAddr>,
}

/// A task that ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Probe {
    _task: Task,
    events: mpsc::Receiver<ProbeEvent>,
}

impl Shell {
    pub fn new(dirs: &Dirs, nft: &Path, state: StateDir) -> Self {
        Self {
            state,
            timers: Timers::default(),
            barrier: false,
            mended: Vec::new(),
            contested: false,
            tunnel_up: matches!(tunnel::stats(), Ok(Some(_))),
            in_force: None,
            generation: None,
            cause: String::new(),
            flows_follow: false,
            unstopped: None,
            stopped: false,
            leftovers: false,
            guards: Guards::default(),
            stance: Stance::Open,
            settings: None,
            nft: Nft::new(nft.to_owned()).keeping(super::enforce::recorded(&RunDir::new(&dirs.run))),
            run_dir: dirs.run.clone(),
            probe: None,
            mtu_search: None,
            mtu_is_set: false,
            answers: None,
        }
    }

    /// No effect may hold the daemon up for ever.
    pub async fn run(&mut self, effect: &Effect, inputs: &Inputs) -> Result<(), String> {
        match tokio::time::timeout(LIMIT, self.run_at_length(effect, inputs)).await {
            Ok(result) => result,
            Err(_) => Err(format!("the kernel did not answer within {} s", LIMIT.as_secs())),
        }
    }

    async fn run_at_length(&mut self, effect: &Effect, inputs: &Inputs) -> Result<(), String> {
        let settings = &inputs.settings;
        match effect {
            Effect::Enforce(stance) => self.enforce(stance, inputs).await,
            Effect::RaiseBarrier => self.raise(inputs).await,
            Effect::LowerBarrier => self.lower(inputs).await,
            Effect::DeleteFlows { tunnel } => self.delete_flows(*tunnel, inputs),
            Effect::CreateTunnel { listen_port } => self.create(*listen_port, inputs).await,
            Effect::SetPeer(name) => set_peer(settings, name),
            Effect::ClearPeer => tunnel::clear_peer().map_err(text),
            Effect::DestroyTunnel => {
                self.tunnel_up = false;
                tunnel::destroy().await.map_err(text)
            }
            Effect::StartProbe => {
                self.start_probe(settings);
                Ok(())
            }
            Effect::StopProbe => {
                self.probe = None;
                self.mtu_search = None;
                self.answers = None;
                Ok(())
            }
            Effect::SetTimer { timer, after } => {
                self.timers.set(*timer, *after);
                Ok(())
            }
            Effect::CancelTimer(timer) => {
                self.timers.cancel(*timer);
                Ok(())
            }
            Effect::Store(stored) => self.run_dir().store_word(&self.state, stored).map_err(text),
            Effect::Arm => self.state.arm().map_err(text),
            Effect::Disarm => self.state.disarm().map_err(text),
            Effect::ReportDown => Ok(()),
        }
    }

    /// The layers beside the rules in force; whatever becomes of them, those block.
    pub fn guard(&mut self, inputs: &Inputs) {
        if self.in_force.is_some() {
            self.guards.hold(&inputs.settings, &inputs.facts, &inputs.uplinks);
        }
    }

    /// What is in force, or was meant to be.
    pub fn stance(&self) -> &Stance {
        &self.stance
    }

    pub fn run_dir(&self) -> RunDir {
        RunDir::new(&self.run_dir)
    }

    /// The rules in force tell nothing of what they block.
    pub fn mute(&self) -> bool {
        self.nft.mute()
    }

    /// The tunnel as the stance has it, once the device is there.
    fn tunnel(&self) -> Option<&TunnelStance> {
        match &self.stance {
            Stance::Connecting { tunnel: Some(tunnel), .. } | Stance::Connected { tunnel, .. } => {
                self.tunnel_up.then_some(tunnel)
            }
            _ => None,
        }
    }

    async fn raise(&mut self, inputs: &Inputs) -> Result<(), String> {
        self.barrier = true;
        // Rules first: they are the barrier, the settings only let it work.
        let raised = inputs.router.raise(&inputs.settings, &inputs.facts, self.tunnel()).await;
        self.contested = matches!(raised, Err(routing::Error::Incomplete { .. }));
        let set = sysctl::raise(&self.run_dir, &inputs.settings.lan, &inputs.facts).map_err(text)?;
        self.mended = raised.map_err(text)?;
        self.mended.extend(set);
        Ok(())
    }

    /// After a change in the kernel that was none of the machine's.
    pub async fn raise_again(&mut self, inputs: &Inputs) -> Option<Event> {
        let error = self.raise(inputs).await.err()?;
        Some(Event::Failed { effect: Box::new(Effect::RaiseBarrier), error, rest: Vec::new() })
    }

    /// Whether the kernel holds what was last put in force.
    pub fn stands(&self) -> bool {
        self.nft.in_force().is_ok_and(|now| now == self.in_force)
    }

    /// As [`Nft::accepts`], in words for people.
    pub fn nft_accepts(&self, file: &str) -> Result<(), String> {
        self.nft.accepts(file).map_err(text)
    }

    /// As [`Nft::processes`].
    pub fn nft_processes(&self) -> Vec<u32> {
        self.nft.processes()
    }

    async fn lower(&mut self, inputs: &Inputs) -> Result<(), String> {
        self.barrier = false;
        inputs.router.lower().await.map_err(text)?;
        sysctl::lower(&self.run_dir).map_err(text)
    }

    async fn create(&mut self, listen_port: u16, inputs: &Inputs) -> Result<(), String> {
        let settings = &inputs.settings;
        let Some(tunnel) = &settings.tunnel else { return Err("no tunnel is configured".to_owned()) };
        self.mtu_is_set = tunnel.mtu.is_some();
        let mtu = match tunnel.mtu {
            Some(mtu) => u32::from(mtu),
            None => self.path_mtu(inputs).await,
        };
        let spec = tunnel::Spec { settings: tunnel, mark: settings.mark, listen_port, mtu };
        tunnel::create(&spec).await.map_err(text)?;
        self.tunnel_up = true;
        // The device has the devices' MTU again, not the one that was found.
        if let Some(target) = self.answers {
            self.search_mtu(target);
        }
        Ok(())
    }

    /// What fits through the path to every relay that the stance allows.
    async fn path_mtu(&self, inputs: &Inputs) -> u32 {
        let relays = match &self.stance {
            Stance::Connecting { relays, .. } => relays.as_slice(),
            Stance::Connected { relay, .. } => std::slice::from_ref(relay),
            _ => &[],
        };
        let inside_v6 = inputs.settings.tunnel.as_ref().is_some_and(|tunnel| {
            tunnel.addresses.iter().any(|address| matches!(address, ipnet::IpNet::V6(_)))
        });
        let mut least = None;
        for relay in relays {
            let path = inputs.router.route_to(relay.ip(), inputs.settings.mark).await;
            let path = path.ok().flatten().map_or(ETHERNET_MTU, |path| path.mtu);
            let mtu = tunnel::mtu_for(path, *relay, inside_v6);
            least = Some(least.map_or(mtu, |least: u32| least.min(mtu)));
        }
        least.unwrap_or(IPV6_LEAST_MTU)
    }

    fn start_probe(&mut self, settings: &Settings) {
        let (sender, events) = mpsc::channel(4);
        let targets = settings.tunnel.as_ref().map(tunnel::probe_targets).unwrap_or_default();
        let task = Task(runtime::spawn(tunnel::probe(targets, sender)));
        self.probe = Some(Probe { _task: task, events });
        self.mtu_search = None;
        self.answers = None;
    }

    /// Once `target` answered: whether the path really carries what its devices promise.
    fn search_mtu(&mut self, target: IpAddr) {
        if self.mtu_is_set {
            return;
        }
        self.mtu_search = Some(Task(runtime::spawn(async move {
            let Ok(Some(stats)) = tunnel::stats() else { return };
            let Some(fits) = tunnel::find_mtu(target, stats.mtu).await else { return };
            match tunnel::set_mtu(fits).await {
                Ok(mtu) => eprintln!("vpnd: large packets vanish on the path: the tunnel's MTU is now {mtu}"),
                Err(error) => eprintln!("vpnd: setting the tunnel's MTU to {fits}: {error}"),
            }
        })));
    }

    /// What the effects gave rise to: a timer, or the running probe's next word. Safe to drop
    /// half-way.
    pub async fn event(&mut self) -> Event {
        let heard = tokio::select! {
            timer = self.timers.next() => return Event::TimerFired(timer),
            heard = hear(&mut self.probe) => heard,
        };
        match heard {
            Some(ProbeEvent::Answered { from, .. }) => {
                self.answers = Some(from);
                self.search_mtu(from);
                Event::Verified
            }
            // A probe that ended without a word is as bad as a silent tunnel.
            Some(ProbeEvent::Silent) | None => {
                self.probe = None;
                Event::Silent
            }
        }
    }
}

/// For one effect: far above what the slowest router needs for any.
const LIMIT: Duration = Duration::from_secs(20);
/// IEEE 802.3: what a WAN has when nothing better is known.
const ETHERNET_MTU: u32 = 1500;
/// RFC 8200, section 5.
const IPV6_LEAST_MTU: u32 = 1280;

async fn hear(probe: &mut Option<Probe>) -> Option<ProbeEvent> {
    match probe {
        Some(probe) => probe.events.recv().await,
        None => std::future::pending().await,
    }
}

fn set_peer(settings: &Settings, name: &RelayName) -> Result<(), String> {
    match settings.relays.iter().find(|relay| relay.name == *name) {
        Some(relay) => tunnel::set_peer(relay).map_err(text),
        None => Err(format!("relay '{name}' is not in the configuration any more")),
    }
}

fn text(error: impl std::error::Error) -> String {
    with_sources(&error)
}

/// For all kinds of errors: compiled once.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !line.contains(&inner_text) {
            line = format!("{line}: {inner_text}");
        }
        source = inner.source();
    }
    line
}
