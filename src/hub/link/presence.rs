//! What a hub worker says about itself: that it is there, and, by the broker's mouth, that it is gone.
//!
//! Each connection has a session of its own, so that the late will of an older one is told from the present. Pure.

use crate::uplink::transport::Will;
use crate::wire::{HubState, State, Topic, VERSION, encode_payload};

pub(super) fn session(seed: u64, attempt: u64) -> String {
    format!("{seed:016x}-{attempt}")
}

pub(super) fn will(topic: &Topic, session: String, retain: bool) -> Will {
    let gone = HubState { v: VERSION, state: State::Offline, session, version: None, sent: None };
    Will { topic: topic.to_string(), payload: encode_payload(&gone), retain }
}
