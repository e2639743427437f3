//! Where records end up. A sink is one file here and one line in [`SINKS`].
//!
//! A batch is `begin`, `write` for each record (and `correct`, rarely), `flush`; then the ledger commits the batch's seqs together with the
//! position that `flush` returned. A batch that fails is taken back by the next `begin`. What else lies beyond the
//! ledger's position is never dropped, for it cannot be told a crash between the two commits from an older ledger that was
//! put back: the ledger learns it by `beyond` as stored. Both make a record stored once. A sink with transactions of its own
//! may keep the ledger's rows in them instead.

pub mod ndjson;

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Now;
use crate::record::Record;
use crate::wire::Envelope;

/// One record on its way into a sink. Its envelope's own list is empty.
#[derive(Debug)]
pub struct Stored<'a> {
    pub envelope: &'a Envelope,
    pub record: &'a Record,
    pub topic: &'a str,
    /// Milliseconds since 1970: `ts`, or better when the host's clock was wrong.
    pub time_ms: i64,
    pub corrected: bool,
}

/// The true time of records that were written before it was known: `offset_ms` + `mono` for all of this boot that were
/// made under a clock that was not synchronised and have no better time. Comes once for a boot.
#[derive(Debug)]
pub struct Correction<'a> {
    pub host: &'a str,
    pub site: &'a str,
    pub boot: &'a str,
    pub offset_ms: i64,
}

/// A part of what is stored and the ledger does not know, in the order in which it was stored.
#[derive(Debug, PartialEq)]
pub struct Beyond {
    pub rows: Vec<Found>,
    /// It was stored then or later, ms since 1970.
    pub since_ms: i64,
    /// The position behind it.
    pub position: String,
}

#[derive(Debug, PartialEq)]
pub enum Found {
    Record {
        host: String,
        site: String,
        epoch: u64,
        seq: u64,
        /// The boot, where the clock was not synchronised, and what `mono` was given to be the time.
        boot: Option<(String, Option<i64>)>,
    },
    Correction {
        host: String,
        boot: String,
        offset_ms: i64,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {source}")]
pub struct SinkError {
    pub what: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

/// How a batch can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Begun {
    Ready,
    /// Something lies behind the position that no failed batch of this process left there: it is to be learnt by
    /// [`Sink::beyond`] before anything is written behind it.
    Beyond,
}

pub trait Sink: Send {
    /// At the start, and when a batch begins [`Begun::Beyond`]: the next part of what lies behind `durable`, made durable; `None` when there is no more.
    fn beyond(&mut self, durable: Option<&str>) -> Result<Option<Beyond>, SinkError> {
        let _ = durable;
        Ok(None)
    }
    /// Starts a batch behind `durable`, the position of the ledger's last commit (`None`: it has none).
    fn begin(&mut self, durable: Option<&str>, now: Now) -> Result<Begun, SinkError>;
    fn write(&mut self, record: &Stored<'_>) -> Result<(), SinkError>;
    /// A sink that can change what it has written does so; another adds the correction.
    fn correct(&mut self, correction: &Correction<'_>) -> Result<(), SinkError>;
    /// Makes the batch durable; returns the position behind it.
    fn flush(&mut self) -> Result<String, SinkError>;
}

/// What a sink is told at its start.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    pub dir: PathBuf,
    /// A file is closed when it is this large or this old.
    pub file_bytes: u64,
    pub file_age: Duration,
}

pub struct SinkKind {
    pub name: &'static str,
    pub open: fn(&SinkOptions) -> Result<Box<dyn Sink>, SinkError>,
}

pub const SINKS: &[SinkKind] = &[SinkKind { name: "ndjson", open: ndjson::open }];
