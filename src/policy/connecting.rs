//! Connecting: the relay may be reached before the tunnel exists, and by nobody but the tunnel's
//! socket; from the moment the device exists router and LAN may send into it.

use std::net::SocketAddr;

use super::compose::Composer;
use super::rows;
use super::stance::TunnelStance;

pub(super) fn compose(
    c: &mut Composer<'_>,
    relays: &[SocketAddr],
    listen_port: u16,
    tunnel: Option<&TunnelStance>,
    dns: bool,
) {
    rows::outer::to_relays(c, relays, listen_port);
    rows::outer::for_nobody_else(c, relays, listen_port);
    rows::api::outside_the_tunnel(c);
    let Some(tunnel) = tunnel else { return };
    // In a switch from connected, names are looked up as before; otherwise nobody asks anybody
    // before the tunnel is verified (contract 3.5).
    if dns {
        rows::dns::inside_the_tunnel(c);
    } else {
        rows::dns::nowhere(c);
    }
    rows::tunnel::both_ways(c, tunnel);
}
