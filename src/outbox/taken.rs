//! Chunks copied out of a file: what one read brings shares one piece of memory.

use bytes::Bytes;

use super::segment::{Item, Query};
use super::value::{Lying, Times};
use crate::record::ClockContext;
use crate::wire::Chunk;

/// Memory set aside at first: a load of the uplink's.
const USUAL: usize = 64 * 1024;

/// Chunks are made of it at the end: a shared counter touched after each copy would wait for that copy to reach a memory
/// that another thread has just given back.
pub(super) struct Taken {
    epoch: u64,
    max_bytes: usize,
    maps: Vec<u8>,
    values: Vec<Value>,
    /// Each with the first value that has it.
    contexts: Vec<(usize, ClockContext)>,
}

struct Value {
    first: u64,
    count: u32,
    /// Where its maps end.
    end: usize,
    times: Times,
}

impl Taken {
    pub(super) fn new(query: &Query) -> Self {
        let maps = Vec::with_capacity(query.max_bytes.min(USUAL));
        Self { epoch: query.epoch, max_bytes: query.max_bytes, maps, values: Vec::new(), contexts: Vec::new() }
    }

    /// Adds a chunk, unless that is too much; the first one never is. Returns whether there is room.
    pub(super) fn add(&mut self, chunk: &Lying<'_>) -> bool {
        if !self.values.is_empty() && self.maps.len() + chunk.maps.len() > self.max_bytes {
            return false;
        }
        self.maps.extend_from_slice(chunk.maps);
        if !self.contexts.last().is_some_and(|(_, context)| chunk.is_of(context)) {
            self.contexts.push((self.values.len(), chunk.context()));
        }
        let Lying { first, count, times, .. } = *chunk;
        self.values.push(Value { first, count, end: self.maps.len(), times });
        true
    }

    pub(super) fn items(self) -> Vec<Item> {
        let Self { epoch, values, contexts, .. } = self;
        let maps = Bytes::from(self.maps);
        let mut items = Vec::with_capacity(values.len());
        let mut from = 0;
        for (at, (begins, context)) in contexts.iter().enumerate() {
            let ends = contexts.get(at + 1).map_or(values.len(), |(next, _)| *next);
            for value in &values[*begins..ends] {
                let (maps, context) = (maps.slice(from..value.end), context.clone());
                from = value.end;
                items.push(Item::Chunk(
                    Chunk { epoch, first: value.first, count: value.count, context, maps },
                    value.times,
                ));
            }
        }
        items
    }
}
