//! The hub: the shipped reading and tracking, a ledger that keeps what was committed, acknowledgements and questions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use holdover::clock::Now;
use holdover::hub::read::{Message, read};
use holdover::hub::tracker::{Gap, GapState, Tracker};
use holdover::ranges::RangeSet;
use holdover::wire::{Ack, DecodeLimits, Lane, Loss, LossReason, VERSION};

const HOST: &str = "host";
/// Questions at one heartbeat.
const ASKS: usize = 8;

#[derive(Clone, Default)]
pub struct Account {
    pub seen: RangeSet,
    pub declared: RangeSet,
    /// Everything from here on is declared, as far as it exists.
    open: Option<u64>,
}

/// By epoch.
pub type Ledger = BTreeMap<u64, Account>;

#[derive(Default)]
pub struct Hub {
    tracker: Tracker,
    /// What would be found after a crash.
    pub durable: Ledger,
    draft: Ledger,
    touched: Vec<u64>,
    /// Epochs of which everything is expected.
    expected: BTreeSet<u64>,
    /// Messages in the draft.
    pub uncommitted: usize,
}

impl Hub {
    /// Takes in one message; returns what is to be asked for.
    pub fn take(
        &mut self,
        (topic, payload, retain): (&str, &[u8], bool),
        now: Now,
    ) -> Result<Vec<(u64, RangeInclusive<u64>)>, String> {
        self.uncommitted += usize::from(!retain);
        let message = read("", topic, payload, retain, &DecodeLimits::default());
        match message.map_err(|bad| format!("read: {}", bad.reason))? {
            Some(Message::Data { envelope, proof, .. }) => {
                let seqs: Vec<u64> = envelope.records.iter().map(|record| record.seq).collect();
                self.expect_all(envelope.epoch, now);
                let lane = if proof { Lane::Live } else { Lane::History };
                self.tracker.declare(&envelope.host, &envelope.losses);
                self.tracker.observe(&envelope.host, envelope.epoch, &seqs, lane, now);
                let account = self.account(envelope.epoch);
                seqs.iter().for_each(|seq| account.seen.insert(*seq..=*seq));
                self.losses(&envelope.losses);
                Ok(Vec::new())
            }
            Some(Message::Online(status)) => {
                self.expect_all(status.epoch, now);
                self.tracker.heartbeat(&status.host, &status, retain, now);
                self.losses(&status.losses);
                let gaps = self.tracker.gaps(&status.host).into_iter();
                let confirmed = gaps.filter(|gap| !retain && gap.state == GapState::Confirmed);
                Ok(confirmed.take(ASKS).map(|gap| (gap.epoch, gap.seqs)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A hub with a ledger lacks everything that it does not have, not only what came since it listens.
    fn expect_all(&mut self, epoch: u64, now: Now) {
        if self.expected.insert(epoch) {
            self.tracker.observe(HOST, epoch, &[0], Lane::Live, now);
        }
    }

    /// What was not committed is gone; what was is remembered.
    pub fn crash(&mut self, now: Now) {
        self.draft.clone_from(&self.durable);
        self.touched.clear();
        (self.tracker, self.expected) = Default::default();
        for (epoch, account) in self.durable.clone() {
            self.expect_all(epoch, now);
            for range in account.seen.iter() {
                self.tracker.observe(HOST, epoch, &range.collect::<Vec<_>>(), Lane::History, now);
            }
            let open = account.open.map(|from| (from, None));
            let closed = account.declared.iter().map(|range| (*range.start(), Some(*range.end())));
            let loss = |(from, to)| Loss { epoch, from, to, count: 0, reason: LossReason::Other, t0: 0, t1: 0 };
            self.tracker.declare(HOST, &closed.chain(open).map(loss).collect::<Vec<_>>());
        }
    }

    fn account(&mut self, epoch: u64) -> &mut Account {
        if !self.touched.contains(&epoch) {
            self.touched.push(epoch);
        }
        self.draft.entry(epoch).or_default()
    }

    fn losses(&mut self, losses: &[Loss]) {
        for loss in losses {
            let account = self.account(loss.epoch);
            match loss.to {
                Some(to) => account.declared.insert(loss.from..=to),
                None => account.open = Some(account.open.map_or(loss.from, |from| from.min(loss.from))),
            }
        }
    }

    /// Makes the draft durable. Returns what is to be acknowledged to the host.
    pub fn commit(&mut self) -> Vec<Ack> {
        self.uncommitted = 0;
        self.durable.clone_from(&self.draft);
        self.acks()
    }

    /// Of what was touched, as the draft stands.
    pub fn acks(&mut self) -> Vec<Ack> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|epoch| Some(ack(epoch, self.draft.get(&epoch)?))).collect()
    }

    /// What it lacks by its own account, pending or not.
    pub fn gaps(&self) -> Vec<Gap> {
        self.tracker.gaps(HOST)
    }

    /// Every seq that it has, or knows to be lost.
    pub fn has(&self, epoch: u64) -> RangeSet {
        let account = self.durable.get(&epoch).cloned().unwrap_or_default();
        let mut has = account.seen;
        has.union(&account.declared);
        account.open.into_iter().for_each(|from| has.insert(from..=u64::MAX));
        has
    }
}

fn ack(epoch: u64, account: &Account) -> Ack {
    let mut known = account.seen.clone();
    known.union(&account.declared);
    if let Some((from, top)) = account.open.zip(known.last()) {
        known.insert(from..=top);
    }
    let upto = known.iter().next().filter(|range| *range.start() == 1).map_or(0, |range| *range.end());
    let ranges = known.iter().filter(|range| *range.start() > 1).take(64).map(|r| [*r.start(), *r.end()]).collect();
    Ack { v: VERSION, epoch, upto, ranges }
}
