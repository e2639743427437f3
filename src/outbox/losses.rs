//! The losses that the other side has not confirmed yet: what is sent again until it is settled.
//!
//! Bounded to 1,024 entries by merging nearest neighbours into one of reason `mixed`: such an entry covers more
//! than is gone (a loss excuses absence, it never overrides presence), its count stays honest.

use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

pub(super) const MAX_LOSSES: usize = 1024;

#[derive(Clone, Debug, Default)]
pub(super) struct LossBook {
    /// Sorted by epoch and first seq.
    losses: Vec<Loss>,
}

impl LossBook {
    pub(super) fn new(losses: Vec<Loss>) -> Self {
        let mut book = Self::default();
        for loss in losses {
            book.add(loss);
        }
        book
    }

    pub(super) fn all(&self) -> &[Loss] {
        &self.losses
    }

    /// Adds a loss unless the book already says as much. Adjacent ones of one reason become one.
    pub(super) fn add(&mut self, loss: Loss) {
        if let Some(known) = self.losses.iter_mut().find(|known| covers(known, &loss)) {
            // A merged entry spans seqs that were not gone when it was made, and now are.
            if let Some(to) = known.to.filter(|_| known.reason == LossReason::Mixed) {
                known.count = known.count.saturating_add(loss.count).min(to - known.from + 1);
            }
            return;
        }
        let at = self.losses.partition_point(|l| (l.epoch, l.from) <= (loss.epoch, loss.from));
        let joins = at.checked_sub(1).filter(|before| {
            let known = &self.losses[*before];
            known.epoch == loss.epoch && known.reason == loss.reason && known.to.map(|to| to + 1) == Some(loss.from)
        });
        match joins {
            Some(before) => self.losses[before] = merged(&self.losses[before], &loss),
            None => self.losses.insert(at, loss),
        }
        while self.losses.len() > MAX_LOSSES {
            self.merge_nearest();
        }
    }

    fn merge_nearest(&mut self) {
        let distance = |i: usize| {
            let (a, b) = (&self.losses[i], &self.losses[i + 1]);
            // Different epochs never merge; an open end is kept apart while there is another choice.
            if a.epoch != b.epoch {
                return u64::MAX;
            }
            a.to.map_or(u64::MAX - 1, |to| b.from.saturating_sub(to))
        };
        let nearest = (0..self.losses.len() - 1).min_by_key(|i| distance(*i));
        match nearest.filter(|i| self.losses[*i].epoch == self.losses[*i + 1].epoch) {
            Some(i) => {
                let second = self.losses.remove(i + 1);
                self.losses[i] = merged(&self.losses[i], &second);
            }
            // More epochs than entries: cannot happen while epochs are bounded; the oldest gives way.
            None => {
                self.losses.remove(0);
            }
        }
    }

    /// Forgets what the other side has confirmed. `told` must hold, per epoch, all that was ever confirmed, and
    /// `lost` what is really gone: an entry that was merged meanwhile goes once all of its seqs were told.
    pub(super) fn settle(&mut self, confirmed: &[Loss], finished: impl Fn(&Loss) -> bool) {
        self.losses.retain(|loss| !confirmed.iter().any(|c| covers(c, loss)) && !finished(loss));
    }
}

/// Whether `known` says at least what `loss` says.
fn covers(known: &Loss, loss: &Loss) -> bool {
    let ends = match (known.to, loss.to) {
        (None, _) => known.from == loss.from || loss.to.is_some(),
        (Some(known), Some(loss)) => known >= loss,
        (Some(_), None) => false,
    };
    known.epoch == loss.epoch && known.from <= loss.from && ends
}

fn merged(a: &Loss, b: &Loss) -> Loss {
    let known = |t: i64| (t != 0).then_some(t);
    Loss {
        epoch: a.epoch,
        from: a.from.min(b.from),
        to: a.to.zip(b.to).map(|(x, y)| x.max(y)),
        count: a.count.saturating_add(b.count),
        reason: if a.reason == b.reason { a.reason } else { LossReason::Mixed },
        t0: known(a.t0).into_iter().chain(known(b.t0)).min().unwrap_or(0),
        t1: known(a.t1).into_iter().chain(known(b.t1)).max().unwrap_or(0),
    }
}

/// Whether every seq of the entry has been told, or at least every one really lost: what was delivered, made way and was
/// asked for again is declared, and not among `lost`.
pub(super) fn all_told(loss: &Loss, lost: &RangeSet, told: &RangeSet) -> bool {
    let really = !lost.is_empty() && lost.iter().all(|range| told.covers(range));
    loss.to.is_some_and(|to| really || told.covers(loss.from..=to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(epoch: u64, from: u64, to: Option<u64>, reason: LossReason) -> Loss {
        Loss { epoch, from, to, count: to.map_or(0, |to| to - from + 1), reason, t0: 5, t1: 9 }
    }

    #[test]
    fn neighbours_of_one_reason_become_one() {
        let book = LossBook::new(vec![loss(1, 1, Some(4), LossReason::Quota), loss(1, 5, Some(9), LossReason::Quota)]);
        assert_eq!(book.all(), [loss(1, 1, Some(9), LossReason::Quota)]);
    }

    #[test]
    fn at_most_1024_are_kept_and_counts_stay_honest() {
        let mut book = LossBook::default();
        for i in 0..3000u64 {
            let reason = if i % 2 == 0 { LossReason::Memory } else { LossReason::Oversize };
            book.add(loss(1 + i / 1000, 10 + i * 10, Some(12 + i * 10), reason));
        }
        assert_eq!(book.all().len(), MAX_LOSSES);
        assert_eq!(book.all().iter().map(|l| l.count).sum::<u64>(), 9000);
        for i in 0..3000u64 {
            let gone = loss(1 + i / 1000, 10 + i * 10, Some(12 + i * 10), LossReason::Memory);
            assert!(book.all().iter().any(|known| covers(known, &gone)), "{gone:?} is not covered any more");
        }
        assert!(book.all().iter().any(|l| l.reason == LossReason::Mixed));
    }

    #[test]
    fn a_loss_inside_a_merged_entry_is_counted() {
        let mixed = Loss { count: 6, ..loss(1, 10, Some(32), LossReason::Mixed) };
        let mut book = LossBook::new(vec![mixed]);
        book.add(loss(1, 15, Some(16), LossReason::Quota));
        assert_eq!((book.all().len(), book.all()[0].count), (1, 8));
        // Of seqs that were counted before: no more than the entry spans.
        book.add(loss(1, 12, Some(31), LossReason::Quota));
        assert_eq!((book.all().len(), book.all()[0].count), (1, 23));
    }

    #[test]
    fn losses_of_different_epochs_never_become_one() {
        let one_each = |epochs: std::ops::RangeInclusive<u64>| epochs.map(|e| loss(e, e, Some(e), LossReason::Quota));
        let most = MAX_LOSSES as u64;
        let book = LossBook::new(one_each(1..=most + 2).collect());
        assert_eq!(book.all(), one_each(3..=most + 2).collect::<Vec<_>>(), "the oldest give way");
    }

    #[test]
    fn an_open_end_survives_until_it_is_confirmed_itself() {
        let open = loss(1, 100, None, LossReason::Corrupt);
        let mut book = LossBook::new(vec![loss(1, 1, Some(4), LossReason::Quota), open.clone()]);
        book.settle(&[loss(1, 1, Some(4), LossReason::Quota)], |_| false);
        assert_eq!(book.all(), std::slice::from_ref(&open));
        book.settle(&[open], |_| false);
        assert!(book.all().is_empty());
    }
}
