//! Decoding with limits: hostile input is normal on the subscriber side.
//!
//! Sniffs the form (MessagePack map, JSON object, zstd frame), checks size, depth and counts before it builds,
//! and the sense of the numbers after. Never panics, never trusts a header's count, never reads past the message.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::topic::check_level;
use super::{Envelope, Loss, VERSION, frame, scan};
use crate::record::strict::{Object, Uint};

/// What one message may cost. Bytes are counted after decompression too.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    pub max_bytes: usize,
    /// Maps and arrays within each other.
    pub max_depth: usize,
    pub max_records: usize,
    pub max_losses: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_bytes: 4 << 20, max_depth: 32, max_records: 100_000, max_losses: 4096 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("message of {0} bytes is above the limit of {1}")]
    TooLarge(usize, usize),
    #[error("not a message of this kind: {0}")]
    Malformed(String),
    #[error("message version {0} is newer than this program understands (1): upgrade it")]
    Version(u64),
}

impl DecodeError {
    pub(super) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

/// Sniffs MessagePack, JSON or zstd of either (zstd with feature `zstd` only) and decodes.
///
/// Besides the shape it checks that `v` is 1, that host and site are topic levels, that seqs count from 1 and that
/// each loss ends where it starts or later. Unknown fields are ignored.
pub fn decode_envelope(payload: &[u8], limits: &DecodeLimits) -> Result<Envelope, DecodeError> {
    let plain = Plain::open(payload, limits)?;
    plain.check_version(limits)?;
    let counts: Counts = plain.read(limits)?;
    check_count("records", counts.records.0, limits.max_records)?;
    check_count("losses", counts.losses.0, limits.max_losses)?;
    let envelope: Envelope = plain.read(limits)?;
    check_envelope(&envelope)?;
    Ok(envelope)
}

/// Reads an envelope that this program encoded itself: plain MessagePack. Whoever calls nothing else carries no reader
/// of other forms, which is every agent.
pub(super) fn decode_own(msgpack: &[u8], limits: &DecodeLimits) -> Result<Envelope, DecodeError> {
    if msgpack.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge(msgpack.len(), limits.max_bytes));
    }
    scan::check(msgpack, limits.max_depth)?;
    let envelope = read_msgpack(msgpack, limits)?;
    check_envelope(&envelope)?;
    Ok(envelope)
}

/// Reads one of the small payloads, after [`decode_envelope`]'s manner but bounded by `max_bytes`.
pub(super) fn decode_small<T: DeserializeOwned>(
    payload: &[u8],
    max_bytes: usize,
    versioned: bool,
) -> Result<T, DecodeError> {
    let limits = DecodeLimits { max_bytes, ..DecodeLimits::default() };
    let plain = Plain::open(payload, &limits)?;
    if versioned {
        plain.check_version(&limits)?;
    }
    plain.read(&limits)
}

/// A payload whose form is known, within the limits on bytes.
enum Plain<'a> {
    MessagePack(Cow<'a, [u8]>),
    Json(Cow<'a, [u8]>),
}

impl<'a> Plain<'a> {
    fn open(payload: &'a [u8], limits: &DecodeLimits) -> Result<Self, DecodeError> {
        if payload.len() > limits.max_bytes {
            return Err(DecodeError::TooLarge(payload.len(), limits.max_bytes));
        }
        if payload.starts_with(&frame::MAGIC) {
            return Self::checked(Cow::Owned(frame::decompress(payload, limits.max_bytes)?), limits);
        }
        Self::checked(Cow::Borrowed(payload), limits)
    }

    fn checked(bytes: Cow<'a, [u8]>, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        let plain = Self::sniff(bytes)?;
        plain.check_shape(limits)?;
        Ok(plain)
    }

    fn sniff(bytes: Cow<'a, [u8]>) -> Result<Self, DecodeError> {
        match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            None => Err(DecodeError::malformed("it is empty")),
            Some(b'{') => Ok(Self::Json(bytes)),
            Some(0x80..=0x8f | 0xde | 0xdf) => Ok(Self::MessagePack(bytes)),
            Some(other) => Err(DecodeError::Malformed(format!(
                "it starts with byte 0x{other:02x}, which begins neither a MessagePack map nor a JSON object"
            ))),
        }
    }

    fn check_shape(&self, limits: &DecodeLimits) -> Result<(), DecodeError> {
        match self {
            Self::MessagePack(bytes) => scan::check(bytes, limits.max_depth),
            Self::Json(bytes) => check_json_depth(bytes, limits.max_depth),
        }
    }

    fn read<T: DeserializeOwned>(&self, limits: &DecodeLimits) -> Result<T, DecodeError> {
        match self {
            Self::MessagePack(bytes) => read_msgpack(bytes, limits),
            Self::Json(bytes) => {
                let value = serde_json::from_slice::<Object<T>>(bytes);
                value.map(|Object(value)| value).map_err(|e| DecodeError::Malformed(e.to_string()))
            }
        }
    }

    /// Refuses any version but ours before the rest is read, which a newer version may have changed.
    fn check_version(&self, limits: &DecodeLimits) -> Result<(), DecodeError> {
        match self.read::<VersionOnly>(limits)?.v.map(|v| v.0) {
            Some(v) if v == u64::from(VERSION) => Ok(()),
            Some(0) => Err(DecodeError::malformed("version `v` is 0, the first is 1")),
            Some(v) => Err(DecodeError::Version(v)),
            None => Err(DecodeError::malformed("version `v` is missing")),
        }
    }
}

fn read_msgpack<T: DeserializeOwned>(bytes: &[u8], limits: &DecodeLimits) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(limits.max_depth + DEPTH_SLACK);
    let value = Object::<T>::deserialize(&mut deserializer);
    value.map(|Object(value)| value).map_err(|e| DecodeError::Malformed(e.to_string()))
}

/// `rmp_serde` counts a level more than there are containers, and takes one for a value read twice.
const DEPTH_SLACK: usize = 4;

/// `serde_json` has a bound of its own (128); ours is tighter and one for all forms.
fn check_json_depth(text: &[u8], max_depth: usize) -> Result<(), DecodeError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.iter().enumerate() {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max_depth {
            return Err(DecodeError::Malformed(format!("nested too deeply at byte {at}")));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct VersionOnly {
    v: Option<Uint>,
}

/// How much a message holds, known before any of it is built.
#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    records: Count,
    #[serde(default)]
    losses: Count,
}

/// The length of an array whose elements are not kept.
#[derive(Default)]
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Count(count))
    }
}

fn check_count(what: &str, count: usize, max: usize) -> Result<(), DecodeError> {
    if count > max {
        return Err(DecodeError::Malformed(format!("{count} {what}, at most {max} are allowed")));
    }
    Ok(())
}

fn check_envelope(envelope: &Envelope) -> Result<(), DecodeError> {
    for (what, level) in [("host", &envelope.host), ("site", &envelope.site)] {
        check_level(level).map_err(|e| DecodeError::Malformed(format!("{what}: {e}")))?;
    }
    if let Some(at) = envelope.records.iter().position(|r| r.seq == 0) {
        return Err(DecodeError::Malformed(format!("records[{at}]: seq is 0, the first is 1")));
    }
    check_losses(&envelope.losses)
}

/// Each loss has a range that starts at 1 or later and does not end before it starts.
pub(super) fn check_losses(losses: &[Loss]) -> Result<(), DecodeError> {
    for (at, Loss { from, to, .. }) in losses.iter().enumerate() {
        check_range(*from, to.unwrap_or(*from)).map_err(|e| DecodeError::Malformed(format!("losses[{at}]: {e}")))?;
    }
    Ok(())
}

/// Seqs `from..=to`, both from 1.
pub(super) fn check_range(from: u64, to: u64) -> Result<(), String> {
    match (from, to) {
        (0, _) => Err("`from` is 0, the first seq is 1".to_owned()),
        _ if to < from => Err(format!("the range ends at {to}, before it starts at {from}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
