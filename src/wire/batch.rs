//! Encoding: one record at its append, one message at its publish.
//!
//! Canonical MessagePack: maps with text keys in a fixed order, every integer in its shortest form, floats as
//! 64 bits, no ext, no bin, no array or map longer than it says. Equal records have equal bytes.
//! Writes into memory only; what it is handed has been checked (times, seqs and epochs below 2^53).

use rmp::encode::{
    write_array_len, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str, write_uint,
};

use super::decode::{DecodeError, DecodeLimits, decode_own};
use super::{Chunk, Lane, Loss, LossReason, VERSION};
use crate::record::{ClockContext, ErrorKind, Fields, MAX_INT, Record, RunError, Status, Tags, Value};

/// Everything in the envelope but losses and records.
#[derive(Clone, Debug)]
pub struct BatchHeader<'a> {
    pub host: &'a str,
    pub site: &'a str,
    pub epoch: u64,
    pub context: &'a ClockContext,
    pub anchor: Option<[i64; 2]>,
    pub sent: i64,
    pub lane: Lane,
}

/// Appends the record's MessagePack map (string keys) to `out`. The bytes are final: stored, sent and compared.
///
/// Never fails. A field that is NaN or infinite is left out, and an integer beyond 2^53 becomes a float: neither
/// may be on the wire, see [`Value::float`] and [`Value::int`]. Times beyond 2^53 are clamped.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let mut pack = Pack(out);
    pack.map(7 + u32::from(record.error.is_some()));
    pack.str("seq").uint(record.seq);
    pack.str("ts").int(record.ts);
    pack.str("mono").uint(record.mono);
    pack.str("name").str(&record.name);
    pack.str("status").str(status_name(record.status));
    pack.str("tags").tags(&record.tags);
    pack.str("fields").fields(&record.fields);
    if let Some(error) = &record.error {
        pack.str("error").error(error);
    }
}

/// One MessagePack envelope: header, losses, and the chunks' maps concatenated.
/// Chunks must be of the header's epoch and context. `losses` is left out when there are none.
pub fn encode_batch(header: &BatchHeader<'_>, losses: &[Loss], chunks: &[Chunk]) -> Vec<u8> {
    debug_assert!(chunks.iter().all(|c| c.epoch == header.epoch && &c.context == header.context));
    let maps: usize = chunks.iter().map(|c| c.maps.len()).sum();
    let mut out = Vec::with_capacity(maps + batch_overhead(header, losses.len()));
    let mut pack = Pack(&mut out);
    pack.map(9 + u32::from(header.anchor.is_some()) + u32::from(!losses.is_empty()));
    pack.str("v").uint(u64::from(VERSION));
    pack.str("host").str(header.host);
    pack.str("site").str(header.site);
    pack.str("epoch").uint(header.epoch);
    pack.str("boot").str(&header.context.boot);
    pack.str("synced").bool(header.context.synced);
    if let Some([boot_ms, wall_ms]) = header.anchor {
        pack.str("anchor").array(2).int(boot_ms).int(wall_ms);
    }
    pack.str("sent").int(header.sent);
    pack.str("lane").str(lane_name(header.lane));
    if !losses.is_empty() {
        pack.str("losses").array(losses.len() as u32);
        for loss in losses {
            pack.loss(loss);
        }
    }
    pack.str("records").array(chunks.iter().map(|c| c.count).sum());
    for chunk in chunks {
        out.extend_from_slice(&chunk.maps);
    }
    out
}

/// Bytes of the longest text header (str32), integer or float, and array or map header.
const STR: usize = 5;
const NUMBER: usize = 9;
const COUNT: usize = 5;

/// A loss with every number at its widest and the longest reason.
const LOSS_MAX: usize = 1
    + ("epoch".len() + "from".len() + "to".len() + "count".len() + "reason".len() + "t0".len() + "t1".len() + 7)
    + 6 * NUMBER
    + (1 + "write-failure".len());

/// Everything of a header but its three texts.
const HEADER_MAX: usize = 1
    + ("v".len() + "host".len() + "site".len() + "epoch".len() + "boot".len() + "synced".len() + "anchor".len() + 7)
    + ("sent".len() + "lane".len() + "losses".len() + "records".len() + 4)
    + 1
    + 3 * STR
    + 1
    + (1 + 2 * NUMBER)
    + 2 * NUMBER
    + (1 + "history".len())
    + 2 * COUNT;

/// An upper bound on the bytes that [`encode_batch`] adds to the chunks' maps.
pub fn batch_overhead(header: &BatchHeader<'_>, losses: usize) -> usize {
    HEADER_MAX + header.host.len() + header.site.len() + header.context.boot.len() + losses * LOSS_MAX
}

/// The same message as JSON, for `encoding = "json"`: equal records, other bytes.
///
/// Errors when `msgpack` is no envelope, or one beyond the bytes and depth of the default [`DecodeLimits`].
pub fn transcode_json(msgpack: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let envelope = decode_own(msgpack, &DecodeLimits::default())?;
    serde_json::to_vec(&envelope).map_err(|e| DecodeError::Malformed(e.to_string()))
}

/// A `Vec` takes every byte, so the writers of `rmp` cannot fail here.
struct Pack<'a>(&'a mut Vec<u8>);

const INTO_MEMORY: &str = "writing into a Vec does not fail";

impl Pack<'_> {
    fn map(&mut self, len: u32) -> &mut Self {
        write_map_len(self.0, len).expect(INTO_MEMORY);
        self
    }

    fn array(&mut self, len: u32) -> &mut Self {
        write_array_len(self.0, len).expect(INTO_MEMORY);
        self
    }

    fn str(&mut self, text: &str) -> &mut Self {
        write_str(self.0, text).expect(INTO_MEMORY);
        self
    }

    fn nil(&mut self) -> &mut Self {
        write_nil(self.0).expect(INTO_MEMORY);
        self
    }

    fn bool(&mut self, value: bool) -> &mut Self {
        write_bool(self.0, value).expect(INTO_MEMORY);
        self
    }

    fn uint(&mut self, value: u64) -> &mut Self {
        write_uint(self.0, value.min(MAX_INT as u64)).expect(INTO_MEMORY);
        self
    }

    fn int(&mut self, value: i64) -> &mut Self {
        write_sint(self.0, value.clamp(-MAX_INT, MAX_INT)).expect(INTO_MEMORY);
        self
    }

    fn float(&mut self, value: f64) -> &mut Self {
        write_f64(self.0, value).expect(INTO_MEMORY);
        self
    }

    fn tags(&mut self, tags: &Tags) {
        self.map(tags.len() as u32);
        for (name, value) in tags {
            self.str(name).str(value);
        }
    }

    fn fields(&mut self, fields: &Fields) {
        let on_wire = |value: &Value| !matches!(value, Value::Float(f) if !f.is_finite());
        self.map(fields.values().filter(|v| on_wire(v)).count() as u32);
        for (name, value) in fields.iter().filter(|(_, v)| on_wire(v)) {
            self.str(name).value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(b) => self.bool(*b),
            Value::Int(i) if i.unsigned_abs() > MAX_INT as u64 => self.float(*i as f64),
            Value::Int(i) => self.int(*i),
            Value::Float(f) => self.float(*f),
            Value::Str(s) => self.str(s),
        };
    }

    fn error(&mut self, error: &RunError) {
        self.map(2);
        self.str("kind").str(error_name(error.kind));
        self.str("message").str(&error.message);
    }

    fn loss(&mut self, loss: &Loss) {
        self.map(7);
        self.str("epoch").uint(loss.epoch);
        self.str("from").uint(loss.from);
        self.str("to");
        match loss.to {
            Some(to) => self.uint(to),
            None => self.nil(),
        };
        self.str("count").uint(loss.count);
        self.str("reason").str(reason_name(loss.reason));
        self.str("t0").int(loss.t0);
        self.str("t1").int(loss.t1);
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Err => "err",
    }
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Live => "live",
        Lane::History => "history",
    }
}

fn error_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout => "timeout",
        ErrorKind::Exit => "exit",
        ErrorKind::Signal => "signal",
        ErrorKind::Memory => "memory",
        ErrorKind::Cpu => "cpu",
        ErrorKind::Output => "output",
        ErrorKind::Parse => "parse",
        ErrorKind::Spawn => "spawn",
        ErrorKind::Permission => "permission",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Skipped => "skipped",
        ErrorKind::Panic => "panic",
        ErrorKind::Other => "other",
    }
}

fn reason_name(reason: LossReason) -> &'static str {
    match reason {
        LossReason::Quota => "quota",
        LossReason::Age => "age",
        LossReason::Oversize => "oversize",
        LossReason::WriteFailure => "write-failure",
        LossReason::Corrupt => "corrupt",
        LossReason::Memory => "memory",
        LossReason::Epoch => "epoch",
        LossReason::Mixed => "mixed",
        LossReason::Quarantined => "quarantined",
        LossReason::Other => "other",
    }
}

#[cfg(test)]
mod tests;
