//! Influx line protocol: `measurement[,tag=value...] field=value[,field=value...] [nanoseconds]` a line.
//!
//! Escapes as its specification has them: `\,` and `\ ` in measurements, also `\=` in tag names, tag values and field
//! names, `\"` and `\\` within a quoted string; any other backslash stands for itself. A quoted string that spans lines
//! is not supported.

use std::borrow::Cow;

use super::reading::{self, Defaults, MAX_FIELDS, MAX_TAGS, Reading};
use super::{Likeness, Output, Spec};
use crate::record::{Point, Value};

pub(super) const SPEC: Spec =
    Spec { name: "influx", about: "Influx line protocol, times in nanoseconds", exit_is_data: false, detect, parse };

/// A first line that reads as line protocol is that; noise before it makes it a guess.
fn detect(output: &Output<'_>) -> Likeness {
    let defaults = Defaults { name: "", ts: 0, mono: 0 };
    match output.head().position(|line| parse_line(line, &defaults).is_ok()) {
        Some(0) => Likeness::Surely,
        Some(_) => Likeness::Perhaps,
        None => Likeness::No,
    }
}

fn parse(output: &Output<'_>, reading: &mut Reading<'_>) {
    for (at, line) in output.lines().filter(|(_, line)| !line.starts_with(b"#")) {
        if reading.has_room() {
            let point = reading::utf8(line).and_then(|line| parse_line(line, reading.defaults()));
            reading.line(at, line, point);
        }
    }
}

pub(super) fn parse_line(line: &str, defaults: &Defaults<'_>) -> Result<Point, String> {
    let mut point = defaults.point();
    let (measurement, mut rest) = token(line, &[',', ' ']);
    if measurement.is_empty() {
        return Err("no measurement".to_owned());
    }
    point.name = Cow::Owned(measurement);
    while let Some(tags) = rest.strip_prefix(',') {
        rest = tag(tags, &mut point)?;
    }
    rest = rest.trim_start_matches(' ');
    if rest.is_empty() {
        return Err("no field".to_owned());
    }
    rest = field(rest, &mut point)?;
    while let Some(fields) = rest.strip_prefix(',') {
        rest = field(fields, &mut point)?;
    }
    let time = rest.trim_matches(' ');
    if !time.is_empty() {
        let ns: i64 = time.parse().map_err(|_| format!("`{}` is no time in nanoseconds", first(time)))?;
        point.ts = ns.div_euclid(1_000_000);
    }
    Ok(point)
}

/// `name=value`; returns what follows.
fn tag<'a>(text: &'a str, point: &mut Point) -> Result<&'a str, String> {
    let (name, after) = token(text, &['=', ',', ' ']);
    let after = after.strip_prefix('=').ok_or_else(|| format!("tag `{name}` has no value"))?;
    let (value, after) = token(after, &[',', ' ', '=']);
    if value.is_empty() {
        return Err(format!("tag `{name}` has an empty value"));
    }
    if after.starts_with('=') {
        return Err(format!("`=` in the value of tag `{name}` must be written `\\=`"));
    }
    // One more than a record may have is refused later; no line takes more memory than that.
    if point.tags.len() <= MAX_TAGS {
        point.tags.insert(Cow::Owned(name), Cow::Owned(value));
    }
    Ok(after)
}

/// `name=value`; returns what follows.
fn field<'a>(text: &'a str, point: &mut Point) -> Result<&'a str, String> {
    let (name, after) = token(text, &['=', ',', ' ']);
    let after = after.strip_prefix('=').ok_or_else(|| format!("field `{name}` has no value"))?;
    let (value, after) =
        value(after).ok_or_else(|| format!("the value of field `{name}` is no number, boolean or \"string\""))?;
    if point.fields.len() <= MAX_FIELDS {
        point.fields.insert(Cow::Owned(name), value);
    }
    Ok(after)
}

/// The text up to the first unescaped character of `stops`, unescaped, and what follows, the stop included.
fn token<'a>(text: &'a str, stops: &[char]) -> (String, &'a str) {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if stops.contains(&c) {
            return (out, &text[at..]);
        }
        match chars.peek() {
            Some((_, next @ (',' | ' ' | '='))) if c == '\\' => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    (out, "")
}

/// One field value and what follows it: `,`, a space or the end.
fn value(text: &str) -> Option<(Value, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = string(quoted)?;
        return (rest.is_empty() || rest.starts_with([',', ' '])).then_some((Value::Str(value), rest));
    }
    let end = text.find([',', ' ']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = match word {
        "t" | "T" | "true" | "True" | "TRUE" => Value::Bool(true),
        "f" | "F" | "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match (word.strip_suffix('i'), word.strip_suffix('u')) {
            (Some(n), _) => Value::int(n.parse().ok()?),
            (None, Some(n)) => Value::uint(n.parse().ok()?),
            // Rust also reads `inf` and `nan`, which are no values here.
            (None, None) => Value::float(word.parse().ok()?)?,
        },
    };
    Some((value, rest))
}

/// What stands before the closing quote, unescaped, and what follows the quote.
fn string(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => return Some((out, &text[at + 1..])),
            ('\\', Some((_, next @ ('"' | '\\')))) => {
                out.push(*next);
                chars.next();
            }
            _ => out.push(c),
        }
    }
    None
}

/// A short piece for a message.
fn first(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}
