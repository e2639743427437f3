//! A simulated hub: what it has, what it says and what it asks for, as the wire contract wants it. It hears only what the
//! broker took and did not forget. In bad times it also acknowledges late, in part, what is not its own, and more than
//! there is. Shares no code with the uplink.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use holdover::ranges::RangeSet;
use holdover::uplink::backoff::Rng;
use holdover::wire::{Ack, Status, VERSION};

use super::broker::Parsed;

#[derive(Default)]
struct EpochView {
    /// Stored or declared.
    known: RangeSet,
    /// As the statuses say; what is below and not known is missing.
    next_seq: u64,
    /// Missing at the last status: asked for when it is so at the next.
    missing: RangeSet,
}

pub struct SimHub {
    /// In 1000: messages that the broker acknowledged and that never come here.
    pub forgets: u64,
    epochs: BTreeMap<u64, EpochView>,
}

impl SimHub {
    pub fn new(rng: &mut Rng) -> Self {
        let forgets = [0, 50, 400, 1000][rng.below(4) as usize];
        Self { forgets, epochs: BTreeMap::new() }
    }

    pub fn heal(&mut self) {
        self.forgets = 0;
    }

    pub fn hears(&self, rng: &mut Rng) -> bool {
        rng.below(1000) >= self.forgets
    }

    pub fn data(&mut self, data: &Parsed) {
        let epoch = self.epochs.entry(data.epoch).or_default();
        data.chunks.iter().for_each(|&(first, last)| epoch.known.insert(first..=last));
        for loss in &data.losses {
            let epoch = self.epochs.entry(loss.epoch).or_default();
            epoch.known.insert(loss.from..=loss.to.expect("the simulated outbox knows its ends"));
        }
    }

    /// What to ask for again: missing in two statuses in a row.
    pub fn status(&mut self, status: &Status) -> Vec<(u64, RangeInclusive<u64>)> {
        let current = self.epochs.entry(status.epoch).or_default();
        current.next_seq = current.next_seq.max(status.next_seq);
        let mut asks = Vec::new();
        for (&id, epoch) in &mut self.epochs {
            let next = epoch.next_seq.max(epoch.known.last().map_or(1, |last| last + 1));
            let mut missing = if next > 1 { RangeSet::from_iter([1..=next - 1]) } else { RangeSet::new() };
            missing.subtract(&epoch.known);
            let pending = status.pending.iter().filter(|p| p.epoch == id);
            pending.for_each(|p| missing.remove(p.from..=p.to));
            let again = missing.iter().flat_map(|r| epoch.missing.within(r).collect::<Vec<_>>());
            asks.extend(again.map(|range| (id, range)));
            epoch.missing = missing;
        }
        asks.truncate(8);
        asks
    }

    /// An honest acknowledgement of each epoch, the newest last, perhaps of less than it has.
    pub fn acks(&self, newest: u64, rng: &mut Rng, partly: bool) -> Vec<Ack> {
        let mut acks: Vec<Ack> = self.epochs.iter().map(|(id, epoch)| ack(*id, &epoch.known, rng, partly)).collect();
        acks.sort_by_key(|ack| ack.epoch == newest);
        acks
    }
}

fn ack(epoch: u64, known: &RangeSet, rng: &mut Rng, partly: bool) -> Ack {
    let mut upto = known.iter().next().filter(|r| *r.start() == 1).map_or(0, |r| *r.end());
    let mut ranges: Vec<[u64; 2]> =
        known.iter().filter(|r| *r.start() > 1).map(|r| [*r.start(), *r.end()]).take(64).collect();
    if partly {
        upto -= rng.below(upto + 1);
        ranges.truncate(rng.below(ranges.len() as u64 + 1) as usize);
    }
    Ack { v: VERSION, epoch, upto, ranges }
}

/// The seqs that it speaks of.
pub fn covered(ack: &Ack) -> RangeSet {
    let mut covered: RangeSet = ack.ranges.iter().map(|[from, to]| *from..=*to).collect();
    covered.insert(1..=ack.upto);
    covered
}
