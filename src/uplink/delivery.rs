//! Which seqs still have to be delivered, per epoch, and which of them are spoken for.
//!
//! `pending` (the broker has not taken them) starts from what the outbox recovered, grows by appends and shrinks only by
//! a settlement, a declared loss or a quarantine, or at level hub into `sent`: the broker has taken them, no hub has
//! acknowledged them. `sent` is known to this process alone and goes back to `pending` when a hub asks, when patience
//! ends, or at the bound. `again` holds settled seqs that a hub has asked for. `claimed` (waiting in the live lane, or in
//! flight), `unreadable`, `resting` (suspects between two trials) and what is `passed` over only hide seqs from history for a
//! while. Holds seqs, never bytes; at most [`MAX_RANGES`] ranges by settlement, whatever the backlog.

mod epoch;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::io::EpochView;
use crate::ranges::RangeSet;
use crate::wire::PendingRange;
use epoch::Epoch;

/// Beyond it a settled island is kept, and what the broker has goes back to `pending`: both cost a duplicate, never a
/// record. What was just taken may be two more; what the outbox recovered is its own to bound.
pub const MAX_RANGES: usize = 4096;
/// Epochs remembered, those with something to deliver aside: a hub may ask for their records again.
const MAX_EPOCHS: usize = 64;

/// What an epoch that a hub names is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every seq below was drawn.
    pub next_seq: u64,
    /// Every seq below was drawn before this process.
    pub born: u64,
    /// It is appended to.
    pub is_current: bool,
    pub ends_in_doubt: bool,
}

/// The delivery view over all epochs, oldest first.
#[derive(Debug, Default)]
pub struct Delivery {
    epochs: Vec<Epoch>,
    /// History goes on behind this epoch's seq.
    passed: Option<(u64, u64)>,
}

impl Delivery {
    pub fn new(views: Vec<EpochView>) -> Self {
        let epochs = views
            .into_iter()
            .map(|v| Epoch {
                pending: v.pending,
                next_seq: v.next_seq,
                born: v.next_seq,
                ends_in_doubt: v.in_doubt,
                ..Epoch::new(v.epoch)
            })
            .collect();
        Self { epochs, passed: None }
    }

    /// Epochs found later than the start; they are older than whatever was appended since.
    pub fn found(&mut self, views: Vec<EpochView>) {
        let newer = std::mem::replace(&mut self.epochs, Self::new(views).epochs);
        for epoch in newer {
            match self.epoch_mut(epoch.id) {
                Some(known) => {
                    known.pending.union(&epoch.pending);
                    known.sent.union(&epoch.sent);
                    known.pending.subtract(&known.sent);
                    known.again.union(&epoch.again);
                    known.ends_in_doubt |= epoch.ends_in_doubt;
                    known.doubted |= epoch.doubted;
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

    /// `None`: not one of ours, or one of which nothing is left.
    pub fn standing(&self, id: u64) -> Option<Standing> {
        let Epoch { next_seq, born, ends_in_doubt, .. } = *self.epoch(id)?;
        Some(Standing {
            next_seq,
            born,
            ends_in_doubt,
            is_current: self.current().is_some_and(|(current, _)| current == id),
        })
    }

    /// A position for ordering epochs by age; unknown ones come last.
    pub fn age_rank(&self, id: u64) -> usize {
        self.epochs.iter().position(|e| e.id == id).unwrap_or(usize::MAX)
    }

    /// Returns whether the epoch is new. Beyond a bound, fully delivered older epochs are forgotten here.
    pub fn appended(&mut self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        let is_new = self.epoch(id).is_none();
        if is_new {
            self.epochs.push(Epoch::new(id));
            let spare = self.epochs.len().saturating_sub(MAX_EPOCHS);
            self.epochs.extract_if(.., |e| e.id != id && e.is_settled()).take(spare).for_each(drop);
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
        self.proven(id, seqs)
    }

    /// As [`Self::settle`], whatever is still on its way.
    pub fn proven(&mut self, id: u64, seqs: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let Some(epoch) = self.epoch_mut(id) else { return Vec::new() };
        let settled: Vec<_> = epoch.unsettled(&seqs).iter().collect();
        if !settled.is_empty() {
            epoch.patience.renew();
        }
        let before = epoch.range_count();
        let kept = [&epoch.pending, &epoch.sent].map(|set| set.within(seqs.clone()).collect::<Vec<_>>());
        for set in [&mut epoch.pending, &mut epoch.sent, &mut epoch.again] {
            set.remove(seqs.clone());
        }
        // What is at the bound and does not grow goes on: else no settlement could ever bring it down.
        if epoch.range_count() > before
            && self.range_count() > MAX_RANGES
            && let Some(epoch) = self.epoch_mut(id)
        {
            let [pending, sent] = kept;
            pending.into_iter().for_each(|r| epoch.pending.insert(r));
            sent.into_iter().for_each(|r| epoch.sent.insert(r));
        }
        settled
    }

    /// The broker has taken them, which settles nothing here: a hub has to acknowledge them. The claim ends with it.
    pub fn taken(&mut self, id: u64, seqs: RangeInclusive<u64>) {
        self.release(id, seqs.clone());
        let Some(epoch) = self.epoch_mut(id) else { return };
        let taken: Vec<_> = epoch.pending.within(seqs.clone()).collect();
        epoch.pending.remove(seqs.clone());
        epoch.again.remove(seqs.clone());
        epoch.patience.restart();
        taken.into_iter().for_each(|range| epoch.sent.insert(range));
        while self.range_count() > MAX_RANGES && self.send_again(id, &seqs) {}
    }

    /// Makes the newest stretch that the broker has, and that touches a pending one, pending with it: one that stands alone
    /// would save no range. Never what was just taken, and the oldest last: history goes on from there, and must get on.
    fn send_again(&mut self, id: u64, taken: &RangeInclusive<u64>) -> bool {
        let Some(Epoch { pending, sent, .. }) = self.epoch_mut(id) else { return false };
        let touches = |r: &RangeInclusive<u64>| {
            let (before, behind) = (r.start().saturating_sub(1), r.end().saturating_add(1));
            (pending.contains(before) || pending.contains(behind)) && !(r.contains(taken.start()))
        };
        let Some(found) = sent.iter().rev().find(touches) else { return false };
        sent.remove(found.clone());
        pending.insert(found);
        true
    }

    /// A hub has asked for these drawn seqs. What is pending will come anyway. Returns how many will come because of this.
    pub fn ask(&mut self, id: u64, seqs: RangeInclusive<u64>) -> u64 {
        let Some(epoch) = self.epoch_mut(id) else { return 0 };
        let sent: Vec<_> = epoch.sent.within(seqs.clone()).collect();
        epoch.sent.remove(seqs.clone());
        let mut asked: RangeSet = std::iter::once(seqs).collect();
        asked.subtract(&epoch.pending);
        asked.subtract(&epoch.again);
        let count = asked.len();
        sent.into_iter().for_each(|range| epoch.pending.insert(range));
        asked.subtract(&epoch.pending);
        epoch.again.union(&asked);
        count
    }

    /// Of epochs that are over, what has waited too long for a hub is pending again: a hub that was away meanwhile does
    /// not learn of their end, since the status tells of the present epoch alone, and so never asks.
    pub fn recheck(&mut self, now: Duration) {
        let over = self.epochs.len().saturating_sub(1);
        for epoch in self.epochs.iter_mut().take(over) {
            if epoch.patience.is_over(!epoch.sent.is_empty(), now) {
                let sent = std::mem::take(&mut epoch.sent);
                epoch.pending.union(&sent);
            }
        }
    }

    pub fn next_recheck(&self) -> Option<Duration> {
        self.epochs.iter().filter_map(|e| e.patience.next_wake()).min()
    }

    /// Settled seqs that a hub has asked for and that are yet to come. Of an epoch that is given up none ever comes.
    pub fn asked(&self) -> u64 {
        self.epochs.iter().filter(|e| !e.doubted).map(|e| e.again.len()).sum()
    }

    /// Somebody else has drawn seqs of this epoch too.
    pub fn doubt(&mut self, id: u64) {
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.doubted = true;
        }
    }

    pub fn is_doubted(&self, id: u64) -> bool {
        self.epoch(id).is_some_and(|e| e.doubted)
    }

    /// Lost or quarantined: never to be sent. What is in flight of it keeps its claim until its answer.
    pub fn gone(&mut self, id: u64, seqs: RangeInclusive<u64>) {
        if let Some(epoch) = self.epoch_mut(id) {
            epoch.next_seq = epoch.next_seq.max(seqs.end().saturating_add(1));
            for set in [&mut epoch.pending, &mut epoch.sent, &mut epoch.again] {
                set.remove(seqs.clone());
            }
        }
    }

    /// A load did not bring these: passed over until [`Delivery::retry_unreadable`]. Returns how many
    /// pending seqs that hides.
    pub fn unreadable(&mut self, id: u64, seqs: RangeInclusive<u64>) -> u64 {
        let Some(epoch) = self.epoch_mut(id) else { return 0 };
        let hidden: Vec<_> = epoch.pending.within(seqs.clone()).chain(epoch.again.within(seqs)).collect();
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

    /// Whether a chunk may be sent: something of it is to be sent, and nothing of it is spoken for or rests.
    pub fn is_free(&self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        let hidden = |e: &Epoch| e.claimed.intersects(seqs.clone()) || e.resting.intersects(seqs.clone());
        self.epoch(id).is_some_and(|e| e.is_wanted(seqs.clone()) && !hidden(e))
    }

    /// Seqs from `first` on that are to be sent and that nothing hides; there may be more.
    pub fn free_from(&self, id: u64, first: u64) -> RangeInclusive<u64> {
        let begins = |r: &RangeInclusive<u64>| *r.start() == first;
        let free = self.epoch(id).and_then(|e| {
            let in_set = |set: &RangeSet| set.within(first..=u64::MAX).next().and_then(|r| e.first_free_in(r));
            [&e.pending, &e.again].into_iter().filter_map(in_set).find(begins)
        });
        free.unwrap_or(first + 1..=first)
    }

    /// Whether something of it is to be sent, now or later.
    pub fn is_wanted(&self, id: u64, seqs: RangeInclusive<u64>) -> bool {
        self.epoch(id).is_some_and(|e| e.is_wanted(seqs))
    }

    /// The stretch that history has to send next: the oldest that is not passed over.
    pub fn next_free(&self) -> Option<(u64, RangeInclusive<u64>)> {
        let passed = self.passed.and_then(|(id, last)| Some((self.epochs.iter().position(|e| e.id == id)?, last)));
        let (at, first) = passed.map_or((0, 0), |(at, last)| (at, last.saturating_add(1)));
        let from = |(i, e): (usize, &Epoch)| e.first_free(if i == 0 { first } else { 0 }).map(|r| (e.id, r));
        self.epochs[at..].iter().enumerate().find_map(from)
    }

    /// What is older waits.
    pub fn go_on_behind(&mut self, passed: Option<(u64, u64)>) {
        self.passed = passed;
    }

    /// The oldest seq that is not settled, spoken for or not.
    pub fn oldest_unsettled(&self) -> Option<(u64, u64)> {
        let first = |e: &Epoch| [&e.pending, &e.sent].into_iter().filter_map(RangeSet::first).min();
        self.epochs.iter().find_map(|e| first(e).map(|seq| (e.id, seq)))
    }

    /// Records recorded and not settled.
    pub fn backlog(&self) -> u64 {
        self.epochs.iter().map(|e| e.pending.len() + e.sent.len()).sum()
    }

    pub fn range_count(&self) -> usize {
        self.epochs.iter().map(Epoch::range_count).sum()
    }

    /// The pending seqs of one epoch: those that the broker has not taken.
    pub fn pending(&self, id: u64) -> RangeSet {
        self.epoch(id).map(|e| e.pending.clone()).unwrap_or_default()
    }

    /// The seqs of one epoch that the broker has taken and no hub has acknowledged.
    pub fn sent(&self, id: u64) -> RangeSet {
        self.epoch(id).map(|e| e.sent.clone()).unwrap_or_default()
    }

    /// What is still to come, asked for or not: at most `max` ranges (at least 2), oldest first; when there are more, the newest of an epoch are
    /// merged into its last, which then covers too much. With more than `max` epochs, those between the
    /// oldest and the newest are left out: a reader that asks for them again does no harm.
    pub fn summary(&self, max: usize) -> Vec<PendingRange> {
        let to_come = |e: &Epoch| {
            let mut all = e.pending.clone();
            all.union(&e.again);
            (e.id, all)
        };
        let held: Vec<(u64, RangeSet)> = self.epochs.iter().map(to_come).filter(|(_, all)| !all.is_empty()).collect();
        let left_out = held.len().saturating_sub(max);
        let mut spare = max.saturating_sub(held.len());
        let mut ranges = Vec::new();
        for (i, (id, all)) in held.iter().enumerate() {
            if i + 1 < held.len() && i + 1 + left_out >= held.len() {
                continue;
            }
            let whole = all.range_count().min(1 + spare);
            spare -= whole - 1;
            let to = all.last().unwrap_or_default();
            ranges.extend(all.iter().take(whole).map(|r| PendingRange { epoch: *id, from: *r.start(), to: *r.end() }));
            if let Some(last) = ranges.last_mut() {
                last.to = to;
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests;
