//! When a host is told what is committed: at once after a silence, then every ten seconds or thousand records.
//!
//! Pure: time is an argument. Owns which acknowledgements wait and which are under way; holds at most one for each epoch
//! of a host, the newest. What was under way when the connection broke waits again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::commit::HostAck;
use crate::hub::ledger::MAX_EPOCHS;

const PACE: Duration = Duration::from_secs(10);
const RECORDS: u64 = 1000;
/// Epochs of a host that wait, as many as the ledger remembers. Of one that is let go the host's next status is answered.
const EPOCHS: usize = MAX_EPOCHS;
/// Hosts whose last acknowledgement is remembered, before those beyond the pace are forgotten.
const REMEMBERED: usize = 20_000;

type Key = (String, u64);

#[derive(Debug, Default)]
pub struct Acks {
    waiting: BTreeMap<Key, HostAck>,
    /// Waits and is due.
    due: VecDeque<Key>,
    last: BTreeMap<String, Duration>,
    under_way: BTreeMap<u64, HostAck>,
}

impl Acks {
    pub fn add(&mut self, mut ack: HostAck) {
        let key = (ack.host.clone(), ack.ack.epoch);
        if let Some(older) = self.waiting.get(&key) {
            ack.stored += older.stored;
        }
        self.wait(key, ack);
    }

    fn wait(&mut self, key: Key, ack: HostAck) {
        if !self.waiting.contains_key(&key) {
            let mut of_host = self.waiting.range((key.0.clone(), 0)..=(key.0.clone(), u64::MAX)).map(|(key, _)| key);
            let first = of_host.next().cloned();
            if of_host.count() + 1 >= EPOCHS
                && let Some(first) = first
            {
                self.waiting.remove(&first);
            }
        }
        self.waiting.insert(key, ack);
    }

    /// The next that is due. Call [`Self::sent`] or [`Self::add`] with it.
    pub fn next(&mut self, now: Duration) -> Option<HostAck> {
        loop {
            if self.due.is_empty() {
                self.due = self
                    .waiting
                    .iter()
                    .filter(|(key, ack)| self.is_due(&key.0, ack, now))
                    .map(|(k, _)| k.clone())
                    .collect();
            }
            let key = self.due.pop_front()?;
            if let Some(ack) = self.waiting.remove(&key) {
                return Some(ack);
            }
        }
    }

    fn is_due(&self, host: &str, ack: &HostAck, now: Duration) -> bool {
        ack.stored >= RECORDS || self.last.get(host).is_none_or(|last| now.saturating_sub(*last) >= PACE)
    }

    pub fn sent(&mut self, token: u64, ack: HostAck, now: Duration) {
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, last| now.saturating_sub(*last) < PACE);
        }
        self.last.insert(ack.host.clone(), now);
        self.under_way.insert(token, ack);
    }

    /// The broker has it. Returns it when the broker refused it: it waits again.
    pub fn answered(&mut self, token: u64, accepted: bool) -> Option<HostAck> {
        let ack = self.under_way.remove(&token).filter(|_| !accepted)?;
        self.again(ack.clone());
        Some(ack)
    }

    /// The connection is lost, and with it the answers.
    pub fn disconnected(&mut self) {
        for ack in std::mem::take(&mut self.under_way).into_values() {
            self.again(ack);
        }
    }

    /// Waits again unless a newer one does.
    fn again(&mut self, mut ack: HostAck) {
        ack.stored = 0;
        let key = (ack.host.clone(), ack.ack.epoch);
        if !self.waiting.contains_key(&key) {
            self.wait(key, ack);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ack;

    fn ack(host: &str, upto: u64, stored: u64) -> HostAck {
        let ack = Ack { v: 1, epoch: 7, upto, ranges: Vec::new() };
        HostAck { site: "lab".to_owned(), host: host.to_owned(), ack, stored }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What goes out at `ms`, by `upto`; each is accepted.
    fn out(acks: &mut Acks, ms: u64) -> Vec<u64> {
        let mut sent = Vec::new();
        while let Some(ack) = acks.next(at(ms)) {
            sent.push(ack.ack.upto);
            acks.sent(ms, ack, at(ms));
            acks.answered(ms, true);
        }
        sent
    }

    #[test]
    fn at_once_after_a_silence_then_every_ten_seconds_and_the_newest() {
        let mut acks = Acks::default();
        acks.add(ack("a", 10, 10));
        assert_eq!(out(&mut acks, 0), [10]);
        for upto in 11..20 {
            acks.add(ack("a", upto, 1));
            assert_eq!(out(&mut acks, upto * 100), [0; 0]);
        }
        assert_eq!(out(&mut acks, 9_999), [0; 0]);
        assert_eq!(out(&mut acks, 10_000), [19]);
    }

    #[test]
    fn a_thousand_records_do_not_wait() {
        let mut acks = Acks::default();
        acks.add(ack("a", 1, 1));
        assert_eq!(out(&mut acks, 0), [1]);
        acks.add(ack("a", 600, 599));
        assert_eq!(out(&mut acks, 100), [0; 0]);
        acks.add(ack("a", 1100, 500));
        assert_eq!(out(&mut acks, 200), [1100]);
    }

    #[test]
    fn what_was_under_way_waits_again_unless_there_is_news() {
        let mut acks = Acks::default();
        acks.add(ack("a", 1, 1));
        acks.add(ack("b", 5, 5));
        for token in 0..2 {
            let next = acks.next(at(0)).unwrap();
            acks.sent(token, next, at(0));
        }
        acks.add(ack("b", 9, 4));
        acks.disconnected();
        let mut again = out(&mut acks, 10_000);
        again.sort_unstable();
        assert_eq!(again, [1, 9]);
        assert!(acks.is_empty());
    }

    /// Refused for ever, as by a broker whose ACL does not know of the hub, and a host that begins epoch after epoch.
    #[test]
    fn what_waits_is_bounded_for_each_host() {
        let mut acks = Acks::default();
        acks.add(ack("quiet", 3, 3));
        for epoch in 1..1000 {
            let mut next = ack("noisy", 1, 1);
            next.ack.epoch = epoch;
            acks.add(next);
            while let Some(next) = acks.next(at(epoch * 20_000)) {
                acks.sent(epoch, next, at(epoch * 20_000));
                acks.answered(epoch, false);
            }
            assert!(acks.waiting.len() <= EPOCHS + 1, "{}", acks.waiting.len());
        }
        assert!(
            acks.waiting.contains_key(&("noisy".to_owned(), 999))
                && acks.waiting.contains_key(&("quiet".to_owned(), 7))
        );
    }

    #[test]
    fn a_refusal_is_tried_again_at_the_pace() {
        let mut acks = Acks::default();
        acks.add(ack("a", 1, 5000));
        let next = acks.next(at(0)).unwrap();
        acks.sent(3, next, at(0));
        assert!(acks.answered(3, false).is_some());
        assert_eq!(out(&mut acks, 1), [0; 0]);
        assert_eq!(out(&mut acks, 10_000), [1]);
    }
}
