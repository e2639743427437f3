//! Tests of the schedule: tables of Quartz's documented semantics, zones with jumping clocks, and simulated days.

mod cron;
mod quartz;
mod scheduler;
mod simulation;
mod zones;

use super::Zone;

/// `2026-01-01 10:15:00` in UTC as milliseconds.
fn ms(text: &str) -> i64 {
    let civil: jiff::civil::DateTime = text.parse().unwrap();
    jiff::tz::TimeZone::UTC.to_timestamp(civil).unwrap().as_millisecond()
}

fn zone(name: &str) -> Zone {
    Zone::get(name).unwrap()
}
