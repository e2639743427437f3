//! What has been handed to the connection and not been acknowledged.
//!
//! Bounded in messages and bytes by the caller's [`Room`]; remembers seqs, never payloads. It belongs to
//! one connection: what is in it when that ends is forgotten and sent again from the outbox.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::wire::{Chunk, Loss};

/// Which topic a data message went to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `m/{collector}`
    Live(Arc<str>),
    /// `h`
    History,
}

/// The content of one data message, as seqs.
#[derive(Clone, Debug)]
pub struct Data {
    pub route: Route,
    pub epoch: u64,
    /// One per chunk, in seq order.
    pub chunks: Vec<RangeInclusive<u64>>,
    pub losses: Vec<Loss>,
    /// Sent alone, because a batch with these chunks was refused or ended a connection.
    pub suspect: bool,
}

impl Data {
    pub fn new(route: Route, epoch: u64, chunks: &[Chunk]) -> Self {
        let chunks = chunks.iter().map(Chunk::seqs).collect();
        Self { route, epoch, chunks, losses: Vec::new(), suspect: false }
    }

    /// The chunks' seqs with neighbours joined: fewer ranges to book.
    pub fn stretches(&self) -> Vec<RangeInclusive<u64>> {
        let mut stretches: Vec<RangeInclusive<u64>> = Vec::new();
        for chunk in &self.chunks {
            match stretches.last_mut() {
                Some(last) if last.end() + 1 == *chunk.start() => *last = *last.start()..=*chunk.end(),
                _ => stretches.push(chunk.clone()),
            }
        }
        stretches
    }

    pub fn records(&self) -> u64 {
        self.chunks.iter().map(|c| c.end() - c.start() + 1).sum()
    }
}

#[derive(Clone, Debug)]
pub enum Kind {
    Status,
    Meta,
    Offline,
    Reply,
    /// A copy of a record: its answer means nothing for the record.
    Event,
    Data(Data),
}

#[derive(Clone, Debug)]
pub struct Sent {
    pub token: u64,
    pub bytes: usize,
    pub at: Duration,
    /// A later publish was answered first: its own answer is not merely waiting behind others.
    pub overtaken: bool,
    pub kind: Kind,
}

impl Sent {
    pub fn data(&self) -> Option<&Data> {
        match &self.kind {
            Kind::Data(data) => Some(data),
            _ => None,
        }
    }

    pub fn is_history(&self) -> bool {
        self.data().is_some_and(|d| d.route == Route::History)
    }
}

/// How much may be in flight on this connection.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub messages: usize,
    pub bytes: usize,
}

/// Bytes that history leaves to live data.
const LIVE_RESERVE: usize = 5_536;

#[derive(Debug, Default)]
pub struct Window {
    /// In sending order.
    sent: VecDeque<Sent>,
    bytes: usize,
    /// Bytes of everything ever sent on this connection.
    published: u64,
}

impl Window {
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether a live, status or meta message of `bytes` fits. One message always fits an empty window.
    pub fn fits(&self, bytes: usize, room: Room) -> bool {
        self.sent.len() < room.messages && self.bytes + bytes <= room.bytes
    }

    /// Whether a history message fits: one slot (when there are two) and some bytes stay free for live.
    pub fn fits_history(&self, bytes: usize, room: Room) -> bool {
        let slots = if room.messages > 1 { room.messages - 1 } else { 1 };
        let history: usize = self.sent.iter().filter(|s| s.is_history()).map(|s| s.bytes).sum();
        let share = room.bytes - LIVE_RESERVE.min(room.bytes / 4);
        self.sent.len() < slots && history + bytes <= share && self.bytes + bytes <= room.bytes
    }

    /// The most that one history message may weigh.
    pub fn history_share(room: Room) -> usize {
        room.bytes - LIVE_RESERVE.min(room.bytes / 4)
    }

    pub fn push(&mut self, sent: Sent) {
        self.bytes += sent.bytes;
        self.published += sent.bytes as u64;
        self.sent.push_back(sent);
    }

    /// Takes out the message with this token, wherever it stands: brokers do acknowledge out of order.
    pub fn take(&mut self, token: u64) -> Option<Sent> {
        let at = self.sent.iter().position(|s| s.token == token)?;
        let sent = self.sent.remove(at)?;
        self.sent.iter_mut().take(at).for_each(|s| s.overtaken = true);
        self.bytes -= sent.bytes;
        Some(sent)
    }

    pub fn take_all(&mut self) -> VecDeque<Sent> {
        std::mem::take(self).sent
    }

    /// Bytes of everything sent on this connection, and of what of it was answered.
    pub fn carried(&self) -> (u64, u64) {
        (self.published, self.published - self.bytes as u64)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    /// Since when an answer is owed: counted from the last PUBACK (at `acked`), or from its own sending for
    /// a publish that was overtaken.
    pub fn unanswered_since(&self, acked: Duration) -> Option<Duration> {
        self.sent.iter().map(|s| if s.overtaken { s.at } else { s.at.max(acked) }).min()
    }

    pub fn has_suspect(&self) -> bool {
        self.sent.iter().filter_map(Sent::data).any(|d| d.suspect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: u64, bytes: usize, route: Route) -> Sent {
        let data = Data { route, epoch: 1, chunks: vec![token..=token], losses: Vec::new(), suspect: false };
        Sent { token, bytes, at: Duration::from_secs(token), overtaken: false, kind: Kind::Data(data) }
    }

    #[test]
    fn history_leaves_a_slot_and_bytes_to_live() {
        let room = Room { messages: 3, bytes: 64 << 10 };
        let mut window = Window::default();
        window.push(sent(1, 30_000, Route::History));
        assert!(window.fits_history(30_000, room) && !window.fits_history(30_001, room));
        window.push(sent(2, 30_000, Route::History));
        assert!(!window.fits_history(1, room), "the third slot is for live");
        assert!(window.fits(5_536, room) && !window.fits(5_537, room));
        window.push(sent(3, 10, Route::Live("cpu".into())));
        assert!(!window.fits(1, room));
    }

    #[test]
    fn what_is_not_history_does_not_count_against_the_share_of_history() {
        let room = Room { messages: 10, bytes: 64 << 10 };
        for kind in [Kind::Status, sent(1, 0, Route::Live("cpu".into())).kind] {
            let mut window = Window::default();
            window.push(Sent { kind, ..sent(1, 10_000, Route::History) });
            assert!(window.fits_history(55_536, room) && !window.fits_history(55_537, room));
        }
        let small = Room { messages: 10, bytes: 8_000 };
        let window = Window::default();
        assert!(window.fits_history(6_000, small) && !window.fits_history(6_001, small));
        assert_eq!([room, small].map(Window::history_share), [60_000, 6_000]);
    }

    #[test]
    fn neighbours_are_booked_as_one_stretch_and_each_record_is_counted() {
        let data = Data { chunks: vec![1..=3, 4..=4, 6..=9, 10..=12], ..Data::new(Route::History, 1, &[]) };
        assert_eq!((data.stretches(), data.records()), (vec![1..=4, 6..=12], 11));
    }

    #[test]
    fn what_a_connection_carried_is_what_was_sent_on_it_and_what_of_that_was_answered() {
        let mut window = Window::default();
        window.push(sent(1, 1_000, Route::History));
        window.push(sent(2, 300, Route::Live("cpu".into())));
        assert_eq!(window.carried(), (1_300, 0));
        window.take(2);
        assert_eq!(window.carried(), (1_300, 300));
        assert_eq!((window.take_all().len(), window.carried()), (1, (0, 0)), "the next one begins anew");
    }

    #[test]
    fn an_overtaken_publish_is_owed_its_answer_since_it_was_sent() {
        let mut window = Window::default();
        (1..=3).for_each(|token| window.push(sent(token, 10, Route::History)));
        let at = Duration::from_secs;
        assert_eq!(window.unanswered_since(at(0)), Some(at(1)));
        window.take(1);
        assert_eq!(window.unanswered_since(at(50)), Some(at(50)), "acknowledged in order: progress");
        window.take(3);
        assert_eq!(window.unanswered_since(at(60)), Some(at(2)));
    }

    #[test]
    fn a_window_of_one_serves_both_lanes() {
        let room = Room { messages: 1, bytes: 64 << 10 };
        let mut window = Window::default();
        assert!(window.fits_history(60_000, room));
        window.push(sent(1, 10, Route::History));
        assert!(!window.fits(1, room) && !window.fits_history(1, room));
        assert!(window.take(9).is_none());
        assert_eq!(window.take(1).map(|s| s.token), Some(1));
        assert_eq!((window.is_empty(), window.bytes), (true, 0));
    }
}
