//! Giving an epoch up whose seqs somebody else has used too, and storing what was not delivered of it once more.
//!
//! This outbox was set back to an older copy, or cloned: what it drew since then bears seqs under which the other side
//! already has different records, and would be taken for a duplicate. Which of the undelivered records these are, nobody
//! can tell. So each gets a new seq in the next epoch, and its old one is declared: some are delivered twice, none is
//! mixed up. A kill in between leaves the rest under their old seqs.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::Epoch;
use super::store::{Outbox, Writing};
use super::value::Times;
use super::{AppendError, Appended};
use crate::clock::Now;
use crate::record::{Point, Record, Run};
use crate::wire::{Chunk, LossReason};

/// Bytes stored anew by one commit.
pub(super) const STEP: usize = 128 << 10;

impl Outbox {
    /// The present epoch is not continued: the next record is the first of another. Call [`Outbox::redraw`] until it has
    /// nothing left.
    pub fn begin_epoch(&mut self, now: Now) {
        let (ordinal, prev) = (self.current().ordinal + 1, self.current().id);
        self.redraws.extend(self.current().held().iter().map(|seqs| (prev, seqs)));
        if self.is_broken() && !self.current().segments.is_empty() {
            self.unended = Some(prev);
        }
        self.epochs.push(Epoch::mint(&self.options, ordinal, Some(prev), now));
        self.half_made = false;
        self.writing = Writing::Broken { why: "a new epoch begins".into(), full: false, retry_at: Duration::ZERO };
        // What fails is tried again with the next append.
        drop(self.recover(now));
        self.unsaved = true;
    }

    /// One step; `None` when nothing is left. On an error nothing has changed: later again.
    pub fn redraw(&mut self, now: Now) -> Result<Option<Appended>, AppendError> {
        let Some((epoch, seqs)) = self.redraws.pop_front() else { return Ok(None) };
        let loaded = self.load(epoch, seqs.clone(), STEP, now);
        let back = |outbox: &mut Self, rest: RangeInclusive<u64>| {
            if !rest.is_empty() {
                outbox.redraws.push_front((epoch, rest));
            }
        };
        let Some(last) = loaded.chunks.last().map(Chunk::last) else {
            // Declared by the load, unless the disk refused it: then they keep their seqs.
            return Ok(Some(Appended { losses: loaded.losses, next_seq: self.next_seq(), ..Appended::default() }));
        };
        let runs: Vec<Run> = loaded.chunks.iter().map(run_of).collect();
        // Their `mono` may be of an earlier boot: they age from now on.
        let mut appended = match self.append(&runs, Now { boot: Duration::ZERO, ..now }) {
            Ok(appended) => appended,
            Err(error) => {
                self.fresh_losses.extend(loaded.losses);
                back(self, seqs);
                return Err(error);
            }
        };
        if let Some(at) = self.epochs.iter().position(|e| e.id == epoch) {
            let first = loaded.chunks[0].first.max(*seqs.start());
            self.declare(at, first..=last.min(*seqs.end()), LossReason::Epoch, Times::default(), true);
        }
        back(self, last + 1..=*seqs.end());
        appended.losses.extend(loaded.losses);
        appended.losses.extend(self.take_losses());
        Ok(Some(appended))
    }
}

/// The records of a chunk as points without a seq. What cannot be decoded was never encoded by us.
pub(super) fn run_of(chunk: &Chunk) -> Run {
    let points = chunk.records().filter_map(|(_, map)| rmp_serde::from_slice::<Record>(map).ok()).map(|record| {
        let Record { seq: _, ts, mono, name, status: _, tags, fields, error } = record;
        Point { ts, mono, name, tags, fields, error }
    });
    Run { collector: Arc::from("redrawn"), context: chunk.context.clone(), points: points.collect() }
}
