//! `status` (retained, with will) and `meta` (the birth certificate): JSON, for people and simple readers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Loss;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    Online,
    Offline,
}

/// The will, and the last status of a clean stop: `{"state":"offline","session":"..."}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Offline {
    #[serde(deserialize_with = "crate::record::strict::word")]
    pub state: State,
    /// Random per connection: tells a late will of an older connection from the present one's.
    pub session: String,
    /// As far as the host had come, for whoever goes on in its name: the epoch, and the next seq in it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_uint"
    )]
    pub epoch: Option<u64>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_uint"
    )]
    pub next_seq: Option<u64>,
}

/// Seqs recorded but not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PendingRange {
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub epoch: u64,
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub from: u64,
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub to: u64,
}

/// The heartbeat: at connect, every 60 s, and when something changed that a reader acts on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    #[serde(deserialize_with = "crate::record::strict::word")]
    pub state: State,
    pub session: String,
    pub host: String,
    pub site: String,
    /// Wall clock, milliseconds since 1970.
    #[serde(deserialize_with = "crate::record::strict::int")]
    pub sent: i64,
    pub version: String,
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub epoch: u64,
    /// The next seq to be drawn: everything below it exists, pending or settled or lost.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub next_seq: u64,
    /// At most 16 ranges; when there are more, the newest ones are merged into the last, which then covers too much.
    #[serde(deserialize_with = "crate::record::strict::objects")]
    pub pending: Vec<PendingRange>,
    /// Records recorded but not settled.
    #[serde(deserialize_with = "crate::record::strict::uint")]
    pub backlog: u64,
    /// Wall clock of the oldest pending record, if known.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_int"
    )]
    pub oldest: Option<i64>,
    /// Seconds until the backlog is drained at the present rate, if known.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::record::strict::optional_uint"
    )]
    pub eta_s: Option<u64>,
    /// Losses declared and not yet settled, at most 64; the whole account travels on topic `h`.
    #[serde(default, deserialize_with = "crate::record::strict::objects")]
    pub losses: Vec<Loss>,
    /// `broker` (unproven past the broker) or `hub`.
    pub level: String,
    /// What is wrong, one short line each, at most 8.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Retained description of what this host sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Meta {
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub v: u8,
    pub host: String,
    pub site: String,
    pub version: String,
    /// Version of the metric table in the code.
    #[serde(deserialize_with = "crate::record::strict::small")]
    pub metrics_version: u32,
    /// Hex digest of the effective configuration.
    pub config_hash: String,
    /// Operating system, kernel, architecture and the like.
    #[serde(deserialize_with = "crate::record::strict::names")]
    pub host_info: BTreeMap<String, String>,
    /// Collector name to its schedule as written.
    #[serde(deserialize_with = "crate::record::strict::names")]
    pub schedules: BTreeMap<String, String>,
    #[serde(deserialize_with = "crate::record::strict::objects")]
    pub metrics: Vec<MetaMetric>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MetaMetric {
    /// Record name, `system.cpu`.
    pub name: String,
    /// Field, `utilization`.
    pub field: String,
    /// UCUM unit, `1`, `By`, `s`.
    pub unit: String,
    /// `gauge`, `counter` or `updowncounter`.
    pub kind: String,
    pub description: String,
    /// OpenTelemetry's metric, with the attribute that the field stands for in braces; empty where it defines none.
    pub otel: String,
}
