//! Times at which nothing is to run: from one time of day to another, or for some time after each time of an expression.

use std::time::Duration;

use super::scheduler::latest_at;
use super::{Cron, Schedule, Zone};
use crate::clock::Now;

const DAY_S: u32 = 86_400;
/// How far [`Blackout::takes_all`] looks: at least so long, and at so many runs.
pub const LOOKED_AT: Duration = Duration::from_secs(35 * 86_400);
const RUNS: usize = 12;
/// It gives up then, and nothing is said: windows as short as this are no mistake of a day.
const STEPS: usize = 1_000;
/// Where the clock jumps inside a window, its end is felt for.
const FEEL_MS: i64 = 60_000;

/// One window, in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackout {
    when: When,
    zone: Zone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    /// Seconds of the local day, `to` excluded; over midnight when `to` is not later. Days as bits, SUN=1 bit 0: those on which
    /// the window begins.
    Daily { days: u8, from: u32, to: u32 },
    /// From each time of the expression on.
    After { cron: Cron, lasts_ms: i64 },
}

impl Blackout {
    /// Every day of the week.
    pub const ALL_DAYS: u8 = 0x7f;

    /// Times of day in seconds. By the clock face: where the clock jumps the window is longer or shorter with it.
    pub fn daily(days: u8, from: u32, to: u32, zone: Zone) -> Self {
        Self { when: When::Daily { days, from: from % DAY_S, to: to % DAY_S }, zone }
    }

    pub fn after(cron: Cron, lasts: Duration, zone: Zone) -> Self {
        let lasts_ms = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        Self { when: When::After { cron, lasts_ms }, zone }
    }

    pub fn covers(&self, wall_ms: i64) -> bool {
        match &self.when {
            When::Daily { days, from, to } => {
                let Some((weekday, second)) = self.zone.local(wall_ms) else { return false };
                let begins_on = |weekday: u32| days >> (weekday % 7) & 1 == 1;
                if from < to {
                    begins_on(weekday) && (*from..*to).contains(&second)
                } else {
                    begins_on(weekday) && second >= *from || begins_on(weekday + 6) && second < *to
                }
            }
            When::After { cron, lasts_ms } => self.earliest(cron, *lasts_ms, wall_ms).is_some(),
        }
    }

    /// Whether `windows` take every run of `schedule` as far as one looks.
    pub fn takes_all(windows: &[Self], schedule: &Schedule, now: Now) -> bool {
        let Some(mut run) = schedule.next_runs(now, Duration::ZERO, 1).first().copied() else { return false };
        let span = i64::try_from(LOOKED_AT.as_millis()).unwrap_or(i64::MAX);
        for looked in 0..STEPS {
            if run - now.wall_ms > span && looked >= RUNS {
                return true;
            }
            let Some(end) = windows.iter().filter_map(|window| window.until(run)).max() else { return false };
            // A schedule that ends in the dark.
            let Some(next) = schedule.run_from(run, end) else { return true };
            run = next;
        }
        false
    }

    /// If it covers `wall_ms`, until when it does for certain.
    fn until(&self, wall_ms: i64) -> Option<i64> {
        match &self.when {
            When::Daily { to, .. } => {
                let (_, second) = self.zone.local(wall_ms).filter(|_| self.covers(wall_ms))?;
                let stop = if second < *to { *to } else { DAY_S };
                let end = (wall_ms.div_euclid(1000) + i64::from(stop - second)) * 1000;
                Some(if self.covers(end - 1) { end } else { wall_ms + FEEL_MS })
            }
            When::After { cron, lasts_ms } => {
                let first = self.earliest(cron, *lasts_ms, wall_ms)?;
                Some(latest_at(cron, &self.zone, first, wall_ms).saturating_add(*lasts_ms))
            }
        }
    }

    /// The earliest beginning that still lasts.
    fn earliest(&self, cron: &Cron, lasts_ms: i64, wall_ms: i64) -> Option<i64> {
        cron.next_after(wall_ms.saturating_sub(lasts_ms), &self.zone).filter(|begin| *begin <= wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    fn berlin() -> Zone {
        Zone::get("Europe/Berlin").unwrap()
    }

    const HOUR: u32 = 3600;

    #[test]
    fn a_window_of_the_day_is_half_open_and_of_its_zone() {
        let noon = Blackout::daily(Blackout::ALL_DAYS, 12 * HOUR, 13 * HOUR, berlin());
        for (at, expected) in [
            ("2026-07-01T09:59:59.999Z", false),
            ("2026-07-01T10:00:00Z", true),
            ("2026-07-01T10:59:59.999Z", true),
            ("2026-07-01T11:00:00Z", false),
            ("2026-01-01T11:00:00Z", true),
        ] {
            assert_eq!(noon.covers(ms(at)), expected, "{at}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        // Fridays 22:00 to 06:00; 2026-07-03 is a Friday.
        let night = Blackout::daily(1 << 5, 22 * HOUR, 6 * HOUR, Zone::utc());
        for (at, expected) in [
            ("2026-07-03T05:00:00Z", false),
            ("2026-07-03T21:59:59Z", false),
            ("2026-07-03T22:00:00Z", true),
            ("2026-07-04T05:59:59Z", true),
            ("2026-07-04T06:00:00Z", false),
            ("2026-07-04T22:00:00Z", false),
        ] {
            assert_eq!(night.covers(ms(at)), expected, "{at}");
        }
        // Saturday night into Sunday: the week wraps around.
        let saturday = Blackout::daily(1 << 6, 22 * HOUR, 6 * HOUR, Zone::utc());
        assert!(saturday.covers(ms("2026-07-05T01:00:00Z")) && !saturday.covers(ms("2026-07-04T01:00:00Z")));
        let whole = Blackout::daily(1, 0, 24 * HOUR, Zone::utc());
        assert!(whole.covers(ms("2026-07-05T23:59:59Z")) && whole.covers(ms("2026-07-05T00:00:00Z")));
        assert!(!whole.covers(ms("2026-07-06T00:00:00Z")) && !whole.covers(ms("2026-07-04T23:59:59Z")));
    }

    /// 2026-03-01, four weeks before Berlin's clock jumps.
    const NOW: Now = Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 1_772_323_200_000 };

    #[test]
    fn windows_that_leave_no_run_are_told_from_those_that_leave_one() {
        let every = |seconds| Schedule::every(Duration::from_secs(seconds)).unwrap();
        let cron = |text| Schedule::cron(text, berlin()).unwrap();
        let daily = |days, from, to| Blackout::daily(days, from * HOUR, to * HOUR, berlin());
        let after =
            |text, hours: u64| Blackout::after(Cron::parse(text).unwrap(), Duration::from_secs(hours * 3600), berlin());
        let all = Blackout::ALL_DAYS;
        let (morning, evening) = (daily(all, 0, 12), daily(all, 12, 24));
        for (windows, schedule, expected) in [
            (vec![daily(all, 0, 24)], every(1), true),
            (vec![daily(all, 0, 24)], cron("0 0 3 * * ?"), true),
            (vec![morning.clone(), evening], every(10), true),
            (vec![morning], every(10), false),
            (vec![daily(all, 13, 12)], every(600), false),
            // One day of the week is left.
            (vec![daily(all & !(1 << 3), 0, 24)], every(3600), false),
            (vec![daily(all, 2, 4)], cron("0 30 2 * * ?"), true),
            (vec![daily(all, 2, 3)], cron("0 30 2 ? * SUN"), false),
            (vec![daily(all, 2, 4)], cron("0 30 2 1 1 ?"), true),
            (vec![after("* * * * * ?", 1)], every(1), true),
            (vec![after("0 0 0/2 * * ?", 1)], every(1), false),
            (vec![after("0 0 0/2 * * ?", 2)], every(1), true),
            (vec![after("* * 0-22 * * ?", 1)], every(60), true),
            (vec![after("* * 0-21 * * ?", 1)], every(60), false),
            (vec![after("0 0 0 24 12 ? 2026", 24)], cron("0 0 3 24 12 ? 2026"), true),
            (vec![after("0 0 0 24 12 ? 2026", 24)], cron("0 0 3 24 12 ?"), false),
            (Vec::new(), every(1), false),
        ] {
            assert_eq!(Blackout::takes_all(&windows, &schedule, NOW), expected, "{windows:?} {schedule}");
        }
    }

    #[test]
    fn a_window_after_an_expression_lasts_its_time_whatever_the_clock_does() {
        let cron = Cron::parse("0 0 1 ? * SUN").unwrap();
        let update = Blackout::after(cron, Duration::from_secs(4 * 3600), berlin());
        // The night on which 02:00 becomes 03:00: four hours from 01:00 are until 06:00.
        for (at, expected) in [
            ("2026-03-28T23:59:59.999Z", false),
            ("2026-03-29T00:00:00Z", true),
            ("2026-03-29T03:59:59.999Z", true),
            ("2026-03-29T04:00:00Z", false),
        ] {
            assert_eq!(update.covers(ms(at)), expected, "{at}");
        }
        let once = Cron::parse("0 0 0 24 12 ? 2026").unwrap();
        let holidays = Blackout::after(once, Duration::from_secs(3 * 86_400), Zone::utc());
        assert!(holidays.covers(ms("2026-12-26T23:00:00Z")) && !holidays.covers(ms("2027-12-25T00:00:00Z")));
    }
}
