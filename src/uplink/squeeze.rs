//! What compression makes of history: how many stored bytes a packet takes, judged by the last one.
//!
//! The batch size, the window and the pace count bytes on the wire; loads and chunks are counted as they are stored.
//! Without compression the two are the same number.

use super::io::Compression;

/// One batch's stored bytes, however well they compress: its load and its plain payload are held in memory.
pub const MAX_STORED: usize = 128 << 10;

const ONE: usize = 1_000;

#[derive(Debug)]
pub struct Squeeze {
    on: bool,
    /// Bytes on the wire for so many stored ones, in thousandths; at most [`ONE`].
    share: usize,
}

impl Squeeze {
    /// Expects nothing of a compression that has not been seen yet.
    pub fn new(compression: Compression) -> Self {
        Self { on: compression == Compression::Zstd, share: ONE }
    }

    /// A message of `stored` bytes weighs `wire`.
    pub fn seen(&mut self, stored: usize, wire: usize) {
        if self.on {
            self.share = (wire * ONE).div_ceil(stored.max(1)).clamp(1, ONE);
        }
    }

    /// How many stored bytes are expected to weigh `wire`; never fewer than that.
    pub fn stored(&self, wire: usize) -> usize {
        (wire.saturating_mul(ONE) / self.share).min(MAX_STORED).max(wire)
    }

    /// What `stored` bytes are expected to weigh.
    pub fn wire(&self, stored: usize) -> usize {
        (stored * self.share).div_ceil(ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_compression_stored_and_sent_are_the_same() {
        let mut squeeze = Squeeze::new(Compression::None);
        squeeze.seen(100_000, 10_000);
        assert_eq!((squeeze.stored(64 << 10), squeeze.wire(64 << 10)), (64 << 10, 64 << 10));
    }

    #[test]
    fn a_batch_takes_what_the_last_one_promises_and_no_more_than_memory_allows() {
        let mut squeeze = Squeeze::new(Compression::Zstd);
        assert_eq!((squeeze.stored(16_000), squeeze.wire(16_000)), (16_000, 16_000), "nothing is known yet");
        squeeze.seen(16_000, 4_000);
        assert_eq!((squeeze.stored(16_000), squeeze.wire(64_000)), (64_000, 16_000));
        assert_eq!(squeeze.stored(60_000), MAX_STORED);
        assert_eq!(squeeze.stored(1 << 20), 1 << 20, "a larger packet is taken whole");
        squeeze.seen(16_000, 16_400);
        assert_eq!(squeeze.stored(16_000), 16_000, "random bytes");
        squeeze.seen(0, 0);
        assert!(squeeze.stored(usize::MAX / 2) > 0);
    }

    #[test]
    fn what_was_seen_is_never_judged_too_light() {
        let mut squeeze = Squeeze::new(Compression::Zstd);
        for (stored, wire) in [(131_000, 9_999), (70_001, 7_003), (1_000, 999), (131_072, 1)] {
            squeeze.seen(stored, wire);
            assert!(squeeze.wire(stored) >= wire, "{stored} as {wire}");
        }
    }
}
