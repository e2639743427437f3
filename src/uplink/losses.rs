//! Declared losses on their way to the hub.
//!
//! They ride on history messages and are sent again until a PUBACK settles them. Never dropped; beyond
//! [`MAX_LOSSES`] the nearest neighbours of an epoch merge.

use crate::wire::{Loss, LossReason};

pub const MAX_LOSSES: usize = 1024;
/// On one message.
pub const LOSSES_PER_MESSAGE: usize = 32;

#[derive(Debug, Default)]
pub struct Losses {
    /// By epoch (in order of arrival) and seq; with the token of the message each is in flight with.
    waiting: Vec<(Loss, Option<u64>)>,
}

impl Losses {
    pub fn new(losses: Vec<Loss>) -> Self {
        let mut all = Self::default();
        all.add(losses);
        all
    }

    pub fn add(&mut self, losses: Vec<Loss>) {
        for loss in losses {
            if !self.waiting.iter().any(|(known, _)| *known == loss) {
                self.waiting.push((loss, None));
            }
            while self.waiting.len() > MAX_LOSSES && self.merge_nearest() {}
        }
    }

    /// Unsettled, in flight or not.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.waiting.iter().map(|(loss, _)| loss)
    }

    pub fn any_to_send(&self) -> bool {
        self.waiting.iter().any(|(_, token)| token.is_none())
    }

    /// The next to ride on a message.
    pub fn to_send(&self, max: usize) -> Vec<Loss> {
        self.waiting.iter().filter(|(_, token)| token.is_none()).take(max).map(|(loss, _)| loss.clone()).collect()
    }

    pub fn sent(&mut self, losses: &[Loss], token: u64) {
        for (_, slot) in self.waiting.iter_mut().filter(|(loss, slot)| slot.is_none() && losses.contains(loss)) {
            *slot = Some(token);
        }
    }

    /// The message was accepted; returns what is settled by it.
    pub fn settle(&mut self, token: u64) -> Vec<Loss> {
        self.waiting.extract_if(.., |(_, slot)| *slot == Some(token)).map(|(loss, _)| loss).collect()
    }

    /// The message was not accepted.
    pub fn release(&mut self, token: u64) {
        self.waiting.iter_mut().filter(|(_, slot)| *slot == Some(token)).for_each(|(_, slot)| *slot = None);
    }

    /// Merges the two losses of one epoch, neither in flight, with the fewest seqs between them.
    fn merge_nearest(&mut self) -> bool {
        self.waiting.sort_by_key(|(loss, _)| (loss.epoch, loss.from));
        let free = |i: usize| self.waiting[i].1.is_none();
        let gap = |i: usize| {
            let (a, b) = (&self.waiting[i].0, &self.waiting[i + 1].0);
            b.from.saturating_sub(a.to.unwrap_or(u64::MAX))
        };
        let pairs = (0..self.waiting.len() - 1)
            .filter(|&i| self.waiting[i].0.epoch == self.waiting[i + 1].0.epoch && free(i) && free(i + 1));
        let Some(at) = pairs.min_by_key(|&i| gap(i)) else { return false };
        let (second, _) = self.waiting.remove(at + 1);
        let first = &mut self.waiting[at].0;
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
        let mut losses = Losses::new(vec![loss(1, 2), loss(5, 6)]);
        let batch = losses.to_send(1);
        losses.sent(&batch, 10);
        assert_eq!(losses.to_send(9), vec![loss(5, 6)]);
        assert!(losses.settle(11).is_empty());
        losses.release(10);
        assert_eq!(losses.to_send(9).len(), 2);
        losses.sent(&batch, 12);
        assert_eq!(losses.settle(12), batch);
        assert_eq!(losses.iter().count(), 1);
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
