//! A probe: one packet (or a short exchange) from somewhere, and where its last packet came out.

use vpnd::policy::Row;

use crate::packets::Packet;
use crate::raw::Binding;
use crate::vpnd::Policy;

/// One packet and who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// From the television's Ethernet card, whatever source address it claims.
    Tv(Packet),
    /// From a host on the guest network.
    Guest(Packet),
    /// From the router itself, through its own sockets.
    Router(Packet, Binding),
    /// From the ISP's end of the WAN wire.
    Wan(Packet),
    /// Out of the tunnel.
    Tunnel(Packet),
    /// From whatever is behind a device that nobody configured.
    Usb(Packet),
}

/// Where a packet can come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// At the ISP's end of the wire.
    Wan,
    Tv,
    Guest,
    /// Past the router's input hooks, in a socket.
    Router,
    Tunnel,
    Usb,
}

/// One cell's worth of the contract: an exchange, where it ends, and in which states it may.
#[derive(Debug, Clone)]
pub struct Case {
    pub row: Row,
    pub name: String,
    /// Earlier packets open the flow; the last one is looked for.
    pub steps: Vec<Step>,
    pub seen: Place,
    pub passes: Vec<Policy>,
    pub blocked: Vec<Policy>,
    /// A LAN host is refused at once where the case is blocked: TCP reset, ICMP admin-prohibited.
    pub refused: bool,
    /// Which relay's rules it needs (2: the one over IPv6); None: any.
    pub relay: Option<usize>,
}

pub const CONTROLS: [Policy; 2] = [Policy::Bare, Policy::Open];
pub const ENFORCING: [Policy; 4] = [Policy::Boot, Policy::Blocked, Policy::Connecting, Policy::Connected];
/// Where a tunnel is there.
pub const TUNNELLED: [Policy; 2] = [Policy::Connecting, Policy::Connected];
pub const UNTUNNELLED: [Policy; 2] = [Policy::Boot, Policy::Blocked];

impl Case {
    #[must_use]
    pub fn new(row: Row, name: impl Into<String>, step: Step, seen: Place) -> Self {
        Self {
            row,
            name: name.into(),
            steps: vec![step],
            seen,
            passes: Vec::new(),
            blocked: Vec::new(),
            refused: false,
            relay: None,
        }
    }

    /// Packets before the one that is looked for.
    #[must_use]
    pub fn after(mut self, earlier: impl IntoIterator<Item = Step>) -> Self {
        self.steps.splice(0..0, earlier);
        self
    }

    #[must_use]
    pub fn passes(mut self, policies: &[Policy]) -> Self {
        self.passes.extend(policies);
        self
    }

    #[must_use]
    pub fn blocked(mut self, policies: &[Policy]) -> Self {
        self.blocked.extend(policies);
        self
    }

    #[must_use]
    pub fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    #[must_use]
    pub fn relay(mut self, relay: usize) -> Self {
        self.relay = Some(relay);
        self
    }
}
