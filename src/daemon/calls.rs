//! What people and programs ask of the daemon over its socket.

use crate::config::RelayName;
use crate::control::{Call, Refusal, RelayStatus, Reply, Request};
use crate::machine::{Event, lies_in};
use crate::routing::Burst;

use super::{Daemon, report};

const LOCKED: &str =
    "still blocked: lockdown is on ('vpnd lockdown off' ends it, 'vpnd disarm' opens whatever is set)";

impl Daemon {
    pub(super) async fn answer(&mut self, call: Call) {
        let answer = self.obey(call.request).await;
        self.keep_pause();
        // Nobody takes it when the time for it was over: the client was told so.
        let _ = call.reply.send(answer);
    }

    async fn obey(&mut self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Status => Ok(Reply::Status(Box::new(report::status(self)))),
            Request::Relays { filter } => Ok(Reply::Relays(self.relays(filter.as_deref()))),
            Request::Blocked => Ok(Reply::Blocked(self.blocked.report())),
            Request::Connect { relay } => {
                let relay = relay.map(|wish| self.known(&wish)).transpose()?;
                let mut reply = self.done(Event::Connect(relay)).await;
                if let Reply::Done { notes } = &mut reply {
                    notes.extend(report::in_hardware());
                }
                Ok(reply)
            }
            Request::Disconnect => {
                let mut reply = self.done(Event::Disconnect).await;
                self.blocked.forget();
                if let (Reply::Done { notes }, true) = (&mut reply, self.machine.view().lockdown) {
                    notes.push(LOCKED.to_owned());
                }
                Ok(reply)
            }
            Request::Reconnect => {
                if self.machine.view().state == "disconnected" {
                    return Err(Refusal::impossible("there is no tunnel: 'vpnd connect' builds one"));
                }
                Ok(self.done(Event::Reconnect).await)
            }
            Request::Lockdown { on } => Ok(self.done(Event::Lockdown(on)).await),
            Request::Disarm => {
                self.fw4.forget();
                self.lan6.forget();
                self.dns.forget();
                let reply = self.done(Event::Disarm).await;
                self.blocked.forget();
                Ok(reply)
            }
            Request::Pause { seconds } => self.begin_pause(seconds).await,
            Request::Reload => {
                self.reload().await;
                let mut notes = self.inputs.broken.clone();
                notes.extend(self.inputs.warnings.clone());
                Ok(Reply::Done { notes })
            }
            Request::Apply(ask) => self.apply(ask).await,
            Request::Confirm => self.confirm(),
            Request::Undo => self.undo().await,
            Request::Lease { device, server } => {
                self.inputs.lease(&device, server).map_err(Refusal::failed)?;
                self.look(Burst::default()).await;
                Ok(Reply::Done { notes: Vec::new() })
            }
        }
    }

    pub(super) async fn done(&mut self, event: Event) -> Reply {
        self.feed(event).await;
        let view = self.machine.view();
        let mut notes: Vec<_> = view.warnings.into_iter().map(|warning| warning.0).collect();
        notes.extend(view.cause.map(|cause| cause.to_string()));
        Reply::Done { notes }
    }

    /// A wish that nothing fits changes nothing.
    fn known(&self, wish: &str) -> Result<RelayName, Refusal> {
        let name: RelayName =
            wish.parse().map_err(|error| Refusal::impossible(format!("'{wish}' {error}")))?;
        let fits = self.inputs.settings.relays.iter().any(|relay| relay.name == name || lies_in(relay, wish));
        if fits {
            Ok(name)
        } else {
            let message = format!("no relay, city or country is called '{wish}': see 'vpnd relays'");
            Err(Refusal::impossible(message))
        }
    }

    fn relays(&self, filter: Option<&str>) -> Vec<RelayStatus> {
        let all = self.inputs.settings.relays.iter().map(RelayStatus::from);
        all.filter(|relay| filter.is_none_or(|filter| relay.matches(filter))).collect()
    }
}
