//! Wires events to the machine and effects to the edges. One thread, one loop.
//!
//! Whatever ends this loop leaves the kernel as it is: rules, routes and device stay (contract
//! 4.2), and the next daemon re-enters the wanted state.

mod blocked;
mod boot;
mod calls;
mod cause;
pub(crate) mod enforce;
#[cfg(debug_assertions)]
mod fault;
mod guards;
mod incidents;
mod inputs;
mod pause;
mod repair;
mod report;
mod shell;
mod timers;
mod trial;
mod watchdog;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::alarm::Alarm;
use crate::control::{self, Call};
use crate::machine::{Effect, Event, Machine};
use crate::policy::{Facts, Stance};
use crate::routing::{self, Burst};
use crate::state::{RunDir, StateDir};
use crate::tunnel;
use crate::{dns, firewall, fw4, lan6, runtime};

use blocked::Blocked;
use boot::Boots;
use incidents::{By, Incidents, Layer};
use inputs::Inputs;
use repair::{Pace, Repair};
use shell::Shell;
use trial::Trial;

/// Events come in bursts (netifd takes a device down and up): looked at once they pause.
const SETTLE: Duration = Duration::from_millis(50);

/// And on a slow machine, where looking takes its time, a little later each.
const SETTLE_MOST: Duration = Duration::from_secs(1);

/// How soon it is noticed that another service has taken what it was told.
const TELL: Duration = Duration::from_millis(250);

/// Said by `status`.
const DEAF: &str =
    "kernel settings: nobody tells when arp_ignore, arp_announce or src_valid_mark are written (no inotify)";

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Dirs {
    pub config: PathBuf,
    pub run: PathBuf,
    pub state: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("starting the event loop: {0}")]
    Runtime(std::io::Error),
    #[error("catching signals: {0}")]
    Signals(std::io::Error),
    #[error(
        "{0}: the daemon is switched off ('option enabled 0' in section 'main'); an armed block stays, 'vpnd disarm' ends it"
    )]
    SwitchedOff(String),
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error(transparent)]
    Routing(#[from] routing::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the loop cannot be started at all. Everything later is a state of the machine.
pub fn run(dirs: &Dirs, nft: &Path) -> Result<(), Error> {
    watchdog::start();
    let runtime = runtime::new().map_err(Error::Runtime)?;
    let mut ended = Ok(());
    runtime::run_to_end(&runtime, pin!(async { ended = live(dirs, nft).await }));
    ended
}

async fn live(dirs: &Dirs, nft: &Path) -> Result<(), Error> {
    Daemon::start(dirs, nft).await?.turn().await
}

struct Daemon {
    machine: Machine,
    shell: Shell,
    inputs: Inputs,
    calls: mpsc::Receiver<Call>,
    /// Events that effects gave rise to; they come before anything from outside.
    inner: VecDeque<Event>,
    entered: tokio::time::Instant,
    blocked: Blocked,
    repair: Repair,
    incidents: Incidents,
    barrier_pace: Pace,
    /// Somebody is changing the barrier all the time: it is looked at again soon.
    barrier_due: bool,
    /// Why nobody tells of a written kernel setting.
    deaf: Option<&'static str>,
    boots: Boots,
    /// The facts that the machine knows, and why the next event comes where it does not say itself.
    told: Facts,
    because: Option<String>,
    trial: Option<Trial>,
    /// Until when the router is open on a person's word.
    pause: Option<tokio::time::Instant>,
    /// That settings were taken back, for people.
    undone: Option<String>,
    fw4: fw4::Follower,
    lan6: lan6::Follower,
    dns: dns::Follower,
    _server: control::Server,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Daemon {
    async fn start(dirs: &Dirs, nft: &Path) -> Result<Self, Error> {
        let state = StateDir::new(&dirs.state);
        let boots = Boots::begin(&state, RunDir::new(&dirs.run));
        let (undone, instead) = trial::left_over(&state, &dirs.config.join("vpnd"))
            .map_or((None, None), |back| (Some(back.words), back.instead));
        let mut inputs = Inputs::open(dirs, &state, instead)?;
        if !inputs.settings.enabled {
            return Err(Error::SwitchedOff(dirs.config.join("vpnd").display().to_string()));
        }
        let mut shell = Shell::new(dirs, nft, state);
        "the daemon started".clone_into(&mut shell.cause);
        let (sender, calls) = mpsc::channel(16);
        let event = inputs.first_event(&shell).await;
        let told = inputs.facts.clone();
        let pause = pause::left_over(dirs);
        let (machine, effects) =
            if pause.is_some() { Machine::start_paused(event) } else { Machine::start(event) };
        let mut daemon = Self {
            machine,
            shell,
            inputs,
            calls,
            inner: VecDeque::new(),
            entered: tokio::time::Instant::now(),
            blocked: Blocked::new(),
            repair: Repair::new(),
            incidents: Incidents::default(),
            barrier_pace: Pace::new(),
            barrier_due: false,
            deaf: None,
            boots,
            told,
            because: None,
            trial: None,
            pause,
            undone,
            fw4: fw4::Follower::new(&dirs.config, &dirs.run),
            lan6: lan6::Follower::new(&dirs.config, &dirs.run),
            dns: dns::Follower::new(dns::Dnsmasq::new(&dirs.config), &dirs.run),
            _server: control::serve(&dirs.run, sender)?,
        };
        daemon.run_effects(effects).await;
        daemon.settle().await;
        if daemon.shell.in_force.is_some() {
            daemon.boots.blocked(&daemon.inputs.settings);
        }
        Ok(daemon)
    }

    async fn turn(&mut self) -> Result<(), Error> {
        let mut settle = SETTLE;
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let mut changes = routing::watch()?;
        // The world may have changed between the first look and the watch.
        let mut look = Some(tokio::time::Instant::now());
        let (mut burst, mut pulse) = (Burst::default(), Alarm::new());
        self.deaf = (!changes.hears_settings()).then_some(DEAF);
        loop {
            watchdog::alive();
            tokio::select! {
                biased;
                () = pulse.after(watchdog::PULSE) => {}
                _ = signals.terminate.recv() => return Ok(()),
                _ = signals.interrupt.recv() => return Ok(()),
                () = sleep_until(self.trial.as_ref().map(|trial| trial.until)) => self.time_is_up().await,
                () = sleep_until(self.pause) => self.resume().await,
                _ = signals.reload.recv() => self.reload().await,
                event = self.shell.event() => self.feed(event).await,
                () = self.repair.ready() => self.mend_rules().await,
                () = tokio::time::sleep(TELL), if self.is_telling_others() => self.tell_others(),
                () = sleep_until(look) => {
                    look = None;
                    let start = tokio::time::Instant::now();
                    // What came meanwhile is part of it.
                    if let Some(Ok(more)) = changes.next().now_or_never() {
                        burst.add(more);
                    }
                    self.look(std::mem::take(&mut burst)).await;
                    settle = (start.elapsed() * repair::REST).clamp(SETTLE, SETTLE_MOST);
                    if std::mem::take(&mut self.barrier_due) {
                        look = Some(tokio::time::Instant::now() + settle);
                        burst = Burst { rules: true, ..Burst::default() };
                    }
                }
                Some(call) = self.calls.recv() => self.answer(call).await,
                changed = changes.next(), if look.is_none() => {
                    match changed {
                        Ok(heard) => burst.add(heard),
                        Err(error) => {
                            eprintln!("vpnd: {error}; watching anew");
                            changes = routing::watch()?;
                        }
                    }
                    // A hole in the barrier is closed before anybody looks at the whole.
                    if burst.barrier() && self.barrier_pace.wait().is_none() {
                        self.mend_barrier(burst).await;
                        burst = Burst { devices: burst.devices, ..Burst::default() };
                    }
                    look = Some(tokio::time::Instant::now() + settle);
                }
                packets = self.blocked.next() => {
                    let state = self.shell.in_force.map(|in_force| in_force.state);
                    self.blocked.note(&packets, state, &self.inputs.settings.lan);
                }
            }
        }
    }

    /// One event from outside and all that follows from it.
    async fn feed(&mut self, event: Event) {
        self.step(event).await;
        self.settle().await;
        self.hear();
    }

    async fn settle(&mut self) {
        while let Some(event) = self.inner.pop_front() {
            self.step(event).await;
        }
        self.shell.end_idle_stop(&self.inputs).await;
        self.tell_others();
    }

    /// OpenWrt's own services go by what is in force.
    fn tell_others(&mut self) {
        // By what is wanted, not by the marker: a flash that does not let go of it is no reason to stay shut.
        let view = self.machine.view();
        let closed =
            !view.paused && (*self.shell.stance() != Stance::Open || view.wanted.connect || view.lockdown);
        // An armed router that could not be blocked is no open one.
        let blocked = Stance::Blocked { api: false };
        let stance = match self.shell.stance() {
            Stance::Open if closed => &blocked,
            stance => stance,
        };
        self.dns.follow(stance, &self.inputs.settings);
        let known = (&*self.inputs.settings, self.inputs.zones.as_slice());
        let known = self.inputs.broken.is_empty().then_some(known);
        let telling = self.fw4.is_telling();
        self.fw4.follow(known, tunnel::DEVICE, closed, || self.shell.nft_accepts(fw4::HEAL));
        // fw4 may have loaded its former file meanwhile.
        if telling && !closed && !self.fw4.is_telling() {
            if let Err(error) = firewall::end_heal() {
                eprintln!("vpnd: what fw4 brought back still blocks: {error}");
            }
        }
        self.lan6.follow(known.map(|(settings, _)| settings), closed, || self.fw4.is_set_up());
    }

    fn is_telling_others(&self) -> bool {
        self.fw4.is_telling() || self.lan6.is_telling() || self.dns.is_telling()
    }

    async fn step(&mut self, event: Event) {
        let before = self.machine.view();
        let words = cause::words(&event, &before, &self.told);
        if let Some(words) = self.because.take().or(words) {
            self.shell.cause = words;
        }
        if let Event::Facts(facts) = &event {
            self.told.clone_from(facts);
        }
        let effects;
        (self.machine, effects) = self.machine.clone().step(event);
        let after = self.machine.view().state;
        if after != before.state {
            self.entered = tokio::time::Instant::now();
        }
        self.run_effects(effects).await;
    }

    /// Runs a list in order. A failure ends it and comes back as the next event, before any
    /// other, with what was not run.
    async fn run_effects(&mut self, effects: Vec<Effect>) {
        let mut list = effects.into_iter();
        while let Some(effect) = list.next() {
            watchdog::alive();
            #[cfg(debug_assertions)]
            fault::at("before", &effect);
            if effect == Effect::ReportDown {
                self.inner.push_back(Event::TunnelDown);
            }
            self.shell.flows_follow =
                list.as_slice().iter().any(|effect| matches!(effect, Effect::DeleteFlows { .. }));
            if let Err(error) = self.shell.run(&effect, &self.inputs).await {
                if effect.enforces() && self.is_overtaken(&error) {
                    continue;
                }
                eprintln!("vpnd: {}: {error}", effect.what());
                let failed = Event::Failed { effect: Box::new(effect), error, rest: list.collect() };
                self.inner.push_front(failed);
                return;
            }
            #[cfg(debug_assertions)]
            fault::at("after", &effect);
            match effect {
                Effect::Enforce(_) => self.incidents.whole(Layer::Rules),
                Effect::RaiseBarrier => self.incidents.whole(Layer::Barrier),
                Effect::CreateTunnel { .. } => self.incidents.whole(Layer::Device),
                _ => {}
            }
        }
    }

    /// Looks at devices, addresses and routes again, after a `burst` of changes.
    async fn look(&mut self, burst: Burst) {
        self.boots.look(&self.inputs.settings);
        let start = tokio::time::Instant::now();
        self.shell.mended.clear();
        let events = self.inputs.look(&mut self.shell).await;
        for event in events {
            let gone = event == Event::TunnelGone;
            self.feed(event).await;
            self.tell_of_barrier(burst, start.elapsed());
            if gone {
                let what =
                    format!("the tunnel device {} was deleted, set down or lost an address", tunnel::DEVICE);
                let view = self.machine.view();
                let outcome = match view.cause.filter(|_| !self.shell.tunnel_up) {
                    Some(cause) => Err(cause.to_string()),
                    None => Ok(start.elapsed()),
                };
                self.incidents.note(Layer::Device, what, By::default(), 1, outcome);
            }
        }
        self.shell.guard(&self.inputs);
        // Routes go with a device that went down, and others flush rules; not every event raises them.
        self.mend_barrier(burst).await;
    }

    async fn reload(&mut self) {
        self.put_back_again();
        self.repair.listen_again();
        self.fw4.forget();
        self.lan6.forget();
        self.dns.forget();
        let read = self.inputs.read();
        let event = self.inputs.take(read, &self.shell.state, self.trial.is_none());
        self.feed(event).await;
        self.look(Burst::default()).await;
    }
}

async fn sleep_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
