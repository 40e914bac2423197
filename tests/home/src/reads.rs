//! Tests that read like the contract: who sends what in which state, and what becomes of it.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use vpnd::policy::Row;

use crate::home::{Home, Outcome};
use crate::house::{at, ip};
use crate::packets::{Body, Packet, SYN};
use crate::probes::{Case, Place, Step};
use crate::raw::Binding;
use crate::suite::Test;
use crate::vpnd::Policy::{self, Blocked, Boot, Connected, Connecting, Open};
use crate::vpnd::{MARK, Rules};

type Story = fn(&mut Told<'_>) -> Result<()>;

#[must_use]
pub fn tests(rules: Rc<dyn Rules>) -> Vec<Test> {
    let all: [(&str, Story); 4] = [
        ("a LAN host is refused at once while blocked, and seen in plaintext without vpnd", lan_is_refused),
        ("the router itself is refused at once, bound or not", router_is_refused),
        ("the relay is reached by the tunnel's socket alone", relay_by_mark),
        ("a LAN host's DNS question to an outside resolver never leaves", dns_stays),
    ];
    all.into_iter()
        .map(|(name, work)| {
            let rules = Rc::clone(&rules);
            Test::new(format!("reads: {name}"), move || {
                let mut home = Home::build()?;
                work(&mut Told { home: &mut home, rules: &*rules })?;
                Ok(String::new())
            })
        })
        .collect()
}

fn lan_is_refused(home: &mut Told<'_>) -> Result<()> {
    for to in ["198.51.100.1:9999", "[2001:db8:100::1]:9999"] {
        home.without_vpnd()?.lan("tv").sends(udp(to))?.seen_on_wan()?;
        home.without_vpnd()?.lan("tv").sends(tcp(to))?.seen_on_wan()?;
        for state in [Boot, Blocked, Connecting, Connected] {
            home.in_state(state)?.lan("tv").sends(udp(to))?.refused_fast()?.never_on_wan()?;
            home.in_state(state)?.lan("tv").sends(tcp(to))?.refused_fast()?.never_on_wan()?;
        }
    }
    Ok(())
}

fn router_is_refused(home: &mut Told<'_>) -> Result<()> {
    for to in ["198.51.100.1:9999", "[2001:db8:100::1]:9999"] {
        home.without_vpnd()?.router().bound_to("wan").sends(udp(to))?.seen_on_wan()?;
        for state in [Boot, Blocked, Connecting, Connected] {
            home.in_state(state)?.router().sends(udp(to))?.refused_fast()?.never_on_wan()?;
            home.in_state(state)?.router().bound_to("wan").sends(tcp(to))?.refused_fast()?.never_on_wan()?;
        }
    }
    Ok(())
}

fn relay_by_mark(home: &mut Told<'_>) -> Result<()> {
    let relay = "192.0.2.11:51820";
    for state in [Connecting, Connected] {
        home.in_state(state)?.router().marked(MARK).sends(udp(relay))?.seen_on_wan()?;
        home.in_state(state)?.router().sends(udp(relay))?.never_on_wan()?;
        home.in_state(state)?.lan("tv").sends(udp(relay))?.refused_fast()?.never_on_wan()?;
    }
    home.in_state(Blocked)?.router().marked(MARK).sends(udp(relay))?.never_on_wan()
}

fn dns_stays(home: &mut Told<'_>) -> Result<()> {
    for to in ["198.51.100.53:53", "[2001:db8:100::53]:53"] {
        home.without_vpnd()?.lan("guest").sends(udp(to))?.seen_on_wan()?;
        for state in [Boot, Blocked, Connecting, Connected] {
            home.in_state(state)?.lan("guest").sends(udp(to))?.refused_fast()?.never_on_wan()?;
        }
    }
    Ok(())
}

/// A home and the rules it is told to hold.
pub struct Told<'a> {
    pub home: &'a mut Home,
    pub rules: &'a dyn Rules,
}

/// A home in a state.
pub struct InState<'a> {
    home: &'a mut Home,
    state: Policy,
}

#[derive(Debug, Clone, Copy)]
enum Host {
    Tv,
    Guest,
    Router,
}

/// Somebody about to send.
pub struct Sender<'a> {
    home: &'a mut Home,
    state: Policy,
    host: Host,
    binding: Binding,
}

/// What became of a packet.
pub struct Sent(Outcome);

#[derive(Debug, Clone, Copy)]
pub struct What {
    to: Option<SocketAddr>,
    tcp: bool,
}

/// A UDP packet to `ADDRESS:PORT`.
#[must_use]
pub fn udp(to: &str) -> What {
    What { to: to.parse().ok(), tcp: false }
}

/// The first packet of a TCP connection.
#[must_use]
pub fn tcp(to: &str) -> What {
    What { to: to.parse().ok(), tcp: true }
}

impl Told<'_> {
    /// # Errors
    /// When the rules cannot be loaded.
    pub fn in_state(&mut self, state: Policy) -> Result<InState<'_>> {
        self.home.enter(state, 0, self.rules)?;
        Ok(InState { home: self.home, state })
    }

    /// # Errors
    /// When fw4's rules cannot be loaded.
    pub fn without_vpnd(&mut self) -> Result<InState<'_>> {
        self.in_state(Open)
    }
}

impl<'a> InState<'a> {
    /// A host of the LAN: `tv` or `guest`.
    #[must_use]
    pub fn lan(self, name: &str) -> Sender<'a> {
        let host = if name == "guest" { Host::Guest } else { Host::Tv };
        Sender { home: self.home, state: self.state, host, binding: Binding::default() }
    }

    #[must_use]
    pub fn router(self) -> Sender<'a> {
        Sender { home: self.home, state: self.state, host: Host::Router, binding: Binding::default() }
    }
}

impl Sender<'_> {
    #[must_use]
    pub fn bound_to(mut self, device: &str) -> Self {
        self.binding.device = Some(device.to_owned());
        self
    }

    #[must_use]
    pub fn marked(mut self, mark: u32) -> Self {
        self.binding.mark = Some(mark);
        self
    }

    /// # Errors
    /// When the harness fails.
    pub fn sends(self, what: What) -> Result<Sent> {
        let to = what.to.context("no address and port")?;
        let own = match self.host {
            Host::Tv => at::TV,
            Host::Guest => at::GUEST,
            Host::Router => at::ROUTER_WAN,
        };
        let from: IpAddr = ip(own[usize::from(to.is_ipv6())]);
        let port = fastrand::u16(20_000..60_000);
        let body = if what.tcp {
            Body::Tcp { from: port, to: to.port(), flags: SYN }
        } else {
            Body::Udp { from: port, to: to.port() }
        };
        let packet = Packet::new(from, to.ip(), body);
        let name = format!("{} -> {to}", self.host.name());
        let step = match self.host {
            Host::Tv => Step::Tv(packet),
            Host::Guest => Step::Guest(packet),
            Host::Router => Step::Router(packet, self.binding),
        };
        let case = Case::new(Row::Default, name, step, Place::Wan);
        let outcome = self.home.run(&[case], self.state, 0)?.pop().context("no outcome")?;
        Ok(Sent(outcome))
    }
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Self::Tv => "television",
            Self::Guest => "guest",
            Self::Router => "router",
        }
    }
}

impl Sent {
    /// # Errors
    /// When it was not seen at the ISP's end of the wire.
    pub fn seen_on_wan(self) -> Result<()> {
        let Outcome { case, policy, seen, errors, .. } = &self.0;
        ensure!(*seen, "{}: not seen on the WAN in {}: {}", case.name, policy.word(), errors.join("; "));
        Ok(())
    }

    /// A LAN host hears a TCP reset or ICMP admin-prohibited, a socket of the router an error.
    ///
    /// # Errors
    /// When it was left waiting.
    pub fn refused_fast(self) -> Result<Self> {
        let Outcome { case, policy, refused, errors, .. } = &self.0;
        ensure!(*refused || !errors.is_empty(), "{}: in {} nobody refused it", case.name, policy.word());
        Ok(self)
    }

    /// # Errors
    /// When it was seen there, or a frame of it that the contract does not list.
    pub fn never_on_wan(self) -> Result<()> {
        let Outcome { case, policy, seen, leaks, .. } = &self.0;
        ensure!(
            !*seen && leaks.is_empty(),
            "{}: in {} it left: {}",
            case.name,
            policy.word(),
            leaks.join("; ")
        );
        Ok(())
    }
}
