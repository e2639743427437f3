//! What is known of one thing that events tell of: a collector, or one series of an alarm.

use std::time::Duration;

use super::rule::Rule;
use super::throttle::Throttle;
use super::told::Key;
use crate::record::Tags;

/// Changes of one thing that are told at once, and after that one each while.
const CHANGES: Throttle = Throttle::new(4, Duration::from_secs(300));

#[derive(Clone, Debug)]
pub struct State {
    /// What was last told: failing, or beyond its limit.
    pub told: bool,
    pub throttle: Throttle,
}

impl State {
    pub fn new(told: bool) -> Self {
        Self { told, throttle: CHANGES }
    }
}

/// One series of an alarm.
#[derive(Clone, Debug)]
pub struct Series {
    pub state: State,
    pub key: Key,
    /// Of its events: bounded.
    pub tags: Tags,
    /// The value that was measured last.
    pub last: Option<f64>,
    /// Runs beyond the limit in a row, and since when (monotonic).
    beyond: u32,
    since: Duration,
    /// Runs in a row that did not measure it.
    pub unseen: u32,
}

impl Series {
    pub fn new(told: bool, key: Key, tags: Tags) -> Self {
        Self { state: State::new(told), key, tags, last: None, beyond: 0, since: Duration::ZERO, unseen: 0 }
    }

    /// Takes a value in; returns whether the alarm should stand now.
    pub fn saw(&mut self, rule: &Rule, value: f64, now: Duration) -> bool {
        (self.unseen, self.last) = (0, Some(value));
        if !rule.bound.is_beyond(value) {
            self.beyond = 0;
            return self.state.told && !rule.bound.is_clear(value);
        }
        if self.beyond == 0 {
            self.since = now;
        }
        self.beyond = self.beyond.saturating_add(1);
        self.state.told || self.beyond >= rule.runs && now.saturating_sub(self.since) >= rule.lasting
    }

    /// Whether forgetting it would change nothing.
    pub fn is_idle(&mut self, now: Duration) -> bool {
        !self.state.told && self.beyond == 0 && self.state.throttle.is_rested(now)
    }
}
