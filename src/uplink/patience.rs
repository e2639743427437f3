//! How long to wait for a hub's word before saying something once more: at first ten minutes, then ever longer, and from
//! the beginning once a hub has spoken.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(600);
const LAST: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    until: Option<Duration>,
    /// How often it ended.
    times: u32,
}

impl Patience {
    /// A hub has answered.
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// More waits since now.
    pub fn restart(&mut self) {
        self.until = None;
    }

    /// `waiting`: something waits for a hub. Returns whether that has lasted too long.
    pub fn is_over(&mut self, waiting: bool, now: Duration) -> bool {
        if !waiting {
            self.until = None;
            return false;
        }
        let until = *self.until.get_or_insert(now + (FIRST * (1 << self.times.min(10))).min(LAST));
        let over = until <= now;
        if over {
            (self.until, self.times) = (None, self.times.saturating_add(1));
        }
        over
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_that_waits_is_waited_for_from_now_on() {
        let mut patience = Patience::default();
        assert!(!patience.is_over(true, Duration::ZERO));
        patience.restart();
        assert_eq!(patience.next_wake(), None);
        assert!(!patience.is_over(true, FIRST) && patience.next_wake() == Some(FIRST * 2));
    }

    #[test]
    fn it_grows_from_ten_minutes_to_a_day_until_a_hub_speaks() {
        let (mut patience, mut now, mut waits) = (Patience::default(), Duration::ZERO, Vec::new());
        for _ in 0..12 {
            assert!(!patience.is_over(true, now));
            let until = patience.next_wake().unwrap();
            waits.push((until - now).as_secs() / 60);
            now = until;
            assert!(patience.is_over(true, now));
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440, 1440]);
        assert!(!patience.is_over(false, now) && patience.next_wake().is_none());
        patience.renew();
        assert!(!patience.is_over(true, now) && patience.next_wake() == Some(now + FIRST));
    }
}
