//! A whole request is asked of the daemon; there is a response whatever the daemon does.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::error::seconds;
use super::head::Whole;
use super::paths::{self, Wrong};
use super::response::Response;
use super::types::Call;

/// The way to the daemon.
pub struct Desk {
    pub calls: mpsc::Sender<Call>,
    /// How long the daemon may take.
    pub limit: Duration,
}

impl Desk {
    /// Within `limit`, the response to `whole`: the daemon's, or why it has none.
    pub async fn ask(&self, whole: &Whole) -> Response {
        let request = match paths::read(&whole.method, &whole.path, &whole.body) {
            Ok(request) => request,
            Err(Wrong(code, words)) => return Response::error(code, &words),
        };
        let (reply, answer) = oneshot::channel();
        // Not waited for: a daemon whose queue is full, or gone, drops the call, a 503 at once.
        let _ = self.calls.try_send(Call { request, reply });
        match timeout(self.limit, answer).await {
            Ok(Ok(reply)) => Response::reply(reply),
            Ok(Err(_)) => Response::error(503, "the daemon dropped the request"),
            Err(_) => {
                let words = format!("the daemon did not reply within {} s", seconds(self.limit));
                Response::error(504, &words)
            }
        }
    }
}
