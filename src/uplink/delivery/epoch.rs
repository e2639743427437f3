//! One epoch: its seqs by how far they have come, and those that history passes over for a while.

use std::ops::RangeInclusive;

use crate::ranges::RangeSet;
use crate::uplink::patience::Patience;

#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) id: u64,
    pub(super) pending: RangeSet,
    pub(super) sent: RangeSet,
    pub(super) again: RangeSet,
    pub(super) claimed: RangeSet,
    pub(super) unreadable: RangeSet,
    pub(super) resting: RangeSet,
    pub(super) next_seq: u64,
    /// The next seq when this process found the epoch.
    pub(super) born: u64,
    /// Seqs beyond `next_seq` may have been drawn that nothing here knows of.
    pub(super) ends_in_doubt: bool,
    /// Its seqs may be somebody else's too: nothing of it is sent any more.
    pub(super) doubted: bool,
    /// With hubs, once it is over.
    pub(super) patience: Patience,
}

impl Epoch {
    pub(super) fn new(id: u64) -> Self {
        let [pending, sent, again, claimed, unreadable, resting] = std::array::from_fn(|_| RangeSet::new());
        Self {
            id,
            pending,
            sent,
            again,
            claimed,
            unreadable,
            resting,
            next_seq: 1,
            born: 1,
            ends_in_doubt: false,
            doubted: false,
            patience: Patience::default(),
        }
    }

    /// The first stretch of seqs to be sent, from `first` on, that nothing hides.
    pub(super) fn first_free(&self, first: u64) -> Option<RangeInclusive<u64>> {
        if self.doubted {
            return None;
        }
        let in_set = |set: &RangeSet| set.within(first..=u64::MAX).find_map(|r| self.first_free_in(r));
        [&self.pending, &self.again].into_iter().filter_map(in_set).min_by_key(|r| *r.start())
    }

    pub(super) fn is_wanted(&self, seqs: RangeInclusive<u64>) -> bool {
        !self.doubted && (self.pending.intersects(seqs.clone()) || self.again.intersects(seqs))
    }

    /// The parts of `seqs` that are not settled.
    pub(super) fn unsettled(&self, seqs: &RangeInclusive<u64>) -> RangeSet {
        self.pending.within(seqs.clone()).chain(self.sent.within(seqs.clone())).collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.sent.is_empty()
    }

    pub(super) fn range_count(&self) -> usize {
        [&self.pending, &self.sent, &self.again].into_iter().map(RangeSet::range_count).sum()
    }

    pub(super) fn first_free_in(&self, range: RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
        let (mut start, end) = range.into_inner();
        while start <= end {
            let hidden = [&self.claimed, &self.unreadable, &self.resting].map(|set| set.within(start..=end).next());
            match hidden.into_iter().flatten().min_by_key(|r| *r.start()) {
                Some(hit) if *hit.start() == start => start = hit.end() + 1,
                Some(hit) => return Some(start..=hit.start() - 1),
                None => return Some(start..=end),
            }
        }
        None
    }
}
