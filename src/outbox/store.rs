//! The outbox itself: its parts, and the operations that touch no segment.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::epoch::Epoch;
use super::fault::Fault;
use super::losses::{LossBook, all_told};
use super::next::NextSegment;
use super::segment::{Active, Sealed};
use super::state::{State, StateFile};
use super::value::Times;
use super::{EpochView, Identity, Options, Stats, from};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

/// At most so many notes, of at most so many bytes each.
const MAX_NOTES: usize = 16;
const MAX_NOTE: usize = 2048;

/// The store. One per directory and process, used by one thread.
pub struct Outbox {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    /// Keeps other agents out until dropped.
    pub(super) _lock: Box<dyn Send>,
    /// Oldest first; never empty; the last is appended to.
    pub(super) epochs: Vec<Epoch>,
    pub(super) writing: Writing,
    /// Open segments, the most recently used last.
    pub(super) readers: Vec<OpenSegment>,
    /// Being looked through, so that it can be read next.
    pub(super) next: Option<NextSegment>,
    pub(super) state: StateFile,
    pub(super) notes: BTreeMap<String, String>,
    /// See [`Outbox::vouch`].
    pub(super) vouched_ms: i64,
    pub(super) book: LossBook,
    /// What the other side has confirmed of losses, by epoch; only to finish merged entries.
    pub(super) told: BTreeMap<u64, RangeSet>,
    /// Points lost before they had a seq.
    pub(super) owed: Vec<Owed>,
    /// Given-up segments whose names the state does not know yet.
    pub(super) markers: Vec<PathBuf>,
    /// Bytes on disk of everything but segments, as last surveyed.
    pub(super) other_bytes: u64,
    /// Of epochs that were given up: still to be stored anew.
    pub(super) redraws: VecDeque<(u64, RangeInclusive<u64>)>,
    pub(super) fresh_losses: Vec<Loss>,
    pub(super) problems: Vec<String>,
    pub(super) commits: u64,
    /// Attempts to write that failed in a row.
    pub(super) failures: u32,
    /// The last save failed, and that was said.
    pub(super) save_failed: bool,
    /// A segment beginning at the next seq may be on the disk without being known here: nothing may be appended to
    /// another one, since its name would void that.
    pub(super) half_made: bool,
    /// An epoch that was given up behind a failed commit, whose file may hold what is to be stored in the next one.
    pub(super) unended: Option<u64>,
    /// Something changed since the last save.
    pub(super) unsaved: bool,
    pub(super) last_save: Duration,
    pub(super) last_survey: Duration,
    pub(super) last_maintained: Option<Now>,
    /// The wall clock stepped: ages are not judged before this (monotonic).
    pub(super) ages_from: Duration,
}

/// Whether records can be appended.
pub(super) enum Writing {
    Ready(Active),
    /// The last segment is only read; a new one is created at `retry_at` (monotonic).
    Broken {
        why: String,
        full: bool,
        retry_at: Duration,
    },
}

pub(super) struct OpenSegment {
    pub epoch: u64,
    pub first: u64,
    pub sealed: Sealed,
}

pub(super) struct Owed {
    pub count: u64,
    pub reason: LossReason,
    pub times: Times,
}

impl Outbox {
    pub(super) fn current(&self) -> &Epoch {
        self.epochs.last().expect("an outbox has at least one epoch")
    }

    pub(super) fn current_mut(&mut self) -> &mut Epoch {
        self.epochs.last_mut().expect("an outbox has at least one epoch")
    }

    /// redb page cache for the active segment; the rest goes to readers and state.
    pub(super) fn active_cache(&self) -> usize {
        self.options.cache_bytes * 3 / 8
    }

    pub(super) fn problem(&mut self, line: String) {
        // Bounded: a caller that never asks keeps the newest.
        if self.problems.len() >= 32 {
            self.problems.remove(0);
        }
        self.problems.push(line);
    }

    /// What went wrong since the last call, one line each.
    pub fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// The epoch appended to.
    pub fn epoch(&self) -> u64 {
        self.current().id
    }

    /// The seq that the next record gets.
    pub fn next_seq(&self) -> u64 {
        self.current().next
    }

    pub fn epochs(&self) -> Vec<EpochView> {
        self.epochs.iter().map(Epoch::view).collect()
    }

    /// Losses not yet confirmed by the other side, at most 1,024.
    pub fn losses(&self) -> &[Loss] {
        self.book.all()
    }

    pub fn is_broken(&self) -> bool {
        matches!(self.writing, Writing::Broken { .. })
    }

    /// Declares what is held of `range` lost. `counted`: that the records existed is known.
    pub(super) fn declare(
        &mut self,
        epoch: usize,
        range: RangeInclusive<u64>,
        reason: LossReason,
        times: Times,
        counted: bool,
    ) {
        if range.is_empty() {
            return;
        }
        let entry = &mut self.epochs[epoch];
        for gone in entry.ledger.lose(range, reason).iter() {
            let (from, to) = (*gone.start(), *gone.end());
            let count = if counted { to - from + 1 } else { 0 };
            let loss = Loss { epoch: entry.id, from, to: Some(to), count, reason, t0: times.t0, t1: times.t1 };
            self.book.add(loss.clone());
            self.fresh_losses.push(loss);
            self.unsaved = true;
        }
    }

    /// Notes that `seqs` were delivered and confirmed. Kept in memory until the next save; seqs never drawn are ignored.
    pub fn settle(&mut self, epoch: u64, seqs: &RangeSet) {
        let Some(entry) = self.epochs.iter_mut().find(|e| e.id == epoch) else { return };
        let mut drawn = seqs.clone();
        drawn.remove(from(entry.next));
        drawn.remove(0..=0);
        if !drawn.is_empty() {
            entry.ledger.settle(&drawn);
            self.unsaved = true;
        }
    }

    /// Notes that these losses were delivered and confirmed.
    pub fn settle_losses(&mut self, losses: &[Loss]) {
        for loss in losses {
            if let Some(to) = loss.to {
                let told = self.told.entry(loss.epoch).or_default();
                told.insert(loss.from..=to);
                told.forget_smallest(super::losses::MAX_LOSSES);
            }
        }
        let (epochs, told) = (&self.epochs, &self.told);
        let finished = |loss: &Loss| {
            let lost = epochs.iter().find(|e| e.id == loss.epoch).zip(loss.to);
            let lost = lost.map(|(e, to)| e.ledger.lost_within(loss.from..=to)).unwrap_or_default();
            told.get(&loss.epoch).is_some_and(|told| all_told(loss, &lost, told))
        };
        self.book.settle(losses, finished);
        let open: Vec<u64> = self.book.all().iter().map(|l| l.epoch).collect();
        self.told.retain(|epoch, _| open.contains(epoch));
        self.unsaved = true;
    }

    /// A time service vouches for the wall clock. Saved with the state: a wrong clock does not take it back, however often
    /// it is saved.
    pub fn vouch(&mut self, now: Now) {
        self.vouched_ms = now.wall_ms;
    }

    /// Small facts of the agent that survive a restart (saved lazily with the state), at most 16 of 2 KiB.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// Sets a note, or removes it when `value` is empty. Returns whether it was taken.
    pub fn set_note(&mut self, key: &str, value: &str) -> bool {
        if value.is_empty() {
            self.notes.remove(key);
        } else if key.len() + value.len() > MAX_NOTE || (self.notes.len() >= MAX_NOTES && !self.notes.contains_key(key))
        {
            return false;
        } else {
            self.notes.insert(key.to_owned(), value.to_owned());
        }
        self.unsaved = true;
        true
    }

    pub fn identity(&self) -> Vec<Identity> {
        let of = |epoch: &Epoch| Identity {
            epoch: epoch.id,
            next: epoch.next,
            settled: epoch.ledger.settled().len(),
            lost: epoch.ledger.lost().iter().map(|(reason, set)| (*reason, set.len())).collect(),
            quarantined: epoch.ledger.quarantined().len(),
            held: epoch.held(),
        };
        self.epochs.iter().map(of).collect()
    }

    /// Figures; reads one record back to know the age of the backlog.
    pub fn stats(&mut self) -> Stats {
        let oldest_ms = self.oldest();
        let ledgers = || self.epochs.iter().map(|e| &e.ledger);
        Stats {
            epoch: self.epoch(),
            next_seq: self.next_seq(),
            disk_bytes: self.usage(),
            max_bytes: self.options.max_bytes,
            segments: self.epochs.iter().map(|e| e.segments.len()).sum(),
            pending: self.epochs.iter().map(|e| e.held().len()).sum(),
            settled: ledgers().map(|l| l.settled().len()).sum(),
            lost: ledgers().flat_map(|l| l.lost().values()).map(RangeSet::len).sum(),
            quarantined: ledgers().map(|l| l.quarantined().len()).sum(),
            losses: self.book.all().len(),
            commits: self.commits,
            oldest_ms,
            owed: self.owed.iter().map(|o| o.count).sum(),
            broken: match &self.writing {
                Writing::Ready(_) => None,
                Writing::Broken { why, .. } => Some(why.clone()),
            },
        }
    }

    /// Saves the lazy state now: one commit. What the state then knows durably needs no marker file any more.
    pub fn save(&mut self, now: Now) -> Result<(), String> {
        self.save_state(now).map_err(|fault| format!("the state of the outbox cannot be saved: {fault}"))
    }

    /// As [`Self::save`]; a failure is a problem said once.
    pub(super) fn save_or_say(&mut self, now: Now) {
        let saved = self.save(now);
        let failed_before = std::mem::replace(&mut self.save_failed, saved.is_err());
        if let Some(line) = saved.err().filter(|_| !failed_before) {
            self.problem(line);
        }
    }

    pub(super) fn save_state(&mut self, now: Now) -> Result<(), Fault> {
        self.last_save = now.mono;
        let state = State {
            wall_ms: now.wall_ms,
            vouched_ms: self.vouched_ms,
            // One without a file was never begun: the next start would take it for gone.
            epochs: self.epochs.iter().filter(|e| e.next > 1 || !e.segments.is_empty()).map(Epoch::state).collect(),
            losses: self.book.all().to_vec(),
            notes: self.notes.clone(),
        };
        self.state.save(&*self.disk, &state)?;
        self.unsaved = false;
        for epoch in &mut self.epochs {
            epoch.saved = epoch.ledger.done().clone();
        }
        let disk = &self.disk;
        self.markers.retain(|marker| disk.unlink(marker).is_err());
        self.forget_drained_epochs();
        Ok(())
    }

    /// Old epochs with nothing left of them: no file, no held seq, no loss to tell.
    fn forget_drained_epochs(&mut self) {
        let current = self.epoch();
        let (book, disk) = (&self.book, &self.disk);
        self.epochs.retain(|epoch| {
            let done = epoch.segments.is_empty() && epoch.held().is_empty();
            let told = !book.all().iter().any(|loss| loss.epoch == epoch.id);
            // The directory may still hold a marker or a foreign file: then it stays, and so does the epoch.
            let drained = epoch.id != current && done && told;
            !(drained && removed(&**disk, &epoch.dir))
        });
    }

    /// Saves the state and closes the active segment. Safe to leave out: the next open then takes a little longer.
    pub fn close(mut self, now: Now) {
        self.try_now();
        if !self.owed.is_empty() {
            drop(self.append(&[], now));
        }
        drop(self.save_state(now));
    }
}

fn removed(disk: &dyn Disk, dir: &Path) -> bool {
    match disk.remove_dir(dir) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
