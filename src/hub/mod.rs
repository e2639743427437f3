//! The subscriber side: what arrives is read with limits, judged by the [`tracker`], and shown by [`tail`].
//!
//! [`observer`] is the pure core (message in, [`line`]s out); `tail` brings the connection, the output and the end.
//! Hostile input is normal here: nothing that comes by the wire is trusted for identity, memory or a terminal.

pub mod accounts;
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
pub mod filter;
pub mod ingest;
mod lasting;
pub mod ledger;
pub mod line;
pub mod link;
pub mod observer;
pub mod read;
mod repeats;
pub mod sinks;
pub mod summary;
pub mod tail;
pub mod text;
pub mod tracker;
