//! Missed runs of one collector that are counted and not yet recorded. What keeps a collector from running for long would
//! otherwise be a record a run: a window in which it is not to run, or an agent beyond its own limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Now;
use crate::record::{ErrorKind, Point, RunError, Value};
use crate::schedule::{MissReason, Missed};

/// What was shed is told after this at the latest; a window is told when it is over.
const TELL_AFTER: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default)]
pub(super) struct Untold {
    dark: u64,
    shed: u64,
    /// When the first of `shed` was counted (monotonic).
    since: Duration,
}

impl Untold {
    /// Takes the count in; false for a reason that is to be told at once.
    pub fn add(&mut self, reason: MissReason, count: u64, now: Duration) -> bool {
        match reason {
            MissReason::Blackout => self.dark += count,
            MissReason::Shed => {
                if self.shed == 0 {
                    self.since = now;
                }
                self.shed += count;
            }
            MissReason::Overlap | MissReason::Late | MissReason::ClockStep | MissReason::Suspend => return false,
        }
        true
    }

    /// Whether what was shed has waited long enough.
    pub fn is_ripe(&self, now: Duration) -> bool {
        self.shed > 0 && now.saturating_sub(self.since) >= TELL_AFTER
    }

    /// What is to be told of this reason now.
    pub fn take(&mut self, reason: MissReason) -> Option<u64> {
        let count = match reason {
            MissReason::Blackout => std::mem::take(&mut self.dark),
            MissReason::Shed => std::mem::take(&mut self.shed),
            MissReason::Overlap | MissReason::Late | MissReason::ClockStep | MissReason::Suspend => 0,
        };
        (count > 0).then_some(count)
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
