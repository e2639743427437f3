//! NDJSON, the agent's own format: a line is the record as it travels, less its seq:
//! `{name?, ts?, tags?, fields?, status?, error?}`.
//!
//! Strict: an unknown key is an error that lists the known ones, so that a typing mistake is seen at once. Any other
//! JSON is `json`'s.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::reading::{self, Defaults, MAX_FIELDS, MAX_KEY, MAX_TAGS, Reading};
use super::{HEAD, Likeness, Output, Spec, json};
use crate::collect::text;
use crate::record::{ErrorKind, Point, RunError, Status, Value};

pub(super) const SPEC: Spec = Spec {
    name: "ndjson",
    about: "the agent's own: one JSON object a line, {name?, ts?, tags?, fields, status?, error?}",
    exit_is_data: false,
    detect,
    parse,
};

/// Public for its schema.
#[derive(serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What was measured; the collector's name unless given.
    name: Option<String>,
    /// Milliseconds since 1970; now unless given.
    ts: Option<i64>,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, String>", extend("maxProperties" = MAX_TAGS)))]
    tags: Bounded<String, MAX_TAGS>,
    /// Null: not measured.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Option<Value>>", extend("maxProperties" = MAX_FIELDS)))]
    fields: Bounded<Option<Value>, MAX_FIELDS>,
    status: Option<Status>,
    error: Option<RunError>,
}

/// Enough of an object to know one with `fields` that is an object itself.
#[derive(serde::Deserialize)]
struct WithFields {
    #[expect(dead_code, reason = "that it can be read is what is asked")]
    fields: Object,
}

#[derive(serde::Deserialize)]
struct Object {}

/// The err record of a script: nothing but our keys.
#[derive(serde::Deserialize)]
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
        if reading.has_room() {
            let point = reading::utf8(line).and_then(|line| parse_line(line, reading.defaults()));
            reading.line(at, line, point);
        }
    }
}

pub(super) fn parse_line(line: &str, defaults: &Defaults<'_>) -> Result<Point, String> {
    let line: Line = serde_json::from_slice(line.as_bytes()).map_err(|e| e.to_string())?;
    let mut point = defaults.point();
    if let Some(name) = line.name {
        point.name = Cow::Owned(name);
    }
    point.ts = line.ts.unwrap_or(point.ts);
    point.tags = line.tags.0.into_iter().map(|(k, v)| (Cow::Owned(k), Cow::Owned(v))).collect();
    // JSON has no other way than null to say "not measured".
    point.fields = line.fields.0.into_iter().filter_map(|(name, value)| Some((Cow::Owned(name), value?))).collect();
    point.error = match (line.status, line.error) {
        (Some(Status::Ok), Some(_)) => return Err("`error` beside `status: \"ok\"`".to_owned()),
        (Some(Status::Err), None) => Some(RunError::new(ErrorKind::Other, "the script gave no reason")),
        (_, error) => error,
    };
    Ok(point)
}

/// A map that takes no more memory than a record may have.
struct Bounded<V, const MAX: usize>(BTreeMap<String, V>);

impl<V, const MAX: usize> Default for Bounded<V, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<V, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de, V: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<V, MAX> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value().map_err(|error| {
                A::Error::custom(format_args!("`{}`: {error}", text::clean(name.as_bytes(), MAX_KEY)))
            })?;
            self.0.insert(name, value);
            if self.0.len() > MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} in one object")));
            }
        }
        Ok(self)
    }
}
