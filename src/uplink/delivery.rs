//! Which seqs still have to be delivered, per epoch, and which of them are spoken for.
//!
//! `pending` starts from what the outbox recovered, grows by appends and shrinks only by a settlement, a
//! declared loss or a quarantine. `claimed` (waiting in the live lane, or in flight), `unreadable` and
//! `resting` (suspects between two trials) only hide seqs from history for a while. Holds seqs, never bytes; at most [`MAX_RANGES`] ranges by
//! settlement, whatever the backlog.

use std::ops::RangeInclusive;

use super::io::EpochView;
use crate::ranges::RangeSet;
use crate::wire::PendingRange;

/// Beyond it a settled island is kept in `pending`: that costs a duplicate, never a record.
pub const MAX_RANGES: usize = 4096;

#[derive(Debug)]
struct Epoch {
    id: u64,
    pending: RangeSet,
    claimed: RangeSet,
    unreadable: RangeSet,
    resting: RangeSet,
    next_seq: u64,
}

impl Epoch {
    fn new(id: u64) -> Self {
        let [pending, claimed, unreadable, resting] = std::array::from_fn(|_| RangeSet::new());
        Self { id, pending, claimed, unreadable, resting, next_seq: 1 }
    }

    /// The first stretch of pending seqs that nothing hides.
    fn first_free(&self) -> Option<RangeInclusive<u64>> {
        self.pending.iter().find_map(|r| self.first_free_in(r))
    }

    fn first_free_in(&self, range: RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
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

/// The delivery view over all epochs, oldest first.
#[derive(Debug, Default)]
pub struct Delivery {
    epochs: Vec<Epoch>,
}

impl Delivery {
    pub fn new(views: Vec<EpochView>) -> Self {
        let epochs = views
            .into_iter()
            .map(|v| Epoch { pending: v.pending, next_seq: v.next_seq, ..Epoch::new(v.epoch) })
            .collect();
        Self { epochs }
    }

    /// Epochs found later than the start; they are older than whatever was appended since.
    pub fn found(&mut self, views: Vec<EpochView>) {
        let newer = std::mem::replace(self, Self::new(views)).epochs;
        for epoch in newer {
            match self.epoch_mut(epoch.id) {
                Some(known) => {
                    known.pending.union(&epoch.pending);
                    known.claimed.union(&epoch.claimed);
                    known.resting.union(&epoch.resting);
                    known.next_seq = known.next_seq.max(epoch.next_seq);
                }
                None => self.epochs.push(epoch),
            }
        }
    }

    fn epoch(&self, id: u64) -> Option<&Epoch> {
        self.epochs.iter().find(|e| e.id == id)
    }

    fn epoch_mut(&mut self, id: u64) -> Option<&mut Epoch> {
        self.epochs.iter_mut().find(|e| e.id == id)
    }

    /// The epoch now appended to, and its next seq.
    pub fn current(&self) -> Option<(u64, u64)> {
        self.epochs.last().map(|e| (e.id, e.next_seq))
    }

    /// A position for ordering epochs by age; unknown ones come last.
    pub fn age_rank(&self, id: u64) -> usize {
        self.epochs.iter().position(|e| e.id == id).unwrap_or(usize::MAX)
    }

    /// Returns whether the epoch is new. Fully delivered older epochs are forgotten here.
    pub fn appended(&mut self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        let is_new = self.epoch(id).is_none();
        if is_new {
            self.epochs.retain(|e| !e.pending.is_empty());
            self.epochs.push(Epoch::new(id));
        }
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.next_seq = epoch.next_seq.max(seqs.end().saturating_add(1));
            epoch.pending.insert(seqs);
        }
        is_new
    }

    /// Spoken for: history passes over it.
    pub fn claim(&mut self, id: u64, seqs: RangeInclusive<u64>) {
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.claimed.insert(seqs);
        }
    }

    pub fn release(&mut self, id: u64, seqs: RangeInclusive<u64>) {
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.claimed.remove(seqs);
        }
    }

    /// Delivered. The claim ends with it. Returns what of it was pending: the rest was declared lost in
    /// the meantime, and stays so.
    pub fn settle(&mut self, id: u64, seqs: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        self.release(id, seqs.clone());
        let Some(epoch) = self.epoch_mut(id) else { return Vec::new() };
        let settled: Vec<_> = epoch.pending.within(seqs.clone()).collect();
        epoch.pending.remove(seqs);
        if self.range_count() > MAX_RANGES
            && let Some(epoch) = self.epoch_mut(id)
        {
            settled.iter().cloned().for_each(|r| epoch.pending.insert(r));
        }
        settled
    }

    /// Lost or quarantined: never to be sent. What is in flight of it keeps its claim until its answer.
    pub fn gone(&mut self, id: u64, seqs: RangeInclusive<u64>) {
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.next_seq = epoch.next_seq.max(seqs.end().saturating_add(1));
            epoch.pending.remove(seqs);
        }
    }

    /// A load did not bring these: passed over until [`Delivery::retry_unreadable`]. Returns how many
    /// pending seqs that hides.
    pub fn unreadable(&mut self, id: u64, seqs: RangeInclusive<u64>) -> u64 {
        let Some(epoch) = self.epoch_mut(id) else { return 0 };
        let hidden: Vec<_> = epoch.pending.within(seqs).collect();
        hidden.iter().cloned().for_each(|r| epoch.unreadable.insert(r));
        hidden.iter().map(|r| r.end() - r.start() + 1).sum()
    }

    pub fn retry_unreadable(&mut self) {
        self.epochs.iter_mut().for_each(|e| e.unreadable = RangeSet::new());
    }

    /// Exactly these rest from now on.
    pub fn rest(&mut self, seqs: impl Iterator<Item = (u64, RangeInclusive<u64>)>) {
        self.epochs.iter_mut().for_each(|e| e.resting = RangeSet::new());
        for (id, range) in seqs {
            if let Some(epoch) = self.epoch_mut(id) {
                epoch.resting.insert(range);
            }
        }
    }

    /// Whether a chunk may be sent: something of it is pending, and nothing of it is spoken for or rests.
    pub fn is_free(&self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        let hidden = |e: &Epoch| e.claimed.intersects(seqs.clone()) || e.resting.intersects(seqs.clone());
        self.epoch(id).is_some_and(|e| e.pending.intersects(seqs.clone()) && !hidden(e))
    }

    /// The seqs from `first` on that are to be sent and that nothing hides, up to the first that is not.
    pub fn free_from(&self, id: u64, first: u64) -> RangeInclusive<u64> {
        let pending = self.epoch(id).and_then(|e| Some((e, e.pending.within(first..=u64::MAX).next()?)));
        let free = pending.and_then(|(e, range)| e.first_free_in(range));
        free.filter(|free| *free.start() == first).unwrap_or(first + 1..=first)
    }

    pub fn is_pending(&self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        self.epoch(id).is_some_and(|e| e.pending.intersects(seqs))
    }

    /// The oldest stretch that history has to send.
    pub fn oldest_free(&self) -> Option<(u64, RangeInclusive<u64>)> {
        self.epochs.iter().find_map(|e| e.first_free().map(|r| (e.id, r)))
    }

    /// The oldest seq that is not settled, spoken for or not.
    pub fn oldest_pending(&self) -> Option<(u64, u64)> {
        self.epochs.iter().find_map(|e| e.pending.first().map(|seq| (e.id, seq)))
    }

    /// Records recorded and not settled.
    pub fn backlog(&self) -> u64 {
        self.epochs.iter().map(|e| e.pending.len()).sum()
    }

    pub fn range_count(&self) -> usize {
        self.epochs.iter().map(|e| e.pending.range_count()).sum()
    }

    /// The pending seqs of one epoch.
    pub fn pending(&self, id: u64) -> RangeSet {
        self.epoch(id).map(|e| e.pending.clone()).unwrap_or_default()
    }

    /// At most `max` ranges (at least 2), oldest first; when there are more, the newest of an epoch are
    /// merged into its last, which then covers too much. With more than `max` epochs, those between the
    /// oldest and the newest are left out: a reader that asks for them again does no harm.
    pub fn summary(&self, max: usize) -> Vec<PendingRange> {
        let held: Vec<&Epoch> = self.epochs.iter().filter(|e| !e.pending.is_empty()).collect();
        let left_out = held.len().saturating_sub(max);
        let mut spare = max.saturating_sub(held.len());
        let mut ranges = Vec::new();
        for (i, epoch) in held.iter().enumerate() {
            if i + 1 < held.len() && i + 1 + left_out >= held.len() {
                continue;
            }
            let whole = epoch.pending.range_count().min(1 + spare);
            spare -= whole - 1;
            let to = epoch.pending.last().unwrap_or_default();
            ranges.extend(epoch.pending.iter().take(whole).map(|r| PendingRange {
                epoch: epoch.id,
                from: *r.start(),
                to: *r.end(),
            }));
            if let Some(last) = ranges.last_mut() {
                last.to = to;
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn delivery(epochs: &[(u64, &[RangeInclusive<u64>])]) -> Delivery {
        let view = |(epoch, ranges): &(u64, &[RangeInclusive<u64>])| EpochView {
            epoch: *epoch,
            pending: ranges.iter().cloned().collect(),
            next_seq: 1000,
        };
        Delivery::new(epochs.iter().map(view).collect())
    }

    #[test]
    fn oldest_free_passes_over_claimed_and_unreadable_seqs() {
        let mut d = delivery(&[(7, &[1..=10]), (8, &[5..=6])]);
        d.claim(7, 1..=3);
        assert_eq!(d.oldest_free(), Some((7, 4..=10)));
        assert_eq!(d.unreadable(7, 4..=5), 2);
        d.claim(7, 8..=8);
        assert_eq!(d.oldest_free(), Some((7, 6..=7)));
        d.claim(7, 6..=10);
        assert_eq!(d.oldest_free(), Some((8, 5..=6)));
        d.retry_unreadable();
        assert_eq!(d.oldest_free(), Some((7, 4..=5)));
        d.release(7, 1..=3);
        assert_eq!(d.oldest_free(), Some((7, 1..=5)));
    }

    #[test]
    fn seqs_leave_pending_only_when_settled_or_gone() {
        let mut d = delivery(&[(7, &[1..=10])]);
        d.claim(7, 1..=5);
        d.release(7, 1..=5);
        assert_eq!(d.backlog(), 10);
        d.settle(7, 1..=5);
        d.gone(7, 9..=12);
        assert_eq!(d.pending(7).iter().collect::<Vec<_>>(), vec![6..=8]);
        assert!(!d.is_free(7, 1..=5) && d.is_free(7, 5..=6));
    }

    #[test]
    fn a_fragmenting_settlement_is_forgotten_beyond_the_bound() {
        let mut d = delivery(&[(7, &[1..=20_000])]);
        for seq in (2..20_000).step_by(2) {
            d.settle(7, seq..=seq);
        }
        assert_eq!(d.range_count(), MAX_RANGES);
        assert!(d.is_pending(7, 19_998..=19_998), "kept pending: a duplicate later");
        d.gone(7, 19_998..=19_998);
        assert!(!d.is_pending(7, 19_998..=19_998), "a loss is never forgotten");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Append(u64),
        Claim(u64, u64),
        Release(u64, u64),
        Settle(u64, u64),
        Gone(u64, u64),
        Unreadable(u64, u64),
        Retry,
    }

    fn op() -> impl Strategy<Value = Op> {
        (0u8..7, 1u64..60, 0u64..8).prop_map(|(kind, first, len)| match kind {
            0 => Op::Append(len + 1),
            1 => Op::Claim(first, first + len),
            2 => Op::Release(first, first + len),
            3 => Op::Settle(first, first + len),
            4 => Op::Gone(first, first + len),
            5 => Op::Unreadable(first, first + len),
            _ => Op::Retry,
        })
    }

    proptest! {
        #[test]
        fn behaves_as_three_sets_of_seqs(ops in proptest::collection::vec(op(), 0..60)) {
            let mut d = delivery(&[(7, &[1..=10])]);
            let (mut pending, mut claimed, mut hidden): (BTreeSet<u64>, BTreeSet<u64>, BTreeSet<u64>) =
                ((1..=10).collect(), BTreeSet::new(), BTreeSet::new());
            let mut next = 1000;
            for op in ops {
                match op {
                    Op::Append(n) => {
                        d.appended(7, next..=next + n - 1);
                        pending.extend(next..next + n);
                        next += n;
                    }
                    Op::Claim(a, b) => { d.claim(7, a..=b); claimed.extend(a..=b); }
                    Op::Release(a, b) => { d.release(7, a..=b); claimed.retain(|s| !(a..=b).contains(s)); }
                    Op::Settle(a, b) => {
                        let settled: Vec<u64> = d.settle(7, a..=b).into_iter().flatten().collect();
                        prop_assert_eq!(settled, (a..=b).filter(|s| pending.contains(s)).collect::<Vec<_>>());
                        pending.retain(|s| !(a..=b).contains(s));
                        claimed.retain(|s| !(a..=b).contains(s));
                    }
                    Op::Gone(a, b) => { d.gone(7, a..=b); pending.retain(|s| !(a..=b).contains(s)); }
                    Op::Unreadable(a, b) => {
                        d.unreadable(7, a..=b);
                        hidden.extend((a..=b).filter(|s| pending.contains(s)));
                    }
                    Op::Retry => { d.retry_unreadable(); hidden.clear(); }
                }
                let free = pending.iter().find(|s| !claimed.contains(s) && !hidden.contains(s));
                prop_assert_eq!(d.oldest_free().map(|(_, r)| *r.start()), free.copied());
                for first in [1, 8, 30, 1000] {
                    let is_free = |s: &u64| pending.contains(s) && !claimed.contains(s) && !hidden.contains(s);
                    let run = (first..).take_while(is_free).last();
                    prop_assert_eq!(d.free_from(7, first).last(), run);
                }
                if let Some((_, range)) = d.oldest_free() {
                    prop_assert!(range.clone().all(|s| pending.contains(&s) && !claimed.contains(&s) && !hidden.contains(&s)));
                }
                prop_assert_eq!(d.backlog(), pending.len() as u64);
                prop_assert_eq!(d.current(), Some((7, next)));
            }
        }
    }

    #[test]
    fn an_older_epoch_is_forgotten_once_delivered() {
        let mut d = delivery(&[(7, &[1..=2]), (8, &[1..=1])]);
        d.settle(7, 1..=2);
        assert!(d.appended(9, 1..=1));
        assert_eq!(d.age_rank(7), usize::MAX);
        assert_eq!((d.age_rank(8), d.age_rank(9)), (0, 1));
        assert_eq!(d.current(), Some((9, 2)));
    }

    #[test]
    fn summary_covers_everything_pending_within_its_bound() {
        let many: Vec<_> = (0..50u64).map(|i| i * 10 + 1..=i * 10 + 3).collect();
        let d = delivery(&[(1, &many), (2, &[1..=1]), (3, &many)]);
        let summary = d.summary(16);
        assert_eq!(summary.len(), 16);
        for (epoch, range) in [(1, 491..=493), (2, 1..=1), (3, 1..=3), (3, 491..=493)] {
            assert!(
                summary.iter().any(|p| p.epoch == epoch && p.from <= *range.start() && p.to >= *range.end()),
                "{epoch} {range:?} in {summary:?}"
            );
        }
        assert_eq!(summary[0], PendingRange { epoch: 1, from: 1, to: 3 });
        let crowd: Vec<_> = (1..=40).map(|id| (id, &many[..])).collect();
        let summary = delivery(&crowd).summary(16);
        assert_eq!((summary.len(), summary[0].epoch, summary[15].epoch), (16, 1, 40));
    }
}
