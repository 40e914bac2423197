//! Floods: packets of every kind from LAN and router, as fast as asked, each with a marker; and
//! beside them control frames, of which the capture must hold every one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::home::control_packet;
use crate::house::{House, MAC_ROUTER_LAN, MAC_TV, at, ip};
use crate::packets::{Body, Kind, Marker, Packet, SYN, ethernet};
use crate::raw::{Binding, Socket};
use crate::vpnd::{LISTEN_PORT, relay_endpoint};
use crate::wire::{Capture, Sender};

/// A running flood. Its threads stop with it.
pub struct Flood {
    pause: Duration,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
    lan: Arc<AtomicU32>,
    router: Arc<AtomicU32>,
    control: Arc<AtomicU32>,
}

/// How many packets flew.
#[derive(Debug, Clone, Copy)]
pub struct Flown {
    pub lan: u32,
    pub router: u32,
    pub control: u32,
}

impl std::fmt::Display for Flown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} LAN packets and {} of the router flew meanwhile", self.lan, self.router)
    }
}

impl Flood {
    /// Starts sending, about `rate` packets a second from the LAN, as many from the router, and
    /// a tenth as control frames.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(house: &House, rate: u32) -> Result<Self> {
        Self::by(house, rate, "wan")
    }

    /// The LAN's part alone, without control frames: while there is no WAN to send any by.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn of_lan(house: &House, rate: u32) -> Result<Self> {
        let mut flood = Self {
            pause: Duration::from_secs(1) / rate.max(1),
            stop: Arc::default(),
            threads: Vec::new(),
            lan: Arc::default(),
            router: Arc::default(),
            control: Arc::default(),
        };
        let sender = house.tv.enter(|| Sender::here("eth0"))?;
        let packets = lan_packets();
        let count = Arc::clone(&flood.lan);
        flood.spawn(flood.pause, count, move |n| {
            let packet = pick(&packets, n);
            let marker = Marker { kind: Kind::LanFlood, id: 0, seq: n };
            let ethertype = if packet.from.is_ipv4() { 0x0800 } else { 0x86dd };
            sender.send(&ethernet(MAC_ROUTER_LAN, MAC_TV, ethertype, &packet.bytes(marker)))
        });
        Ok(flood)
    }

    /// As [`Flood::start`], where the WAN is `device`.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn by(house: &House, rate: u32, device: &str) -> Result<Self> {
        let mut flood = Self::of_lan(house, rate)?;
        let pause = flood.pause;
        let packets = router_packets();
        let bound = Binding { device: Some(device.into()), mark: None };
        let bindings = [Binding::default(), bound.clone()];
        let sockets = house.router.enter(|| {
            bindings
                .iter()
                .map(|b| Ok([Socket::open(true, b)?, Socket::open(false, b)?]))
                .collect::<Result<Vec<_>>>()
        })?;
        let count = Arc::clone(&flood.router);
        flood.spawn(pause, count, move |n| {
            let packet = pick(&packets, n / 2);
            let marker = Marker { kind: Kind::RouterFlood, id: 0, seq: n };
            if let Some(pair) = sockets.get((n % 2) as usize) {
                // A refusal is what is hoped for.
                let _ = pair[usize::from(!packet.to.is_ipv4())].send(&packet.bytes(marker), packet.to);
            }
            Ok(())
        });
        let socket = house.router.enter(|| Socket::open(true, &bound))?;
        let count = Arc::clone(&flood.control);
        flood.spawn(pause * 10, count, move |n| {
            let packet = control_packet();
            let marker = Marker { kind: Kind::Control, id: 0, seq: n };
            socket.send(&packet.bytes(marker), packet.to).context("a control frame was refused")
        });
        Ok(flood)
    }

    fn spawn(
        &mut self,
        pause: Duration,
        count: Arc<AtomicU32>,
        mut send: impl FnMut(u32) -> Result<()> + Send + 'static,
    ) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            let start = Instant::now();
            while !stop.load(Ordering::SeqCst) {
                let n = count.load(Ordering::SeqCst);
                // Where the clock is coarse, several at once keep the rate.
                if start.elapsed() < pause * n {
                    std::thread::sleep(pause.min(Duration::from_millis(5)));
                    continue;
                }
                match send(n) {
                    Ok(()) => count.store(n + 1, Ordering::SeqCst),
                    // The queue of a device is full, on a machine that is late: that one did not fly.
                    Err(error) if is_full(&error) => std::thread::sleep(Duration::from_millis(5)),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }));
    }

    #[must_use]
    pub fn flown(&self) -> Flown {
        Flown {
            lan: self.lan.load(Ordering::SeqCst),
            router: self.router.load(Ordering::SeqCst),
            control: self.control.load(Ordering::SeqCst),
        }
    }

    /// Stops, and checks that every control frame is in the capture after `position`.
    ///
    /// # Errors
    /// When a sender failed or a control frame is missing: then the capture proves nothing.
    pub fn stop(mut self, wan: &Capture, position: usize) -> Result<Flown> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a flood's thread panicked"))??;
        }
        let flown = self.flown();
        if flown.lan == 0 || flown.router == 0 || flown.control == 0 {
            bail!("the flood did not fly: {flown:?}");
        }
        let last = Marker { kind: Kind::Control, id: 0, seq: flown.control - 1 };
        let _ = wan.wait(position, Duration::from_secs(5), |f| f.marker == Some(last));
        let found = wan.select(position, |f| f.marker.is_some_and(|m| m.kind == Kind::Control && m.id == 0));
        let mut numbers: Vec<u32> = found.iter().filter_map(|f| f.marker.map(|m| m.seq)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() != flown.control as usize {
            bail!(
                "{} of {} control frames are in the capture: it proves nothing",
                numbers.len(),
                flown.control
            );
        }
        wan.assert_complete()?;
        Ok(flown)
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    let code = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    code == Some(libc::ENOBUFS)
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pick(packets: &[Packet], n: u32) -> Packet {
    let mut packet = packets[n as usize % packets.len()].clone();
    // Every second round the same flows as before, every other one new ones.
    let round = n as usize / packets.len();
    if round % 2 == 1 {
        if let Body::Udp { from, .. } | Body::Tcp { from, .. } = &mut packet.body {
            if *from != LISTEN_PORT && *from > 1024 {
                *from = 1024 + (n % 60_000) as u16;
            }
        }
    }
    packet
}

fn kinds(from: [&str; 2]) -> Vec<Packet> {
    let mut packets = Vec::new();
    for f in 0..2 {
        let (from, far) = (ip(from[f]), ip(at::INTERNET[f]));
        let relay = relay_endpoint(if f == 0 { 0 } else { 2 });
        let udp = |to, pair: (u16, u16)| Packet::new(from, to, Body::Udp { from: pair.0, to: pair.1 });
        let ping = if f == 0 { 8 } else { 128 };
        packets.extend([
            udp(far, (9100, 9999)),
            udp(far, (9101, 443)),
            udp(far, (9102, 53)),
            udp(ip(at::ISP[f]), (9103, 53)),
            udp(relay.ip(), (9104, relay.port())),
            udp(relay.ip(), (LISTEN_PORT, relay.port())),
            udp(ip(at::RELAYS[1][f]), (9105, at::RELAY_PORT)),
            Packet::new(from, far, Body::Tcp { from: 9106, to: 80, flags: SYN }),
            Packet::new(from, ip(at::API[f]), Body::Tcp { from: 9107, to: 443, flags: SYN }),
            Packet::new(from, far, Body::Icmp { kind: ping, code: 0, rest: [9, 9, 0, 1], data: Vec::new() }),
            Packet::new(from, far, Body::Raw { proto: 50, data: vec![0; 12] }),
            udp(ip(at::THROUGH_TUNNEL[f]), (9108, 9999)),
        ]);
    }
    packets
}

fn lan_packets() -> Vec<Packet> {
    let mut packets = kinds(at::TV);
    packets.push(Packet::new(ip(at::TV[0]), ip(at::INTERNET[0]), Body::Udp { from: 68, to: 67 }));
    packets
}

fn router_packets() -> Vec<Packet> {
    let mut packets = kinds(at::ROUTER_WAN);
    packets.extend(kinds(at::TUNNEL));
    packets
}
