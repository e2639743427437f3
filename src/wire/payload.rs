//! The small payloads beside the envelope: one way to write and one way to read them all.
//!
//! They are JSON on the wire, for people and simple readers; MessagePack is read too. A list longer than its bound is
//! refused, not cut: the bounds are part of the schemas, and a cut list of seqs would say something else than was meant.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::decode::{DecodeError, check_losses, check_range, decode_small};
use super::{Ack, Command, Envelope, HubState, Meta, Offline, Reply, State, Status, decode_envelope};

/// The name of the records that `event` carries copies of.
pub const EVENT_NAME: &str = "holdover.event";

/// Most ranges in [`Status::pending`], losses in [`Status::losses`], lines in [`Status::problems`], ranges in [`Ack::ranges`].
pub const MAX_PENDING: usize = 16;
pub const MAX_STATUS_LOSSES: usize = 64;
pub const MAX_PROBLEMS: usize = 8;
pub const MAX_ACK_RANGES: usize = 64;

/// Longest id of a command: whoever asks chooses it, the reply returns it.
pub const MAX_ID: usize = 64;

/// A small payload: its size limit and what makes sense in it.
pub trait Payload: Serialize + DeserializeOwned {
    const MAX_BYTES: usize;
    /// Whether it carries `v`.
    const VERSIONED: bool = true;

    /// What the types cannot say: bounds of lists, order of ranges.
    fn check(&self) -> Result<(), DecodeError>;
}

/// The payload as JSON. Lists must be within their bounds.
pub fn encode_payload<T: Payload>(payload: &T) -> Vec<u8> {
    debug_assert!(payload.check().is_ok(), "a payload within its own bounds");
    serde_json::to_vec(payload).expect("payloads are maps with text keys")
}

/// Reads a payload from JSON or MessagePack, within its size limit, and checks it.
pub fn decode_payload<T: Payload>(bytes: &[u8]) -> Result<T, DecodeError> {
    let payload: T = decode_small(bytes, T::MAX_BYTES, T::VERSIONED)?;
    payload.check()?;
    Ok(payload)
}

/// What the status topic holds: the heartbeat, or the will.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusMessage {
    Online(Box<Status>),
    Offline(Offline),
}

/// Reads the status topic of a host.
pub fn decode_status(bytes: &[u8]) -> Result<StatusMessage, DecodeError> {
    let offline: Offline = decode_small(bytes, Status::MAX_BYTES, false)?;
    match offline.state {
        State::Offline => Ok(StatusMessage::Offline(offline)),
        State::Online => Ok(StatusMessage::Online(Box::new(decode_payload(bytes)?))),
    }
}

/// Reads the event topic of a host: an envelope of exactly one record named [`EVENT_NAME`], encoded as the data are.
pub fn decode_event(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let limits = super::DecodeLimits { max_bytes: 64 << 10, max_records: 1, ..super::DecodeLimits::default() };
    let envelope = decode_envelope(bytes, &limits)?;
    match envelope.records.as_slice() {
        [record] if record.name == EVENT_NAME => Ok(envelope),
        [record] => {
            Err(DecodeError::Malformed(format!("the record of an event is {EVENT_NAME:?}, not {:?}", record.name)))
        }
        _ => Err(DecodeError::malformed("an event holds one record, this one none")),
    }
}

impl Payload for Status {
    const MAX_BYTES: usize = 64 << 10;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("pending", self.pending.len(), MAX_PENDING)?;
        at_most("losses", self.losses.len(), MAX_STATUS_LOSSES)?;
        at_most("problems", self.problems.len(), MAX_PROBLEMS)?;
        for range in &self.pending {
            check_range(range.from, range.to).map_err(|e| DecodeError::Malformed(format!("pending: {e}")))?;
        }
        check_losses(&self.losses)
    }
}

impl Payload for Offline {
    const MAX_BYTES: usize = 4 << 10;
    const VERSIONED: bool = false;

    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Payload for Meta {
    const MAX_BYTES: usize = 256 << 10;

    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl Payload for Command {
    const MAX_BYTES: usize = 4 << 10;
    const VERSIONED: bool = false;

    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self::Ping { id } | Self::Run { id, .. } | Self::Resend { id, .. } => {
                at_most("bytes of id", id.len(), MAX_ID)?
            }
        }
        match self {
            Self::Resend { from, to, .. } => check_range(*from, *to).map_err(DecodeError::Malformed),
            Self::Run { .. } | Self::Ping { .. } => Ok(()),
        }
    }
}

impl Payload for Reply {
    const MAX_BYTES: usize = 4 << 10;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("bytes of id", self.id.len(), MAX_ID)
    }
}

impl Payload for Ack {
    const MAX_BYTES: usize = 8 << 10;

    fn check(&self) -> Result<(), DecodeError> {
        at_most("ranges", self.ranges.len(), MAX_ACK_RANGES)?;
        self.ranges
            .iter()
            .try_for_each(|[from, to]| check_range(*from, *to))
            .map_err(|e| DecodeError::Malformed(format!("ranges: {e}")))
    }
}

impl Payload for HubState {
    const MAX_BYTES: usize = 4 << 10;

    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), DecodeError> {
    if count > max {
        return Err(DecodeError::Malformed(format!("{count} {what}, at most {max} are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
