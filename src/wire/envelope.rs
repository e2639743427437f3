//! The envelope that every data message is, live or history, and the losses it may carry.

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Which lane a message came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Just appended; topic `m/{collector}`.
    Live,
    /// From the outbox; topic `h`. Not a current value.
    History,
}

/// One data message. Field order is the order on the wire, except that `losses` precedes `records`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Envelope {
    /// Always 1.
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    /// The host's id, unique across sites.
    pub host: String,
    /// Where the host stands.
    pub site: String,
    /// The outbox's random 53-bit id; seqs count within it.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub epoch: u64,
    /// Boot id under which every record here was made; empty where their times are of another clock than the host's.
    pub boot: String,
    /// Whether the wall clock was synchronised when they were made.
    pub synced: bool,
    /// The best known pair [boot ms, wall ms] of that boot when the message was sent; absent when none is known.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_int_pair"
    )]
    pub anchor: Option<[i64; 2]>,
    /// Wall clock of the host when the message was built, milliseconds since 1970.
    #[serde(deserialize_with = "crate::record::strict::int")]
    pub sent: i64,
    #[serde(deserialize_with = "crate::record::strict::word")]
    pub lane: Lane,
    /// Left out when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "crate::record::strict::objects")]
    pub losses: Vec<Loss>,
    #[serde(default, deserialize_with = "crate::record::strict::objects")]
    pub records: Vec<Record>,
}

/// Why records are gone. A loss excuses absence; it never overrides presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LossReason {
    /// The outbox was full and dropped its oldest segment.
    Quota,
    /// Older than `max_age`.
    Age,
    /// One record was larger than a stored value may be.
    Oversize,
    /// The disk refused the write for longer than memory could hold the records.
    WriteFailure,
    /// The stored bytes no longer matched their checksum.
    Corrupt,
    /// More waited in memory than its bound.
    Memory,
    /// The outbox was replaced; what it held is not known in detail.
    Epoch,
    /// No broker would take it; it is set aside on the host.
    Quarantined,
    /// Neighbouring losses of several reasons, merged to stay within bounds.
    Mixed,
    /// A reason that a newer agent knows and this reader does not.
    #[serde(other)]
    Other,
}

/// Seqs declared gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Loss {
    /// Of the seqs gone: not always that of the envelope.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub epoch: u64,
    /// First seq gone.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub from: u64,
    /// Last seq gone; null when it cannot be known (the outbox that knew is unreadable).
    #[serde(deserialize_with = "crate::record::strict::optional_uint")]
    pub to: Option<u64>,
    /// Records gone; 0 when not known.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub count: u64,
    #[serde(deserialize_with = "crate::record::strict::word")]
    pub reason: LossReason,
    /// Wall clock of the oldest record gone, milliseconds since 1970; 0 when not known.
    #[serde(deserialize_with = "crate::record::strict::int")]
    pub t0: i64,
    /// Of the newest.
    #[serde(deserialize_with = "crate::record::strict::int")]
    pub t1: i64,
}
