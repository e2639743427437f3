//! What one commit takes in: messages in the order of arrival, read and checked. Bounded by the loop.

use crate::wire::{Envelope, Status};

#[derive(Debug)]
pub enum Item {
    Data {
        envelope: Envelope,
        topic: String,
    },
    /// `retained`: kept by the broker from before, so not a sign of life.
    Online {
        status: Box<Status>,
        retained: bool,
    },
    Offline {
        host: String,
        session: String,
    },
}

#[derive(Debug, Default)]
pub struct Batch {
    pub items: Vec<Item>,
}
