//! How long to wait before the next attempt to connect: full jitter, doubling from one second to a minute. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that held this long was a good one: start over.
const GOOD: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
    random: u64,
}

impl Backoff {
    pub fn new(seed: u64) -> Self {
        Self { ceiling: FIRST, random: seed }
    }

    /// The wait before the next attempt, after one that was connected for `held` (zero if it never was).
    pub fn next(&mut self, held: Duration) -> Duration {
        if held >= GOOD {
            self.ceiling = FIRST;
        }
        let wait = self.ceiling.mul_f64(self.fraction());
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        // Never at once: a broker that accepts and hangs up would be hammered.
        wait.max(Duration::from_millis(100))
    }

    /// In 0..1, by splitmix64.
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_at_most_and_start_over_after_a_good_connection() {
        for seed in 0..50 {
            let mut backoff = Backoff::new(seed);
            for ceiling in [1, 2, 4, 8, 16, 32, 60, 60] {
                let wait = backoff.next(Duration::from_secs(5));
                assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_secs(ceiling), "{wait:?}");
            }
            assert!(backoff.next(GOOD) <= FIRST);
        }
    }

    #[test]
    fn waits_are_spread() {
        let waits: Vec<_> = (0..200).map(|seed| Backoff::new(seed).next(Duration::ZERO)).collect();
        let early = waits.iter().filter(|w| **w < Duration::from_millis(500)).count();
        assert!((50..150).contains(&early), "{early} of 200 in the first half");
    }
}
