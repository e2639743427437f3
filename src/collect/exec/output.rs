//! From the bytes that a script printed to points: lines, the choice of format, limits. A bad line costs itself, not
//! its neighbours: all good lines are kept and one err record names the first bad one and counts the others.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Format, influx, json};
use crate::collect::{MAX_POINTS, text};
use crate::record::{ErrorKind, Point, RunError, Value};

/// One record must stay below 16 KiB when stored; this is what its parts may sum up to.
const MAX_RECORD: usize = 15 << 10;
const MAX_TAGS: usize = 64;
const MAX_FIELDS: usize = 256;
const MAX_NAME: usize = 200;
const MAX_KEY: usize = 128;
const MAX_TAG: usize = 1024;
/// Stored per tag or field beside its own bytes, at most.
const OVERHEAD: usize = 12;
/// Times are milliseconds; the range is that of the integers which all readers keep exactly.
const TIMES: std::ops::RangeInclusive<i64> = -crate::record::MAX_INT..=crate::record::MAX_INT;

/// What a line gets that does not say it itself.
pub(super) struct Defaults<'a> {
    pub name: &'a str,
    pub ts: i64,
    pub mono: u64,
}

impl Defaults<'_> {
    pub(super) fn point(&self) -> Point {
        Point {
            ts: self.ts,
            mono: self.mono,
            name: Cow::Owned(self.name.to_owned()),
            tags: BTreeMap::new(),
            fields: BTreeMap::new(),
            error: None,
        }
    }

    pub(super) fn failure(&self, error: RunError) -> Point {
        Point { error: Some(error), ..self.point() }
    }
}

/// The points in `stdout`. When the process did not end well (`whole` is false), an unfinished last line is dropped.
pub(super) fn read(stdout: &[u8], whole: bool, format: Format, defaults: &Defaults<'_>) -> Vec<Point> {
    let end = stdout.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let stdout = if whole { stdout } else { &stdout[..end] };
    let mut points = Vec::new();
    let mut first_bad = None;
    let (mut bad, mut over) = (0usize, 0usize);
    let mut format = format;
    for (at, line) in stdout.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || (line.starts_with(b"#") && format != Format::Ndjson) {
            continue;
        }
        if points.len() >= MAX_POINTS {
            over += 1;
            continue;
        }
        if format == Format::Auto {
            format = if line.starts_with(b"{") { Format::Ndjson } else { Format::Influx };
        }
        match read_line(line, format, defaults) {
            Ok(point) => points.push(point),
            Err(reason) => {
                bad += 1;
                first_bad.get_or_insert_with(|| format!("line {}: {reason}: {}", at + 1, text::excerpt(line)));
            }
        }
    }
    if let Some(mut message) = first_bad {
        if bad > 1 {
            message.push_str(&format!(" (and {} more bad lines)", bad - 1));
        }
        points.push(defaults.failure(RunError::new(ErrorKind::Parse, message)));
    }
    if over > 0 {
        let message = format!("{over} lines left out: one run may record {MAX_POINTS}; print less, or less often");
        points.push(defaults.failure(RunError::new(ErrorKind::Output, message)));
    }
    points
}

fn read_line(line: &[u8], format: Format, defaults: &Defaults<'_>) -> Result<Point, String> {
    let line = std::str::from_utf8(line).map_err(|e| format!("not UTF-8 at byte {}", e.valid_up_to() + 1))?;
    let mut point = match format {
        Format::Ndjson => json::parse(line, defaults)?,
        Format::Auto | Format::Influx => influx::parse(line, defaults)?,
    };
    admit(&mut point)?;
    Ok(point)
}

/// Refuses what no record may be, and makes text harmless: control characters in values become U+FFFD.
fn admit(point: &mut Point) -> Result<(), String> {
    if point.fields.is_empty() && point.error.is_none() {
        return Err("no field".to_owned());
    }
    if !TIMES.contains(&point.ts) {
        return Err("time out of range".to_owned());
    }
    key("name", &point.name, MAX_NAME)?;
    count("tags", point.tags.len(), MAX_TAGS)?;
    count("fields", point.fields.len(), MAX_FIELDS)?;
    let mut size = point.name.len() + 100;
    for (name, value) in &mut point.tags {
        key("tag", name, MAX_KEY)?;
        if value.len() > MAX_TAG {
            return Err(format!("tag `{name}` is longer than {MAX_TAG} bytes"));
        }
        size += name.len() + value.len() + OVERHEAD;
        if value.chars().any(char::is_control) {
            *value = Cow::Owned(value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect());
        }
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
    if n > max { Err(format!("{n} {what}, at most {max} are recorded")) } else { Ok(()) }
}
