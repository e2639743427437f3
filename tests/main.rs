//! The one integration binary; each module is a part of the product seen from outside.
#![expect(clippy::disallowed_methods, reason = "real processes are waited for, with bounds, on the real clock")]
#![expect(clippy::print_stderr, reason = "seeds, figures and the ends of logs belong into a failing test's output")]

mod cli;
mod collectors;
#[cfg(feature = "demo")]
mod demo;
mod events;
mod hung_mount;
mod limits;
mod migration;
mod put;
mod reload;
mod sandbox;
mod scenarios;
mod schemas;
mod scripts;
mod service;
mod subscriber;
mod support;
mod tail;
mod transport;
mod unread;
mod uplink_sim;
mod vectors;
mod whole_sim;
