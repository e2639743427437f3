//! Holdover: collectors -> outbox -> MQTT, with an honest account of loss. See ARCHITECTURE.md.

pub mod agent;
pub mod aside;
mod caught;
pub mod cli;
pub mod clock;
pub mod collect;
pub mod config;
pub mod events;
pub mod host;
#[cfg(feature = "hub")]
pub mod hub;
pub mod outbox;
pub mod platform;
pub mod put;
pub mod ranges;
pub mod record;
pub mod schedule;
pub mod uplink;
pub mod wire;
