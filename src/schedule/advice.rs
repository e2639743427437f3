//! What looks like a mistake in an expression that Quartz would run without a word: for `check-config`, never at a start.

use super::cron::Cron;
use super::zone::Zone;
use super::{Now, Schedule};

const DAY_MS: i64 = 86_400_000;
const YEAR_MS: i64 = 366 * DAY_MS;

/// A doubt and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub message: String,
    pub hint: String,
}

fn advice(message: String, hint: &str) -> Advice {
    Advice { message, hint: hint.to_owned() }
}

impl Schedule {
    pub fn advice(&self, now: Now) -> Vec<Advice> {
        let Self::Cron(cron, zone) = self else { return Vec::new() };
        let found = [every_second(cron), uneven(cron), short_months(cron), rare(cron, zone, now.wall_ms)];
        found.into_iter().flatten().chain(clock_changes(cron, zone, now.wall_ms)).collect()
    }
}

/// `* 0 3 * * ?` was meant to be one run.
fn every_second(cron: &Cron) -> Option<Advice> {
    let fields = cron.fields();
    (fields[0] == "*" && fields[1] != "*").then(|| {
        let message = format!("it runs sixty times in each minute that {:?} names", fields[1]);
        advice(message, "put 0 into the first field, which is seconds, for one run a minute")
    })
}

/// `0/7`: the last step of the round is shorter than the others.
fn uneven(cron: &Cron) -> Option<Advice> {
    let rounds = [("second", 60), ("minute", 60), ("hour", 24)];
    let uneven = |(text, (name, size)): (&&str, (&'static str, u32))| {
        let (start, step) = text.split_once('/')?;
        let (start, step) = (start.parse().unwrap_or(0), step.parse::<u32>().ok()?);
        let last = (start..size).step_by(step as usize).next_back()?;
        (!size.is_multiple_of(step) && !text.contains(['-', ','])).then(|| {
            let message =
                format!("{name} {text}: after {last} comes {start} of the next round, {} later", size - last + start);
            advice(message, "a step that divides the round is even; every = \"..\" is even for any interval")
        })
    };
    cron.fields().iter().zip(rounds).find_map(uneven)
}

fn short_months(cron: &Cron) -> Option<Advice> {
    let fields = cron.fields();
    let days = fields[3].trim_end_matches('W');
    (matches!(days, "29" | "30" | "31") && matches!(fields[4], "*")).then(|| {
        let message = format!("months without a day {days} have no run");
        advice(message, "L in the day-of-month field is the last day of every month")
    })
}

fn rare(cron: &Cron, zone: &Zone, wall_ms: i64) -> Option<Advice> {
    let first = cron.next_after(wall_ms, zone)?;
    (first - wall_ms > YEAR_MS).then(|| {
        let message = format!("the next run is more than a year away: {}", zone.display(first));
        advice(message, "check day, month and year against each other")
    })
}

/// Within a year; an expression for every hour has nothing to lose there.
fn clock_changes(cron: &Cron, zone: &Zone, wall_ms: i64) -> Vec<Advice> {
    let hint = "choose a time outside the hours at which clocks change, or zone = \"UTC\"";
    let told = |(second, exists): (i64, bool)| {
        let (date, offset) = (zone.display(second * 1000), zone.name());
        let what =
            if exists { "happens twice: the first counts" } else { "does not exist: the run is later by the jump" };
        advice(format!("where the clock of {offset} changes, at {date}, a time of it {what}"), hint)
    };
    let mut found: Vec<(i64, bool)> = cron.changes_met(wall_ms.div_euclid(1000), YEAR_MS / 1000, zone);
    // One of each kind tells enough.
    found.dedup_by_key(|(_, exists)| *exists);
    found.truncate(2);
    found.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 2026-01-01 UTC.
    const NOW: Now = Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 1_767_225_600_000 };

    fn told(expression: &str, zone: &str) -> Vec<String> {
        let schedule = Schedule::cron(expression, Zone::get(zone).unwrap()).unwrap();
        schedule.advice(NOW).into_iter().map(|advice| advice.message).collect()
    }

    #[test]
    fn doubtful_expressions_are_told() {
        for (expression, zone, expected) in [
            ("* 0 3 * * ?", "UTC", "sixty times in each minute that \"0\""),
            ("* 0/5 * * * ?", "UTC", "sixty times"),
            ("0 0/7 * * * ?", "UTC", "minute 0/7: after 56 comes 0 of the next round, 4 later"),
            ("0 5/25 * * * ?", "UTC", "minute 5/25: after 55 comes 5 of the next round, 10 later"),
            ("0/45 * * * * ?", "UTC", "second 0/45: after 45"),
            ("0 0 0/5 * * ?", "UTC", "hour 0/5: after 20"),
            ("0 0 12 31 * ?", "UTC", "months without a day 31"),
            ("0 0 12 29 2 ?", "UTC", "more than a year away: 2028-02-29 12:00:00"),
            ("0 30 2 * * ?", "Europe/Berlin", "at 2026-03-29 03:00:00 +02:00, a time of it does not exist"),
            ("0 30 2 25 10 ?", "Europe/Berlin", "at 2026-10-25 02:00:00 +01:00, a time of it happens twice"),
        ] {
            let told = told(expression, zone);
            assert!(told.iter().any(|told| told.contains(expected)), "{expression} in {zone}: {told:?}");
        }
        assert_eq!(told("0 30 2 * * ?", "Europe/Berlin").len(), 2);
    }

    #[test]
    fn ordinary_expressions_are_not() {
        for (expression, zone) in [
            ("0 0/5 * * * ?", "Europe/Berlin"),
            ("* * * * * ?", "UTC"),
            ("0/10 * * * * ?", "UTC"),
            ("0 0 3 * * ?", "Asia/Kolkata"),
            ("0 0 12 L * ?", "Europe/Berlin"),
            ("0 15 10 ? * 6#3", "America/New_York"),
            ("0 0 0/6 * * ?", "UTC"),
            ("0 30 2 1 7 ?", "Europe/Berlin"),
        ] {
            assert_eq!(told(expression, zone), [""; 0], "{expression} in {zone}");
        }
    }
}
