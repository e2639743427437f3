//! What became of every seq of one epoch: settled, lost, quarantined, or (all the rest below next) held.
//!
//! The three sets are disjoint by construction, so with `held` as their complement every seq is in exactly one
//! of the four. Bounded: beyond its bound a set forgets its smallest islands, whose seqs are then held again; a
//! settled one costs a duplicate, a lost one is found absent again and declared again.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::ranges::RangeSet;
use crate::wire::LossReason;

pub(super) const MAX_SETTLED: usize = 4096;
const MAX_LOST: usize = 1024;
const MAX_QUARANTINED: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    settled: RangeSet,
    lost: BTreeMap<LossReason, RangeSet>,
    quarantined: RangeSet,
    /// The union of the three: what is asked most often.
    done: RangeSet,
}

impl Ledger {
    pub(super) fn new(settled: RangeSet, lost: BTreeMap<LossReason, RangeSet>, quarantined: RangeSet) -> Self {
        let mut ledger = Self::default();
        for range in quarantined.iter() {
            ledger.quarantine(range);
        }
        // In this order: presence outranks a loss.
        ledger.settle(&settled);
        for (reason, set) in lost {
            for range in set.iter() {
                ledger.lose(range, reason);
            }
        }
        ledger
    }

    /// A late acknowledgement of a seq already given up makes it settled: it did arrive.
    pub(super) fn settle(&mut self, seqs: &RangeSet) {
        for set in self.lost.values_mut() {
            set.subtract(seqs);
        }
        self.quarantined.subtract(seqs);
        self.settled.union(seqs);
        self.done.union(seqs);
        let forgotten = self.settled.forget_smallest(MAX_SETTLED);
        self.forget(forgotten);
    }

    /// Of `range`, what was held is lost; returns exactly that.
    pub(super) fn lose(&mut self, range: RangeInclusive<u64>, reason: LossReason) -> RangeSet {
        let fresh = RangeSet::from_iter(self.done.missing_within(range));
        if fresh.is_empty() {
            return fresh;
        }
        let set = self.lost.entry(reason).or_default();
        set.union(&fresh);
        let forgotten = set.forget_smallest(MAX_LOST);
        self.done.union(&fresh);
        self.forget(forgotten);
        fresh
    }

    /// Of `range`, what was held or settled is quarantined; returns exactly that. Settled seqs are sent again only to
    /// somebody who lacks them: where no broker takes them they are not delivered after all, whoever's word that was.
    pub(super) fn quarantine(&mut self, range: RangeInclusive<u64>) -> RangeSet {
        self.unsettle(range.clone());
        let fresh = RangeSet::from_iter(self.done.missing_within(range));
        self.quarantined.union(&fresh);
        self.done.union(&fresh);
        let forgotten = self.quarantined.forget_smallest(MAX_QUARANTINED);
        self.forget(forgotten);
        fresh
    }

    /// Of `range`, what was settled is held.
    pub(super) fn unsettle(&mut self, range: RangeInclusive<u64>) {
        let again: RangeSet = self.settled.within(range).collect();
        self.settled.subtract(&again);
        self.done.subtract(&again);
    }

    /// Of `range`, what is quarantined is lost for good.
    pub(super) fn give_up(&mut self, range: RangeInclusive<u64>) {
        let gone: RangeSet = self.quarantined.within(range).collect();
        self.quarantined.subtract(&gone);
        self.done.subtract(&gone);
        for range in gone.iter() {
            self.lose(range, LossReason::Quarantined);
        }
    }

    fn forget(&mut self, forgotten: Vec<RangeInclusive<u64>>) {
        for range in forgotten {
            self.done.remove(range);
        }
    }

    /// The parts of `range` that are neither settled nor lost nor quarantined.
    pub(super) fn held(&self, range: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        self.done.missing_within(range)
    }

    pub(super) fn done(&self) -> &RangeSet {
        &self.done
    }

    pub(super) fn settled(&self) -> &RangeSet {
        &self.settled
    }

    pub(super) fn quarantined(&self) -> &RangeSet {
        &self.quarantined
    }

    pub(super) fn lost(&self) -> &BTreeMap<LossReason, RangeSet> {
        &self.lost
    }

    /// The parts of `range` that are declared to the other side: lost, for whatever reason, or quarantined.
    pub(super) fn lost_within(&self, range: RangeInclusive<u64>) -> RangeSet {
        let sets = self.lost.values().chain([&self.quarantined]);
        sets.flat_map(|set| set.within(range.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(ledger: &Ledger, next: u64) -> u64 {
        let held: u64 = ledger.held(1..=next - 1).iter().map(|r| r.end() - r.start() + 1).sum();
        let lost: u64 = ledger.lost().values().map(RangeSet::len).sum();
        held + lost + ledger.settled().len() + ledger.quarantined().len()
    }

    #[test]
    fn every_seq_is_in_exactly_one_class() {
        let mut ledger = Ledger::default();
        ledger.settle(&RangeSet::from_iter([1..=10, 40..=50]));
        assert_eq!(ledger.lose(5..=20, LossReason::Quota), RangeSet::from_iter([11..=20]));
        assert_eq!(ledger.quarantine(18..=25), RangeSet::from_iter([21..=25]));
        assert_eq!(ledger.quarantine(9..=12), RangeSet::from_iter([9..=10]), "settled ones too, lost ones not");
        ledger.settle(&RangeSet::from_iter([15..=22]));
        assert_eq!(ledger.lose(1..=100, LossReason::Age), RangeSet::from_iter([26..=39, 51..=100]));
        assert_eq!(total(&ledger, 201), 200);
        assert_eq!(ledger.held(1..=200), vec![101..=200]);
    }

    #[test]
    fn what_is_given_up_is_lost() {
        let mut ledger = Ledger::default();
        ledger.settle(&RangeSet::from_iter([1..=10]));
        ledger.quarantine(11..=20);
        ledger.give_up(1..=15);
        assert_eq!(ledger.lost()[&LossReason::Quarantined], RangeSet::from_iter([11..=15]));
        assert_eq!(ledger.quarantined(), &RangeSet::from_iter([16..=20]));
        assert_eq!(total(&ledger, 31), 30);
    }

    #[test]
    fn beyond_the_bounds_seqs_become_held_again() {
        let mut ledger = Ledger::default();
        let every_other = |n: usize| (0..n as u64).map(|i| 10 + 3 * i..=10 + 3 * i + u64::from(i > 5));
        ledger.settle(&RangeSet::from_iter(every_other(MAX_SETTLED + 5)));
        assert_eq!(ledger.settled().range_count(), MAX_SETTLED);
        assert!(!ledger.held(10..=10).is_empty(), "the smallest island is held again");
        let mut ledger = Ledger::default();
        for range in every_other(MAX_LOST + 5) {
            ledger.lose(range, LossReason::Memory);
        }
        assert_eq!(ledger.lost()[&LossReason::Memory].range_count(), MAX_LOST);
        assert_eq!(total(&ledger, 20_001), 20_000);
    }
}
