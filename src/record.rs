//! The record and what surrounds it: the one vocabulary that every other module shares.
//!
//! A collector makes [`Point`]s; one execution of it is a [`Run`]; the outbox draws a seq for each
//! point inside the append, which makes it a [`Record`]. Nothing here does I/O or knows a format
//! beyond serde's. `strict` holds how fields are read, for the payloads of `wire` too.

pub(crate) mod strict;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

/// A name that is nearly always a literal: metric, tag and field names.
pub type Name = Cow<'static, str>;
/// Tag name to tag value; ordered, so that equal records have equal bytes.
pub type Tags = BTreeMap<Name, Cow<'static, str>>;
/// Field name to value; ordered, so that equal records have equal bytes.
pub type Fields = BTreeMap<Name, Value>;

/// The largest integer that every reader of MessagePack and JSON keeps exactly.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// One field's value. Integers stay within ±[`MAX_INT`], floats are finite: see [`Value::int`], [`Value::float`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
}

impl Value {
    /// An integer, or a float when it needs more than 53 bits (readers in JavaScript and Lua would round it silently).
    pub fn int(value: i64) -> Self {
        if (-MAX_INT..=MAX_INT).contains(&value) { Self::Int(value) } else { Self::Float(value as f64) }
    }

    /// As [`Value::int`], for the unsigned counters of the kernel.
    pub fn uint(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Float(value as f64), Self::int)
    }

    /// A float, or `None` when it is NaN or infinite: one such value makes a whole JSON message unreadable.
    pub fn float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// A ratio in 0..=1, rounded to 1e-4; NaN (nothing measured yet) becomes `None`.
    pub fn ratio(part: f64, whole: f64) -> Option<Self> {
        Self::float((part / whole * 1e4).round() / 1e4)
    }
}

/// By hand, because serde's untagged derive would read MessagePack's bin as text and lose integers above `i64`.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl Visitor<'_> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean, a number or a text")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::uint(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Value::float(value).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &"a finite number"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Str(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Str(value))
    }
}

/// Whether the values of a record may be read. On `Err` a reader skips the fields and may raise an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Err,
}

/// Why a run failed, in one word that a reader can switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ErrorKind {
    Timeout,
    Exit,
    Signal,
    Memory,
    Cpu,
    Output,
    Parse,
    Spawn,
    Permission,
    Unsupported,
    Skipped,
    Panic,
    Processes,
    /// A kind that a newer agent knows and this reader does not.
    #[serde(other)]
    Other,
}

/// The typed reason in a record with `status: "err"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunError {
    #[serde(deserialize_with = "strict::word")]
    pub kind: ErrorKind,
    /// One line for a person: what happened, where, and what to do.
    pub message: String,
}

impl RunError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// One measured point before it has a seq.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Wall clock, milliseconds since 1970.
    pub ts: i64,
    /// Milliseconds since boot, suspend included: true even when the wall clock is not.
    pub mono: u64,
    /// OpenTelemetry-style name, `system.cpu`; dots are allowed here, never in a topic.
    pub name: Name,
    pub tags: Tags,
    pub fields: Fields,
    /// `Some` makes the record `status: "err"`.
    pub error: Option<RunError>,
}

/// One record as it travels: a point with its seq.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Record {
    /// 1, 2, 3 ... within the epoch of its envelope.
    #[serde(deserialize_with = "strict::uint")]
    pub seq: u64,
    /// Wall clock of the host, milliseconds since 1970.
    #[serde(deserialize_with = "strict::int")]
    pub ts: i64,
    /// Milliseconds since that host booted.
    #[serde(deserialize_with = "strict::uint")]
    pub mono: u64,
    /// What was measured, `system.cpu`.
    pub name: Name,
    #[serde(deserialize_with = "strict::word")]
    pub status: Status,
    #[serde(default, deserialize_with = "strict::names")]
    pub tags: Tags,
    #[serde(default, deserialize_with = "strict::names")]
    pub fields: Fields,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::optional_object")]
    pub error: Option<RunError>,
}

/// The `mono` of a point whose `ts` is not of this host's clock: nothing is known of when in this boot that was. Never
/// stored; see [`ClockContext::NO_BOOT`].
pub const NO_MONO: u64 = u64::MAX;

impl Record {
    pub fn new(seq: u64, point: Point) -> Self {
        let Point { ts, mono, name, tags, fields, error } = point;
        let status = if error.is_some() { Status::Err } else { Status::Ok };
        Self { seq, ts, mono, name, status, tags, fields, error }
    }
}

/// The clock context: under which boot, and with which trust in the wall clock, a run's times were taken.
/// A batch on the wire never mixes two of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClockContext {
    /// The kernel's boot id.
    pub boot: Arc<str>,
    /// Whether the wall clock was synchronised when the run was made.
    pub synced: bool,
}

impl ClockContext {
    /// Of records whose time is not of the host's clock while nobody vouches for that clock: whoever puts the times of a boot
    /// right must leave these as they are.
    pub const NO_BOOT: &str = "";
}

/// One execution of a collector: the unit of an append.
#[derive(Clone, Debug)]
pub struct Run {
    /// The configured name of the collector; it names the live topic.
    pub collector: Arc<str>,
    pub context: ClockContext,
    pub points: Vec<Point>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_beyond_53_bits_become_floats() {
        assert_eq!(Value::uint(MAX_INT as u64), Value::Int(MAX_INT));
        assert_eq!(Value::uint(MAX_INT as u64 + 1), Value::Float(9_007_199_254_740_992.0));
        assert_eq!(Value::int(i64::MIN), Value::Float(i64::MIN as f64));
    }

    #[test]
    fn ratios_are_rounded_and_never_nan() {
        assert_eq!(Value::ratio(1.0, 3.0), Some(Value::Float(0.3333)));
        assert_eq!(Value::ratio(0.0, 0.0), None);
        assert_eq!(Value::float(f64::INFINITY), None);
    }
}
