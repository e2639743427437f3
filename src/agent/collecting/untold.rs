//! Missed runs of one collector that are counted and not yet recorded. What keeps a collector from running for long would
//! otherwise be a record a run: a window in which it is not to run, or an agent beyond its own limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Now;
use crate::record::{ErrorKind, Point, RunError, Value};
use crate::schedule::{MissReason, Missed};

/// Missed runs for one reason, and when the first of them was counted (monotonic).
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    runs: u64,
    since: Duration,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Untold {
    dark: Count,
    shed: Count,
}

impl Untold {
    /// Takes the count in; false for a reason that is to be told at once.
    pub fn add(&mut self, reason: MissReason, runs: u64, now: Duration) -> bool {
        let Some(count) = self.count(reason) else { return false };
        if count.runs == 0 {
            count.since = now;
        }
        count.runs += runs;
        true
    }

    /// The reasons of which something has waited as long as it may: what an agent that is killed has not told is of this
    /// time at most. A window is told when it is over, or hour by hour.
    pub fn ripe(&self, now: Duration) -> impl Iterator<Item = MissReason> + use<> {
        let kinds = [(MissReason::Blackout, self.dark, 3600), (MissReason::Shed, self.shed, 600)];
        kinds.into_iter().filter_map(move |(reason, count, seconds)| {
            (count.runs > 0 && now.saturating_sub(count.since) >= Duration::from_secs(seconds)).then_some(reason)
        })
    }

    /// What is to be told of this reason now.
    pub fn take(&mut self, reason: MissReason) -> Option<u64> {
        self.count(reason).map(|count| std::mem::take(&mut count.runs)).filter(|runs| *runs > 0)
    }

    fn count(&mut self, reason: MissReason) -> Option<&mut Count> {
        match reason {
            MissReason::Blackout => Some(&mut self.dark),
            MissReason::Shed => Some(&mut self.shed),
            MissReason::Overlap | MissReason::Late | MissReason::ClockStep | MissReason::Suspend => None,
        }
    }
}

/// The record of missed runs.
pub(super) fn point(missed: &Missed, now: &Now) -> Point {
    let message =
        format!("{} due run(s) of {} did not happen: {}", missed.count, missed.collector, missed.reason.as_str());
    Point {
        ts: now.wall_ms,
        mono: now.boot_ms(),
        name: "holdover.collector.missed".into(),
        tags: BTreeMap::from([
            ("collector".into(), missed.collector.to_string().into()),
            ("reason".into(), missed.reason.as_str().into()),
        ]),
        fields: BTreeMap::from([("count".into(), Value::uint(missed.count))]),
        error: Some(RunError::new(ErrorKind::Skipped, message)),
    }
}
