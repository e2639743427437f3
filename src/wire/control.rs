//! What comes to the host (`cmd`, `ack`), the reply to a command, and the hub workers' state.

use serde::{Deserialize, Serialize};

use super::State;

/// A command to the host. Only these exist; anything else is refused with a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "cmd", rename_all = "lowercase")]
pub enum Command {
    /// Send these seqs again, or declare them lost.
    Resend {
        id: String,
        #[serde(deserialize_with = "crate::record::strict::uint")]
        epoch: u64,
        #[serde(deserialize_with = "crate::record::strict::uint")]
        from: u64,
        #[serde(deserialize_with = "crate::record::strict::uint")]
        to: u64,
    },
    /// Run one configured collector now.
    Run {
        id: String,
        collector: String,
    },
    Ping {
        id: String,
    },
}

/// The answer to a command, on its response topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reply {
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    pub id: String,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What one hub has committed of this host's epoch; retained; a host takes the union over all hubs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ack {
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub epoch: u64,
    /// Every seq in 1..=upto is committed or declared.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub upto: u64,
    /// Further ranges above `upto` of which the same holds, at most 64.
    #[serde(default, deserialize_with = "crate::record::strict::uint_pairs")]
    pub ranges: Vec<[u64; 2]>,
}

/// One hub worker's retained state; its will says offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HubState {
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    #[serde(deserialize_with = "crate::record::strict::word")]
    pub state: State,
    pub session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_int"
    )]
    pub sent: Option<i64>,
}
