//! What one hub has of one epoch of one host: committed, declared lost, known to exist. Pure.
//!
//! Invariants: a seq is *seen* only when its record is committed; `upto` of an [`Ack`] never covers a seq that is neither
//! seen nor declared gone to the last one: a loss that names more seqs than it counts excuses their absence, and says
//! nothing of each. At its bound the account forgets the smallest ranges, which costs duplicates and questions,
//! never a false acknowledgement.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::ranges::RangeSet;
use crate::wire::{Ack, Loss, LossReason, MAX_ACK_RANGES, VERSION};

/// Ranges seen, and ranges declared, at most.
pub const MAX_RANGES: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub seen: RangeSet,
    pub declared: BTreeMap<LossReason, RangeSet>,
    /// Of these, where every single one is gone.
    pub gone: RangeSet,
    /// Everything from here on is declared lost, as far as it exists.
    pub declared_from: Option<(u64, LossReason)>,
    /// The next seq to be drawn, as the host last said; 0 when it has not.
    pub next: u64,
    /// Our wall clock when it was heard of first and last, ms since 1970.
    pub first_ms: i64,
    pub last_ms: i64,
}

impl Account {
    /// The parts of `run` that are not here yet.
    pub fn fresh(&self, run: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        self.seen.missing_within(run)
    }

    pub fn take(&mut self, run: RangeInclusive<u64>) {
        self.seen.insert(run);
    }

    /// A seq keeps the reason it was first declared with. `count` is how many of them are gone, 0 when not known.
    pub fn declare(&mut self, from: u64, to: Option<u64>, count: u64, reason: LossReason) {
        let Some(to) = to else {
            if self.declared_from.is_none_or(|(known, _)| from < known) {
                self.declared_from = Some((from, reason));
            }
            return;
        };
        if to.checked_sub(from).is_some_and(|more| more + 1 == count) {
            self.gone.insert(from..=to);
        }
        let mut fresh = RangeSet::from_iter([from..=to]);
        self.declared.values().for_each(|set| fresh.subtract(set));
        if !fresh.is_empty() {
            self.declared.entry(reason).or_default().union(&fresh);
        }
    }

    pub fn tell_next(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// The highest seq known to exist.
    pub fn top(&self) -> u64 {
        self.seen.last().unwrap_or(0).max(self.next.saturating_sub(1))
    }

    /// Seen or declared.
    fn covered(&self) -> RangeSet {
        let mut covered = self.seen.clone();
        self.declared.values().for_each(|set| covered.union(set));
        if let Some((from, _)) = self.declared_from {
            covered.insert(from..=self.top());
        }
        covered
    }

    /// Known to exist, neither seen nor declared.
    pub fn missing(&self) -> RangeSet {
        self.covered().missing_within(1..=self.top()).into_iter().collect()
    }

    /// Declared lost and not here after all, in seqs.
    pub fn lost(&self) -> u64 {
        let mut lost = self.covered();
        lost.subtract(&self.seen);
        lost.len()
    }

    /// Every seq in 1..= this is seen or gone.
    pub fn upto(&self) -> u64 {
        let mut sure = self.seen.clone();
        sure.union(&self.gone);
        if let Some((from, _)) = self.declared_from {
            sure.insert(from..=self.top());
        }
        sure.iter().next().filter(|first| *first.start() == 1).map_or(0, |first| *first.end())
    }

    /// As the host declared them; counts and times are not kept.
    pub fn losses(&self, epoch: u64) -> Vec<Loss> {
        let closed = self
            .declared
            .iter()
            .flat_map(|(&reason, set)| set.iter().map(move |range| (*range.start(), Some(*range.end()), reason)));
        let open = self.declared_from.map(|(from, reason)| (from, None, reason));
        closed.chain(open).map(|(from, to, reason)| Loss { epoch, from, to, count: 0, reason, t0: 0, t1: 0 }).collect()
    }

    /// What may be acknowledged to the host. Of too many ranges the largest are named.
    pub fn ack(&self, epoch: u64) -> Ack {
        let upto = self.upto();
        // A loss whose seqs are all gone is confirmed here too: below it there may be gaps that stay.
        let mut above = self.seen.clone();
        above.union(&self.gone);
        above.remove(0..=upto);
        above.forget_smallest(MAX_ACK_RANGES);
        Ack { v: VERSION, epoch, upto, ranges: above.iter().map(|r| [*r.start(), *r.end()]).collect() }
    }

    /// Forgets the smallest ranges beyond the bound, down to three quarters of it. Returns whether it had to.
    pub fn hold_to(&mut self, max: usize) -> bool {
        let mut forgot = shrink(&mut self.seen, max) | shrink(&mut self.gone, max);
        let per_reason = (max / self.declared.len().max(1)).max(1);
        for set in self.declared.values_mut() {
            forgot |= shrink(set, per_reason);
        }
        forgot
    }

    pub fn range_count(&self) -> usize {
        self.seen.range_count() + self.declared.values().map(RangeSet::range_count).sum::<usize>()
    }
}

fn shrink(set: &mut RangeSet, max: usize) -> bool {
    set.range_count() > max && !set.forget_smallest((max * 3 / 4).max(1)).is_empty()
}

type Ranges = Vec<(u64, u64)>;

/// An [`Account`] as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AccountRow {
    seen: Ranges,
    #[serde(default)]
    declared: Vec<(LossReason, Ranges)>,
    #[serde(default)]
    gone: Ranges,
    #[serde(default)]
    declared_from: Option<(u64, LossReason)>,
    next: u64,
    first_ms: i64,
    last_ms: i64,
}

/// Of an [`AccountRow`], what is asked of many at a time.
#[derive(Debug, Deserialize)]
pub(super) struct LastHeard {
    pub last_ms: i64,
}

impl From<&Account> for AccountRow {
    fn from(account: &Account) -> Self {
        let ranges = |set: &RangeSet| set.iter().map(|r| (*r.start(), *r.end())).collect::<Ranges>();
        Self {
            seen: ranges(&account.seen),
            declared: account.declared.iter().map(|(reason, set)| (*reason, ranges(set))).collect(),
            gone: ranges(&account.gone),
            declared_from: account.declared_from,
            next: account.next,
            first_ms: account.first_ms,
            last_ms: account.last_ms,
        }
    }
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Self {
        let set = |ranges: Ranges| ranges.into_iter().map(|(a, b)| a..=b).collect::<RangeSet>();
        Self {
            seen: set(row.seen),
            declared: row.declared.into_iter().map(|(reason, ranges)| (reason, set(ranges))).collect(),
            gone: set(row.gone),
            declared_from: row.declared_from,
            next: row.next,
            first_ms: row.first_ms,
            last_ms: row.last_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Take(u64, u64),
        Declare(u64, Option<u64>),
        /// More seqs are named than are gone.
        Merged(u64, u64),
        Next(u64),
        Hold(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let range = (1u64..200, 0u64..8).prop_map(|(a, n)| (a, a + n));
        prop_oneof![
            6 => range.clone().prop_map(|(a, b)| Op::Take(a, b)),
            2 => range.clone().prop_map(|(a, b)| Op::Declare(a, Some(b))),
            1 => range.prop_map(|(a, b)| Op::Merged(a, b)),
            1 => (150u64..250).prop_map(|a| Op::Declare(a, None)),
            1 => (1u64..250).prop_map(Op::Next),
            1 => (1usize..9).prop_map(Op::Hold),
        ]
    }

    proptest! {
        /// Against plain sets of seqs: an acknowledgement names only what was taken or declared, whatever was forgotten;
        /// as long as nothing was, it and the missing ones are exact.
        #[test]
        fn never_acknowledges_what_was_not_taken(ops in proptest::collection::vec(op(), 0..60)) {
            let (mut account, mut taken, mut declared) = (Account::default(), BTreeSet::new(), BTreeSet::new());
            let (mut open, mut next, mut forgot, mut merged) = (u64::MAX, 0, false, BTreeSet::new());
            for op in ops {
                match op {
                    Op::Take(a, b) => { account.take(a..=b); taken.extend(a..=b); }
                    Op::Declare(a, Some(b)) => { account.declare(a, Some(b), b - a + 1, LossReason::Age); declared.extend(a..=b); }
                    Op::Merged(a, b) => { account.declare(a, Some(b), b - a, LossReason::Mixed); merged.extend(a..=b); }
                    Op::Declare(a, None) => { account.declare(a, None, 0, LossReason::Epoch); open = open.min(a); }
                    Op::Next(n) => { account.tell_next(n); next = next.max(n); }
                    Op::Hold(max) => forgot |= account.hold_to(max),
                }
                let top = taken.last().copied().unwrap_or(0).max(next.saturating_sub(1));
                let sure = |seq: &u64| taken.contains(seq) || declared.contains(seq) || *seq >= open;
                let excused = |seq: &u64| sure(seq) || merged.contains(seq);
                let ack = account.ack(7);
                prop_assert!((1..=ack.upto).all(|seq| sure(&seq)), "{ack:?}");
                prop_assert!(ack.ranges.iter().all(|[a, b]| (*a..=*b).all(|seq| sure(&seq))), "{ack:?}");
                if !forgot {
                    let missing: Vec<u64> = (1..=top).filter(|seq| !excused(seq)).collect();
                    prop_assert_eq!(account.missing().iter().flatten().collect::<Vec<_>>(), missing);
                    let named = |seq: &u64| *seq <= ack.upto || ack.ranges.iter().any(|[a, b]| a <= seq && seq <= b);
                    prop_assert!(taken.iter().all(named), "{ack:?}");
                    prop_assert!(declared.iter().all(named), "a loss is confirmed: {ack:?}");
                }
                let stored: Account = rmp_serde::from_slice::<AccountRow>(
                    &rmp_serde::to_vec_named(&AccountRow::from(&account)).unwrap()).unwrap().into();
                prop_assert_eq!(&stored, &account);
            }
        }
    }

    #[test]
    fn too_many_ranges_forget_the_smallest_and_stay_bounded() {
        let mut account = Account::default();
        account.take(1..=100);
        (0..5000).for_each(|n| account.take(200 + 2 * n..=200 + 2 * n));
        assert!(account.hold_to(MAX_RANGES));
        assert!(account.range_count() <= MAX_RANGES);
        assert_eq!(account.upto(), 100, "the largest stays");
        assert_eq!(account.ack(1).ranges.len(), MAX_ACK_RANGES);
    }
}
