//! Rows 3.2 and 3.6: the provider's API, for vpnd's own marked socket only.

use std::net::SocketAddr;

use crate::config::PortProto;
use crate::policy::Way::{LanToWan, RouterToWan, WanToRouter};
use crate::policy::clause::{Match, Quoted, allow, refuse};
use crate::policy::compose::Composer;
use crate::policy::row::Row;

use super::outer::quoting;

/// Outside the tunnel: while connecting and while blocked.
pub fn outside_the_tunnel(c: &mut Composer<'_>) {
    for api in &c.settings.api {
        c.add(
            allow(Row::Api, "vpnd's own socket reaches the API")
                .on(RouterToWan)
                .tcp()
                .to_endpoint(*api)
                .marked(c.settings.mark),
        );
        c.add(
            allow(Row::Api, "the API answers")
                .on(WanToRouter)
                .tcp()
                .from_endpoint(*api)
                .matching(Match::Established)
                .reply(),
        );
        errors(c, *api);
    }
}

/// Row 2.6: related errors, for the API's flow only.
fn errors(c: &mut Composer<'_>, api: SocketAddr) {
    let quoted = Quoted { proto: PortProto::Tcp, source_port: None, to: api };
    c.add(
        quoting(allow(Row::OuterErrors, "errors about vpnd's API flow come in"), quoted)
            .matching(Match::Related)
            .on(WanToRouter),
    );
}

/// Row 3.6. Ahead of listed prefixes (2.8), in every state: nobody else reaches the API outside.
pub fn for_nobody_else(c: &mut Composer<'_>) {
    for api in &c.settings.api {
        c.add(
            refuse(Row::RelayFromLan, "the API is for vpnd's own socket only")
                .on(RouterToWan)
                .on(LanToWan)
                .tcp()
                .to_endpoint(*api),
        );
    }
}
