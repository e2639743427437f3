//! When a collector runs: Quartz cron in a time zone, or a fixed interval.
//!
//! Owns the expression parser, the calendar arithmetic, the zone rules and the pure [`Scheduler`] that turns a
//! clock reading into due runs and an account of missed ones. Never reads a clock, never sleeps, never runs anything.

mod advice;
mod blackout;
mod cron;
mod days;
mod error;
mod field;
mod scheduler;
mod share;
mod zone;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use advice::Advice;
pub use blackout::{Blackout, LOOKED_AT};
pub use cron::Cron;
pub use error::ScheduleError;
pub use scheduler::{DueRun, GRACE, Job, MAX_COUNTED, MissReason, Missed, Polled, RECHECK, Scheduler};
pub use share::{LONGEST_PAUSE, Share};
pub use zone::Zone;

use crate::clock::Now;

/// The shortest and longest interval of `every`.
pub const MIN_EVERY: Duration = Duration::from_secs(1);
pub const MAX_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);

/// When a collector is due, without jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the local times that a Quartz expression names, in a zone.
    Cron(Cron, Zone),
    /// At multiples of an interval on the monotonic clock; wall-clock steps do not touch it.
    Every(Duration),
}

/// What to do with a cron run whose time passed unnoticed (the clock was stepped, the host slept, the loop stalled).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Misfire {
    /// Count it as missed and wait for the next time.
    #[default]
    Skip,
    /// Run once now, however many times were passed over.
    Once,
}

impl Schedule {
    /// A Quartz expression of 6 or 7 fields: `second minute hour day-of-month month day-of-week [year]`.
    pub fn cron(expression: &str, zone: Zone) -> Result<Self, ScheduleError> {
        Ok(Self::Cron(Cron::parse(expression)?, zone))
    }

    /// A fixed interval between [`MIN_EVERY`] and [`MAX_EVERY`].
    pub fn every(period: Duration) -> Result<Self, ScheduleError> {
        if (MIN_EVERY..=MAX_EVERY).contains(&period) {
            Ok(Self::Every(period))
        } else {
            Err(ScheduleError::Period(period))
        }
    }

    /// The next `count` runs after `now` as wall-clock milliseconds, jitter included, for a person to check.
    pub fn next_runs(&self, now: Now, jitter: Duration, count: usize) -> Vec<i64> {
        match self {
            Self::Every(period) => {
                let first = next_multiple(now.mono, *period, jitter);
                let wall = |at: Duration| now.wall_ms + (at - now.mono).as_millis() as i64;
                (0..count as u32).map(|n| wall(first + *period * n)).collect()
            }
            Self::Cron(cron, zone) => {
                let jitter = jitter.as_millis() as i64;
                let first = cron.next_after(now.wall_ms - jitter, zone);
                let runs = std::iter::successors(first, |&last| cron.next_after(last, zone));
                runs.take(count).map(|ms| ms + jitter).collect()
            }
        }
    }

    /// The first run at or after `wall_ms`, where `run` is one.
    fn run_from(&self, run: i64, wall_ms: i64) -> Option<i64> {
        match self {
            Self::Every(period) => {
                let period = i64::try_from(period.as_millis()).ok()?.max(1);
                Some(run + ((wall_ms - run).max(0) + period - 1) / period * period)
            }
            Self::Cron(cron, zone) => cron.next_after(wall_ms - 1, zone),
        }
    }

    /// Wall-clock milliseconds as a local date and time with offset, in the zone of the schedule (for `every`
    /// that of this host).
    pub fn display_time(&self, wall_ms: i64) -> String {
        match self {
            Self::Cron(_, zone) => zone.display(wall_ms),
            Self::Every(_) => Zone::get("local").unwrap_or_else(|_| Zone::utc()).display(wall_ms),
        }
    }

    /// Runs a day: exact for `every`; for cron the average over the twelve months from `now`.
    pub fn runs_per_day(&self, now: Now) -> f64 {
        match self {
            Self::Every(period) => 86_400.0 / period.as_secs_f64(),
            Self::Cron(cron, _) => cron.runs_per_day(now.wall_ms),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron(cron, zone) => write!(f, "{cron} ({zone})"),
            Self::Every(period) => write!(f, "every {}", seconds(*period)),
        }
    }
}

fn seconds(period: Duration) -> String {
    if period.subsec_millis() == 0 { format!("{}s", period.as_secs()) } else { format!("{}ms", period.as_millis()) }
}

/// The delay of one collector on one host: the same after every restart, spread evenly over `0..=max` across a fleet.
/// FNV-1a of `host \0 collector`: it needs to be stable for ever, not secret.
pub fn jitter(host_id: &str, collector: &str, max: Duration) -> Duration {
    let bytes = host_id.bytes().chain([0]).chain(collector.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV-1a are weak for strings that differ in their last byte: mix before the remainder.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let max_ms = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis((mixed >> 16) % (max_ms + 1))
}

/// The first `k * period + jitter` after `now`.
fn next_multiple(now: Duration, period: Duration, jitter: Duration) -> Duration {
    let period_ns = period.as_nanos();
    let jitter_ns = jitter.as_nanos() % period_ns;
    let next = now.as_nanos().saturating_sub(jitter_ns) / period_ns * period_ns + jitter_ns;
    let next = if next > now.as_nanos() { next } else { next + period_ns };
    Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
}
