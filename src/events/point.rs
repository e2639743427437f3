//! What the record of an event says.

use ring::digest::{SHA256, digest};

use super::Step;
use super::rule::Rule;
use super::state::Series;
use super::told::Key;
use crate::clock::Now;
use crate::record::{Fields, Point, RunError, Tags, Value};
use crate::wire::EVENT_NAME;

/// Of the text, in bytes.
const MAX_TEXT: usize = 1024;
/// Of the series' own tags: how many, how much of each value, and bytes of all. With the text an event is far from too
/// large to be stored.
const MAX_TAGS: usize = 16;
const MAX_TAG: usize = 256;
const MAX_TAG_BYTES: usize = 2048;
/// The name of a series, in bytes; of a longer one the hash tells it from others.
const MAX_SERIES_NAME: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Failed,
    Recovered,
    Raised,
    Cleared,
    Degraded,
    Eased,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "collector-failed",
            Self::Recovered => "collector-recovered",
            Self::Raised => "alarm-raised",
            Self::Cleared => "alarm-cleared",
            Self::Degraded => "agent-degraded",
            Self::Eased => "agent-recovered",
        }
    }
}

/// A collector that fails, or no longer does.
pub fn collector(name: &str, what: What, error: Option<&RunError>, message: String, now: &Now) -> Point {
    let mut event = event(name, what, message, now);
    if let Some(kind) = error.and_then(|error| serde_json::to_value(error.kind).ok()) {
        event.fields.insert("kind".into(), Value::Str(kind.as_str().unwrap_or("other").to_owned()));
    }
    event
}

/// An alarm, with the tags of its series and a name for the series that is the same in each of its events.
pub fn alarm(rule: &Rule, what: What, key: Key, tags: &Tags, message: String, now: &Now) -> Point {
    let mut event = event(&rule.collector, what, message, now);
    event.tags.insert("alarm".into(), rule.name.to_string().into());
    event.tags.insert("severity".into(), rule.severity.clone().into());
    for (name, value) in tags {
        event.tags.entry(name.clone()).or_insert_with(|| value.clone());
    }
    event.fields.insert("limit".into(), Value::Float(rule.bound.limit));
    event.fields.insert("series".into(), Value::Str(key.word()));
    event
}

/// A series that is over though its value did not come back; with the value that was measured last.
pub fn ended(rule: &Rule, series: &Series, message: String, now: &Now) -> Point {
    let mut event = alarm(rule, What::Cleared, series.key, &series.tags, message, now);
    event.fields.extend(series.last.map(|value| ("value".into(), Value::Float(value))));
    event
}

/// The agent itself, beyond its own limits or less so.
pub fn step(step: Step, now: &Now) -> Point {
    let what = if step.up { What::Degraded } else { What::Eased };
    let mut event = event(&step.collector, what, step.message, now);
    event.fields.extend(step.fields);
    event
}

/// A value that went beyond the limit, or came back.
pub fn crossed(rule: &Rule, raised: bool, of: &Series, name: &str, value: f64, now: &Now) -> Point {
    let what = if raised { What::Raised } else { What::Cleared };
    let side = if rule.bound.above { "above" } else { "below" };
    let state =
        if raised { format!("{side} {}", rule.bound.limit) } else { format!("no longer {side} {}", rule.bound.limit) };
    let said = rule.message.as_ref().map(|text| format!("{text}: ")).unwrap_or_default();
    let message = format!("{}: {said}{} of {name} is {value}, {state}", rule.name, rule.field);
    let mut event = alarm(rule, what, of.key, &of.tags, message, now);
    event.fields.insert("value".into(), Value::Float(value));
    event
}

/// A name for what the point is a value of: the same for the same tags, another for others, and bounded.
pub fn series(point: &Point) -> String {
    let mut name = point.name.to_string();
    for (tag, value) in &point.tags {
        name.push(' ');
        name.push_str(tag);
        name.push('=');
        name.push_str(value);
    }
    if name.len() > MAX_SERIES_NAME {
        let hash = digest(&SHA256, name.as_bytes());
        name.truncate(name.floor_char_boundary(MAX_SERIES_NAME - 32));
        name.push_str(" #");
        name.extend(hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")));
    }
    name
}

/// As many of the tags as an event may have.
pub fn bounded(tags: &Tags) -> Tags {
    let mut room = MAX_TAG_BYTES;
    let mut some = Tags::new();
    for (name, value) in tags.iter().take(MAX_TAGS) {
        let value = &value[..value.floor_char_boundary(MAX_TAG)];
        if let Some(left) = room.checked_sub(name.len() + value.len()) {
            room = left;
            some.insert(name.clone(), value.to_owned().into());
        }
    }
    some
}

fn event(collector: &str, what: What, mut message: String, now: &Now) -> Point {
    message.truncate(message.floor_char_boundary(MAX_TEXT));
    Point {
        ts: now.wall_ms,
        mono: now.boot_ms(),
        name: EVENT_NAME.into(),
        tags: Tags::from([("collector".into(), collector.to_owned().into()), ("event".into(), what.name().into())]),
        fields: Fields::from([("message".into(), Value::Str(message))]),
        error: None,
    }
}
