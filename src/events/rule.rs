//! One configured alarm: which values it looks at, and from where to where it holds.

use std::sync::Arc;
use std::time::Duration;

use crate::record::{Point, Value};

/// What of a collector's records is watched, and when that is an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Arc<str>,
    pub collector: Arc<str>,
    /// The records' name; any unless given.
    pub record: Option<String>,
    /// Each must be there with this value.
    pub tags: Vec<(String, String)>,
    pub field: String,
    pub bound: Bound,
    /// Consecutive runs beyond the limit before it is raised, at least 1.
    pub runs: u32,
    /// How long it must have been beyond the limit.
    pub lasting: Duration,
    pub severity: String,
    pub message: Option<String>,
}

/// Raised beyond `limit`, over only at `clear` or on its other side: what lies between changes nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Else below.
    pub above: bool,
    pub limit: f64,
    pub clear: f64,
}

impl Bound {
    pub fn is_beyond(&self, value: f64) -> bool {
        if self.above { value > self.limit } else { value < self.limit }
    }

    pub fn is_clear(&self, value: f64) -> bool {
        !self.is_beyond(value) && if self.above { value <= self.clear } else { value >= self.clear }
    }
}

impl Rule {
    /// The value that counts, if the point is one of those watched.
    pub fn value(&self, point: &Point) -> Option<f64> {
        let named = self.record.as_ref().is_none_or(|name| *name == point.name);
        let tagged = |(name, value): &(String, String)| point.tags.get(name.as_str()).is_some_and(|v| v == value);
        if point.error.is_some() || !named || !self.tags.iter().all(tagged) {
            return None;
        }
        match point.fields.get(self.field.as_str())? {
            Value::Bool(value) => Some(f64::from(u8::from(*value))),
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Str(_) => None,
        }
    }
}
