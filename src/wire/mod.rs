//! What travels: the envelope, the small payloads beside it, and the topics they go to.
//!
//! Pure: bytes in, values out, time passed in. Formats are fixed by `schemas/` and its golden vectors.

mod batch;
mod chunk;
mod control;
mod decode;
mod envelope;
mod frame;
mod payload;
mod scan;
#[cfg(feature = "schema")]
mod schema;
mod status;
mod topic;

pub use batch::{BatchHeader, batch_overhead, encode_batch, encode_record, transcode_json};
pub use chunk::Chunk;
pub use control::{Ack, Command, HubState, Reply};
pub use decode::{DecodeError, DecodeLimits, MAX_BOOT_ID, decode_envelope};
pub use envelope::{Envelope, Lane, Loss, LossReason};
pub use frame::{COMPRESSES, compress};
pub use payload::{
    EVENT_NAME, MAX_ACK_RANGES, MAX_ID, MAX_PENDING, MAX_PROBLEMS, MAX_STATUS_LOSSES, Payload, StatusMessage,
    decode_event, decode_payload, decode_status, encode_payload,
};
pub use scan::{RawRecords, raw_records};
#[cfg(feature = "schema")]
pub use schema::{LEVEL, schema_of, schemas};
pub use status::{Meta, MetaMetric, Offline, PendingRange, State, Status};
pub use topic::{HubTopics, MAX_NAME, MAX_TOPIC, ParsedTopic, Topic, TopicError, TopicKind, TopicScheme, check_name};

/// The version in every envelope; it changes only when an old reader would misread.
pub const VERSION: u8 = 1;
/// `Content Type` of MessagePack payloads (IANA, 2024).
pub const CONTENT_TYPE_MSGPACK: &str = "application/vnd.msgpack";
pub const CONTENT_TYPE_JSON: &str = "application/json";

#[cfg(test)]
mod tests;
