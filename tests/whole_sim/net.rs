//! What a broker keeps: the retained messages, the will, and the hub's session with its limit. Whatever it acknowledged,
//! it may forget.

use std::collections::{BTreeMap, VecDeque};

use holdover::uplink::backoff::Rng;

#[derive(Clone, Debug)]
pub struct Kept {
    pub topic: String,
    pub payload: Vec<u8>,
}

#[derive(Default)]
pub struct Net {
    pub retained: BTreeMap<String, Vec<u8>>,
    /// For the hub: sent and not acknowledged, then waiting.
    pub session: VecDeque<Kept>,
    pub sent: usize,
    /// Messages that may wait for a hub that is away.
    pub limit: usize,
    pub hub_is_here: bool,
    /// Of the agent's present connection.
    pub will: Option<Kept>,
    /// Acknowledged, and never handed on.
    pub forgotten: u64,
}

impl Net {
    /// For the hub, unless too many wait.
    pub fn queue(&mut self, topic: &str, payload: &[u8]) {
        if !self.hub_is_here && self.session.len() >= self.limit {
            self.forgotten += 1;
            return;
        }
        self.session.push_back(Kept { topic: topic.to_owned(), payload: payload.to_vec() });
    }

    /// The next message for the hub.
    pub fn deliver(&mut self) -> Option<Kept> {
        let next = self.session.get(self.sent).filter(|_| self.hub_is_here)?.clone();
        self.sent += 1;
        Some(next)
    }

    /// The hub has acknowledged this many.
    pub fn acknowledged(&mut self, count: usize) {
        self.session.drain(..count.min(self.sent));
        self.sent -= count.min(self.sent);
    }

    pub fn hub_left(&mut self) {
        self.hub_is_here = false;
        self.sent = 0;
    }

    /// It was killed: of what it had acknowledged and not saved yet, some is gone.
    pub fn crash(&mut self, rng: &mut Rng) {
        let left = rng.below(self.session.len() as u64 + 1) as usize;
        self.forgotten += (self.session.len() - left) as u64;
        self.session.truncate(left);
        self.will = None;
        if rng.below(2) == 0 {
            self.retained.clear();
        }
        self.hub_left();
    }
}
