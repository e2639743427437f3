//! Declared losses on their way to the hub.
//!
//! They ride on history messages and are sent again until the broker has taken them; at level hub they are settled only
//! when a hub's acknowledgement covers them, and told again when a hub asks. One without an end can be covered by none:
//! it excuses seqs that nobody has seen, and the broker's word is all there is. Never dropped; beyond [`MAX_LOSSES`]
//! the nearest neighbours of an epoch merge.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::patience::Patience;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

pub const MAX_LOSSES: usize = 1024;
/// On one message.
pub const LOSSES_PER_MESSAGE: usize = 32;

/// How far a loss has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// With the message of this token.
    InFlight(u64),
    /// The broker has it; a hub has not confirmed it.
    Told,
}

#[derive(Debug, Default)]
pub struct Losses {
    /// By epoch (in order of arrival) and seq.
    unsettled: Vec<(Loss, Stage)>,
    /// With hubs that were told.
    patience: Patience,
}

impl Losses {
    pub fn add(&mut self, losses: Vec<Loss>) {
        for loss in losses {
            match self.unsettled.iter_mut().find(|(known, _)| *known == loss) {
                // Declared anew: somebody has asked.
                Some((_, stage @ Stage::Told)) => *stage = Stage::Waiting,
                Some(_) => {}
                None => self.unsettled.push((loss, Stage::Waiting)),
            }
            while self.unsettled.len() > MAX_LOSSES && self.merge_nearest() {}
        }
    }

    /// Unsettled, in flight or not.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.unsettled.iter().map(|(loss, _)| loss)
    }

    pub fn any_to_send(&self) -> bool {
        self.unsettled.iter().any(|(_, stage)| *stage == Stage::Waiting)
    }

    /// The next to ride on a message.
    pub fn to_send(&self, max: usize) -> Vec<Loss> {
        let waiting = self.unsettled.iter().filter(|(_, stage)| *stage == Stage::Waiting);
        waiting.take(max).map(|(loss, _)| loss.clone()).collect()
    }

    pub fn sent(&mut self, losses: &[Loss], token: u64) {
        for (loss, stage) in &mut self.unsettled {
            if *stage == Stage::Waiting && losses.contains(loss) {
                *stage = Stage::InFlight(token);
            }
        }
    }

    /// The message was accepted; returns what is settled by it.
    pub fn settle(&mut self, token: u64) -> Vec<Loss> {
        self.unsettled.extract_if(.., |(_, stage)| *stage == Stage::InFlight(token)).map(|(loss, _)| loss).collect()
    }

    /// The broker has the message, which proves nothing of a hub. Returns what is settled all the same.
    pub fn told(&mut self, token: u64) -> Vec<Loss> {
        let of_this = self.unsettled.iter_mut().filter(|(_, stage)| *stage == Stage::InFlight(token));
        // The wait counts from the first that waits: messages without a loss do not put it off.
        of_this.for_each(|(_, stage)| *stage = Stage::Told);
        self.unsettled
            .extract_if(.., |(loss, stage)| loss.to.is_none() && *stage == Stage::Told)
            .map(|(l, _)| l)
            .collect()
    }

    /// A hub has these seqs, or knows them to be declared; returns what is settled by that.
    pub fn stored(&mut self, epoch: u64, stored: &RangeSet) -> Vec<Loss> {
        let known = |l: &Loss| l.epoch == epoch && l.to.is_some_and(|to| stored.covers(l.from..=to));
        let stored: Vec<Loss> = self.unsettled.extract_if(.., |(loss, _)| known(loss)).map(|(loss, _)| loss).collect();
        if !stored.is_empty() {
            self.patience.renew();
        }
        stored
    }

    /// What the broker was told and no hub has confirmed for too long is told again.
    pub fn recheck(&mut self, now: Duration) {
        let waits = self.unsettled.iter().any(|(_, stage)| *stage == Stage::Told);
        if self.patience.is_over(waits, now) {
            let told = self.unsettled.iter_mut().filter(|(_, stage)| *stage == Stage::Told);
            told.for_each(|(_, stage)| *stage = Stage::Waiting);
        }
    }

    pub fn next_recheck(&self) -> Option<Duration> {
        self.patience.next_wake()
    }

    /// A hub asks for these seqs: it does not know what the broker was told of them.
    pub fn tell_again(&mut self, epoch: u64, seqs: RangeInclusive<u64>) {
        let touches = |l: &Loss| l.epoch == epoch && l.from <= *seqs.end() && l.to.is_none_or(|to| to >= *seqs.start());
        for (loss, stage) in &mut self.unsettled {
            if *stage == Stage::Told && touches(loss) {
                *stage = Stage::Waiting;
            }
        }
    }

    /// The message was not accepted.
    pub fn release(&mut self, token: u64) {
        let of_this = self.unsettled.iter_mut().filter(|(_, stage)| *stage == Stage::InFlight(token));
        of_this.for_each(|(_, stage)| *stage = Stage::Waiting);
    }

    /// Merges the two losses of one epoch, neither in flight, with the fewest seqs between them.
    fn merge_nearest(&mut self) -> bool {
        self.unsettled.sort_by_key(|(loss, _)| (loss.epoch, loss.from));
        let free = |i: usize| !matches!(self.unsettled[i].1, Stage::InFlight(_));
        let gap = |i: usize| {
            let (a, b) = (&self.unsettled[i].0, &self.unsettled[i + 1].0);
            b.from.saturating_sub(a.to.unwrap_or(u64::MAX))
        };
        let pairs = (0..self.unsettled.len() - 1)
            .filter(|&i| self.unsettled[i].0.epoch == self.unsettled[i + 1].0.epoch && free(i) && free(i + 1));
        let Some(at) = pairs.min_by_key(|&i| gap(i)) else { return false };
        let (second, _) = self.unsettled.remove(at + 1);
        let (first, stage) = &mut self.unsettled[at];
        // As one it has not been told.
        *stage = Stage::Waiting;
        *first = merged(first, &second);
        true
    }
}

fn merged(a: &Loss, b: &Loss) -> Loss {
    let known = |x: i64, y: i64, pick: fn(i64, i64) -> i64| if x == 0 || y == 0 { x.max(y) } else { pick(x, y) };
    Loss {
        epoch: a.epoch,
        from: a.from.min(b.from),
        to: a.to.zip(b.to).map(|(x, y)| x.max(y)),
        count: if a.count == 0 || b.count == 0 { 0 } else { a.count + b.count },
        reason: if a.reason == b.reason { a.reason } else { LossReason::Mixed },
        t0: known(a.t0, b.t0, i64::min),
        t1: known(a.t1, b.t1, i64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(from: u64, to: u64) -> Loss {
        Loss { epoch: 1, from, to: Some(to), count: to - from + 1, reason: LossReason::Quota, t0: 0, t1: 0 }
    }

    #[test]
    fn a_loss_is_sent_again_until_its_own_message_is_accepted() {
        let mut losses = Losses::default();
        losses.add(vec![loss(1, 2), loss(5, 6)]);
        let batch = losses.to_send(1);
        losses.sent(&batch, 10);
        assert_eq!((losses.to_send(9), losses.any_to_send()), (vec![loss(5, 6)], true));
        assert!(losses.settle(11).is_empty());
        losses.release(10);
        assert_eq!(losses.to_send(9).len(), 2);
        losses.sent(&batch, 12);
        assert_eq!(losses.settle(12), batch);
        assert_eq!(losses.iter().count(), 1);
    }

    #[test]
    fn what_no_hub_confirms_is_told_again_however_much_data_goes_out_meanwhile() {
        let mut losses = Losses::default();
        losses.add(vec![loss(1, 2)]);
        losses.sent(&[loss(1, 2)], 0);
        for second in 0..700 {
            losses.told(second);
            losses.recheck(Duration::from_secs(second));
        }
        assert!(losses.any_to_send());
    }

    /// Three losses, told to the broker.
    fn told() -> Losses {
        let mut losses = Losses::default();
        losses.add(vec![loss(1, 2), loss(5, 6), Loss { epoch: 2, ..loss(5, 6) }]);
        losses.sent(&losses.to_send(9), 7);
        assert!(losses.told(8).is_empty() && losses.told(7).is_empty() && !losses.any_to_send());
        losses
    }

    #[test]
    fn a_hub_settles_what_it_has_of_that_epoch_and_nothing_that_it_has_in_part() {
        let mut losses = told();
        assert!(losses.stored(1, &[2..=5].into_iter().collect()).is_empty());
        assert_eq!(losses.stored(1, &[1..=2, 5..=6].into_iter().collect()), [loss(1, 2), loss(5, 6)]);
        assert_eq!(losses.iter().map(|l| l.epoch).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_hub_is_told_again_what_it_asks_for_or_what_is_declared_anew_and_nothing_else() {
        for (asked, again) in [(3..=4, vec![]), (2..=4, vec![loss(1, 2)]), (3..=5, vec![loss(5, 6)]), (7..=9, vec![])] {
            let mut losses = told();
            losses.tell_again(1, asked.clone());
            assert_eq!(losses.to_send(9), again, "{asked:?}");
        }
        let mut losses = told();
        losses.add(vec![loss(5, 6)]);
        assert_eq!((losses.to_send(9), losses.iter().count()), (vec![loss(5, 6)], 3));
        losses.sent(&[loss(5, 6)], 9);
        losses.add(vec![loss(5, 6)]);
        assert!(!losses.any_to_send(), "it is on its way");
    }

    #[test]
    fn one_without_an_end_is_settled_by_the_broker_alone() {
        let open = Loss { to: None, ..loss(7, 7) };
        let mut losses = Losses::default();
        losses.add(vec![open.clone(), loss(1, 2)]);
        assert!(losses.stored(1, &[3..=900].into_iter().collect()).is_empty(), "nobody can have all of it");
        losses.sent(&losses.to_send(9), 1);
        assert_eq!(losses.told(1), [open]);
        assert_eq!(losses.iter().collect::<Vec<_>>(), [&loss(1, 2)]);
    }

    #[test]
    fn what_hubs_leave_unconfirmed_is_told_again_when_patience_ends_and_not_before() {
        let mut losses = told();
        losses.recheck(Duration::ZERO);
        let at = losses.next_recheck().unwrap();
        losses.recheck(at - Duration::from_millis(1));
        assert!(!losses.any_to_send());
        losses.recheck(at);
        assert_eq!((losses.to_send(9).len(), losses.next_recheck()), (3, None));
    }

    #[test]
    fn patience_lasts_until_a_hub_speaks_whatever_else_is_to_be_told() {
        let mut losses = told();
        losses.add(vec![loss(8, 9)]);
        losses.recheck(Duration::ZERO);
        losses.stored(1, &[2..=5].into_iter().collect());
        assert_eq!(losses.next_recheck(), Some(Duration::from_secs(600)), "that was no news");
        losses.stored(1, &[1..=2].into_iter().collect());
        assert_eq!(losses.next_recheck(), None);
    }

    #[test]
    fn merged_losses_say_no_more_than_was_known_of_both() {
        let with = |from, to, count, t0, t1| Loss { to, count, t0, t1, ..loss(from, from) };
        let sum = merged(&with(5, Some(6), 2, 50, 60), &with(1, Some(9), 3, 70, 40));
        assert_eq!(sum, with(1, Some(9), 5, 50, 60));
        let unknown = merged(&with(1, Some(2), 0, 0, 60), &with(5, None, 3, 70, 0));
        assert_eq!(unknown, with(1, None, 0, 70, 60));
        let other = Loss { reason: LossReason::Corrupt, ..loss(3, 4) };
        assert_eq!(
            [merged(&loss(1, 2), &other).reason, merged(&other, &other).reason],
            [LossReason::Mixed, LossReason::Corrupt]
        );
    }

    /// One seq of an epoch.
    fn loss_of(epoch: u64, seq: u64) -> Loss {
        Loss { epoch, ..loss(seq, seq) }
    }

    #[test]
    fn only_neighbours_of_one_epoch_that_are_not_in_flight_merge() {
        let mut losses = Losses::default();
        losses.add(
            (0..MAX_LOSSES as u64)
                .map(|i| Loss { epoch: i / 2, ..loss(i % 2 * 1_000 + i, i % 2 * 1_000 + i) })
                .collect(),
        );
        let flying: Vec<Loss> =
            losses.iter().filter(|l| l.epoch != 7 && (l.epoch, l.from) != (6, 12)).cloned().collect();
        losses.sent(&flying, 1);
        losses.add(vec![Loss { epoch: 9_999, ..loss(1, 1) }]);
        assert_eq!(losses.iter().count(), MAX_LOSSES);
        assert_eq!(
            losses.to_send(9),
            [loss_of(6, 12), Loss { epoch: 7, count: 2, ..loss(14, 1_015) }, Loss { epoch: 9_999, ..loss(1, 1) }]
        );
        losses.add(vec![Loss { epoch: 9_998, ..loss(1, 1) }]);
        assert_eq!(losses.iter().count(), MAX_LOSSES + 1, "nothing is dropped where nothing can be merged");
    }

    #[test]
    fn the_two_with_the_fewest_seqs_between_them_merge() {
        let mut losses = Losses::default();
        let from = |i: u64| if i == 900 { 90_000 - 90 } else { i * 100 };
        losses.add((1..=MAX_LOSSES as u64 + 1).map(|i| loss(from(i), from(i) + 1)).collect());
        assert_eq!(losses.iter().count(), MAX_LOSSES);
        assert_eq!(losses.iter().find(|l| l.count != 2).map(|l| (l.from, l.to)), Some((89_900, Some(89_911))));
    }

    #[test]
    fn beyond_the_bound_nearest_neighbours_merge_and_nothing_is_dropped() {
        let mut losses = Losses::default();
        let mut lost = 0;
        for i in 0..3000u64 {
            let l = loss(i * 100 + 1 - (i % 3) * 50 % 99, i * 100 + 2);
            lost += l.count;
            losses.add(vec![l]);
            assert!(losses.iter().count() <= MAX_LOSSES);
        }
        assert_eq!(losses.iter().map(|l| l.count).sum::<u64>(), lost);
        for i in 0..3000u64 {
            assert!(losses.iter().any(|l| l.from <= i * 100 + 2 && l.to >= Some(i * 100 + 2)), "{i}");
        }
    }
}
