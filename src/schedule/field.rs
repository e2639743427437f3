//! One numeric field of a Quartz expression: `*`, `a`, `a-b`, `a-b/n`, `a/n`, `/n`, lists, names, wrap-around ranges.
//!
//! Yields the matching values as a bit set relative to the field's lowest value. Knows nothing of `L`, `W`, `#`, `?`.

use super::ScheduleError;

/// What a field may hold.
pub(super) struct Field {
    pub name: &'static str,
    pub min: u32,
    pub max: u32,
    pub names: &'static [&'static str],
    /// Whether `22-2` runs over the end; years do not.
    pub wraps: bool,
}

pub(super) const SECOND: Field = Field { name: "second", min: 0, max: 59, names: &[], wraps: true };
pub(super) const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[], wraps: true };
pub(super) const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[], wraps: true };
pub(super) const DAY_OF_MONTH: Field = Field { name: "day-of-month", min: 1, max: 31, names: &[], wraps: true };
pub(super) const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    wraps: true,
};
pub(super) const DAY_OF_WEEK: Field = Field {
    name: "day-of-week",
    min: 1,
    max: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    wraps: true,
};
pub(super) const YEAR: Field = Field { name: "year", min: 1970, max: 2199, names: &[], wraps: false };

impl Field {
    /// The values of a whole field, ascending and without repeats. `text` is upper case.
    pub fn values(&self, text: &str) -> Result<Vec<u32>, ScheduleError> {
        let mut values = Vec::new();
        for part in text.split(',') {
            values.extend(self.part(text, part)?);
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    /// As [`Field::values`], as bits counted from zero (month 1 is bit 1).
    pub fn mask(&self, text: &str) -> Result<u64, ScheduleError> {
        Ok(self.values(text)?.into_iter().fold(0, |mask, value| mask | 1 << value))
    }

    /// One member of a list.
    pub fn part(&self, whole: &str, part: &str) -> Result<Vec<u32>, ScheduleError> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(whole, step)?)),
            None => (part, None),
        };
        let (from, to) = match range {
            "*" => (self.min, self.max),
            // Quartz reads `/5` as `0/5`.
            "" if step.is_some() => (self.min, self.max),
            "" => return Err(self.error(whole, "a list member is empty")),
            _ => match range.split_once('-') {
                Some((from, to)) => (self.value(whole, from)?, self.value(whole, to)?),
                None => {
                    let from = self.value(whole, range)?;
                    (from, if step.is_some() { self.max } else { from })
                }
            },
        };
        self.span(whole, from, to, step.unwrap_or(1))
    }

    fn span(&self, whole: &str, from: u32, to: u32, step: u32) -> Result<Vec<u32>, ScheduleError> {
        let size = self.max - self.min + 1;
        if from > to && !self.wraps {
            return Err(self.error(whole, format!("range {from}-{to} runs backwards")));
        }
        let length = if from <= to { to - from } else { to + size - from };
        Ok((0..=length).step_by(step as usize).map(|n| (from - self.min + n) % size + self.min).collect())
    }

    fn step(&self, whole: &str, text: &str) -> Result<u32, ScheduleError> {
        // As in Quartz: up to 59, 23, 31, 12, 7.
        match text.parse::<u32>() {
            Ok(0) => Err(self.error(whole, "a step of 0 never moves")),
            Ok(step) if step <= self.max => Ok(step),
            Ok(step) => {
                let longest = self.max;
                Err(self.error(whole, format!("a step of {step} is longer than the field: at most {longest}")))
            }
            Err(_) => Err(self.error(whole, format!("{text:?} is no step"))),
        }
    }

    /// A number in range, or a name.
    pub fn value(&self, whole: &str, text: &str) -> Result<u32, ScheduleError> {
        if let Some(index) = self.names.iter().position(|name| *name == text) {
            return Ok(self.min + index as u32);
        }
        // `str::parse` would take a leading '+'.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u32>() {
            Ok(value) if digits && (self.min..=self.max).contains(&value) => Ok(value),
            Ok(value) if digits => Err(self.error(whole, format!("{value} is outside {}-{}", self.min, self.max))),
            _ => Err(self.error(whole, format!("{text:?} is not understood"))),
        }
    }

    pub fn error(&self, whole: &str, why: impl Into<String>) -> ScheduleError {
        ScheduleError::Field { field: self.name, text: whole.to_owned(), why: why.into() }
    }
}

/// The lowest set bit at or above `from`.
pub(super) fn next_bit(mask: u64, from: u32) -> Option<u32> {
    let rest = mask.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}
