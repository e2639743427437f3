//! Waiting longer after each failure, by a seeded random generator.
//!
//! Owns the two delays of the uplink: full jitter between connection attempts, and the slower clock by
//! which a refused topic is probed. Never reads a clock.

use std::time::Duration;

/// Probes of a refused topic are never closer than this.
const PROBE_MIN: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(60);

/// Bounds of the delay between connection attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    pub min: Duration,
    pub max: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}

/// SplitMix64: small, seedable, good enough for jitter and session names; not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`; 0 when n is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    pub(super) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_millis() as u64;
        low + Duration::from_millis(self.below(span + 1))
    }
}

/// `first * 2^failures`, at most `max`.
fn ceiling(first: Duration, failures: u32, max: Duration) -> Duration {
    first.saturating_mul(1u32 << failures.min(16)).min(max)
}

/// The delay before the next connection attempt after `failures` fruitless rounds: anywhere between the
/// minimum and a ceiling that doubles from twice that to the maximum, so that a fleet does not come back as one.
pub fn reconnect_delay(bounds: Reconnect, failures: u32, rng: &mut Rng) -> Duration {
    rng.between(bounds.min, ceiling(bounds.min * 2, failures, bounds.max))
}

/// The delay before a topic that was refused `failures` times in a row (at least once) is probed: about
/// 1, 2, 4 .. 60 s.
pub fn probe_delay(failures: u32, rng: &mut Rng) -> Duration {
    let ceiling = ceiling(PROBE_MIN, failures.saturating_sub(1), PROBE_MAX);
    rng.between((ceiling * 3 / 4).max(PROBE_MIN), ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_one_second_and_sixty() {
        let mut rng = Rng::new(1);
        for failures in 0..100 {
            for _ in 0..50 {
                for delay in
                    [reconnect_delay(Reconnect::default(), failures, &mut rng), probe_delay(failures, &mut rng)]
                {
                    assert!((PROBE_MIN..=PROBE_MAX).contains(&delay), "{failures} failures: {delay:?}");
                }
            }
        }
    }

    #[test]
    fn reconnect_jitter_covers_the_whole_width() {
        let mut rng = Rng::new(2);
        let delays: Vec<_> = (0..1000).map(|_| reconnect_delay(Reconnect::default(), 10, &mut rng)).collect();
        assert!(delays.iter().any(|d| *d < Duration::from_secs(8)));
        assert!(delays.iter().any(|d| *d > Duration::from_secs(52)));
    }

    #[test]
    fn probes_grow_from_one_second_to_sixty() {
        let mut rng = Rng::new(3);
        assert_eq!(probe_delay(1, &mut rng), PROBE_MIN);
        assert!(probe_delay(3, &mut rng) >= Duration::from_secs(3));
        assert!(probe_delay(20, &mut rng) >= Duration::from_secs(45));
    }

    #[test]
    fn below_is_uniform_enough_and_in_range() {
        let mut rng = Rng::new(4);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
