//! A chunk: consecutive records of one epoch under one clock context, as their MessagePack maps.
//!
//! It is what the outbox stores as one value and what a batch on the wire concatenates, so the bytes of a
//! record are written once, at its append, and never touched again (P3).

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::record::ClockContext;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub epoch: u64,
    /// Seq of the first record.
    pub first: u64,
    /// Records in it, at least 1.
    pub count: u32,
    pub context: ClockContext,
    /// The records' MessagePack maps, one after another, without an array header. Chunks that were read together share
    /// the memory.
    pub maps: Bytes,
}

impl Chunk {
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    /// Each record's bytes, in seq order.
    pub fn records(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first..).zip(super::scan::record_slices(&self.maps))
    }

    pub fn seqs(&self) -> RangeInclusive<u64> {
        self.first..=self.last()
    }
}
