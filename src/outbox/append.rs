//! Appending: drawing seqs, one commit per call, rolling to the next segment, and coming back after a failure.
//!
//! After any failed commit the file is never written again. The next commit goes to a new segment that begins at
//! the same seq, which voids whatever the failed one may have left behind; one of the next epoch only behind such a segment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::{Epoch, SegmentFile};
use super::fault::Fault;
use super::names::SegmentName;
use super::plan::{self, Plan};
use super::segment::{Active, Batch, Item, Meta, Query, Sealed};
use super::store::{Outbox, Owed, Writing};
use super::value::{self, Times};
use super::{AppendError, Appended, names};
use crate::clock::Now;
use crate::record::Run;
use crate::wire::LossReason;

/// Between attempts to write again.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Blocks that a new segment takes before its first record, with room to spare.
pub(super) const NEW_SEGMENT: u64 = 64 * 1024;

impl Outbox {
    /// Draws seqs for every point of `runs` and stores them in one durable commit. On an error the runs are still the
    /// caller's; what was attempted may be found at the next open until another append succeeds. An empty slice commits what is owed (see [`Outbox::owe`]).
    pub fn append(&mut self, runs: &[Run], now: Now) -> Result<Appended, AppendError> {
        self.append_keeping(runs, |_| false, now)
    }

    /// The same where the makers of some runs, by their place, keep them until they are stored: refused, these are no loss.
    pub fn append_keeping(
        &mut self,
        runs: &[Run],
        is_kept: impl Fn(usize) -> bool,
        now: Now,
    ) -> Result<Appended, AppendError> {
        self.writable(now)?;
        let plan = self.plan(runs, now);
        let records = if plan.runs.is_empty() { 0 } else { plan.batch.bytes() };
        let mut room = self.make_room(records);
        if self.is_broken() {
            // Making room began a segment, and that failed.
            self.writable(now)?;
            room = self.make_room(records);
        }
        let refused = if room { 0 } else { self.refuse(runs, is_kept) };
        if refused > 0 || plan.next == self.next_seq() {
            let next_seq = self.next_seq();
            return Ok(Appended { next_seq, losses: self.take_losses(), refused, ..Appended::default() });
        }
        self.roll_when_full();
        self.writable(now)?;
        self.commit(&plan.batch, now)?;
        self.owed.clear();
        let epoch = self.epochs.len() - 1;
        self.epochs[epoch].next = plan.next;
        for burn in &plan.burns {
            self.declare(epoch, burn.first..=burn.last(), burn.reason, burn.times, true);
        }
        Ok(Appended { runs: plan.runs, losses: self.take_losses(), next_seq: plan.next, refused })
    }

    /// Counts points that were lost before they had a seq. The next commit burns seqs for them, which makes the
    /// loss durable and gives it a range.
    pub fn owe(&mut self, count: u64, reason: LossReason, times: Times) {
        match self.owed.iter_mut().find(|owed| owed.reason == reason) {
            _ if count == 0 => {}
            Some(owed) => {
                owed.count += count;
                owed.times = owed.times.join(times);
            }
            None => self.owed.push(Owed { count, reason, times }),
        }
    }

    /// Returns how many points there are; those that nobody keeps are owed.
    fn refuse(&mut self, runs: &[Run], is_kept: impl Fn(usize) -> bool) -> u64 {
        let lost = runs.iter().enumerate().filter(|(at, _)| !is_kept(*at)).flat_map(|(_, run)| &run.points);
        let (count, times) =
            lost.fold((0, Times::default()), |(n, times), point| (n + 1, times.join(Times::of(point.ts))));
        self.owe(count, LossReason::Quota, times);
        runs.iter().map(|run| run.points.len() as u64).sum()
    }

    pub(super) fn take_losses(&mut self) -> Vec<crate::wire::Loss> {
        std::mem::take(&mut self.fresh_losses)
    }

    fn plan(&self, runs: &[Run], now: Now) -> Plan {
        let owed = self.owed.iter().map(|owed| (owed.count, owed.reason, owed.times));
        plan::of(self.epoch(), self.next_seq(), owed, runs, now)
    }

    /// Ends the wait after a failure: there will be no later time to try.
    pub(super) fn try_now(&mut self) {
        if let Writing::Broken { retry_at, .. } = &mut self.writing {
            *retry_at = Duration::ZERO;
        }
    }

    /// Makes sure there is a segment to append to, or says when it is tried again.
    fn writable(&mut self, now: Now) -> Result<(), AppendError> {
        match &self.writing {
            Writing::Ready(_) => Ok(()),
            Writing::Broken { why, retry_at, .. } if *retry_at > now.mono => {
                Err(AppendError::Unavailable { why: why.clone(), retry_in: *retry_at - now.mono, attempted: false })
            }
            Writing::Broken { .. } => self.recover(now),
        }
    }

    /// One commit, on a new segment if the present one fails.
    fn commit(&mut self, batch: &Batch, now: Now) -> Result<(), AppendError> {
        let Err(fault) = self.try_commit(batch) else { return Ok(()) };
        self.break_off(&fault, now);
        let again = self.recover(now).and_then(|()| {
            self.try_commit(batch).map_err(|fault| {
                self.break_off(&fault, now);
                self.unavailable(now)
            })
        });
        again.map_err(AppendError::attempted)
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), Fault> {
        let Writing::Ready(active) = &mut self.writing else { return Err(Fault::Io("no segment is open".into())) };
        active.commit(batch)?;
        self.failures = 0;
        self.commits += 1;
        let Writing::Ready(active) = &self.writing else { return Ok(()) };
        let blocks = self.disk.blocks(active.path()).ok();
        let (_, last) = self.current_mut().segments.iter_mut().next_back().expect("the active segment is listed");
        last.times = None;
        if let Some(blocks) = blocks {
            last.blocks = blocks;
        }
        Ok(())
    }

    /// Gives up the active segment for writing.
    pub(super) fn break_off(&mut self, fault: &Fault, now: Now) {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        if self.failures == 0 {
            self.problem(format!("the outbox cannot be written: {fault}; records wait in memory"));
        }
        self.failures = self.failures.saturating_add(1);
        let full = matches!(fault, Fault::Full(_));
        self.writing = Writing::Broken { why: fault.to_string(), full, retry_at: now.mono + wait };
        if full {
            self.release_settled();
        }
    }

    pub(super) fn unavailable(&self, now: Now) -> AppendError {
        let (why, retry_in) = match &self.writing {
            Writing::Broken { why, retry_at, .. } => (why.clone(), retry_at.saturating_sub(now.mono)),
            Writing::Ready(_) => ("unknown".into(), RETRY_MIN),
        };
        AppendError::Unavailable { why, retry_in, attempted: false }
    }

    /// Creates a segment to append to after the last one was given up (or at the start, when there was none).
    pub(super) fn recover(&mut self, now: Now) -> Result<(), AppendError> {
        self.make_successor().map_err(|fault| {
            self.break_off(&fault, now);
            self.unavailable(now)
        })
    }

    fn make_successor(&mut self) -> Result<(), Fault> {
        self.end_given_up()?;
        let root = self.options.dir.clone();
        let epoch = self.current();
        let (dir, next) = (epoch.dir.clone(), epoch.next);
        self.disk.make_dir(&dir)?;
        self.disk.sync_dir(&root)?;
        let last = self.current().segments.last_key_value().map(|(first, _)| *first);
        let (first, copied) = match last {
            Some(first) if first < next && !self.half_made => match self.small_predecessor(first) {
                Some(batch) => (first, batch),
                None => (next, Batch::default()),
            },
            _ => (next, Batch::default()),
        };
        self.create_active(first, &copied)
    }

    /// Before anything is stored in the next epoch, an empty segment voids what a failed commit left in the one before.
    fn end_given_up(&mut self) -> Result<(), Fault> {
        let ended = self.unended.and_then(|id| self.epochs.iter().position(|epoch| epoch.id == id));
        if let Some(at) = ended {
            let next = self.epochs[at].next;
            drop(self.create_segment(at, next, &Batch::default())?);
        }
        self.unended = None;
        Ok(())
    }

    /// The values of a sealed segment small enough to be written anew, so that restarts do not pile up small files.
    fn small_predecessor(&mut self, first: u64) -> Option<Batch> {
        let small = self.options.segment_target() / 4;
        let cache = self.reader_cache();
        let epoch = self.current();
        let file =
            epoch.segments.get(&first).filter(|file| !file.raw && file.last.is_none() && file.blocks <= small)?;
        // Both are on the disk for a moment.
        if self.usage() + 2 * file.blocks + NEW_SEGMENT > self.options.max_bytes {
            return None;
        }
        let seqs = epoch.seqs_of(first);
        let query = Query { epoch: epoch.id, from: first, to: *seqs.end(), max_bytes: usize::MAX };
        // Unreadable: it stays as it is, and is judged when it is loaded.
        let items = Sealed::open(&*self.disk, &file.path, cache).and_then(|mut sealed| sealed.read(&query)).ok()?;
        let complete = items.iter().try_fold(first, |at, item| (item.first() == at).then_some(item.last() + 1));
        if complete != Some(epoch.next) {
            return None;
        }
        let mut batch = Batch::default();
        for item in &items {
            match item {
                Item::Chunk(chunk, times) => batch.chunks.push((chunk.first, value::encode_chunk(chunk, *times))),
                Item::Burn(burn) => batch.burns.push((burn.first, value::encode_burn(epoch.id, burn))),
            }
        }
        Some(batch)
    }

    fn create_active(&mut self, first: u64, copied: &Batch) -> Result<(), Fault> {
        let active = self.create_segment(self.epochs.len() - 1, first, copied);
        // Renamed, but the directory not synced: a crash may leave it there, and then it ends its predecessor.
        let path = self.current().dir.join(SegmentName { first, last: None, corrupt: false }.file_name());
        self.half_made = active.is_err() && first == self.next_seq() && self.disk.blocks(&path).is_ok();
        self.writing = Writing::Ready(active?);
        self.measure_before(&path);
        Ok(())
    }

    /// Closing a segment writes its last pages: they count from now on, not from the next look at the whole directory.
    fn measure_before(&mut self, created: &Path) {
        let disk = Arc::clone(&self.disk);
        let mut newest_first = self.epochs.iter_mut().rev().flat_map(|epoch| epoch.segments.values_mut().rev());
        let Some(file) = newest_first.find(|file| file.path != created) else { return };
        if let Ok(blocks) = disk.blocks(&file.path) {
            file.blocks = blocks;
        }
    }

    fn create_segment(&mut self, at: usize, first: u64, copied: &Batch) -> Result<Active, Fault> {
        let cache = self.active_cache();
        let Epoch { id, prev, created, ref fingerprint, ref dir, .. } = self.epochs[at];
        let meta = Meta { format: names::FORMAT, epoch: id, first, prev, created, fingerprint: fingerprint.clone() };
        let active = Active::create(&*self.disk, dir, &meta, copied, cache)?;
        let blocks = self.disk.blocks(active.path()).unwrap_or(NEW_SEGMENT);
        let file = SegmentFile::new(dir, SegmentName { first, last: None, corrupt: false }, blocks);
        self.let_go(id, first);
        self.epochs[at].segments.insert(first, file);
        self.name_last_of(at, first);
        // The next start looks for burns in every segment sealed since the last save: there must not be many.
        self.unsaved = true;
        Ok(active)
    }

    /// The predecessor of `successor` gets its last seq into its name. Until that is durable the successor's
    /// name says the same, so a failure costs nothing.
    fn name_last_of(&mut self, at: usize, successor: u64) {
        let disk = Arc::clone(&self.disk);
        let epoch = &mut self.epochs[at];
        let Some((&first, file)) = epoch.segments.range_mut(..successor).next_back() else { return };
        if file.last.is_some() {
            return;
        }
        let name = SegmentName { first, last: Some(successor - 1), corrupt: file.raw };
        let path = epoch.dir.join(name.file_name());
        if disk.rename(&file.path, &path).is_ok() {
            file.path = path;
        }
        file.last = Some(successor - 1);
    }

    /// A successor may be on the disk under its name: what were appended to the present segment now, a crash could
    /// void. So nothing is, until the successor is there for certain.
    fn begin_anew(&mut self, fault: &Fault) {
        self.problem(format!("a new segment was not created for certain, it is created anew: {fault}"));
        let full = matches!(fault, Fault::Full(_));
        self.writing = Writing::Broken { why: fault.to_string(), full, retry_at: Duration::ZERO };
    }

    fn roll_when_full(&mut self) {
        let target = self.options.segment_target();
        let full = self.current().segments.last_key_value().is_some_and(|(_, file)| file.blocks >= target);
        if full {
            self.roll();
        }
    }

    /// Begins the next segment. Returns whether there is a new one; the present one goes on otherwise.
    pub(super) fn roll(&mut self) -> bool {
        let next = self.next_seq();
        let epoch = self.current();
        if !matches!(self.writing, Writing::Ready(_)) || epoch.segments.contains_key(&next) {
            return false;
        }
        match self.create_active(next, &Batch::default()) {
            Ok(()) => true,
            Err(fault) if self.half_made => {
                self.begin_anew(&fault);
                false
            }
            Err(fault) => {
                self.problem(format!("no new segment could be created, going on with the present one: {fault}"));
                false
            }
        }
    }
}
