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
    /// Leaving by the tunnel, after NAT.
    LeavingByTunnel,
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
        Self::LeavingByTunnel,
        Self::ForeignSource,
    ];

    /// For people: from where to where.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::ArrivingFromLan => "arriving from the LAN",
            Self::ArrivingFromWan => "arriving from the WAN",
            Self::LeavingRouter => "leaving the router",
            Self::ReroutingRouter => "routed a second time",
            Self::LanToRouter => "LAN to router",
            Self::TunnelToRouter => "tunnel to router",
            Self::WanToRouter => "WAN to router",
            Self::RouterToLan => "router to LAN",
            Self::RouterToTunnel => "router to tunnel",
            Self::RouterToWan => "router to WAN",
            Self::LanToLan => "LAN to LAN",
            Self::LanToTunnel => "LAN to tunnel",
            Self::TunnelToLan => "tunnel to LAN",
            Self::LanToWan => "LAN to WAN",
            Self::WanToLan => "WAN to LAN",
            Self::ForwardedSyn => "connections that open",
            Self::TunnelDestinationNat => "arriving by the tunnel",
            Self::TunnelSourceNat => "leaving by the tunnel",
            Self::LeavingByTunnel => "leaving by the tunnel, after NAT",
            Self::ForeignSource => "leaving by WAN or tunnel",
        }
    }
}
