//! The machine's timers.

use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Timer;
use crate::sorted::Map;

#[derive(Debug, Default)]
pub(super) struct Timers(Map<Timer, Instant>);

impl Timers {
    pub fn set(&mut self, timer: Timer, after: Duration) {
        self.0.insert(timer, Instant::now() + after);
    }

    pub fn cancel(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Waits for the next one that is due, and forgets it. Safe to drop half-way.
    pub async fn next(&mut self) -> Timer {
        let Some((&timer, &when)) = self.0.iter().min_by_key(|(_, when)| **when) else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(when).await;
        self.0.remove(&timer);
        timer
    }
}
