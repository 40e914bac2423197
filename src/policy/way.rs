//! The ways a packet can take through the router, from zone to zone.

/// One way through the router: where a clause is looked at. LAN, tunnel and WAN as in the
/// contract's section 0; WAN is whatever is neither loopback, LAN nor of vpnd's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// Arriving from a LAN device, before conntrack has seen it.
    ArrivingFromLan,
    /// Arriving from a WAN device, before conntrack has seen it.
    ArrivingFromWan,
    /// The router's own packets, before conntrack has seen them.
    LeavingRouter,
    /// The router's own packets, before they are routed a second time.
    ReroutingRouter,
    LanToRouter,
    TunnelToRouter,
    WanToRouter,
    RouterToLan,
    RouterToTunnel,
    RouterToWan,
    LanToLan,
    LanToTunnel,
    TunnelToLan,
    LanToWan,
    WanToLan,
    /// Forwarded TCP packets that open a connection.
    ForwardedSyn,
    /// First packets of flows that arrive by the tunnel, for port forwards.
    TunnelDestinationNat,
    /// First packets of flows that leave by the tunnel.
    TunnelSourceNat,
    /// Leaving by a WAN or tunnel device, after NAT, with a source that is not the device's own.
    ForeignSource,
}

impl Way {
    pub const ALL: &[Self] = &[
        Self::ArrivingFromLan,
        Self::ArrivingFromWan,
        Self::LeavingRouter,
        Self::ReroutingRouter,
        Self::LanToRouter,
        Self::TunnelToRouter,
        Self::WanToRouter,
        Self::RouterToLan,
        Self::RouterToTunnel,
        Self::RouterToWan,
        Self::LanToLan,
        Self::LanToTunnel,
        Self::TunnelToLan,
        Self::LanToWan,
        Self::WanToLan,
        Self::ForwardedSyn,
        Self::TunnelDestinationNat,
        Self::TunnelSourceNat,
        Self::ForeignSource,
    ];

    /// True for packets of the router itself (output), whose refusals go to its own programs.
    #[must_use]
    pub fn from_router(self) -> bool {
        matches!(self, Self::RouterToLan | Self::RouterToTunnel | Self::RouterToWan)
    }
}
