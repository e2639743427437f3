//! A simulated outbox: chunks by epoch and first seq, with loads that may fail, and drops that are declared.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use holdover::ranges::RangeSet;
use holdover::record::{ClockContext, Point, Record, Value};
use holdover::uplink::EpochView;
use holdover::uplink::backoff::Rng;
use holdover::wire::{Chunk, Loss, LossReason, encode_record};

#[derive(Default)]
pub struct Epoch {
    pub id: u64,
    pub chunks: BTreeMap<u64, Chunk>,
    pub next_seq: u64,
    pub settled: RangeSet,
    pub lost: RangeSet,
    pub quarantined: RangeSet,
}

impl Epoch {
    /// Everything that must still be delivered.
    pub fn pending(&self) -> RangeSet {
        let mut pending: RangeSet = self.chunks.values().map(Chunk::seqs).collect();
        for done in [&self.settled, &self.lost, &self.quarantined] {
            pending.subtract(done);
        }
        pending
    }
}

pub struct SimOutbox {
    pub epochs: Vec<Epoch>,
    pub losses: Vec<Loss>,
    boots: u32,
    pub synced: bool,
}

pub const BOOT: &str = "boot-now";

impl SimOutbox {
    /// With a backlog of some older epochs.
    pub fn new(rng: &mut Rng) -> Self {
        let mut outbox = Self { epochs: Vec::new(), losses: Vec::new(), boots: 0, synced: true };
        for _ in 0..rng.below(3) {
            outbox.new_epoch(rng);
            for _ in 0..rng.below(40) {
                let records = 1 + rng.below(4) as u32;
                outbox.append(rng, records, false);
            }
            if rng.below(3) == 0 {
                outbox.drop_oldest();
            }
        }
        outbox.new_epoch(rng);
        outbox
    }

    pub fn new_epoch(&mut self, rng: &mut Rng) {
        let id = (rng.next_u64() >> 11).max(1);
        self.epochs.push(Epoch { id, next_seq: 1, ..Epoch::default() });
        self.boots += 1;
    }

    pub fn epoch(&self, id: u64) -> &Epoch {
        self.epochs.iter().find(|e| e.id == id).expect("the uplink names only known epochs")
    }

    pub fn epoch_mut(&mut self, id: u64) -> &mut Epoch {
        self.epochs.iter_mut().find(|e| e.id == id).expect("the uplink names only known epochs")
    }

    /// One chunk of `records` records to the newest epoch; now and then a large one, or a change of clock context.
    pub fn append(&mut self, rng: &mut Rng, records: u32, live: bool) -> Chunk {
        if rng.below(30) == 0 {
            self.synced = !self.synced;
        }
        let boot = if live { BOOT.to_owned() } else { format!("boot-{}", self.boots) };
        let context = ClockContext { boot: boot.into(), synced: self.synced };
        let epoch = self.epochs.last_mut().expect("there is always one");
        if rng.below(40) == 0 {
            // A burned seq: never stored, never asked for.
            epoch.lost.insert(epoch.next_seq..=epoch.next_seq);
            epoch.next_seq += 1;
        }
        let first = epoch.next_seq;
        let mut maps = Vec::new();
        for seq in first..first + u64::from(records) {
            let filler = match rng.below(60) {
                0 => 3000,
                1..5 => 900,
                _ => rng.below(120) as usize,
            };
            encode_record(&record(seq, filler), &mut maps);
        }
        epoch.next_seq += u64::from(records);
        let chunk = Chunk { epoch: epoch.id, first, count: records, context, maps: maps.into() };
        epoch.chunks.insert(first, chunk.clone());
        chunk
    }

    /// One chunk of one record of about `bytes` bytes to the newest epoch.
    pub fn append_of(&mut self, bytes: usize) -> Chunk {
        let context = ClockContext { boot: BOOT.into(), synced: self.synced };
        let epoch = self.epochs.last_mut().expect("there is always one");
        let mut maps = Vec::new();
        encode_record(&record(epoch.next_seq, bytes), &mut maps);
        let chunk = Chunk { epoch: epoch.id, first: epoch.next_seq, count: 1, context, maps: maps.into() };
        epoch.chunks.insert(chunk.first, chunk.clone());
        epoch.next_seq += 1;
        chunk
    }

    /// Drops the oldest pending chunks of the oldest epoch and declares it.
    pub fn drop_oldest(&mut self) -> Option<Loss> {
        let epoch = self.epochs.iter_mut().find(|e| !e.pending().is_empty())?;
        let first = epoch.pending().first()?;
        let dropped: Vec<Chunk> = epoch.chunks.range(first..).take(3).map(|(_, c)| c.clone()).collect();
        let last = dropped.last()?.last();
        let from = dropped.first()?.first;
        dropped.iter().for_each(|c| drop(epoch.chunks.remove(&c.first)));
        epoch.lost.insert(from..=last);
        let count = dropped.iter().map(|c| u64::from(c.count)).sum();
        let loss = Loss { epoch: epoch.id, from, to: Some(last), count, reason: LossReason::Quota, t0: 1, t1: 2 };
        self.losses.push(loss.clone());
        Some(loss)
    }

    /// As the real one: the newest epoch is not continued, what was not delivered of it is drawn anew and declared.
    pub fn give_up(&mut self, rng: &mut Rng) -> (Vec<Chunk>, Vec<Loss>) {
        let old = self.epochs.last_mut().expect("there is always one");
        let pending = old.pending();
        old.lost.union(&pending);
        let (id, mut counts) = (old.id, Vec::new());
        counts.extend(old.chunks.values().filter(|c| pending.intersects(c.seqs())).map(|c| c.count));
        let loss = |r: RangeInclusive<u64>| {
            let (from, to, reason) = (*r.start(), Some(*r.end()), LossReason::Epoch);
            Loss { epoch: id, from, to, count: r.end() - from + 1, reason, t0: 0, t1: 0 }
        };
        let losses: Vec<Loss> = pending.iter().map(loss).collect();
        self.losses.extend(losses.iter().cloned());
        self.new_epoch(rng);
        let chunks = counts.into_iter().map(|count| self.append(rng, count, true)).collect();
        (chunks, losses)
    }

    /// Drops settled chunks of the oldest epoch that has any: nothing is said of it.
    pub fn drop_settled(&mut self) {
        for epoch in &mut self.epochs {
            let settled: Vec<u64> =
                epoch.chunks.values().filter(|c| epoch.settled.covers(c.seqs())).map(|c| c.first).take(5).collect();
            if !settled.is_empty() {
                return settled.iter().for_each(|first| drop(epoch.chunks.remove(first)));
            }
        }
    }

    /// As the real one: what is looked for, is not there and is no news is declared again.
    pub fn absent(&mut self, id: u64, range: &RangeInclusive<u64>, chunks: &[Chunk]) -> Vec<Loss> {
        let to = chunks.last().map_or(*range.end(), |c| c.last().min(*range.end()));
        let mut absent: RangeSet = [*range.start()..=to].into_iter().collect();
        chunks.iter().for_each(|c| absent.remove(c.seqs()));
        let epoch = self.epoch(id);
        let gone = [&epoch.settled, &epoch.lost, &epoch.quarantined];
        let gone: RangeSet =
            absent.iter().flat_map(|r| gone.map(|set| set.within(r.clone()).collect::<Vec<_>>())).flatten().collect();
        let loss = |r: RangeInclusive<u64>| {
            let (from, to, reason) = (*r.start(), Some(*r.end()), LossReason::Quota);
            Loss { epoch: id, from, to, count: r.end() - from + 1, reason, t0: 0, t1: 0 }
        };
        let losses: Vec<Loss> = gone.iter().map(loss).collect();
        for loss in &losses {
            if !self.losses.contains(loss) {
                self.losses.push(loss.clone());
            }
        }
        losses
    }

    /// As the real one: from the chunk that holds or follows the start, one clock context, at least one chunk.
    pub fn load(&self, id: u64, range: &RangeInclusive<u64>, max_bytes: usize) -> Vec<Chunk> {
        let epoch = self.epoch(id);
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut bytes = 0;
        let from = epoch.chunks.range(..=*range.start()).next_back().map_or(*range.start(), |(first, _)| *first);
        for chunk in epoch.chunks.range(from..=*range.end()).map(|(_, c)| c).filter(|c| c.last() >= *range.start()) {
            bytes += chunk.maps.len();
            let fits = chunks.first().is_none_or(|head| head.context == chunk.context && bytes <= max_bytes);
            if !fits {
                break;
            }
            chunks.push(chunk.clone());
        }
        chunks
    }

    /// What a restarted agent would find, with the settled of the last while forgotten.
    pub fn views(&self) -> Vec<EpochView> {
        let view = |e: &Epoch| EpochView { epoch: e.id, pending: e.pending(), next_seq: e.next_seq, in_doubt: false };
        self.epochs.iter().map(view).collect()
    }
}

fn record(seq: u64, filler: usize) -> Record {
    let point = Point {
        ts: 1_700_000_000_000,
        mono: 5,
        name: "sim".into(),
        tags: Default::default(),
        fields: [("text".into(), Value::Str("x".repeat(filler)))].into(),
        error: None,
    };
    Record::new(seq, point)
}
