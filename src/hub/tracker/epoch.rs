//! One epoch of one host: the sets behind the verdicts. Knows nothing of hosts, messages or bounds' sizes.
//!
//! Invariants: `missing` is expected minus seen minus declared, kept incrementally, so that forgetting a *seen* range
//! never makes a gap; `confirmed` and `struck` are parts of `missing`; the sets of `declared` are disjoint (a seq
//! keeps the reason it was first declared with), except from the one open-ended loss, which covers the rest.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Declared, Gap, GapState, Missing, Tally, Verdict};
use crate::ranges::RangeSet;
use crate::wire::{Lane, LossReason};

#[derive(Debug, Default)]
pub(super) struct Epoch {
    seen: RangeSet,
    missing: RangeSet,
    /// Missing and not pending at the last counting heartbeat.
    struck: RangeSet,
    confirmed: RangeSet,
    declared: BTreeMap<LossReason, RangeSet>,
    /// Everything from here on is declared lost, as far as it exists.
    declared_from: Option<(u64, LossReason)>,
    pending: RangeSet,
    /// First seq that is expected because we were listening when it was published.
    base: Option<u64>,
    /// Highest seq seen or named by a status.
    top: u64,
    /// When the host last spoke of this epoch as its own; `None` while it is known from losses alone.
    pub heard_at: Option<Duration>,
}

/// One status, as far as it concerns this epoch.
pub(super) struct Beat {
    pub next: Option<u64>,
    pub pending: RangeSet,
    pub owed: RangeSet,
    pub live: bool,
    pub counts: bool,
}

impl Epoch {
    /// Judges one contiguous run and takes it in; returns what became missing by it.
    pub fn observe(
        &mut self,
        run: RangeInclusive<u64>,
        lane: Lane,
        verdicts: &mut Vec<(RangeInclusive<u64>, Verdict)>,
    ) -> Vec<RangeInclusive<u64>> {
        verdicts.append(&mut self.judge(&run));
        let (first, last) = (*run.start(), *run.end());
        self.seen.insert(run.clone());
        for set in [&mut self.missing, &mut self.struck, &mut self.confirmed] {
            set.remove(run.clone());
        }
        if self.base.is_none() && lane == Lane::Live { self.begin(first, last) } else { self.reach(last) }
    }

    fn judge(&self, run: &RangeInclusive<u64>) -> Vec<(RangeInclusive<u64>, Verdict)> {
        let mut verdicts: Vec<_> = self.seen.within(run.clone()).map(|r| (r, Verdict::Duplicate)).collect();
        for unseen in self.seen.missing_within(run.clone()) {
            let mut fresh = RangeSet::from_iter([unseen.clone()]);
            fresh.subtract(&self.missing);
            self.subtract_declared(&mut fresh);
            verdicts.extend(fresh.missing_within(unseen).into_iter().map(|r| (r, Verdict::Late)));
            verdicts.extend(fresh.iter().map(|r| (r, Verdict::New)));
        }
        verdicts.sort_by_key(|(r, _)| *r.start());
        verdicts
    }

    /// Sets the base: from `first` on, everything is expected.
    fn begin(&mut self, first: u64, last: u64) -> Vec<RangeInclusive<u64>> {
        self.base = Some(first);
        self.top = self.top.max(last);
        self.expect(first..=self.top)
    }

    /// Everything is expected, whatever we heard first.
    pub fn begin_at_1(&mut self) -> Vec<RangeInclusive<u64>> {
        if self.base == Some(1) { Vec::new() } else { self.begin(1, self.top) }
    }

    /// What an earlier run knew; nothing of it is news.
    pub fn remember(&mut self, seen: &RangeSet, next: u64) {
        self.seen.union(seen);
        for set in [&mut self.missing, &mut self.struck, &mut self.confirmed] {
            set.subtract(seen);
        }
        self.reach(seen.last().unwrap_or(0).max(next.saturating_sub(1)));
    }

    /// Extends what is expected to `last`; before there is a base, only remembers it.
    fn reach(&mut self, last: u64) -> Vec<RangeInclusive<u64>> {
        let from = self.top.saturating_add(1);
        self.top = self.top.max(last);
        match self.base {
            Some(base) if last >= from => self.expect(from.max(base)..=last),
            _ => Vec::new(),
        }
    }

    /// Makes `seqs` expected; returns what of it is now missing and was not before.
    fn expect(&mut self, seqs: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut opened = RangeSet::from_iter([seqs.clone()]);
        for known in self.seen.within(seqs.clone()).chain(self.missing.within(seqs)) {
            opened.remove(known);
        }
        self.subtract_declared(&mut opened);
        self.missing.union(&opened);
        opened.iter().collect()
    }

    /// Takes in a loss; returns the ranges of it that are news.
    pub fn declare(&mut self, from: u64, to: Option<u64>, reason: LossReason) -> Vec<(u64, Option<u64>)> {
        let from = from.max(1);
        let mut fresh = RangeSet::from_iter([from..=to.unwrap_or(u64::MAX)]);
        self.subtract_declared(&mut fresh);
        if fresh.is_empty() {
            return Vec::new();
        }
        for set in [&mut self.missing, &mut self.struck, &mut self.confirmed] {
            set.subtract(&fresh);
        }
        if to.is_none() {
            // What an earlier open-ended loss covers was subtracted, so this one starts lower and replaces it.
            self.declared_from = Some((from, reason));
        } else {
            self.declared.entry(reason).or_default().union(&fresh);
        }
        fresh.iter().map(|r| (*r.start(), (*r.end() != u64::MAX).then_some(*r.end()))).collect()
    }

    fn subtract_declared(&self, set: &mut RangeSet) {
        for declared in self.declared.values() {
            set.subtract(declared);
        }
        if let Some((from, _)) = self.declared_from {
            set.remove(from..=u64::MAX);
        }
    }

    /// Returns what became missing and what became confirmed.
    pub fn heartbeat(&mut self, beat: Beat) -> (Vec<RangeInclusive<u64>>, Vec<RangeInclusive<u64>>) {
        self.pending = beat.pending;
        let mut opened = Vec::new();
        if let Some(next) = beat.next.filter(|&next| next >= 1) {
            match self.base {
                None if beat.live => opened = self.begin(next, next - 1),
                _ => opened = self.reach(next - 1),
            }
        }
        for owed in beat.owed.iter() {
            opened.append(&mut self.expect(owed));
        }
        self.confirmed.subtract(&self.pending);
        self.struck.subtract(&self.pending);
        if !beat.counts {
            return (opened, Vec::new());
        }
        let mut twice = std::mem::take(&mut self.struck);
        twice.subtract(&self.confirmed);
        self.confirmed.union(&twice);
        self.struck = self.missing.clone();
        self.struck.subtract(&self.pending);
        (opened, twice.iter().collect())
    }

    pub fn is_pending(&self, seqs: RangeInclusive<u64>) -> bool {
        self.pending.covers(seqs)
    }

    pub fn is_confirmed(&self, seqs: RangeInclusive<u64>) -> bool {
        self.confirmed.intersects(seqs)
    }

    pub fn gaps(&self, epoch: u64) -> Vec<Gap> {
        let mut open = self.missing.clone();
        open.subtract(&self.confirmed);
        open.subtract(&self.pending);
        let mut pending = self.missing.clone();
        pending.subtract(&self.confirmed);
        pending.subtract(&open);
        let states = [(&pending, GapState::Pending), (&open, GapState::Open), (&self.confirmed, GapState::Confirmed)];
        let mut gaps: Vec<Gap> = states
            .into_iter()
            .flat_map(|(set, state)| set.iter().map(move |seqs| Gap { epoch, seqs, state }))
            .collect();
        gaps.sort_by_key(|gap| *gap.seqs.start());
        gaps
    }

    pub fn losses(&self, epoch: u64) -> Vec<Declared> {
        let closed = self.declared.iter().flat_map(|(&reason, set)| set.iter().map(move |r| (r, reason)));
        let mut losses: Vec<_> =
            closed.map(|(r, reason)| Declared { epoch, from: *r.start(), to: Some(*r.end()), reason }).collect();
        losses.extend(self.declared_from.map(|(from, reason)| Declared { epoch, from, to: None, reason }));
        losses
    }

    pub fn add_missing(&self, sum: &mut Missing) {
        for gap in self.gaps(0) {
            let seqs = gap.seqs.end() - gap.seqs.start() + 1;
            match gap.state {
                GapState::Pending => sum.pending = sum.pending.saturating_add(seqs),
                GapState::Open => sum.open = sum.open.saturating_add(seqs),
                GapState::Confirmed => sum.confirmed = sum.confirmed.saturating_add(seqs),
            }
        }
        let mut gone = RangeSet::new();
        self.declared.values().for_each(|set| gone.union(set));
        if let Some((from, _)) = self.declared_from {
            gone.insert(from..=self.top);
        }
        gone.subtract(&self.seen);
        sum.declared = sum.declared.saturating_add(gone.len());
    }

    pub fn range_count(&self) -> usize {
        let sets = [&self.seen, &self.missing, &self.struck, &self.confirmed, &self.pending];
        let declared = self.declared.values().map(RangeSet::range_count).sum::<usize>();
        sets.iter().map(|set| set.range_count()).sum::<usize>() + declared
    }

    /// Forgets the smallest ranges of each set that has more than `max`, down to three quarters of it so that a set
    /// at its bound is not sorted anew by each message. Returns whether anything was forgotten.
    pub fn hold_to(&mut self, max: usize, tally: &mut Tally) -> bool {
        let seen = shrink(&mut self.seen, max);
        let missing = shrink(&mut self.missing, max);
        let mut losses = 0;
        let per_reason = (max / self.declared.len().max(1)).max(1);
        for set in self.declared.values_mut() {
            losses = shrink(set, per_reason).len().saturating_add(losses);
        }
        for set in [&mut self.struck, &mut self.confirmed] {
            set.subtract(&missing);
        }
        tally.forgotten = tally.forgotten.saturating_add(seen.len());
        tally.overflowed = tally.overflowed.saturating_add(missing.len());
        tally.losses_forgotten = tally.losses_forgotten.saturating_add(losses);
        !seen.is_empty() || !missing.is_empty() || losses > 0
    }

    /// Books what is lost to sight when this whole epoch is forgotten.
    pub fn forget(&self, tally: &mut Tally) {
        tally.forgotten = tally.forgotten.saturating_add(self.seen.len());
        tally.overflowed = tally.overflowed.saturating_add(self.missing.len());
    }
}

fn shrink(set: &mut RangeSet, max: usize) -> RangeSet {
    if set.range_count() <= max {
        return RangeSet::new();
    }
    set.forget_smallest((max * 3 / 4).max(1)).into_iter().collect()
}
