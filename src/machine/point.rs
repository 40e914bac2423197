//! The effects by name: a test kills the daemon before and after each.

use super::effect::Effect;

/// One table for the list and for the names, so that an effect that is not in it does not compile.
macro_rules! kill_points {
    ($($name:ident: $effect:pat,)*) => {
        /// Every effect there is.
        pub const KILL_POINTS: &[&str] = &[$(stringify!($name)),*];

        /// The name of an effect, one of [`KILL_POINTS`].
        #[must_use]
        pub fn kill_point(effect: &Effect) -> &'static str {
            match effect {
                $($effect => stringify!($name),)*
            }
        }
    };
}

kill_points! {
    Enforce: Effect::Enforce(_),
    RaiseBarrier: Effect::RaiseBarrier,
    LowerBarrier: Effect::LowerBarrier,
    DeleteFlows: Effect::DeleteFlows { .. },
    CreateTunnel: Effect::CreateTunnel { .. },
    SetPeer: Effect::SetPeer(_),
    ClearPeer: Effect::ClearPeer,
    DestroyTunnel: Effect::DestroyTunnel,
    ReportDown: Effect::ReportDown,
    StartProbe: Effect::StartProbe,
    StopProbe: Effect::StopProbe,
    SetTimer: Effect::SetTimer { .. },
    CancelTimer: Effect::CancelTimer(_),
    Store: Effect::Store(_),
    Arm: Effect::Arm,
    Disarm: Effect::Disarm,
}
