//! NDJSON, the agent's own format: a line is the record as it travels, less its seq:
//! `{name?, ts?, tags?, fields?, status?, error?}`.
//!
//! Strict: an unknown key is an error that lists the known ones, so that a typing mistake is seen at once. Any other
//! JSON is `json`'s.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::reading::{self, Defaults, Reading};
use super::{HEAD, Likeness, Output, Spec, json};
use crate::record::{ErrorKind, Point, RunError, Status, Value};

pub(super) const SPEC: Spec = Spec {
    name: "ndjson",
    about: "the agent's own: one JSON object a line, {name?, ts?, tags?, fields, status?, error?}",
    exit_is_data: false,
    detect,
    parse,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: Option<String>,
    /// Milliseconds since 1970.
    ts: Option<i64>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    fields: BTreeMap<String, Json>,
    status: Option<Status>,
    error: Option<RunError>,
}

/// Enough of an object to know one with `fields` that is an object itself.
#[derive(Deserialize)]
struct WithFields {
    #[expect(dead_code, reason = "that it can be read is what is asked")]
    fields: Object,
}

#[derive(Deserialize)]
struct Object {}

/// The err record of a script: nothing but our keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyOurs {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "ts")]
    _ts: Option<IgnoredAny>,
    #[serde(rename = "tags")]
    _tags: Option<IgnoredAny>,
    status: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

/// Objects of which at least one is a line of ours; a document whose first value spans lines is `json`'s.
fn detect(output: &Output<'_>) -> Likeness {
    let mut lines = output.lines().map(|(_, line)| line).skip_while(|line| line.starts_with(b"#")).peekable();
    if lines.peek().is_none_or(|line| !line.starts_with(b"{")) || json::first_value_spans_lines(output) {
        return Likeness::No;
    }
    if lines.take(HEAD).any(is_record) { Likeness::Surely } else { Likeness::No }
}

fn is_record(line: &[u8]) -> bool {
    let only_ours = || serde_json::from_slice::<OnlyOurs>(line).is_ok_and(|o| o.status.is_some() || o.error.is_some());
    line.starts_with(b"{") && (serde_json::from_slice::<WithFields>(line).is_ok() || only_ours())
}

fn parse(output: &Output<'_>, reading: &mut Reading<'_>) {
    for (at, line) in output.lines().filter(|(_, line)| !line.starts_with(b"#")) {
        let point = reading::utf8(line).and_then(|line| parse_line(line, reading.defaults()));
        reading.line(at, line, point);
    }
}

fn parse_line(line: &str, defaults: &Defaults<'_>) -> Result<Point, String> {
    let line: Line = serde_json::from_slice(line.as_bytes()).map_err(|e| e.to_string())?;
    let mut point = defaults.point();
    if let Some(name) = line.name {
        point.name = Cow::Owned(name);
    }
    point.ts = line.ts.unwrap_or(point.ts);
    point.tags = line.tags.into_iter().map(|(k, v)| (Cow::Owned(k), Cow::Owned(v))).collect();
    for (name, json) in line.fields {
        let value = match json {
            // JSON has no other way to say "not measured".
            Json::Null => continue,
            Json::Bool(b) => Value::Bool(b),
            Json::String(s) => Value::Str(s),
            Json::Number(n) => number(&n).ok_or_else(|| format!("field `{name}` is no finite number"))?,
            Json::Array(_) | Json::Object(_) => {
                return Err(format!("field `{name}` is a list or an object; fields are numbers, strings or booleans"));
            }
        };
        point.fields.insert(Cow::Owned(name), value);
    }
    point.error = match (line.status, line.error) {
        (Some(Status::Ok), Some(_)) => return Err("`error` beside `status: \"ok\"`".to_owned()),
        (Some(Status::Err), None) => Some(RunError::new(ErrorKind::Other, "the script gave no reason")),
        (_, error) => error,
    };
    Ok(point)
}

fn number(n: &serde_json::Number) -> Option<Value> {
    match (n.as_i64(), n.as_u64()) {
        (Some(i), _) => Some(Value::int(i)),
        (None, Some(u)) => Some(Value::uint(u)),
        (None, None) => n.as_f64().and_then(Value::float),
    }
}
