//! The runs of one collector that a blackout has taken, from when they are counted until they are recorded.

use std::time::Duration;

use crate::clock::Now;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dark {
    count: u64,
    /// When the first of them was due (monotonic).
    since: Duration,
}

impl Dark {
    /// What an agent that is killed has counted and not recorded is of this time at most.
    const UNTOLD: Duration = Duration::from_secs(3600);

    pub fn add(&mut self, count: u64, now: &Now) {
        if self.count == 0 {
            self.since = now.mono;
        }
        self.count += count;
    }

    pub fn is_overdue(&self, now: &Now) -> bool {
        self.count > 0 && now.mono.saturating_sub(self.since) >= Self::UNTOLD
    }

    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }
}
