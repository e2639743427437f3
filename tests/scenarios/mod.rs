//! Seen to work: the product's promises on a real mosquitto over mutual TLS, with real processes.
//!
//! Every scenario ends with the same judgement: the witness outside has each committed record, byte for byte, or a
//! declared loss for it; no seq was used twice; nothing arrived that was never committed.

mod agent_kills;
mod any_kills;
mod broken_links;
mod broker_config;
mod broker_outages;
mod clocks;
mod compressed;
mod full_disk;
mod hub_disk;
mod hubs;
mod identity;
mod ingest;
mod live_first;
mod planted_loss;
mod quarantine;
mod refusals;
mod resends;
mod stops;
mod sync_kills;
mod tools;
mod whole_way;
