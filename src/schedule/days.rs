//! Which days of a month a Quartz expression names: day-of-month with `L`, `L-3`, `W`, `LW`, or day-of-week with
//! `6L`, `6#3`. Months are resolved one at a time to a bit set of days, so that no search walks days that cannot match.

use jiff::civil::Date;

use super::ScheduleError;
use super::field::{DAY_OF_MONTH, DAY_OF_WEEK};

/// The day part of an expression; the other of the two fields was `?` or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Days {
    OfMonth(Vec<MonthDay>),
    OfWeek(Vec<WeekDay>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MonthDay {
    /// Days as bits 1..=31.
    Plain(u64),
    /// `L`, `L-3`: the last day, or some days before it.
    Last { before: u32 },
    /// `15W`: the weekday nearest to a day, never leaving the month.
    Weekday(u32),
    /// `LW`, `L-3W`.
    LastWeekday { before: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WeekDay {
    /// Weekdays as bits 1..=7, SUN=1.
    Plain(u64),
    /// `6#3`: the third Friday.
    Nth { weekday: u32, nth: u32 },
    /// `6L`: the last Friday.
    Last(u32),
}

impl Days {
    /// Both day fields, upper case. Quartz wants `?` in one of them; `*` in one of them is as clear, so it is taken too.
    pub fn parse(month: &str, week: &str) -> Result<Self, ScheduleError> {
        let free = |text: &str| text == "?" || text == "*";
        match (month, week) {
            ("?", "?") => Err(ScheduleError::NoDay),
            (_, week) if free(week) => Ok(Self::OfMonth(parse_month_days(if month == "?" { "*" } else { month })?)),
            (month, _) if free(month) => Ok(Self::OfWeek(parse_week_days(week)?)),
            _ => {
                // A mistake inside one of them is the better thing to report.
                parse_month_days(month)?;
                parse_week_days(week)?;
                Err(ScheduleError::BothDays { month: month.to_owned(), week: week.to_owned() })
            }
        }
    }

    /// The matching days of one month as bits 1..=31.
    pub fn mask(&self, year: i16, month: i8) -> u64 {
        let Ok(first) = Date::new(year, month, 1) else { return 0 };
        let shape = Month { len: first.days_in_month() as u32, first: first.weekday().to_sunday_zero_offset() as u32 };
        match self {
            Self::OfMonth(days) => days.iter().fold(0, |mask, day| mask | shape.month_day(day)),
            Self::OfWeek(days) => days.iter().fold(0, |mask, day| mask | shape.week_day(day)),
        }
    }
}

/// One month: its length and the weekday of its first day, SUN=0.
struct Month {
    len: u32,
    first: u32,
}

impl Month {
    fn month_day(&self, day: &MonthDay) -> u64 {
        let within = |day: u32| if (1..=self.len).contains(&day) { 1 << day } else { 0 };
        match *day {
            MonthDay::Plain(mask) => mask & ((1 << (self.len + 1)) - 1),
            MonthDay::Last { before } => within(self.len.saturating_sub(before)),
            MonthDay::Weekday(day) if day > self.len => 0,
            MonthDay::Weekday(day) => within(self.nearest_weekday(day)),
            MonthDay::LastWeekday { before } if before >= self.len => 0,
            MonthDay::LastWeekday { before } => within(self.nearest_weekday(self.len - before)),
        }
    }

    fn week_day(&self, day: &WeekDay) -> u64 {
        let all = |weekday: u32| (self.first_of(weekday)..=self.len).step_by(7);
        match *day {
            WeekDay::Plain(mask) => (1..=7).filter(|w| mask >> w & 1 == 1).flat_map(all).fold(0, |m, d| m | 1 << d),
            WeekDay::Nth { weekday, nth } => all(weekday).nth(nth as usize - 1).map_or(0, |d| 1 << d),
            WeekDay::Last(weekday) => all(weekday).last().map_or(0, |d| 1 << d),
        }
    }

    /// The first day of the month that falls on `weekday` (SUN=1).
    fn first_of(&self, weekday: u32) -> u32 {
        (weekday - 1 + 7 - self.first) % 7 + 1
    }

    fn nearest_weekday(&self, day: u32) -> u32 {
        match (self.first + day - 1) % 7 {
            0 if day == self.len => day - 2,
            0 => day + 1,
            6 if day == 1 => day + 2,
            6 => day - 1,
            _ => day,
        }
    }
}

fn parse_month_days(text: &str) -> Result<Vec<MonthDay>, ScheduleError> {
    text.split(',').map(|part| parse_month_day(text, part)).collect()
}

fn parse_month_day(whole: &str, part: &str) -> Result<MonthDay, ScheduleError> {
    let error = |why: &str| DAY_OF_MONTH.error(whole, why);
    if part.contains('?') {
        return Err(error("'?' stands alone"));
    }
    if let Some(last) = part.strip_prefix('L') {
        let (offset, weekday) = last.strip_suffix('W').map_or((last, false), |offset| (offset, true));
        let before = match offset.strip_prefix('-') {
            None if offset.is_empty() => 0,
            Some(days) => match days.parse::<u32>() {
                Ok(days @ 1..=30) => days,
                _ => return Err(error("the days before the last are 1 to 30, as in L-3")),
            },
            None => return Err(error("after 'L' comes nothing, '-' and a number, or 'W'")),
        };
        return Ok(if weekday { MonthDay::LastWeekday { before } } else { MonthDay::Last { before } });
    }
    if let Some(day) = part.strip_suffix('W') {
        return match DAY_OF_MONTH.value(whole, day) {
            Ok(day) => Ok(MonthDay::Weekday(day)),
            Err(_) => Err(error("'W' follows one day, as in 15W")),
        };
    }
    let values = DAY_OF_MONTH.part(whole, part)?;
    Ok(MonthDay::Plain(values.into_iter().fold(0, |mask, day| mask | 1 << day)))
}

fn parse_week_days(text: &str) -> Result<Vec<WeekDay>, ScheduleError> {
    text.split(',').map(|part| parse_week_day(text, part)).collect()
}

fn parse_week_day(whole: &str, part: &str) -> Result<WeekDay, ScheduleError> {
    let error = |why: &str| DAY_OF_WEEK.error(whole, why);
    if part.contains('?') {
        return Err(error("'?' stands alone"));
    }
    if let Some((weekday, nth)) = part.split_once('#') {
        let weekday = DAY_OF_WEEK.value(whole, weekday)?;
        return match nth.parse::<u32>() {
            Ok(nth @ 1..=5) => Ok(WeekDay::Nth { weekday, nth }),
            _ => Err(error("after '#' comes 1 to 5")),
        };
    }
    match part.strip_suffix('L') {
        // Quartz: a lone L in this field is 7, Saturday.
        Some("") => Ok(WeekDay::Plain(1 << 7)),
        Some(weekday) => Ok(WeekDay::Last(DAY_OF_WEEK.value(whole, weekday)?)),
        None => {
            let values = DAY_OF_WEEK.part(whole, part)?;
            Ok(WeekDay::Plain(values.into_iter().fold(0, |mask, day| mask | 1 << day)))
        }
    }
}
