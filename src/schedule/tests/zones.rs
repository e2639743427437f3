use std::collections::BTreeSet;

use jiff::tz::{AmbiguousOffset, TimeZone};

use super::zone;
use crate::schedule::{Cron, Zone};

/// Runs after `from` (local, with offset) up to and including `to`, as local times with offset.
fn runs(expression: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (Cron::parse(expression).unwrap(), zone(zone_name));
    let from: jiff::Timestamp = from.parse().unwrap();
    let first = cron.next_after(from.as_millisecond(), &zone);
    std::iter::successors(first, |&at| cron.next_after(at, &zone)).take(count).map(|at| zone.display(at)).collect()
}

#[test]
fn skipped_local_time_runs_later_by_the_gap() {
    assert_eq!(
        runs("0 30 2 * * ?", "Europe/Berlin", "2026-03-28T12:00:00+01:00", 2),
        ["2026-03-29 03:30:00 +02:00", "2026-03-30 02:30:00 +02:00"]
    );
    assert_eq!(
        runs("0 0/30 2 * * ?", "America/New_York", "2026-03-07T12:00:00-05:00", 3),
        ["2026-03-08 03:00:00 -04:00", "2026-03-08 03:30:00 -04:00", "2026-03-09 02:00:00 -04:00"]
    );
    assert_eq!(
        runs("0 15 2 * * ?", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30", 2),
        ["2026-10-04 02:45:00 +11:00", "2026-10-05 02:15:00 +11:00"]
    );
}

#[test]
fn skipped_time_that_falls_onto_another_run_is_one_run() {
    assert_eq!(
        runs("0 0 2,3 * * ?", "Europe/Berlin", "2026-03-28T12:00:00+01:00", 3),
        ["2026-03-29 03:00:00 +02:00", "2026-03-30 02:00:00 +02:00", "2026-03-30 03:00:00 +02:00"]
    );
}

#[test]
fn repeated_local_time_runs_the_first_time_only() {
    assert_eq!(
        runs("0 30 2 * * ?", "Europe/Berlin", "2026-10-24T12:00:00+02:00", 3),
        ["2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00", "2026-10-27 02:30:00 +01:00"]
    );
    assert_eq!(
        runs("0 0 1-3 * * ?", "America/New_York", "2026-11-01T00:30:00-04:00", 3),
        ["2026-11-01 01:00:00 -04:00", "2026-11-01 02:00:00 -05:00", "2026-11-01 03:00:00 -05:00"]
    );
    assert_eq!(
        runs("0 45 1 * * ?", "Australia/Lord_Howe", "2026-04-04T12:00:00+11:00", 2),
        ["2026-04-05 01:45:00 +11:00", "2026-04-06 01:45:00 +10:30"]
    );
}

#[test]
fn asking_within_the_second_half_gives_no_second_run() {
    // 02:10 for the second time: 02:30 has run an hour before.
    assert_eq!(runs("0 30 2 * * ?", "Europe/Berlin", "2026-10-25T02:10:00+01:00", 1), ["2026-10-26 02:30:00 +01:00"]);
}

#[test]
fn every_hour_follows_the_clock_face() {
    assert_eq!(
        runs("0 0/30 * * * ?", "Europe/Berlin", "2026-10-25T01:30:00+02:00", 5),
        [
            "2026-10-25 02:00:00 +02:00",
            "2026-10-25 02:30:00 +02:00",
            "2026-10-25 02:00:00 +01:00",
            "2026-10-25 02:30:00 +01:00",
            "2026-10-25 03:00:00 +01:00"
        ]
    );
    assert_eq!(
        runs("0 0/30 0/1 * * ?", "Europe/Berlin", "2026-03-29T01:00:00+01:00", 3),
        ["2026-03-29 01:30:00 +01:00", "2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"]
    );
    assert_eq!(
        runs("0 0/15 * * * ?", "Australia/Lord_Howe", "2026-04-05T01:30:00+11:00", 4),
        [
            "2026-04-05 01:45:00 +11:00",
            "2026-04-05 01:30:00 +10:30",
            "2026-04-05 01:45:00 +10:30",
            "2026-04-05 02:00:00 +10:30"
        ]
    );
}

#[test]
fn zones_without_jumps_and_with_odd_offsets() {
    assert_eq!(
        runs("0 30 2 * * ?", "Asia/Kolkata", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29 02:30:00 +05:30", "2026-03-30 02:30:00 +05:30"]
    );
    assert_eq!(
        runs("0 30 2 * * ?", "UTC", "2026-03-28T12:00:00Z", 2),
        ["2026-03-29 02:30:00 +00:00", "2026-03-30 02:30:00 +00:00"]
    );
    // Samoa left out the whole of 2011-12-30.
    assert_eq!(
        runs("0 0 12 * * ?", "Pacific/Apia", "2011-12-29T00:00:00-10:00", 3),
        ["2011-12-29 12:00:00 -10:00", "2011-12-31 12:00:00 +14:00", "2012-01-01 12:00:00 +14:00"]
    );
}

#[test]
fn daily_midnight_runs_once_in_zones_that_jump_at_midnight() {
    // Havana went from 00:00 to 01:00, and from 01:00 back to 00:00. Years that are over: governments change the rest.
    assert_eq!(
        runs("0 0 0 * * ?", "America/Havana", "2024-03-09T12:00:00-05:00", 2),
        ["2024-03-10 01:00:00 -04:00", "2024-03-11 00:00:00 -04:00"]
    );
    assert_eq!(
        runs("0 0 0 * * ?", "America/Havana", "2024-11-02T12:00:00-04:00", 2),
        ["2024-11-03 00:00:00 -04:00", "2024-11-04 00:00:00 -05:00"]
    );
}

#[test]
fn unknown_zones_are_refused_with_what_to_write() {
    for name in ["Europe/Berlinn", "", "../etc/passwd", "CEST", "+02:00"] {
        let error = Zone::get(name).expect_err(name);
        assert!(error.hint().contains("Europe/Berlin"), "{error}");
    }
    assert!(Zone::get("local").is_ok());
}

/// The documented rule, applied minute by minute to what jiff says about every local time: slow, and nothing shared
/// with the search under test.
fn by_the_rule(minutes: &[u32], hours: &[u32], zone: &TimeZone, from: i64, to: i64) -> BTreeSet<i64> {
    let follows_clock = hours.len() == 24;
    let mut due = BTreeSet::new();
    // Local minutes as if UTC, a day to both sides for the offset.
    for local in ((from - 93_600) / 60..(to + 93_600) / 60).map(|minute| minute * 60) {
        let civil = TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(local).unwrap());
        if !minutes.contains(&(civil.minute() as u32)) || !hours.contains(&(civil.hour() as u32)) {
            continue;
        }
        let at = |offset: jiff::tz::Offset| local - i64::from(offset.seconds());
        match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => due.extend([at(offset)]),
            AmbiguousOffset::Gap { before, .. } if !follows_clock => due.extend([at(before)]),
            AmbiguousOffset::Gap { .. } => {}
            AmbiguousOffset::Fold { before, after } if follows_clock => due.extend([at(before), at(after)]),
            AmbiguousOffset::Fold { before, .. } => due.extend([at(before)]),
        }
    }
    due.retain(|at| (from..to).contains(at));
    due
}

#[test]
fn every_jump_of_five_zones_follows_the_rule() {
    let zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kolkata", "America/Havana"];
    let hours: [&[u32]; 6] = [&[2], &[1, 2, 3], &[0], &[0, 6, 12, 18], &[1], &[]];
    let minutes: [&[u32]; 4] = [&[0], &[0, 30], &[15, 45], &[1, 7, 29, 31, 59]];
    let start = 1_767_225_600; // 2026-01-01
    for name in zones {
        let zone = zone(name);
        let tz = if name == "UTC" { TimeZone::UTC } else { TimeZone::get(name).unwrap() };
        let jumps =
            tz.following(jiff::Timestamp::from_second(start).unwrap()).take(2).map(|t| t.timestamp().as_second());
        let around: Vec<i64> = jumps.chain([start]).collect();
        for (hours, minutes) in hours.iter().flat_map(|h| minutes.iter().map(move |m| (*h, *m))) {
            let all: Vec<u32> = (0..24).collect();
            let hours = if hours.is_empty() { &all } else { hours };
            let list = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let cron = Cron::parse(&format!("0 {} {} * * ?", list(minutes), list(hours))).unwrap();
            for &jump in &around {
                let (from, to) = (jump - 86_400, jump + 86_400);
                let first = cron.next_after((from - 1) * 1000, &zone).map(|ms| ms / 1000);
                let found = std::iter::successors(first, |at| cron.next_after(at * 1000, &zone).map(|ms| ms / 1000));
                let found: Vec<i64> = found.take_while(|&at| at < to).collect();
                let expected: Vec<i64> = by_the_rule(minutes, hours, &tz, from, to).into_iter().collect();
                assert_eq!(found, expected, "{cron} in {name} around {jump}");
            }
        }
    }
}
