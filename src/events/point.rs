//! What the record of an event says.

use super::Step;
use super::rule::Rule;
use crate::clock::Now;
use crate::record::{Fields, Point, RunError, Tags, Value};
use crate::wire::EVENT_NAME;

/// Of the text, in bytes.
const MAX_TEXT: usize = 1024;
/// Of the series' own tags.
const MAX_TAGS: usize = 16;

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

/// An alarm; `of` is the point with the value, whose tags are the event's too.
pub fn alarm(rule: &Rule, what: What, of: Option<&Point>, message: String, now: &Now) -> Point {
    let mut event = event(&rule.collector, what, message, now);
    event.tags.insert("alarm".into(), rule.name.to_string().into());
    event.tags.insert("severity".into(), rule.severity.clone().into());
    for (name, value) in of.iter().flat_map(|point| &point.tags).take(MAX_TAGS) {
        event.tags.entry(name.clone()).or_insert_with(|| value.clone());
    }
    event.fields.insert("limit".into(), Value::Float(rule.bound.limit));
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
pub fn crossed(rule: &Rule, raised: bool, of: &Point, value: f64, now: &Now) -> Point {
    let what = if raised { What::Raised } else { What::Cleared };
    let side = if rule.bound.above { "above" } else { "below" };
    let state =
        if raised { format!("{side} {}", rule.bound.limit) } else { format!("no longer {side} {}", rule.bound.limit) };
    let said = rule.message.as_ref().map(|text| format!("{text}: ")).unwrap_or_default();
    let message = format!("{}: {said}{} of {} is {value}, {state}", rule.name, rule.field, series(of));
    let mut event = alarm(rule, what, Some(of), message, now);
    event.fields.insert("value".into(), Value::Float(value));
    event
}

/// A name for what the point is a value of.
pub fn series(point: &Point) -> String {
    let mut name = point.name.to_string();
    for (tag, value) in &point.tags {
        name.push(' ');
        name.push_str(tag);
        name.push('=');
        name.push_str(value);
    }
    name
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
