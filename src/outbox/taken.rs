//! Chunks copied out of a file: what one read brings shares one piece of memory.

use bytes::Bytes;

use super::segment::{Item, Query};
use super::value::{Lying, Times};
use crate::wire::Chunk;

/// Memory set aside at first: a load of the uplink's.
const USUAL: usize = 64 * 1024;

pub(super) struct Taken {
    max_bytes: usize,
    maps: Vec<u8>,
    /// Their maps are still empty; those of each end there.
    chunks: Vec<(Chunk, Times, usize)>,
}

impl Taken {
    pub(super) fn new(query: &Query) -> Self {
        let maps = Vec::with_capacity(query.max_bytes.min(USUAL));
        Self { max_bytes: query.max_bytes, maps, chunks: Vec::new() }
    }

    /// Adds a chunk, unless that is too much; the first one never is. Returns whether there is room.
    pub(super) fn add(&mut self, chunk: &Lying<'_>) -> bool {
        if !self.chunks.is_empty() && self.maps.len() + chunk.maps.len() > self.max_bytes {
            return false;
        }
        self.maps.extend_from_slice(chunk.maps);
        let like = self.chunks.last().map(|(before, ..)| &before.context);
        let context = chunk.context(like);
        let Lying { epoch, first, count, times, .. } = *chunk;
        self.chunks.push((Chunk { epoch, first, count, context, maps: Bytes::new() }, times, self.maps.len()));
        true
    }

    pub(super) fn items(self) -> Vec<Item> {
        let maps = Bytes::from(self.maps);
        let mut from = 0;
        let with_maps = |(chunk, times, end): (Chunk, Times, usize)| {
            let maps = maps.slice(from..end);
            from = end;
            Item::Chunk(Chunk { maps, ..chunk }, times)
        };
        self.chunks.into_iter().map(with_maps).collect()
    }
}
