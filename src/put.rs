//! What an application and the agent say to each other over the socket of `[put]`; docs/put.md is the page for those who
//! write another end of it.
//!
//! One connection is one batch: a line of JSON that says whose and in which format, lines, the end of the stream; then
//! one JSON document back. Both ends take their bounds from here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::collect::exec::Lines;
use crate::collect::text::clean;
use crate::record::{Point, Tags};
use crate::wire::check_name;

#[cfg(feature = "schema")]
mod schema;

#[cfg(feature = "schema")]
pub use schema::schemas;

/// Version of the conversation.
pub const VERSION: u8 = 1;
/// File name of the socket within the outbox directory, unless configured.
pub const SOCKET: &str = "put.sock";
/// The first line, at most.
pub const MAX_HEADER: usize = 8 << 10;
/// All lines after it, with their line ends.
pub const MAX_BATCH: usize = 32 << 10;
const MAX_LINES: usize = 256;
/// What the header's tags may take in all the records of a batch, and beside their own bytes each.
const TAGS_ROOM: usize = 64 << 10;
const TAG_OVERHEAD: usize = 64;
const MAX_TAGS: usize = 32;
/// Of what a person is told: it may quote what was sent.
const MAX_MESSAGE: usize = 500;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub put: u8,
    /// Names the live topic, and records that do not name themselves.
    pub collector: String,
    #[serde(default)]
    pub format: Lines,
    /// For each record that has no such tag of its own.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Header {
    /// How many lines a batch may have: the tags of the header are in each record.
    pub fn max_lines(&self) -> usize {
        let cost: usize = self.tags.iter().map(|(name, value)| name.len() + value.len() + TAG_OVERHEAD).sum();
        MAX_LINES.min(TAGS_ROOM / cost.max(1))
    }

    /// Whether it can be served at all.
    pub fn check(&self) -> Result<(), Trouble> {
        if self.put != VERSION {
            return Err(Trouble::invalid(format!("`put` is {}, this agent knows {VERSION}", self.put)));
        }
        check_name(&self.collector).map_err(|error| Trouble::invalid(format!("collector: {error}")))?;
        if self.collector == "holdover" {
            return Err(Trouble::invalid("collector: \"holdover\" is the agent's own name: choose another"));
        }
        if self.tags.len() > MAX_TAGS || self.max_lines() == 0 {
            return Err(Trouble::invalid(format!("more than {MAX_TAGS} tags, or too long ones, for all records")));
        }
        Ok(())
    }
}

/// Why nothing of a batch was stored, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trouble {
    pub kind: Kind,
    /// One line for a person.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sent again it would be refused again.
    Invalid,
    /// Nothing was stored; the same lines are welcome in smaller batches.
    Oversize,
    /// Nothing was stored; the same is welcome after a moment.
    Busy,
    /// Nothing was stored; the same is welcome when somebody has mended something.
    Unwritable,
    /// It may be stored yet: sent again it may be there twice.
    Unknown,
}

impl Trouble {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: clean(message.into().as_bytes(), MAX_MESSAGE) }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }
}

/// The answer to a batch. `stored` records are durable when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    pub stored: u64,
    /// Of `seqs`; null when nothing was stored.
    pub epoch: Option<u64>,
    /// First and last of each range, in the order of the lines.
    pub seqs: Vec<(u64, u64)>,
    pub refused: Vec<Refused>,
    /// Set, nothing was stored of the lines that are not refused.
    pub error: Option<Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refused {
    /// 1 is the line after the header.
    pub line: usize,
    pub reason: String,
}

/// A batch as it came.
#[derive(Debug)]
pub struct Batch {
    pub collector: String,
    pub points: Vec<Point>,
    pub refused: Vec<Refused>,
}

/// Reads a whole batch. A last line without its end is refused: whoever wrote it was cut short.
pub fn read(bytes: &[u8], now: &Now) -> Result<Batch, Trouble> {
    let end = bytes.iter().position(|&b| b == b'\n').filter(|end| *end <= MAX_HEADER);
    let end = end.ok_or_else(|| Trouble::invalid(format!("no first line of at most {MAX_HEADER} bytes")))?;
    let header: Header = serde_json::from_slice(&bytes[..end])
        .map_err(|error| Trouble::invalid(format!("the first line is no header of a put: {error}")))?;
    header.check()?;
    let body = &bytes[end + 1..];
    let lines = body.iter().filter(|&&b| b == b'\n').count();
    if body.len() > MAX_BATCH || lines > header.max_lines() {
        let message = format!("a batch may have {MAX_BATCH} bytes and, with these tags, {} lines", header.max_lines());
        return Err(Trouble::new(Kind::Oversize, message));
    }
    let tags: Tags = header.tags.iter().map(|(k, v)| (k.clone().into(), v.clone().into())).collect();
    let (mut points, mut refused) = (Vec::new(), Vec::new());
    for (at, line) in body.split_inclusive(|&b| b == b'\n').enumerate() {
        let whole = line.strip_suffix(b"\n").ok_or_else(|| "it has no line end: it may be cut short".to_owned());
        match whole.and_then(|line| header.format.read(line, &header.collector, &tags, now)) {
            Ok(point) => points.extend(point),
            Err(reason) => refused.push(Refused { line: at + 1, reason: clean(reason.as_bytes(), MAX_MESSAGE) }),
        }
    }
    Ok(Batch { collector: header.collector, points, refused })
}

#[cfg(test)]
mod tests;
