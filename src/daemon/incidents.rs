//! What somebody else changed of vpnd's, and what became of it: for `status`, and for the log. In RAM only.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::control::IncidentStatus;
use crate::state::uptime;

/// Incidents that are kept.
const MOST: usize = 32;
/// Those alike are one while they come within so many seconds of each other.
const TOGETHER_S: u64 = 60;

/// Who did it, as far as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct By {
    pub process: Option<String>,
    pub pid: Option<u32>,
}

/// What is put back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Rules,
    /// ip rules, routes and kernel settings.
    Barrier,
    Device,
}

struct Incident {
    layer: Layer,
    /// When it could not be put back.
    open: Option<Instant>,
    told: IncidentStatus,
}

#[derive(Default)]
pub(super) struct Incidents {
    /// The latest last.
    list: VecDeque<Incident>,
    count: u64,
}

impl Incidents {
    /// `times`: how often. `outcome`: after how long it was as before, or why it is not.
    pub fn note(
        &mut self,
        layer: Layer,
        what: String,
        by: By,
        times: u32,
        outcome: Result<Duration, String>,
    ) {
        let (mended_ms, error) = match outcome {
            Ok(took) => (Some(milliseconds(took)), None),
            Err(error) => (None, Some(error)),
        };
        self.count = self.count.saturating_add(times.into());
        let told = IncidentStatus {
            uptime_s: uptime(),
            clock: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
            what,
            process: by.process,
            pid: by.pid,
            count: u64::from(times),
            mended_ms,
            error,
        };
        let alike = self.list.iter().position(|known| is_alike(&known.told, &told));
        let told = match alike.and_then(|at| self.list.remove(at)) {
            None => told,
            Some(Incident { told: known, .. }) => IncidentStatus {
                count: known.count.saturating_add(told.count),
                // The worst of them; where one was not mended the last one counts.
                mended_ms: told.mended_ms.map(|ms| ms.max(known.mended_ms.unwrap_or(0))),
                ..told
            },
        };
        // In a storm, ever fewer lines.
        if told.count < 4 || crosses_power_of_two(told.count, u64::from(times)) {
            eprintln!("vpnd: {told}");
        }
        let open = told.error.is_some().then(Instant::now);
        self.list.push_back(Incident { layer, open, told });
        if self.list.len() > MOST {
            self.list.pop_front();
        }
    }

    /// A layer was put whole again, which at first had failed.
    pub fn whole(&mut self, layer: Layer) {
        for incident in self.list.iter_mut().filter(|incident| incident.layer == layer) {
            if let Some(open) = incident.open.take() {
                incident.told.error = None;
                incident.told.mended_ms = Some(milliseconds(open.elapsed()));
                eprintln!("vpnd: {}", incident.told);
            }
        }
    }

    /// All since the daemon started.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latest first.
    pub fn report(&self) -> Vec<IncidentStatus> {
        self.list.iter().rev().map(|incident| incident.told.clone()).collect()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn is_alike(known: &IncidentStatus, new: &IncidentStatus) -> bool {
    known.what == new.what
        && known.process == new.process
        && new.uptime_s.saturating_sub(known.uptime_s) <= TOGETHER_S
}

/// Whether the last `more` made it so.
fn crosses_power_of_two(count: u64, more: u64) -> bool {
    count.checked_ilog2() != count.saturating_sub(more).checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nft() -> By {
        By { process: Some("nft".into()), pid: Some(7) }
    }

    #[test]
    fn those_alike_are_one_and_the_worst_is_told() {
        let mut incidents = Incidents::default();
        let ms = |ms| Ok(Duration::from_millis(ms));
        let mut note = |what: &str, by, times, outcome| {
            incidents.note(Layer::Rules, what.into(), by, times, outcome);
        };
        note("a", nft(), 1, ms(5));
        note("b", By::default(), 1, Err("no nft".into()));
        note("a", By { pid: Some(8), ..nft() }, 3, ms(2));
        note("a", By::default(), 1, ms(1));
        let report = incidents.report();
        let told: Vec<_> = report.iter().map(|i| (i.what.as_str(), i.count, i.pid, i.mended_ms)).collect();
        assert_eq!(told, [("a", 1, None, Some(1)), ("a", 4, Some(8), Some(5)), ("b", 1, None, None)]);
        assert_eq!(incidents.count(), 6);
        assert_eq!(report[2].to_string(), "b: NOT put back: no nft");
        assert_eq!(report[1].to_string(), "a by nft (pid 8), 4 times: put back within 5 ms");
        assert_eq!(report[0].to_string(), "a: put back within 1 ms");
        // At last it could be put back.
        incidents.whole(Layer::Barrier);
        assert!(incidents.report()[2].error.is_some());
        incidents.whole(Layer::Rules);
        let last = incidents.report()[2].clone();
        assert!(last.error.is_none() && last.mended_ms.is_some(), "{last}");
    }

    #[test]
    fn the_list_is_bounded() {
        let mut incidents = Incidents::default();
        for n in 0..1000 {
            incidents.note(Layer::Rules, n.to_string(), nft(), 1, Ok(Duration::ZERO));
        }
        assert_eq!((incidents.report().len(), incidents.count()), (MOST, 1000));
        assert_eq!(incidents.report()[0].what, "999");
    }

    #[test]
    fn a_storm_is_told_ever_more_seldom() {
        let told = (1..=1000).filter(|n| crosses_power_of_two(*n, 1)).count();
        assert_eq!(told, 10);
        assert!(crosses_power_of_two(100, 60) && !crosses_power_of_two(100, 30));
    }
}
