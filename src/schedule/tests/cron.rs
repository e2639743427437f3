use std::time::Duration;

use proptest::prelude::*;

use super::{ms, zone};
use crate::schedule::{Cron, Schedule, Zone, jitter};

fn next(expression: &str, from: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let utc = Zone::utc();
    let runs = std::iter::successors(cron.next_after(ms(from) - 1, &utc), |&at| cron.next_after(at, &utc));
    runs.take(count).map(|at| utc.display(at).trim_end_matches(" +00:00").to_owned()).collect()
}

/// Expression, and its first runs from 2026-01-01 (a Thursday) on. The first part are the examples of Quartz's own
/// CronTrigger tutorial, the second the rules of its field descriptions.
const QUARTZ: &[(&str, &[&str])] = &[
    ("0 0 12 * * ?", &["2026-01-01 12:00:00", "2026-01-02 12:00:00"]),
    ("0 15 10 ? * *", &["2026-01-01 10:15:00", "2026-01-02 10:15:00"]),
    ("0 15 10 * * ?", &["2026-01-01 10:15:00", "2026-01-02 10:15:00"]),
    ("0 15 10 * * ? *", &["2026-01-01 10:15:00", "2026-01-02 10:15:00"]),
    ("0 15 10 * * ? 2027", &["2027-01-01 10:15:00", "2027-01-02 10:15:00"]),
    ("0 * 14 * * ?", &["2026-01-01 14:00:00", "2026-01-01 14:01:00"]),
    ("0 0/5 14 * * ?", &["2026-01-01 14:00:00", "2026-01-01 14:05:00"]),
    ("0 0/30 14,18 * * ?", &["2026-01-01 14:00:00", "2026-01-01 14:30:00", "2026-01-01 18:00:00"]),
    ("0 4-5 14 * * ?", &["2026-01-01 14:04:00", "2026-01-01 14:05:00", "2026-01-02 14:04:00"]),
    ("0 10,44 14 ? 3 WED", &["2026-03-04 14:10:00", "2026-03-04 14:44:00", "2026-03-11 14:10:00"]),
    ("0 15 10 ? * MON-FRI", &["2026-01-01 10:15:00", "2026-01-02 10:15:00", "2026-01-05 10:15:00"]),
    ("0 15 10 15 * ?", &["2026-01-15 10:15:00", "2026-02-15 10:15:00"]),
    ("0 15 10 L * ?", &["2026-01-31 10:15:00", "2026-02-28 10:15:00", "2026-03-31 10:15:00"]),
    ("0 15 10 L-2 * ?", &["2026-01-29 10:15:00", "2026-02-26 10:15:00", "2026-03-29 10:15:00"]),
    ("0 15 10 ? * 6L", &["2026-01-30 10:15:00", "2026-02-27 10:15:00", "2026-03-27 10:15:00"]),
    ("0 15 10 ? * 6L 2027-2028", &["2027-01-29 10:15:00", "2027-02-26 10:15:00"]),
    ("0 15 10 ? * 6#3", &["2026-01-16 10:15:00", "2026-02-20 10:15:00", "2026-03-20 10:15:00"]),
    ("0 0 12 1/5 * ?", &["2026-01-01 12:00:00", "2026-01-06 12:00:00", "2026-01-11 12:00:00"]),
    ("0 11 11 11 11 ?", &["2026-11-11 11:11:00", "2027-11-11 11:11:00"]),
    ("0 0/1 * * * ?", &["2026-01-01 00:00:00", "2026-01-01 00:01:00"]),
    // Weekdays count from SUN=1.
    ("0 0 0 ? * 1", &["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
    ("0 0 0 ? * 7", &["2026-01-03 00:00:00", "2026-01-10 00:00:00"]),
    ("0 0 0 ? * 2-6", &["2026-01-01 00:00:00", "2026-01-02 00:00:00", "2026-01-05 00:00:00"]),
    ("0 0 0 ? * mon,Wed", &["2026-01-05 00:00:00", "2026-01-07 00:00:00"]),
    // A lone L is Saturday; with a day it is the last such day of the month.
    ("0 0 0 ? * L", &["2026-01-03 00:00:00", "2026-01-10 00:00:00"]),
    ("0 0 0 ? * FRIL", &["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
    ("0 0 0 ? * 6#5", &["2026-01-30 00:00:00", "2026-05-29 00:00:00", "2026-07-31 00:00:00"]),
    ("0 0 0 ? * MON#1,FRI#1", &["2026-01-02 00:00:00", "2026-01-05 00:00:00", "2026-02-02 00:00:00"]),
    // W stays within the month.
    ("0 0 0 15W * ?", &["2026-01-15 00:00:00", "2026-02-16 00:00:00", "2026-03-16 00:00:00"]),
    ("0 0 0 1W 2,8 ?", &["2026-02-02 00:00:00", "2026-08-03 00:00:00"]),
    ("0 0 0 31W * ?", &["2026-01-30 00:00:00", "2026-03-31 00:00:00", "2026-05-29 00:00:00"]),
    ("0 0 0 LW * ?", &["2026-01-30 00:00:00", "2026-02-27 00:00:00", "2026-03-31 00:00:00"]),
    ("0 0 0 L-3W * ?", &["2026-01-28 00:00:00", "2026-02-25 00:00:00", "2026-03-27 00:00:00"]),
    ("0 0 0 L-30 * ?", &["2026-01-01 00:00:00", "2026-03-01 00:00:00"]),
    // Ranges may run over the end.
    ("0 0 22-2 * * ?", &["2026-01-01 00:00:00", "2026-01-01 01:00:00", "2026-01-01 02:00:00", "2026-01-01 22:00:00"]),
    ("0 0 22-2/2 * * ?", &["2026-01-01 00:00:00", "2026-01-01 02:00:00", "2026-01-01 22:00:00"]),
    (
        "0 0 0 ? * FRI-MON",
        &[
            "2026-01-02 00:00:00",
            "2026-01-03 00:00:00",
            "2026-01-04 00:00:00",
            "2026-01-05 00:00:00",
            "2026-01-09 00:00:00",
        ],
    ),
    ("0 0 0 ? * SAT-SUN", &["2026-01-03 00:00:00", "2026-01-04 00:00:00", "2026-01-10 00:00:00"]),
    ("0 0 0 1 NOV-FEB ?", &["2026-01-01 00:00:00", "2026-02-01 00:00:00", "2026-11-01 00:00:00"]),
    ("0 0 0 30-2 * ?", &["2026-01-01 00:00:00", "2026-01-02 00:00:00", "2026-01-30 00:00:00"]),
    ("58-1 0 0 1 1 ?", &["2026-01-01 00:00:00", "2026-01-01 00:00:01", "2026-01-01 00:00:58"]),
    // Steps.
    ("/20 * * * * ?", &["2026-01-01 00:00:00", "2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"]),
    ("5/25 * * * * ?", &["2026-01-01 00:00:05", "2026-01-01 00:00:30", "2026-01-01 00:00:55", "2026-01-01 00:01:05"]),
    ("10-30/15 0 * * * ?", &["2026-01-01 00:00:10", "2026-01-01 00:00:25", "2026-01-01 01:00:10"]),
    ("0 0 0 ? * MON/2", &["2026-01-02 00:00:00", "2026-01-05 00:00:00", "2026-01-07 00:00:00"]),
    ("0 0 0 1 1 ? 2030/10", &["2030-01-01 00:00:00", "2040-01-01 00:00:00"]),
    // Calendars.
    ("0 0 0 29 2 ?", &["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
    ("0 0 0 ? 2 SUN#5", &["2032-02-29 00:00:00", "2060-02-29 00:00:00"]),
    ("0 0 0 31 * ?", &["2026-01-31 00:00:00", "2026-03-31 00:00:00", "2026-05-31 00:00:00"]),
    // `*` beside a restricted day field is as clear as `?`.
    ("0 0 0 * * MON", &["2026-01-05 00:00:00", "2026-01-12 00:00:00"]),
    ("0 0 0 13 * *", &["2026-01-13 00:00:00", "2026-02-13 00:00:00"]),
    // Lists of special days: more than Quartz takes, with one possible meaning.
    ("0 0 0 1,L * ?", &["2026-01-01 00:00:00", "2026-01-31 00:00:00", "2026-02-01 00:00:00"]),
];

#[test]
fn expressions_run_when_quartz_says() {
    for (expression, expected) in QUARTZ {
        assert_eq!(next(expression, "2026-01-01 00:00:00", expected.len()), *expected, "{expression}");
    }
}

/// Expression, and what its error or hint must say.
const REFUSED: &[(&str, &str)] = &[
    ("", "0 fields"),
    ("* * * * *", "5 fields"),
    ("0 3 * * *", "\"0 0 3 * * ?\""),
    ("0 3 * * MON", "\"0 0 3 ? * MON\""),
    ("0 3 * * 1-5", "SUN=1"),
    ("0 0 0 1 1 ? 2026 x", "8 fields"),
    ("@daily", "\"0 0 0 * * ?\""),
    ("@every 5s", "every = \"10s\""),
    ("0 0 0 1 * MON", "both restricted"),
    ("0 0 0 ? * ?", "no day"),
    ("0 0 0 30 2 ?", "never comes"),
    ("0 0 0 31 4,6,9,11 ?", "never comes"),
    ("0 0 0 31W 2 ?", "never comes"),
    ("0 0 0 L-30 2 ?", "never comes"),
    ("0 0 0 29 2 ? 2027", "never comes"),
    ("60 * * * * ?", "60 is outside 0-59"),
    ("0 0 24 * * ?", "24 is outside 0-23"),
    ("0 0 0 0 * ?", "0 is outside 1-31"),
    ("0 0 0 32 * ?", "32 is outside 1-31"),
    ("0 0 0 1 13 ?", "13 is outside 1-12"),
    ("0 0 0 ? * 0", "0 is outside 1-7"),
    ("0 0 0 ? * 8", "8 is outside 1-7"),
    ("0 0 0 1 1 ? 1969", "1969 is outside 1970-2199"),
    ("0 0 0 1 1 ? 2030-2026", "runs backwards"),
    ("0/0 * * * * ?", "step of 0"),
    ("0/70 * * * * ?", "longer than the field"),
    ("0 0 0/30 * * ?", "longer than the field"),
    ("1,,2 0 0 * * ?", "empty"),
    (", 0 0 * * ?", "empty"),
    ("0 0 , * * ?", "empty"),
    ("1-2-3 * * * * ?", "\"2-3\""),
    ("+5 * * * * ?", "\"+5\""),
    ("-5 * * * * ?", "\"\""),
    ("5- * * * * ?", "\"\""),
    ("1.5 * * * * ?", "not understood"),
    ("? * * * * ?", "not understood"),
    ("L * * * * ?", "not understood"),
    ("0 0 0 ? JANMAR MON", "not understood"),
    ("0 0 0 ? JANUARY MON", "not understood"),
    ("0 0 0 ? * MONTUE", "not understood"),
    ("0 0 0 ? * MON-FRI#2", "not understood"),
    ("0 0 0 ? * 6#6", "1 to 5"),
    ("0 0 0 ? * 6#0", "1 to 5"),
    ("0 0 0 ? * 6#", "1 to 5"),
    ("0 0 0 1-5W * ?", "'W' follows one day"),
    ("0 0 0 W * ?", "'W' follows one day"),
    ("0 0 0 L-31 * ?", "1 to 30"),
    ("0 0 0 L-0 * ?", "1 to 30"),
    ("0 0 0 L3 * ?", "after 'L'"),
    ("0 0 0 LL * ?", "after 'L'"),
    ("0 0 0 5L * ?", "not understood"),
    ("0 0 0 *? * ?", "'?' stands alone"),
    ("0 0 0 1,? * ?", "'?' stands alone"),
    ("0 0 0 ? * +MON", "not understood"),
    ("0 0 0 ? * LW", "not understood"),
    ("0 0 0 C * ?", "not understood"),
    ("H * * * * ?", "not understood"),
    ("0 0 99999999999999999999 * * ?", "not understood"),
    ("0 0 \u{661} * * ?", "not understood"),
];

#[test]
fn bad_expressions_are_refused_with_what_to_write() {
    for (expression, expected) in REFUSED {
        let error = Cron::parse(expression).expect_err(expression);
        let text = format!("{error} / {}", error.hint());
        assert!(text.contains(expected), "{expression}: {text}");
    }
}

#[test]
fn expressions_over_the_end_of_time_end() {
    let cron = Cron::parse("0 0 0 1 1 ? 2199").unwrap();
    let last = cron.next_after(ms("2026-01-01 00:00:00"), &Zone::utc()).unwrap();
    assert_eq!(last, ms("2199-01-01 00:00:00"));
    assert_eq!(cron.next_after(last, &zone("Europe/Berlin")), None);
    assert_eq!(cron.next_after(i64::MAX, &Zone::utc()), None);
    assert_eq!(cron.next_after(i64::MIN, &Zone::utc()), Some(last));
}

#[test]
fn runs_per_day_are_averaged_over_a_year() {
    let per_day = |expression: &str| {
        let now = crate::clock::Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: ms("2026-01-01 00:00:00") };
        Schedule::cron(expression, Zone::utc()).unwrap().runs_per_day(now)
    };
    assert!((per_day("0 0/5 * * * ?") - 288.0).abs() < 0.5);
    assert!((per_day("0 0 3 ? * SUN") - 1.0 / 7.0).abs() < 0.001);
    assert!((per_day("0 0 0 1 1 ?") - 1.0 / 365.25).abs() < 1e-9);
}

#[test]
fn jitter_is_stable_spread_and_bounded() {
    let max = Duration::from_secs(30);
    let one = jitter("edge-01", "cpu", max);
    assert_eq!(one, jitter("edge-01", "cpu", max));
    // A changed hash would move every schedule of a fleet at an upgrade.
    assert_eq!(one, Duration::from_millis(PINNED_JITTER_MS));
    assert_eq!(jitter("edge-01", "cpu", Duration::ZERO), Duration::ZERO);
    let mut buckets = [0; 10];
    for host in 0..1_000 {
        let delay = jitter(&format!("edge-{host:04}"), "cpu", max);
        assert!(delay <= max);
        buckets[(delay.as_millis() as usize / 3_000).min(9)] += 1;
    }
    assert!(buckets.iter().all(|&count| (60..=150).contains(&count)), "{buckets:?}");
}

const PINNED_JITTER_MS: u64 = 641;

#[test]
fn interval_runs_are_listed_on_multiples_of_the_monotonic_clock() {
    let now = crate::clock::Now { mono: Duration::from_millis(12_345), boot: Duration::ZERO, wall_ms: 1_000_000 };
    let every = Schedule::every(Duration::from_secs(10)).unwrap();
    assert_eq!(every.next_runs(now, Duration::ZERO, 3), [1_007_655, 1_017_655, 1_027_655]);
    assert_eq!(every.next_runs(now, Duration::from_secs(3), 2), [1_000_655, 1_010_655]);
    assert!(Schedule::every(Duration::from_millis(999)).is_err());
    assert!(Schedule::every(Duration::from_secs(8 * 86_400)).is_err());
}

/// croner understands the same as Quartz within these fields.
fn shared_expression() -> impl Strategy<Value = String> {
    fn field(max: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (0..=max).prop_map(|a| a.to_string()),
            (0..=max, 1..=max).prop_map(|(a, n)| format!("{a}/{n}")),
            (0..=max, 0..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            (0..=max, 0..=max, 0..=max).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
        ]
    }
    let one_based = |max: u32| {
        field(max - 1).prop_map(|text| {
            // Numbers move up by one; steps keep theirs.
            text.split(',')
                .map(|part| {
                    let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
                    let moved: Vec<String> = range
                        .split('-')
                        .map(|n| n.parse::<u32>().map_or(n.to_owned(), |n| (n + 1).to_string()))
                        .collect();
                    step.map_or(moved.join("-"), |step| format!("{}/{step}", moved.join("-")))
                })
                .collect::<Vec<_>>()
                .join(",")
        })
    };
    let week = prop_oneof![
        one_based(7).prop_map(|days| format!("? {days}")),
        (1..=7_u32, 1..=5_u32).prop_map(|(day, nth)| format!("? {day}#{nth}")),
        (1..=7_u32).prop_map(|day| format!("? {day}L")),
    ];
    let month = prop_oneof![
        one_based(31).prop_map(|days| format!("{days} ?")),
        (1..=28_u32).prop_map(|day| format!("{day}W ?")),
        Just("L ?".to_owned()),
        Just("LW ?".to_owned()),
    ];
    let days = prop_oneof![week, month];
    (field(59), field(59), field(23), days, one_based(12)).prop_map(|(second, minute, hour, days, month)| {
        let (of_month, of_week) = days.split_once(' ').unwrap();
        format!("{second} {minute} {hour} {of_month} {month} {of_week}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_croner_where_the_dialects_do(expression in shared_expression(), start in 0_i64..4_000_000_000) {
        let theirs = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Required)
            .alternative_weekdays(true)
            .sloppy_ranges(true)
            .build()
            .parse(&expression)
            .unwrap();
        let at = jiff::Timestamp::from_second(start).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
        let theirs = theirs.find_next_occurrence(&at, false).ok().map(|at| at.timestamp().as_millisecond());
        let ours = Cron::parse(&expression).ok().and_then(|cron| cron.next_after(start * 1000, &Zone::utc()));
        prop_assert_eq!(ours, theirs, "{}", expression);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[0-9A-Z*?,/#LW \\-@.]{0,40}") {
        if let Ok(cron) = Cron::parse(&text) {
            let first = cron.next_after(0, &Zone::utc()).unwrap();
            prop_assert!(first > 0);
            prop_assert_eq!(Cron::parse(&cron.to_string()).unwrap(), cron);
        }
    }
}
