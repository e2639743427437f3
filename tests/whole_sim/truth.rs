//! What is true, as the world outside knows it: every point that a collector made, what was committed under which seq with
//! which bytes, and what became of it. Judges the outbox and the wire; believes neither.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use holdover::outbox::{EpochView, Identity, Opened, Outbox};
use holdover::ranges::RangeSet;
use holdover::record::{Point, Record, Value};
use holdover::wire::{Chunk, DecodeLimits, Loss, LossReason, decode_envelope, encode_record, raw_records};

use crate::uplink_sim::broker::Parsed;
use crate::uplink_sim::oracle::Check;

/// Name of the field by which a point is known again; nothing else on the wire looks like it.
pub const SERIAL: &str = "serial";

/// Epoch to seqs.
pub type Seqs = BTreeMap<u64, RangeSet>;

/// A point that a collector made, and where it was stored.
struct Made {
    point: Point,
    at: Option<(u64, u64)>,
}

#[derive(Default)]
pub struct Truth {
    made: Vec<Made>,
    /// Committed, or found after a crash and proven: by epoch and first seq.
    chunks: BTreeMap<(u64, u64), Chunk>,
    pub committed: Seqs,
    /// Of these, the ones whose append has returned.
    certain: Seqs,
    /// Found after a crash that cut an append short, and not read yet.
    doubtful: Seqs,
    /// Settled, or given to quarantine, by any life of the uplink.
    settled: Seqs,
    /// Of these, by the broker's word, when that was enough: unproven past the broker.
    by_broker: Seqs,
    quarantined: Seqs,
    /// Losses that the other side has confirmed.
    told: Seqs,
    /// The disk refused reads: what is sound may be taken for damaged.
    pub unreadable: bool,
    noted: bool,
    last: Option<Chunk>,
}

fn covered(seqs: &mut Seqs, loss: &Loss) {
    seqs.entry(loss.epoch).or_default().insert(loss.from..=loss.to.unwrap_or(u64::MAX));
}

fn subtract(set: &mut RangeSet, from: &Seqs, epoch: u64) {
    from.get(&epoch).into_iter().for_each(|other| set.subtract(other));
}

impl Truth {
    /// Notes a point that is about to be handed over; it gets its serial.
    pub fn made(&mut self, mut point: Point) -> Point {
        point.fields.insert(SERIAL.into(), Value::uint(self.made.len() as u64));
        self.made.push(Made { point: point.clone(), at: None });
        point
    }

    /// An append has returned this chunk.
    pub fn appended(&mut self, chunk: &Chunk) -> Check {
        let last = self.committed.get(&chunk.epoch).and_then(RangeSet::last).unwrap_or(0);
        let doubtful = self.doubtful.get(&chunk.epoch).and_then(RangeSet::last).unwrap_or(0);
        if chunk.first <= last.max(doubtful) {
            return Err(format!("reuse: seq {} of {} was used before", chunk.first, chunk.epoch));
        }
        self.prove(chunk)?;
        self.last = Some(chunk.clone());
        self.certain.entry(chunk.epoch).or_default().insert(chunk.seqs());
        Ok(())
    }

    /// Records read back: known, or what a crash left in doubt.
    pub fn loaded(&mut self, chunk: &Chunk) -> Check {
        if let Some(known) = self.chunks.get(&(chunk.epoch, chunk.first)) {
            return if known == chunk {
                Ok(())
            } else {
                Err(format!("bytes: seq {} read back otherwise", chunk.first))
            };
        }
        if self.committed.get(&chunk.epoch).is_some_and(|c| c.intersects(chunk.seqs())) {
            return Err(format!("bytes: seqs {:?} read back cut otherwise", chunk.seqs()));
        }
        self.prove(chunk)
    }

    /// Each record is a point that a collector made, stored nowhere else.
    fn prove(&mut self, chunk: &Chunk) -> Check {
        let mut count = 0;
        for (seq, bytes) in chunk.records() {
            let serial = serial_in(bytes).ok_or_else(|| format!("bytes: seq {seq} holds no record of ours"))?;
            let made = self.made.get_mut(serial).ok_or_else(|| format!("bytes: seq {seq} was never made"))?;
            let mut expected = Vec::new();
            encode_record(&Record::new(seq, made.point.clone()), &mut expected);
            if expected != bytes {
                return Err(format!("bytes: seq {seq} of {} is not what was made", chunk.epoch));
            }
            if let Some(other) = made.at.replace((chunk.epoch, seq)) {
                return Err(format!("twice: one point is stored as {other:?} and as {:?}", (chunk.epoch, seq)));
            }
            count += 1;
        }
        if count != chunk.count {
            return Err(format!("bytes: {count} records in a chunk of {}", chunk.count));
        }
        self.committed.entry(chunk.epoch).or_default().insert(chunk.seqs());
        self.doubtful.entry(chunk.epoch).or_default().remove(chunk.seqs());
        self.chunks.insert((chunk.epoch, chunk.first), chunk.clone());
        Ok(())
    }

    /// The end of the value that was committed last.
    pub fn newest(&self) -> &[u8] {
        self.last.as_ref().map_or(b"none", |chunk| &chunk.maps[chunk.maps.len().saturating_sub(40)..])
    }

    pub fn size_of(&self, epoch: u64, first: u64) -> usize {
        self.chunks.get(&(epoch, first)).map_or(0, |chunk| chunk.maps.len())
    }

    /// Reads a message that is published: delivered => committed, bytes equal.
    pub fn published(&self, payload: &[u8]) -> Result<Parsed, String> {
        let envelope = decode_envelope(payload, &DecodeLimits::default()).map_err(|e| format!("bytes: {e}"))?;
        let raw: Option<Vec<&[u8]>> = match payload.first() {
            Some(0x80..=0x8f | 0xde) => Some(raw_records(payload).map_err(|e| format!("bytes: {e}"))?.collect()),
            _ => None,
        };
        let mut parsed = Parsed { epoch: envelope.epoch, losses: envelope.losses, chunks: Vec::new() };
        let mut at = 0;
        while let Some(record) = envelope.records.get(at) {
            let chunk = self.chunks.get(&(parsed.epoch, record.seq));
            let chunk = chunk.ok_or_else(|| format!("bytes: seq {} was never committed", record.seq))?;
            if *chunk.context.boot != *envelope.boot || chunk.context.synced != envelope.synced {
                return Err(format!("bytes: seq {} travels under another clock context", record.seq));
            }
            let end = at + chunk.count as usize;
            let seqs = envelope.records.get(at..end).into_iter().flatten().map(|r| r.seq);
            let same = match &raw {
                Some(raw) => raw.get(at..end).is_some_and(|slices| slices.concat() == *chunk.maps),
                // Equal records have equal bytes, whatever they travelled as.
                None => encoded(envelope.records.get(at..end).unwrap_or_default()) == *chunk.maps,
            };
            if !same || !seqs.eq(chunk.seqs()) {
                return Err(format!("bytes: seqs {:?} are not those committed", chunk.seqs()));
            }
            parsed.chunks.push((chunk.first, chunk.last()));
            at = end;
        }
        Ok(parsed)
    }

    /// The hub has stored this: delivered => committed, and equal.
    pub fn stored(&self, epoch: u64, record: &Record) -> Check {
        let serial = match record.fields.get(SERIAL) {
            Some(Value::Int(serial)) => usize::try_from(*serial).ok(),
            _ => None,
        };
        let made = serial.and_then(|serial| self.made.get(serial)).filter(|made| made.at == Some((epoch, record.seq)));
        match made.map(|made| Record::new(record.seq, made.point.clone())) {
            Some(made) if made == *record => Ok(()),
            made => Err(format!("at-hub: seq {} of {epoch} is {record:.200?}, made was {made:.200?}", record.seq)),
        }
    }

    pub fn settle(&mut self, epoch: u64, seqs: &RangeSet, at_level_hub: bool) {
        if !at_level_hub {
            self.by_broker.entry(epoch).or_default().union(seqs);
        }
        self.settled.entry(epoch).or_default().union(seqs);
    }

    pub fn quarantine(&mut self, epoch: u64, seqs: RangeInclusive<u64>) {
        self.quarantined.entry(epoch).or_default().insert(seqs);
    }

    pub fn told(&mut self, losses: &[Loss]) {
        losses.iter().for_each(|loss| covered(&mut self.told, loss));
    }

    /// A start has found this. Nothing committed may have vanished, and no seq may be used again.
    pub fn opened(&mut self, found: &Opened, losses: &[Loss]) -> Check {
        self.honest(losses)?;
        for view in &found.epochs {
            let known = self.committed.get(&view.epoch).and_then(RangeSet::last).unwrap_or(0);
            if view.next <= known && !view.in_doubt {
                return Err(format!("reuse: next seq {} of {} after {known} was committed", view.next, view.epoch));
            }
            let mut new = view.pending.clone();
            subtract(&mut new, &self.committed, view.epoch);
            let mut unheard = new.clone();
            subtract(&mut unheard, &self.doubtful, view.epoch);
            // A seq burned for a loss, where bit rot hides the burn: it counts as held until its segment is read.
            subtract(&mut unheard, &self.told, view.epoch);
            if let Some(low) = unheard.first().filter(|low| *low <= known) {
                return Err(format!(
                    "reuse: seq {low} of {} holds what was never committed, below {known}",
                    view.epoch
                ));
            }
            self.doubtful.insert(view.epoch, new);
        }
        let noted = found.notes.contains_key(holdover::uplink::HubMemory::NOTE);
        if self.noted && !noted {
            return Err("level: the note of the hub is gone".into());
        }
        self.noted = noted;
        self.accounted(&found.epochs, losses)
    }

    /// Identity: what was committed is held, settled, quarantined or declared.
    fn accounted(&self, epochs: &[EpochView], losses: &[Loss]) -> Check {
        let mut lost = Seqs::new();
        losses.iter().for_each(|loss| covered(&mut lost, loss));
        let rest = |epoch: u64, mut rest: RangeSet| {
            for gone in [&self.settled, &self.quarantined, &self.told, &lost] {
                subtract(&mut rest, gone, epoch);
            }
            rest
        };
        for (epoch, committed) in &self.committed {
            let mut missing = committed.clone();
            let view = epochs.iter().find(|view| view.epoch == *epoch);
            view.iter().for_each(|view| missing.subtract(&view.pending));
            let missing = rest(*epoch, missing);
            if !missing.is_empty() {
                return Err(format!("vanished: {missing:?} of {epoch} are neither held, settled nor declared"));
            }
        }
        for view in epochs {
            let mut burned = RangeSet::from_iter([1..=view.next.saturating_sub(1)]);
            burned.subtract(&view.pending);
            let burned = rest(view.epoch, burned);
            if !burned.is_empty() {
                return Err(format!(
                    "identity: {burned:?} of {} were drawn, hold nothing and are not declared",
                    view.epoch
                ));
            }
        }
        Ok(())
    }

    /// The outbox after something was done with it.
    pub fn judge(&self, outbox: &Outbox, identity: &[Identity]) -> Check {
        if let Some(identity) = identity.iter().find(|identity| !identity.holds()) {
            return Err(format!("identity: {identity:?} does not add up"));
        }
        let epochs = outbox.epochs();
        for view in &epochs {
            let mut phantom = view.pending.clone();
            subtract(&mut phantom, &self.committed, view.epoch);
            subtract(&mut phantom, &self.doubtful, view.epoch);
            if !phantom.is_empty() {
                return Err(format!("identity: {phantom:?} of {} are held and were never made", view.epoch));
            }
        }
        self.honest(outbox.losses())?;
        self.accounted(&epochs, outbox.losses())
    }

    /// This disk keeps what it synced: nothing committed may be called damaged.
    fn honest(&self, losses: &[Loss]) -> Check {
        let damaged = losses.iter().filter(|loss| loss.reason == LossReason::Corrupt && !self.unreadable);
        for loss in damaged {
            let range = loss.from..=loss.to.unwrap_or(u64::MAX);
            if self.certain.get(&loss.epoch).is_some_and(|certain| certain.intersects(range.clone())) {
                return Err(format!("needless: {range:?} of {} declared damaged, and they are not", loss.epoch));
            }
        }
        Ok(())
    }

    /// What the outbox holds and the uplink has to deliver.
    pub fn owed(&self, view: &EpochView) -> RangeSet {
        let mut owed = view.pending.clone();
        subtract(&mut owed, &self.settled, view.epoch);
        subtract(&mut owed, &self.quarantined, view.epoch);
        owed
    }

    /// Everything that must have arrived at the hub, or be declared, in the end.
    pub fn promised(&self) -> Seqs {
        let mut promised = self.committed.clone();
        for (epoch, doubtful) in &self.doubtful {
            promised.entry(*epoch).or_default().union(doubtful);
        }
        for (epoch, set) in &mut promised {
            subtract(set, &self.by_broker, *epoch);
        }
        promised
    }

    pub fn points(&self) -> usize {
        self.made.len()
    }
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut maps = Vec::new();
    records.iter().for_each(|record| encode_record(record, &mut maps));
    maps
}

fn serial_in(bytes: &[u8]) -> Option<usize> {
    let key = b"\xa6serial";
    let at = bytes.windows(key.len()).position(|w| w == key)? + key.len();
    let rest = bytes.get(at + 1..)?;
    Some(match *bytes.get(at)? {
        b @ 0..=0x7f => usize::from(b),
        0xcc => usize::from(*rest.first()?),
        0xcd => usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)),
        _ => return None,
    })
}
