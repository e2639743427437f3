//! What `tail` says, one line each: records and everything that a reader may act on. The shapes are for programs:
//! fields are added, never renamed. Each has a `type`; seqs and times are whole numbers, times in ms since 1970.
//! `docs/tail.md` describes them for users, and the tests hold it to them.
//!
//! Also the one-line text of each for people. Pure; text from the wire is made fit by [`super::text`].

use serde::{Deserialize, Serialize};

use super::summary::Summary;
use super::text::shown;
use super::tracker::{Bound, GapState, Verdict};
use crate::record::{Fields, Record, RunError, Status, Tags, Value};
use crate::wire::{Envelope, Lane, LossReason, State};

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    Record(RecordLine),
    /// A copy of a `holdover.event` record, sent apart so that nobody has to read all data for it.
    Event(RecordLine),
    Gap(GapLine),
    Loss(LossLine),
    Epoch(EpochLine),
    Status(StatusLine),
    Bad(BadLine),
    /// The tracker's memory is full: from here on less can be told.
    Bound(BoundLine),
    Summary(Box<Summary>),
}

#[derive(Clone, Debug, Serialize)]
pub struct RecordLine {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub seq: u64,
    pub ts: i64,
    /// `ts` in RFC 3339, UTC; absent when it is no date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    pub name: String,
    pub status: Status,
    pub tags: Tags,
    pub fields: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// Whether the host's clock was synchronised when the record was made.
    pub synced: bool,
    pub lane: Lane,
    /// Absent on events, which are copies and not tracked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictWord>,
    pub topic: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VerdictWord {
    New,
    Duplicate,
    Late,
    Untracked,
}

/// Missing seqs, said when they become missing and again when they are confirmed.
#[derive(Clone, Debug, Serialize)]
pub struct GapLine {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub count: u64,
    pub state: GapWord,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapWord {
    Pending,
    Open,
    Confirmed,
}

/// Seqs that the host declared lost, as far as it is news.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossLine {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub from: u64,
    pub to: Option<u64>,
    pub reason: LossReason,
}

/// The first message of an epoch.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    pub host: String,
    pub site: String,
    pub epoch: u64,
    pub previous: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct StatusLine {
    pub host: String,
    pub site: String,
    pub state: State,
    /// Kept by the broker from before we listened.
    pub retained: bool,
    /// What follows is known of an online host only.
    #[serde(flatten)]
    pub online: Option<OnlineLine>,
}

#[derive(Clone, Debug, Serialize)]
pub struct OnlineLine {
    pub sent: i64,
    pub version: String,
    pub epoch: u64,
    pub next_seq: u64,
    pub backlog: u64,
    pub oldest: Option<i64>,
    pub eta_s: Option<u64>,
    pub level: String,
    pub problems: Vec<String>,
}

/// A message that was not used.
#[derive(Clone, Debug, Serialize)]
pub struct BadLine {
    pub topic: String,
    pub bytes: usize,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct BoundLine {
    pub host: String,
    pub bound: &'static str,
    pub consequence: &'static str,
}

impl From<Verdict> for VerdictWord {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::New => Self::New,
            Verdict::Duplicate => Self::Duplicate,
            Verdict::Late => Self::Late,
            Verdict::Untracked => Self::Untracked,
        }
    }
}

impl From<GapState> for GapWord {
    fn from(state: GapState) -> Self {
        match state {
            GapState::Pending => Self::Pending,
            GapState::Open => Self::Open,
            GapState::Confirmed => Self::Confirmed,
        }
    }
}

impl BoundLine {
    pub fn new(host: &str, bound: Bound) -> Self {
        let (bound, consequence) = match bound {
            Bound::Hosts => ("hosts", "records of further hosts are shown but not tracked"),
            Bound::Epochs => ("epochs", "the epoch heard least recently is forgotten; what it misses stays counted"),
            Bound::Ranges => ("ranges", "the smallest ranges are forgotten; missing ones stay counted"),
        };
        Self { host: host.to_owned(), bound, consequence }
    }
}

impl RecordLine {
    pub fn new(envelope: &Envelope, record: Record, verdict: Option<Verdict>, topic: &str) -> Self {
        Self {
            host: envelope.host.clone(),
            site: envelope.site.clone(),
            epoch: envelope.epoch,
            seq: record.seq,
            ts: record.ts,
            time: time_of(record.ts),
            name: record.name.into_owned(),
            status: record.status,
            tags: record.tags,
            fields: record.fields,
            error: record.error,
            synced: envelope.synced,
            lane: envelope.lane,
            verdict: verdict.map(VerdictWord::from),
            topic: topic.to_owned(),
        }
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub fn time_of(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|t| format!("{t:.3}"))
}

impl Line {
    /// One line for a person, at most `width` columns.
    pub fn text(&self, width: usize) -> String {
        let text = match self {
            Self::Record(r) | Self::Event(r) => record_text(r),
            Self::Gap(g) => {
                let GapLine { host, epoch, from, to, count, state, .. } = g;
                let what = match state {
                    GapWord::Pending => "expected from the host's backlog",
                    GapWord::Open => "not here yet",
                    GapWord::Confirmed => "MISSING: two heartbeats neither promise nor declare them",
                };
                format!("gap      {host} seq {from}..={to} ({count} records) of epoch {epoch}: {what}")
            }
            Self::Loss(LossLine { host, epoch, from, to, reason, .. }) => {
                let to = to.map_or_else(|| "?".to_owned(), |to| to.to_string());
                format!("loss     {host} seq {from}..={to} of epoch {epoch} declared lost: {}", word(reason))
            }
            Self::Epoch(EpochLine { host, epoch, previous: None, .. }) => {
                format!("epoch    {host} is at epoch {epoch}")
            }
            Self::Epoch(EpochLine { host, epoch, previous: Some(previous), .. }) => {
                format!("epoch    {host} has a new outbox: epoch {epoch} after {previous}")
            }
            Self::Status(s) => status_text(s),
            Self::Bad(BadLine { topic, bytes, reason }) => {
                format!("bad      {topic} ({bytes} bytes): {reason}")
            }
            Self::Bound(BoundLine { host, bound, consequence }) => {
                format!("bound    {host}: too many {bound}; {consequence}")
            }
            Self::Summary(s) => s.verdict_text(),
        };
        shown(&text, width)
    }
}

fn record_text(r: &RecordLine) -> String {
    let clock = r.time.as_deref().and_then(|t| t.get(11..19)).unwrap_or("--:--:--");
    let verdict = r.verdict.map_or("event", |v| match v {
        VerdictWord::New => "new",
        VerdictWord::Duplicate => "dup",
        VerdictWord::Late => "late",
        VerdictWord::Untracked => "?",
    });
    let mut text = format!("{clock} {verdict:<5} {} #{} {}", r.host, r.seq, r.name);
    for (name, value) in &r.tags {
        text.push_str(&format!(" {name}={value}"));
    }
    if let Some(error) = &r.error {
        return text + &format!(" ERR {}: {}", word(&error.kind), error.message);
    }
    for (name, value) in &r.fields {
        let value = match value {
            Value::Bool(v) => v.to_string(),
            Value::Int(v) => v.to_string(),
            Value::Float(v) => v.to_string(),
            Value::Str(v) => format!("{v:?}"),
        };
        text.push_str(&format!(" {name}={value}"));
    }
    text
}

fn status_text(s: &StatusLine) -> String {
    let kept = if s.retained { " (kept by the broker)" } else { "" };
    match &s.online {
        None => format!("status   {} is offline{kept}", s.host),
        Some(o) => {
            let problems = if o.problems.is_empty() { String::new() } else { format!("; {}", o.problems.join("; ")) };
            format!(
                "status   {} is online{kept}: next seq {}, backlog {}, level {}{problems}",
                s.host, o.next_seq, o.backlog, o.level
            )
        }
    }
}

/// The word that stands for `value` on the wire.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests;
