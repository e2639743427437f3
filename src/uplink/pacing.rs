//! How fast and in what portions history goes: a token bucket and an AIMD batch size.
//!
//! The bucket keeps within brokers' quotas; the batch size keeps one batch within a second of what the
//! link was measured to carry, so that live data never waits long behind one. Live data is not paced.

use std::time::Duration;

use super::io::Pace;

/// Bytes and messages per second, each with a small burst; may run into debt by one message.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    pace: Option<Pace>,
    bytes: f64,
    batches: f64,
    at: Duration,
}

/// The burst, in seconds of the pace: enough to bridge timer coarseness, too little to matter to a quota.
const BURST_S: f64 = 0.25;

impl TokenBucket {
    /// Starts full; `None` is a bucket that is always ready.
    pub fn new(pace: Option<Pace>) -> Self {
        let pace = pace.map(|p| Pace { bytes_per_s: p.bytes_per_s.max(1), batches_per_s: p.batches_per_s.max(1) });
        let mut bucket = Self { pace, bytes: 0.0, batches: 0.0, at: Duration::ZERO };
        bucket.refill_by(BURST_S);
        bucket
    }

    fn refill_by(&mut self, seconds: f64) {
        if let Some(pace) = self.pace {
            let (bytes, batches) = (f64::from(pace.bytes_per_s), f64::from(pace.batches_per_s));
            self.bytes = (self.bytes + seconds * bytes).min(bytes * BURST_S);
            self.batches = (self.batches + seconds * batches).min((batches * BURST_S).max(1.0));
        }
    }

    /// When the next message may go; `now` or earlier: at once.
    pub fn ready_at(&mut self, now: Duration) -> Duration {
        let Some(pace) = self.pace else { return now };
        self.refill_by(now.saturating_sub(self.at).as_secs_f64());
        self.at = self.at.max(now);
        let wait =
            (-self.bytes / f64::from(pace.bytes_per_s)).max((1.0 - self.batches) / f64::from(pace.batches_per_s));
        if wait <= 1e-9 { now } else { now + Duration::from_secs_f64(wait).max(Duration::from_millis(1)) }
    }

    pub fn spend(&mut self, bytes: usize) {
        if self.pace.is_some() {
            self.bytes -= bytes as f64;
            self.batches -= 1.0;
        }
    }
}

/// How many bytes the next history batch may have.
#[derive(Clone, Debug)]
pub struct BatchSize {
    target: usize,
}

/// A batch may always be this large; a stored value may be larger, and is sent alone then.
pub const BATCH_FLOOR: usize = 1 << 10;
const BATCH_START: usize = 16 << 10;
const BATCH_STEP: usize = 4 << 10;
/// The time that one batch may take from publish to PUBACK.
const BATCH_TIME: Duration = Duration::from_secs(1);

impl BatchSize {
    pub fn new() -> Self {
        Self { target: BATCH_START }
    }

    pub fn bytes(&self) -> usize {
        self.target
    }

    /// A batch of `bytes` was acknowledged after `took`.
    pub fn acknowledged(&mut self, bytes: usize, took: Duration, max: usize) {
        let target = if took <= BATCH_TIME {
            self.target + BATCH_STEP
        } else {
            self.target.min((bytes as f64 * BATCH_TIME.as_secs_f64() / took.as_secs_f64()) as usize)
        };
        self.target = target.clamp(BATCH_FLOOR, max.max(BATCH_FLOOR));
    }

    /// A connection was lost with a batch unacknowledged.
    pub fn lost(&mut self) {
        self.target = (self.target / 2).max(BATCH_FLOOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_holds_the_rate_over_any_ten_seconds() {
        let pace = Pace { bytes_per_s: 480_000, batches_per_s: 8 };
        for size in [500, 10_000, 60_000] {
            let mut bucket = TokenBucket::new(Some(pace));
            let (mut now, mut sent) = (Duration::from_secs(5), 0usize);
            let end = now + Duration::from_secs(10);
            loop {
                now = bucket.ready_at(now).max(now);
                if now >= end {
                    break;
                }
                if bucket.ready_at(now) <= now {
                    bucket.spend(size);
                    sent += 1;
                }
            }
            assert!(sent <= 83 && sent * size <= 4_800_000 + 120_000 + 60_000, "{sent} of {size}");
            assert!(sent >= 78, "{sent} of {size}: the rate is used");
        }
    }

    #[test]
    fn a_bucket_that_rested_gives_a_quarter_of_a_second_at_once_and_one_message_of_debt() {
        let mut bucket = TokenBucket::new(Some(Pace { bytes_per_s: 10_000, batches_per_s: 1_000 }));
        let mut now = Duration::from_secs(3_600);
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(now), now);
            bucket.spend(1_000);
        }
        assert_eq!(bucket.ready_at(now), now + Duration::from_millis(50), "500 bytes of debt");
        now += Duration::from_millis(50);
        assert_eq!(bucket.ready_at(now), now);
        bucket.spend(4_000);
        assert_eq!(bucket.ready_at(now), now + Duration::from_millis(400));
    }

    #[test]
    fn no_pace_is_always_ready() {
        let mut bucket = TokenBucket::new(None);
        for _ in 0..1000 {
            bucket.spend(1 << 20);
            assert_eq!(bucket.ready_at(Duration::ZERO), Duration::ZERO);
        }
    }

    #[test]
    fn a_batch_that_took_a_second_was_not_too_large_and_a_longer_one_was() {
        let mut size = BatchSize::new();
        size.acknowledged(16_384, Duration::from_secs(1), 60_000);
        assert_eq!(size.bytes(), BATCH_START + BATCH_STEP);
        size.acknowledged(30_001, Duration::from_secs(2), 60_000);
        assert_eq!(size.bytes(), 15_000);
        size.acknowledged(60_000, Duration::from_secs(2), 60_000);
        assert_eq!(size.bytes(), 15_000, "what was slow does not make it larger");
    }

    #[test]
    fn batch_grows_by_steps_and_shrinks_to_one_second_of_the_link() {
        let mut size = BatchSize::new();
        for _ in 0..100 {
            size.acknowledged(size.bytes(), Duration::from_millis(50), 60_000);
        }
        assert_eq!(size.bytes(), 60_000);
        size.acknowledged(60_000, Duration::from_secs(10), 60_000);
        assert_eq!(size.bytes(), 6_000);
        size.lost();
        assert_eq!(size.bytes(), 3_000);
        for _ in 0..10 {
            size.lost();
        }
        assert_eq!(size.bytes(), BATCH_FLOOR);
    }
}
