//! The live lane's queue: runs that were appended while connected and wait for a place in the window.
//!
//! Bounded in bytes; what does not fit is handed back, oldest first, and is history from then on. It
//! holds clones of shared bytes and decides nothing about delivery: the records are pending all the while.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::Chunk;

/// Bytes that may wait.
pub const LIVE_BYTES: usize = 64 << 10;
/// What one waiting chunk costs beside its maps.
const CHUNK_OVERHEAD: usize = 128;

/// What is left of one run.
#[derive(Debug)]
pub struct LiveRun {
    pub collector: Arc<str>,
    pub chunks: VecDeque<Chunk>,
}

impl LiveRun {
    fn cost(&self) -> usize {
        self.chunks.iter().map(cost).sum()
    }

    /// The chunks that make the next message: same epoch and clock context, as many as `max_bytes` of
    /// maps hold but at least one.
    pub fn fitting(&self, max_bytes: usize) -> Vec<Chunk> {
        let Some(head) = self.chunks.front() else { return Vec::new() };
        let mut bytes = 0;
        let fits = |chunk: &&Chunk| {
            bytes += chunk.maps.len();
            chunk.epoch == head.epoch
                && chunk.context == head.context
                && (bytes <= max_bytes || chunk.first == head.first)
        };
        self.chunks.iter().take_while(fits).cloned().collect()
    }
}

fn cost(chunk: &Chunk) -> usize {
    chunk.maps.len() + CHUNK_OVERHEAD
}

#[derive(Debug, Default)]
pub struct LiveQueue {
    runs: VecDeque<LiveRun>,
    bytes: usize,
}

impl LiveQueue {
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes waiting, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a run; returns the oldest runs that had to leave for it (perhaps the run itself).
    pub fn push(&mut self, collector: Arc<str>, chunks: Vec<Chunk>) -> Vec<LiveRun> {
        let run = LiveRun { collector, chunks: chunks.into() };
        self.bytes += run.cost();
        self.runs.push_back(run);
        let mut left = Vec::new();
        while self.bytes > LIVE_BYTES {
            left.extend(self.pop());
        }
        left
    }

    pub fn front(&self) -> Option<&LiveRun> {
        self.runs.front()
    }

    pub fn pop(&mut self) -> Option<LiveRun> {
        let run = self.runs.pop_front()?;
        self.bytes -= run.cost();
        Some(run)
    }

    /// Takes the first `n` chunks of the first run, and the run with its last chunk.
    pub fn take_chunks(&mut self, n: usize) -> Vec<Chunk> {
        let Some(run) = self.runs.front_mut() else { return Vec::new() };
        let taken: Vec<Chunk> = run.chunks.drain(..n.min(run.chunks.len())).collect();
        self.bytes -= taken.iter().map(cost).sum::<usize>();
        if run.chunks.is_empty() {
            self.runs.pop_front();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ClockContext;

    fn chunk(first: u64, bytes: usize, synced: bool) -> Chunk {
        let context = ClockContext { boot: "b".into(), synced };
        Chunk { epoch: 1, first, count: 1, context, maps: vec![0u8; bytes].into() }
    }

    #[test]
    fn overflow_leaves_oldest_first_and_the_bound_holds() {
        let mut queue = LiveQueue::default();
        let mut left = Vec::new();
        for seq in 1..=20 {
            left.extend(queue.push("cpu".into(), vec![chunk(seq, 10_000, true)]));
            assert!(queue.bytes() <= LIVE_BYTES);
        }
        let firsts: Vec<u64> = left.iter().flat_map(|r| &r.chunks).map(|c| c.first).collect();
        assert_eq!(firsts, (1..=14).collect::<Vec<_>>());
        assert_eq!(queue.push("big".into(), vec![chunk(21, LIVE_BYTES, true)]).len(), 7, "too large to wait at all");
        assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
        assert!(queue.push("fits".into(), vec![chunk(22, LIVE_BYTES - CHUNK_OVERHEAD, true)]).is_empty());
    }

    #[test]
    fn a_message_keeps_to_one_epoch_and_its_bytes_are_counted_from_the_first_on() {
        let mut queue = LiveQueue::default();
        let other = Chunk { epoch: 2, ..chunk(3, 100, true) };
        queue.push("cpu".into(), vec![chunk(1, 100, true), chunk(2, 100, true), other]);
        assert_eq!(queue.bytes(), 3 * (100 + CHUNK_OVERHEAD));
        let run = queue.front().unwrap();
        assert_eq!([99, 100, 199, 200, 900].map(|max| run.fitting(max).len()), [1, 1, 1, 2, 2]);
    }

    #[test]
    fn a_message_keeps_to_one_clock_context_and_to_its_bytes() {
        let mut queue = LiveQueue::default();
        let chunks = vec![chunk(1, 100, true), chunk(2, 100, true), chunk(3, 100, false)];
        assert!(queue.push("cpu".into(), chunks).is_empty());
        let run = queue.front().unwrap();
        assert_eq!([1000, 150, 50].map(|max| run.fitting(max).len()), [2, 1, 1]);
        assert_eq!((queue.take_chunks(2).len(), queue.bytes()), (2, 100 + CHUNK_OVERHEAD));
        assert_eq!(queue.front().unwrap().fitting(1000).len(), 1);
        assert_eq!(queue.take_chunks(1)[0].first, 3);
        assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
    }
}
