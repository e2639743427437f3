//! A Quartz cron expression and the next instant it names.
//!
//! The search steps over bit sets field by field and month by month (at most 2,760 months), never second by second, so
//! that an expression which cannot match is refused at once. Local times that do not exist or happen twice: [`Cron::next_after`].

use std::fmt;

use jiff::civil::{DateTime, Time};

use super::ScheduleError;
use super::days::Days;
use super::field::{HOUR, MINUTE, MONTH, SECOND, YEAR, next_bit};
use super::zone::{self, Zone};

const ALL_HOURS: u64 = (1 << 24) - 1;
/// No zone is further than this from UTC, in seconds.
const MAX_OFFSET: i64 = 26 * 3600;

/// A parsed expression. Two are equal when they have the same text, up to case and spacing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
    /// `None`: every year.
    years: Option<Vec<u32>>,
}

impl Cron {
    /// Six or seven fields separated by spaces, names in any case.
    pub fn parse(expression: &str) -> Result<Self, ScheduleError> {
        let upper = expression.to_ascii_uppercase();
        let fields: Vec<&str> = upper.split_whitespace().collect();
        if fields.first().is_some_and(|field| field.starts_with('@')) {
            return Err(ScheduleError::Nickname { text: expression.trim().to_owned() });
        }
        let (six, year) = match fields.as_slice() {
            [six @ .., year] if six.len() == 6 => (six, Some(*year)),
            six => (six, None),
        };
        let &[second, minute, hour, month_day, month, week_day] = six else {
            return Err(ScheduleError::FieldCount { text: expression.trim().to_owned(), found: fields.len() });
        };
        let cron = Self {
            seconds: SECOND.mask(second)?,
            minutes: MINUTE.mask(minute)?,
            hours: HOUR.mask(hour)?,
            days: Days::parse(month_day, week_day)?,
            months: MONTH.mask(month)?,
            years: year.filter(|year| *year != "*").map(|year| YEAR.values(year)).transpose()?,
            text: fields.join(" "),
        };
        match cron.first_at_or_after(0) {
            Some(_) => Ok(cron),
            None => Err(ScheduleError::Impossible { text: cron.text }),
        }
    }

    /// The first instant after `wall_ms` that the expression names in `zone`, in wall-clock milliseconds.
    ///
    /// Where the zone's clock jumps:
    /// - An expression whose hour field names every hour (`*`, `0/1`) follows the clock face: local times that do not
    ///   exist have no run, local times that happen twice have two.
    /// - Any other keeps its number of runs: a local time inside the gap runs later by the length of the gap (02:30 at
    ///   03:30), and a local time that happens twice runs the first time only.
    pub fn next_after(&self, wall_ms: i64, zone: &Zone) -> Option<i64> {
        // Nothing is named before 1970, whatever the zone.
        let mut at = (wall_ms.div_euclid(1000) + 1).max(-MAX_OFFSET);
        loop {
            let segment = zone.segment(at);
            let regular = self.first_at_or_after(self.regular_start(at, &segment))?;
            let next = match self.shifted(at, &segment) {
                Some(shifted) => shifted.min(regular - segment.offset),
                None => regular - segment.offset,
            };
            match segment.end {
                // No instant before `regular - MAX_OFFSET` can show a matching local time, whatever the zone does.
                Some(end) if next >= end => at = end.max(regular - MAX_OFFSET),
                _ => return Some(next * 1000),
            }
        }
    }

    /// The local second from which the segment's own times count: past the repeated ones, unless those run too.
    fn regular_start(&self, at: i64, segment: &zone::Segment) -> i64 {
        let local = at + segment.offset;
        match segment.repeated() {
            Some(repeated) if !self.follows_clock() && repeated.contains(&local) => repeated.end,
            _ => local,
        }
    }

    /// The instant of a local time that the jump at the segment's start left out, moved by the length of the jump.
    fn shifted(&self, at: i64, segment: &zone::Segment) -> Option<i64> {
        let skipped = segment.skipped().filter(|_| !self.follows_clock())?;
        let local = self.first_at_or_after(skipped.start.max(at + segment.before))?;
        (local < skipped.end).then_some(local - segment.before)
    }

    /// The changes of the zone's clock within `span` seconds that leave out a time of the expression (`false`), or let one
    /// happen twice (`true`), as the instants of the changes.
    pub(super) fn changes_met(&self, from: i64, span: i64, zone: &Zone) -> Vec<(i64, bool)> {
        let mut met = Vec::new();
        if self.follows_clock() {
            return met;
        }
        let mut at = from;
        while let Some(end) = zone.segment(at).end.filter(|end| end - from < span) {
            let segment = zone.segment(end);
            let (skipped, repeated) = (segment.skipped(), segment.repeated());
            let exists = repeated.is_some();
            if let Some(times) = skipped.or(repeated)
                && self.first_at_or_after(times.start).is_some_and(|local| local < times.end)
            {
                met.push((end, exists));
            }
            at = end;
        }
        met
    }

    /// Its fields as written, in upper case.
    pub(super) fn fields(&self) -> Vec<&str> {
        self.text.split(' ').collect()
    }

    fn follows_clock(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// The average over the twelve months from `wall_ms` on.
    pub(super) fn runs_per_day(&self, wall_ms: i64) -> f64 {
        let each = f64::from(self.seconds.count_ones())
            * f64::from(self.minutes.count_ones())
            * f64::from(self.hours.count_ones());
        let Some(start) = zone::civil(wall_ms.div_euclid(1000)) else { return 0.0 };
        let months = (0..12).map(|n| (i32::from(start.month()) - 1 + n, start.year()));
        let months = months.map(|(month, year)| ((month % 12 + 1) as u32, year + (month / 12) as i16));
        let matches = months.filter(|&(month, year)| self.months >> month & 1 == 1 && self.year_matches(year));
        let days: u32 = matches.map(|(month, year)| self.days.mask(year, month as i8).count_ones()).sum();
        each * f64::from(days) / 365.25
    }

    fn year_matches(&self, year: i16) -> bool {
        let year = u32::try_from(year).unwrap_or(0);
        self.years.as_ref().is_none_or(|years| years.binary_search(&year).is_ok())
    }

    /// The first matching local second at or after `local`; both are seconds since 1970 as if local time were UTC.
    fn first_at_or_after(&self, local: i64) -> Option<i64> {
        let from = zone::civil(local)?;
        let first_year = u32::try_from(from.year()).unwrap_or(0).max(YEAR.min);
        let mut start = if i64::from(first_year) > i64::from(from.year()) { None } else { Some(from) };
        for year in first_year..=YEAR.max {
            if self.year_matches(year as i16)
                && let Some(found) = self.first_in_year(year as i16, start)
            {
                return zone::local_seconds(found);
            }
            start = None;
        }
        None
    }

    /// Within one year, at or after `start` when that is given (it lies in this year).
    fn first_in_year(&self, year: i16, start: Option<DateTime>) -> Option<DateTime> {
        let mut month = start.map_or(1, |start| start.month() as u32);
        while let Some(found) = next_bit(self.months, month) {
            let start = start.filter(|start| start.month() as u32 == found);
            if let Some(at) = self.first_in_month(year, found as i8, start) {
                return Some(at);
            }
            month = found + 1;
        }
        None
    }

    fn first_in_month(&self, year: i16, month: i8, start: Option<DateTime>) -> Option<DateTime> {
        let days = self.days.mask(year, month);
        let date = |day: u32| jiff::civil::Date::new(year, month, day as i8).ok();
        let mut day = 1;
        if let Some(start) = start {
            let today = start.day() as u32;
            let left = self.time_from(start.hour() as u32, start.minute() as u32, start.second() as u32);
            if let (1, Some(time)) = (days >> today & 1, left) {
                return Some(date(today)?.to_datetime(time));
            }
            day = today + 1;
        }
        Some(date(next_bit(days, day)?)?.to_datetime(self.time_from(0, 0, 0)?))
    }

    /// The first time of day at or after the given one.
    fn time_from(&self, hour: u32, minute: u32, second: u32) -> Option<Time> {
        let time = |h: u32, m: u32, s: u32| Time::new(h as i8, m as i8, s as i8, 0).ok();
        let first_minute = next_bit(self.minutes, 0)?;
        let first_second = next_bit(self.seconds, 0)?;
        if next_bit(self.hours, hour)? == hour {
            if next_bit(self.minutes, minute) == Some(minute)
                && let Some(second) = next_bit(self.seconds, second)
            {
                return time(hour, minute, second);
            }
            if let Some(minute) = next_bit(self.minutes, minute + 1) {
                return time(hour, minute, first_second);
            }
            return time(next_bit(self.hours, hour + 1)?, first_minute, first_second);
        }
        time(next_bit(self.hours, hour)?, first_minute, first_second)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
