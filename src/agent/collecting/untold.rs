//! Missed runs of one collector that are counted and not yet recorded. What keeps a collector from running for long would
//! otherwise be a record a run: a window in which it is not to run, or an agent beyond its own limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Now;
use crate::record::{ErrorKind, Point, RunError, Value};
use crate::schedule::{MissReason, Missed};

/// What was shed is told after this at the latest.
const TELL_SHED: Duration = Duration::from_secs(600);
/// A window is told when it is over, and a long one after this: an agent that is killed in it has told of the rest.
const TELL_DARK: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, Default)]
pub(super) struct Untold {
    dark: Counted,
    shed: Counted,
}

/// Runs missed for one reason.
#[derive(Clone, Debug, Default)]
struct Counted {
    count: u64,
    /// When the first of them was counted (monotonic).
    since: Duration,
}

impl Counted {
    fn add(&mut self, count: u64, now: Duration) {
        if self.count == 0 {
            self.since = now;
        }
        self.count += count;
    }

    fn waits(&self, at_most: Duration, now: Duration) -> bool {
        self.count > 0 && now.saturating_sub(self.since) >= at_most
    }
}

impl Untold {
    /// Takes the count in; false for a reason that is to be told at once.
    pub fn add(&mut self, reason: MissReason, count: u64, now: Duration) -> bool {
        match reason {
            MissReason::Blackout => self.dark.add(count, now),
            MissReason::Shed => self.shed.add(count, now),
            MissReason::Overlap | MissReason::Late | MissReason::ClockStep | MissReason::Suspend => return false,
        }
        true
    }

    /// The reasons of which something has waited long enough.
    pub fn ripe(&self, now: Duration) -> [Option<MissReason>; 2] {
        let dark = self.dark.waits(TELL_DARK, now).then_some(MissReason::Blackout);
        let shed = self.shed.waits(TELL_SHED, now).then_some(MissReason::Shed);
        [dark, shed]
    }

    /// What is to be told of this reason now.
    pub fn take(&mut self, reason: MissReason) -> Option<u64> {
        let count = match reason {
            MissReason::Blackout => std::mem::take(&mut self.dark.count),
            MissReason::Shed => std::mem::take(&mut self.shed.count),
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
