//! A set of seqs kept as sorted, disjoint, non-adjacent inclusive ranges.
//!
//! The currency of the whole design: settled, lost, pending and seen are all range sets, so that months
//! of records cost a few bytes. Pure; bounds are the callers' (see [`RangeSet::forget_smallest`]).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Seqs as inclusive ranges. `insert` and `remove` cost O(log n + ranges touched).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// first -> last; no two ranges touch.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges (not seqs) it holds.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// How many seqs it holds.
    pub fn len(&self) -> u64 {
        self.iter().map(|r| r.end() - r.start() + 1).sum()
    }

    pub fn first(&self) -> Option<u64> {
        self.ranges.keys().next().copied()
    }

    pub fn last(&self) -> Option<u64> {
        self.ranges.values().next_back().copied()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|(&first, &last)| first..=last)
    }

    pub fn contains(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, &last)| last >= seq)
    }

    /// Whether every seq of `range` is in the set.
    pub fn covers(&self, range: RangeInclusive<u64>) -> bool {
        range.is_empty()
            || self.ranges.range(..=*range.start()).next_back().is_some_and(|(_, last)| last >= range.end())
    }

    /// Whether any seq of `range` is in the set.
    pub fn intersects(&self, range: RangeInclusive<u64>) -> bool {
        !range.is_empty()
            && self.ranges.range(..=*range.end()).next_back().is_some_and(|(_, last)| last >= range.start())
    }

    pub fn insert(&mut self, range: RangeInclusive<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut first, mut last) = (*range.start(), *range.end());
        while let Some((&f, &l)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if l.saturating_add(1) < first {
                break;
            }
            first = first.min(f);
            last = last.max(l);
            self.ranges.remove(&f);
        }
        self.ranges.insert(first, last);
    }

    pub fn remove(&mut self, range: RangeInclusive<u64>) {
        if range.is_empty() {
            return;
        }
        let (first, last) = (*range.start(), *range.end());
        while let Some((&f, &l)) = self.ranges.range(..=last).next_back() {
            if l < first {
                break;
            }
            self.ranges.remove(&f);
            if l > last {
                self.ranges.insert(last + 1, l);
            }
            if f < first {
                self.ranges.insert(f, first - 1);
            }
        }
    }

    pub fn union(&mut self, other: &RangeSet) {
        for range in other.iter() {
            self.insert(range);
        }
    }

    pub fn subtract(&mut self, other: &RangeSet) {
        for range in other.iter() {
            self.remove(range);
        }
    }

    /// The parts of `range` that are in the set, in order.
    pub fn within(&self, range: RangeInclusive<u64>) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        let (first, last) = (*range.start(), *range.end());
        let from = self.ranges.range(..=first).next_back().map_or(first, |(&f, _)| f);
        let hits = if range.is_empty() { None } else { Some(self.ranges.range(from..=last)) };
        hits.into_iter().flatten().filter(move |(_, l)| **l >= first).map(move |(&f, &l)| f.max(first)..=l.min(last))
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn missing_within(&self, range: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut gaps = RangeSet::from_iter([range.clone()]);
        for hit in self.within(range) {
            gaps.remove(hit);
        }
        gaps.iter().collect()
    }

    /// Keeps the set within `max` ranges by forgetting its smallest islands. For sets where forgetting is
    /// safe (settled: costs a duplicate). Returns the ranges forgotten.
    pub fn forget_smallest(&mut self, max: usize) -> Vec<RangeInclusive<u64>> {
        if self.ranges.len() <= max {
            return Vec::new();
        }
        let mut by_size: Vec<_> = self.iter().map(|r| (r.end() - r.start(), r)).collect();
        by_size.sort_by_key(|(size, r)| (*size, *r.start()));
        let excess = self.ranges.len() - max;
        let forgotten: Vec<_> = by_size.into_iter().take(excess).map(|(_, r)| r).collect();
        for range in &forgotten {
            self.ranges.remove(range.start());
        }
        forgotten
    }
}

impl FromIterator<RangeInclusive<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        (any::<bool>(), 0u64..60, 0u64..12).prop_map(|(insert, first, len)| {
            if insert { Op::Insert(first, first + len) } else { Op::Remove(first, first + len) }
        })
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_seqs(ops in proptest::collection::vec(op(), 0..80), a in 0u64..60, len in 0u64..20) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Insert(f, l) => { set.insert(f..=l); model.extend(f..=l); }
                    Op::Remove(f, l) => { set.remove(f..=l); model.retain(|s| !(f..=l).contains(s)); }
                }
            }
            prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.len(), model.len() as u64);
            let probe = a..=a + len;
            prop_assert_eq!(set.covers(probe.clone()), probe.clone().all(|s| model.contains(&s)));
            prop_assert_eq!(set.intersects(probe.clone()), probe.clone().any(|s| model.contains(&s)));
            let hits: Vec<u64> = set.within(probe.clone()).flatten().collect();
            prop_assert_eq!(hits, probe.clone().filter(|s| model.contains(s)).collect::<Vec<_>>());
            let gaps: Vec<u64> = set.missing_within(probe.clone()).into_iter().flatten().collect();
            prop_assert_eq!(gaps, probe.filter(|s| !model.contains(s)).collect::<Vec<_>>());
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|w| w[0].end() + 1 < *w[1].start()), "adjacent ranges are merged");
        }
    }

    #[test]
    fn forgets_the_smallest_islands_first() {
        let mut set = RangeSet::from_iter([1..=10, 20..=20, 30..=35]);
        assert_eq!(set.forget_smallest(2), vec![20..=20]);
        assert_eq!(set.iter().collect::<Vec<_>>(), vec![1..=10, 30..=35]);
    }

    #[test]
    fn the_ends_of_u64_do_not_overflow() {
        let mut set = RangeSet::new();
        set.insert(u64::MAX - 1..=u64::MAX);
        set.insert(0..=0);
        set.remove(u64::MAX..=u64::MAX);
        assert_eq!(set.iter().collect::<Vec<_>>(), vec![0..=0, u64::MAX - 1..=u64::MAX - 1]);
    }
}
