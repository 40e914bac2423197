//! Row 2.9: services of the router that hosts on the WAN may use.

use ipnet::IpNet;

use crate::policy::Way::{ArrivingFromWan, ReroutingRouter, RouterToWan, WanToRouter};
use crate::policy::clause::{Action, Draft, Match, act, allow};
use crate::policy::compose::Composer;
use crate::policy::row::Row;

/// The request marks its flow; the flow marks the answers, which routes them (and a reverse-path
/// filter's lookup) to the WAN; and only answers of marked flows leave. Never the tunnel's mark.
pub fn answers(c: &mut Composer<'_>) {
    let services = &c.settings.allow_wan_service;
    if services.is_empty() {
        return;
    }
    let mark = c.settings.mark.service();
    for service in services {
        let source = service.source;
        let asked = |draft: Draft| {
            let draft = narrowed(draft, source, Draft::from);
            draft.proto(service.proto.into()).to_port(service.port)
        };
        let mark_packet = act(Action::SetMark(mark), Row::WanService, "a service's request is marked");
        c.add(asked(mark_packet).on(ArrivingFromWan));
        let mark_flow = act(Action::AllowAndMarkFlow(mark), Row::WanService, "a listed service is asked");
        c.add(asked(mark_flow).on(WanToRouter));
        let answer = allow(Row::WanService, "a listed service answers").on(RouterToWan);
        c.add(
            narrowed(answer, source, Draft::to)
                .proto(service.proto.into())
                .from_port(service.port)
                .matching(Match::FlowMarked(mark))
                .reply(),
        );
    }
    c.add(
        act(Action::SetMark(mark), Row::WanService, "a service's answers are routed by its mark")
            .on(ReroutingRouter)
            .matching(Match::FlowMarked(mark))
            .reply(),
    );
}

fn narrowed(draft: Draft, source: Option<IpNet>, by: fn(Draft, [IpNet; 1]) -> Draft) -> Draft {
    match source {
        Some(source) => by(draft, [source]),
        None => draft,
    }
}
