//! What a reading of one output has come to: the points so far, the first thing that was wrong, and the limits. What is
//! bad costs itself, not its neighbours: all good points are kept and one err record names the first bad line and
//! counts the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::collect::{MAX_POINTS, text};
use crate::record::{ErrorKind, NO_MONO, Point, RunError, Value};

/// One record must stay below 16 KiB when stored; this is what its parts may sum up to.
const MAX_RECORD: usize = 15 << 10;
pub(super) const MAX_TAGS: usize = 64;
pub(super) const MAX_FIELDS: usize = 256;
const MAX_NAME: usize = 200;
pub(super) const MAX_KEY: usize = 128;
const MAX_TAG: usize = 1024;
/// Stored per tag or field beside its own bytes, at most.
const OVERHEAD: usize = 12;
/// Times are milliseconds; the range is that of the integers which all readers keep exactly.
const TIMES: std::ops::RangeInclusive<i64> = -crate::record::MAX_INT..=crate::record::MAX_INT;
/// Names of records that only the agent makes: what a script prints must not pass for an alarm or an account of it.
const RESERVED: &str = "holdover.";

/// A time so near to that of the run is taken for one by the host's clock: a run takes a while, and records of the last
/// minutes are put together.
const NEAR_MS: i64 = 300_000;

/// What a record gets that does not say it itself.
pub(in super::super) struct Defaults<'a> {
    /// The collector.
    pub name: &'a str,
    pub ts: i64,
    pub mono: u64,
}

impl Defaults<'_> {
    pub(in super::super) fn point(&self) -> Point {
        Point {
            ts: self.ts,
            mono: self.mono,
            name: Cow::Owned(self.name.to_owned()),
            tags: BTreeMap::new(),
            fields: BTreeMap::new(),
            error: None,
        }
    }

    /// `mono` goes with `ts`, so that both are put right together where the host's clock is wrong; or it says that `ts` is
    /// of another clock, which nobody can put right.
    pub(super) fn place(&self, point: &mut Point) {
        let after = point.ts.saturating_sub(self.ts);
        let near = (-NEAR_MS..=NEAR_MS).contains(&after);
        point.mono = self.mono.checked_add_signed(after).filter(|_| near).unwrap_or(NO_MONO);
    }

    pub(in super::super) fn failure(&self, error: RunError) -> Point {
        Point { error: Some(error), ..self.point() }
    }
}

pub(super) struct Reading<'a> {
    defaults: &'a Defaults<'a>,
    points: Vec<Point>,
    first_bad: Option<String>,
    bad: usize,
    /// Left out because of [`MAX_POINTS`].
    over: usize,
}

impl<'a> Reading<'a> {
    pub(super) fn new(defaults: &'a Defaults<'a>) -> Self {
        Self { defaults, points: Vec::new(), first_bad: None, bad: 0, over: 0 }
    }

    pub(super) fn defaults(&self) -> &'a Defaults<'a> {
        self.defaults
    }

    /// Whether there is room for one more point; if not, one is counted as left out, and need not be read.
    pub(super) fn has_room(&mut self) -> bool {
        let room = self.points.len() < MAX_POINTS;
        self.over += usize::from(!room);
        room
    }

    pub(super) fn leave_out(&mut self, count: usize) {
        self.over += count;
    }

    /// What a line gave.
    pub(super) fn line(&mut self, at: usize, line: &[u8], result: Result<Point, String>) {
        if let Err(reason) = self.add(result) {
            self.refuse(at, line, reason);
        }
    }

    /// A point, if it may be one and there is room.
    pub(super) fn add(&mut self, result: Result<Point, String>) -> Result<(), String> {
        let mut point = result?;
        admit(&mut point)?;
        self.defaults.place(&mut point);
        if self.has_room() {
            self.points.push(point);
        }
        Ok(())
    }

    /// Something in a line is not as it should be.
    pub(super) fn refuse(&mut self, at: usize, line: &[u8], reason: impl AsRef<str>) {
        self.bad += 1;
        if self.first_bad.is_none() {
            self.first_bad = Some(format!("line {at}: {}: {}", reason.as_ref(), text::excerpt(line)));
        }
    }

    /// The same where the message says the place.
    pub(super) fn refuse_all(&mut self, message: impl Into<String>) {
        self.bad += 1;
        self.first_bad.get_or_insert_with(|| message.into());
    }

    pub(super) fn finish(self) -> Vec<Point> {
        let mut points = self.points;
        if let Some(mut message) = self.first_bad {
            message = text::clean(message.as_bytes(), MAX_TAG);
            if self.bad > 1 {
                message.push_str(&format!(" (and {} more bad lines)", self.bad - 1));
            }
            points.push(self.defaults.failure(RunError::new(ErrorKind::Parse, message)));
        }
        if self.over > 0 {
            let message = format!(
                "{} more records left out: one run may record {MAX_POINTS}; print less, or less often",
                self.over
            );
            points.push(self.defaults.failure(RunError::new(ErrorKind::Output, message)));
        }
        points
    }
}

pub(super) fn utf8(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))
}

/// The most of a text that fits `max` bytes, marked where it is cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(max - 3)])
}

/// Refuses what no record may be, and makes text harmless: control characters in values become U+FFFD.
pub(super) fn admit(point: &mut Point) -> Result<(), String> {
    if point.fields.is_empty() && point.error.is_none() {
        return Err("no field".to_owned());
    }
    if !TIMES.contains(&point.ts) {
        return Err("time out of range".to_owned());
    }
    key("name", &point.name, MAX_NAME)?;
    if point.name.starts_with(RESERVED) {
        return Err(format!("names that begin with `{RESERVED}` are the agent's own"));
    }
    count("tags", point.tags.len(), MAX_TAGS)?;
    count("fields", point.fields.len(), MAX_FIELDS)?;
    let mut size = point.name.len() + 100;
    for (name, value) in &mut point.tags {
        key("tag", name, MAX_KEY)?;
        if value.len() > MAX_TAG {
            return Err(format!("tag `{name}` is longer than {MAX_TAG} bytes"));
        }
        if value.chars().any(char::is_control) {
            *value = Cow::Owned(value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect());
        }
        // As it is stored: what takes the place of a character may be longer.
        size += name.len() + value.len() + OVERHEAD;
    }
    for (name, value) in &mut point.fields {
        key("field", name, MAX_KEY)?;
        size += name.len() + OVERHEAD;
        if let Value::Str(text) = value {
            *text =
                text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect();
            size += text.len();
        }
    }
    if let Some(error) = &mut point.error {
        error.message = text::clean(error.message.as_bytes(), MAX_TAG);
        size += error.message.len() + 40;
    }
    if size > MAX_RECORD {
        return Err(format!("the record `{}` is larger than {MAX_RECORD} bytes; split it", point.name));
    }
    Ok(())
}

fn key(what: &str, name: &str, max: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("empty {what}"));
    }
    if name.len() > max {
        return Err(format!("a {what} is longer than {max} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("control character in a {what}"));
    }
    Ok(())
}

fn count(what: &str, n: usize, max: usize) -> Result<(), String> {
    if n > max { Err(format!("more than {max} {what}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (ts, mono) of a point that says this time, where the run began 100 s after the boot.
    fn placed(ts: i64) -> u64 {
        let defaults = Defaults { name: "demo", ts: 1_000_000, mono: 100_000 };
        let mut point = Point { ts, ..defaults.point() };
        defaults.place(&mut point);
        point.mono
    }

    #[test]
    fn a_time_by_the_hosts_clock_goes_with_mono_and_another_with_none() {
        let minute = 60_000;
        let near = [(0, 100_000), (4_321, 104_321), (-minute, 40_000), (5 * minute, 400_000), (-100_000, 0)];
        for (after, mono) in near {
            assert_eq!(placed(1_000_000 + after), mono, "{after} ms after the run began");
        }
        let week = 7 * 86_400_000;
        let far = [-100_001, 5 * minute + 1, -week, week, -crate::record::MAX_INT, i64::MAX - 1_000_000];
        for after in far {
            assert_eq!(placed(1_000_000 + after), NO_MONO, "{after} ms after the run began");
        }
    }
}
