//! So many at once, and after that one each while.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    burst: u32,
    every: Duration,
    spent: u32,
    /// Since when the next one is coming back (monotonic); of no account while nothing is spent.
    since: Duration,
}

impl Throttle {
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, spent: 0, since: Duration::ZERO }
    }

    /// Whether one may pass now.
    pub fn admits(&mut self, now: Duration) -> bool {
        while self.spent > 0 && now >= self.since + self.every {
            self.since += self.every;
            self.spent -= 1;
        }
        self.spent < self.burst
    }

    pub fn spend(&mut self, now: Duration) {
        if self.spent == 0 {
            self.since = now;
        }
        self.spent += 1;
    }

    /// Whether it is as good as new.
    pub fn is_rested(&mut self, now: Duration) -> bool {
        self.admits(now) && self.spent == 0
    }
}
