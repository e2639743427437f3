//! One line of NDJSON: the record as it travels, less its seq: `{name?, ts?, tags?, fields?, status?, error?}`.
//! Strict: an unknown key is an error that lists the known ones, so that a typing mistake is seen at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::output::Defaults;
use crate::record::{ErrorKind, Point, RunError, Status, Value};

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

pub(super) fn parse(line: &str, defaults: &Defaults<'_>) -> Result<Point, String> {
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
