//! One epoch in memory: its segments by their names, and what became of its seqs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::ledger::Ledger;
use super::names::{self, SegmentName};
use super::state::EpochState;
use super::value::Times;
use super::{EpochView, Options};
use crate::clock::Now;
use crate::ranges::RangeSet;

pub(super) struct Epoch {
    pub id: u64,
    pub ordinal: u32,
    pub prev: Option<u64>,
    pub created: i64,
    pub fingerprint: String,
    pub dir: PathBuf,
    /// By first seq. A segment ends at its own last seq, or where the next begins, or before `next`.
    pub segments: BTreeMap<u64, SegmentFile>,
    pub next: u64,
    pub ledger: Ledger,
    /// Seqs at or beyond `next` may have been drawn.
    pub in_doubt: bool,
    /// What the state file durably knows to be settled, lost or quarantined.
    pub saved: RangeSet,
}

pub(super) struct SegmentFile {
    pub path: PathBuf,
    /// From its name: what lies beyond does not count.
    pub last: Option<u64>,
    /// On disk.
    pub blocks: u64,
    /// Read by checksums, not by its tree.
    pub raw: bool,
    /// Of its records, once asked for.
    pub times: Option<Times>,
    /// Reads the disk refused in a row.
    pub refused: u32,
}

impl SegmentFile {
    pub(super) fn new(dir: &Path, name: SegmentName, blocks: u64) -> Self {
        let SegmentName { last, corrupt: raw, .. } = name;
        Self { path: dir.join(name.file_name()), last, blocks, raw, times: None, refused: 0 }
    }
}

impl Epoch {
    /// A new one; nothing of it is on the disk yet.
    pub(super) fn mint(options: &Options, ordinal: u32, prev: Option<u64>, now: Now) -> Self {
        let id = (options.new_epoch)();
        Self {
            id,
            ordinal,
            prev,
            created: now.wall_ms,
            fingerprint: options.fingerprint.clone(),
            dir: options.dir.join(names::epoch_dir(ordinal, id)),
            segments: BTreeMap::new(),
            next: 1,
            ledger: Ledger::default(),
            in_doubt: false,
            saved: RangeSet::new(),
        }
    }

    /// The seqs that the segment beginning at `first` holds; empty for a fresh one.
    pub(super) fn seqs_of(&self, first: u64) -> RangeInclusive<u64> {
        let next = self.segments.range(first + 1..).next().map_or(self.next, |(next, _)| *next);
        let last = self.segments.get(&first).and_then(|segment| segment.last).unwrap_or(u64::MAX);
        first..=last.min(next - 1)
    }

    pub(super) fn held(&self) -> RangeSet {
        if self.next == 1 { RangeSet::new() } else { self.ledger.held(1..=self.next - 1).into_iter().collect() }
    }

    pub(super) fn view(&self) -> EpochView {
        let Self { id, prev, created, next, .. } = *self;
        EpochView { epoch: id, prev, created, next, pending: self.held(), in_doubt: self.in_doubt }
    }

    pub(super) fn state(&self) -> EpochState {
        let Self { id, ordinal, prev, created, next, .. } = *self;
        let mut state = EpochState { epoch: id, ordinal, prev, created, next, ..EpochState::default() };
        state.set_ledger(&self.ledger);
        state
    }
}
