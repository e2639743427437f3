//! Output of monitoring plugins (Nagios, Icinga, monitoring-plugins): a status line, longer text, performance data, and
//! the exit code as the state: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
//!
//! Names are Telegraf's, so that its boards can be used: a record `nagios_state` with `state`, `service_output` and
//! `long_service_output`, and a record `nagios` for each item of performance data, tagged `perfdata` and `unit`.
//! Beside them a tag `collector` says which check it was. A run that did not end with a state is UNKNOWN, and its
//! failure is recorded too. Bytes that are no UTF-8 are replaced: a check's state is never lost for its text.

use std::borrow::Cow;

use super::reading::{self, Reading};
use super::{Likeness, Output, Spec, perfdata};
use crate::record::{Point, Value};

pub(super) const SPEC: Spec = Spec {
    name: "nagios",
    about: "output of a monitoring plugin: text | performance data, with the exit code as the state",
    exit_is_data: true,
    detect,
    parse,
};

const UNKNOWN: i32 = 3;
/// As much of the texts as is kept, in bytes; both fit one record.
const MAX_OUTPUT: usize = 4 << 10;
const MAX_LONG_OUTPUT: usize = 8 << 10;

/// Where packages put plugins.
const FOLDERS: [&str; 3] = ["/nagios/plugins/", "/monitoring-plugins/", "/nagios/libexec/"];
/// How a status line names a state; the position is the exit code.
const STATES: [&[&str]; 4] = [&["OK"], &["WARNING", "WARN"], &["CRITICAL", "CRIT"], &["UNKNOWN"]];
/// A status word is one of the first few: `DISK OK - ..`, `WARNING: ..`, `SSL CERT CRITICAL - ..`.
const STATUS_WITHIN: usize = 4;

fn detect(output: &Output<'_>) -> Likeness {
    let Some((_, first)) = output.lines().next() else { return Likeness::No };
    let first = String::from_utf8_lossy(first);
    let state = output.exit.and_then(|code| STATES.get(usize::try_from(code).ok()?));
    if is_plugin(output.program) {
        return Likeness::Probably;
    }
    match (state, first.split_once('|')) {
        (Some(_), Some((_, data))) if perfdata::is_plain(data) => Likeness::Probably,
        (Some(state), _) if words(&first).take(STATUS_WITHIN).any(|word| state.contains(&word)) => Likeness::Perhaps,
        _ => Likeness::No,
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// By its name, `check_http`, or where it lies.
fn is_plugin(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    name.starts_with("check_") || FOLDERS.iter().any(|folder| program.contains(folder))
}

fn parse(output: &Output<'_>, reading: &mut Reading<'_>) {
    // A plugin that came to its end has said all it had to say, also with an exit code and without a line feed.
    let said = String::from_utf8_lossy(if output.exit.is_some() { output.stdout } else { output.complete() });
    // First of all, so that no amount of performance data can crowd it out.
    let state = state(output, &said, reading);
    if let Err(reason) = reading.add(Ok(state)) {
        reading.refuse_all(reason);
    }
    for (at, data) in pieces(&said).filter_map(|piece| Some((piece.at, piece.data?))) {
        items(at, data, reading);
    }
}

fn state(output: &Output<'_>, said: &str, reading: &Reading<'_>) -> Point {
    let code = output.exit.filter(|code| (0..=UNKNOWN).contains(code)).unwrap_or(UNKNOWN);
    let mut point = named("nagios_state", reading);
    point.fields.insert("state".into(), Value::int(code.into()));
    let mut texts = pieces(said).filter_map(|piece| piece.text);
    let text = reading::cut(texts.next().unwrap_or_default(), MAX_OUTPUT);
    point.fields.insert("service_output".into(), Value::Str(text));
    let mut long = String::new();
    for text in texts {
        if long.len() > MAX_LONG_OUTPUT {
            break;
        }
        long.push_str(text);
        long.push('\n');
    }
    let long = long.trim_end_matches('\n');
    if !long.is_empty() {
        point.fields.insert("long_service_output".into(), Value::Str(reading::cut(long, MAX_LONG_OUTPUT)));
    }
    point
}

fn named(name: &'static str, reading: &Reading<'_>) -> Point {
    let mut point = reading.defaults().point();
    let collector = std::mem::replace(&mut point.name, name.into());
    point.tags.insert("collector".into(), collector);
    point
}

/// All items of one piece of performance data.
fn items(at: usize, mut data: &str, reading: &mut Reading<'_>) {
    while let Some((item, rest)) = perfdata::next(data) {
        let text = data.as_bytes();
        data = rest;
        let item = match item {
            Ok(Some(item)) if reading.has_room() => item,
            Ok(_) => continue,
            Err(reason) => {
                reading.refuse(at, text, reason);
                continue;
            }
        };
        let mut point = named("nagios", reading);
        let (fields, problem) = item.fields();
        point.fields = fields;
        point.tags.insert("perfdata".into(), Cow::Owned(item.label));
        if !item.unit.is_empty() {
            point.tags.insert("unit".into(), Cow::Owned(item.unit.to_owned()));
        }
        reading.line(at, text, Ok(point));
        if let Some(problem) = problem {
            reading.refuse(at, text, problem);
        }
    }
}

/// What a line holds.
struct Piece<'a> {
    at: usize,
    text: Option<&'a str>,
    data: Option<&'a str>,
}

/// `output | data`, then lines of long output up to one with a `|`, after which all is data. Plugins that put a `|`
/// into each line of their long output are understood too. The first piece has a text, though it may be empty.
fn pieces(said: &str) -> impl Iterator<Item = Piece<'_>> {
    let lines = said.lines().zip(1..);
    lines.scan(false, |only_data, (line, at)| {
        let (text, data) = split(line);
        Some(match data {
            None if *only_data => Piece { at, text: None, data: Some(text) },
            _ => {
                *only_data = at > 1 && data.is_some();
                Piece { at, text: Some(text).filter(|text| at == 1 || data.is_none() || !text.is_empty()), data }
            }
        })
    })
}

/// Text and data. What follows a `|` without a single `=` is text: many a plugin quotes a line of somebody's log.
fn split(line: &str) -> (&str, Option<&str>) {
    match line.split_once('|') {
        Some((text, data)) if data.contains('=') || data.trim().is_empty() => (text.trim(), Some(data)),
        _ => (line.trim(), None),
    }
}
