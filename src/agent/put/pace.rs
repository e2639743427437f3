//! How many records a second may come in, over all connections.

use std::time::Duration;

/// Nobody is made to wait longer than that: he is refused.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Each batch waits for the time that those before it take at the rate.
#[derive(Debug)]
pub struct Pace {
    per_s: u32,
    /// When what was let in is over, at the rate (monotonic).
    free: Duration,
}

impl Pace {
    pub fn new(per_s: u32) -> Self {
        Self { per_s: per_s.max(1), free: Duration::ZERO }
    }

    /// How long so many records have to wait from `now` on; `None`: too long, and they are not let in.
    pub fn take(&mut self, records: usize, now: Duration) -> Option<Duration> {
        let start = self.free.max(now);
        let wait = start - now;
        if wait > MAX_WAIT {
            return None;
        }
        self.free = start + Duration::from_secs_f64(records as f64 / f64::from(self.per_s));
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_a_pause_earns_nothing() {
        let (mut pace, at) = (Pace::new(100), Duration::from_secs);
        assert_eq!(pace.take(200, at(1)), Some(Duration::ZERO));
        assert_eq!(pace.take(100, at(1)), Some(at(2)));
        assert_eq!(pace.take(100, at(100)), Some(Duration::ZERO));
        assert_eq!(pace.take(100, at(100)), Some(at(1)));
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_holds_nobody_up() {
        let (mut pace, at) = (Pace::new(1), Duration::from_secs);
        assert_eq!(pace.take(12, at(0)), Some(Duration::ZERO));
        assert_eq!(pace.take(1000, at(0)), None);
        assert_eq!(pace.take(1, at(2)), Some(at(10)));
    }
}
