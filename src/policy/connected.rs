//! Connected: everything goes into the tunnel, the provider's API as well.

use std::net::SocketAddr;

use super::compose::Composer;
use super::rows;
use super::stance::TunnelStance;

pub(super) fn compose(c: &mut Composer<'_>, relay: SocketAddr, listen_port: u16, tunnel: &TunnelStance) {
    rows::outer::to_relays(c, &[relay], listen_port);
    rows::outer::for_nobody_else(c, &[relay], listen_port);
    rows::dns::inside_the_tunnel(c);
    rows::tunnel::both_ways(c, tunnel);
}
