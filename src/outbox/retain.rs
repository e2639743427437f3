//! Staying within bounds: what everything takes on the disk, and what gives way, in which order.
//!
//! Segments whose records are all accounted for go first, then (if the policy says so) the oldest records, as a
//! declared loss. Giving up a segment needs no free space: rename, sync the directory, truncate.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fault::Fault;
use super::names::{self, Dropped, DroppedLoss};
use super::segment::{Item, Query};
use super::store::{Outbox, Writing};
use super::value::Times;
use super::{Disk, DropPolicy};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

/// Blocks that one commit may take beyond twice its values: tree pages written anew, and the next segment's start.
const COMMIT_EXTRA: u64 = 96 * 1024 + super::append::NEW_SEGMENT;
/// Kept under `drop-newest` for burns.
const REFUSAL_RESERVE: u64 = 256 * 1024;
/// On disk, per range of the state file, for the next save.
const STATE_RANGE: u64 = 64;
/// The wall clock is not believed for ages until so long after the start (no time service may have set it yet), or
/// after it stepped by more than that.
pub(super) const STEP_DISTRUST: Duration = Duration::from_secs(3600);
/// Of `max_bytes`: each of set-aside segments with nothing left to send, and quarantined values.
const ASIDE_SHARE: u64 = 20;
const MAX_DEPTH: u32 = 4;
/// Between looks at what is owed, at the bounds of what was set aside and at the quota.
const SURVEY_EVERY: Duration = Duration::from_secs(60);

impl Outbox {
    /// Bytes on disk of everything in the directory, as last seen.
    pub(super) fn usage(&self) -> u64 {
        let segments = self.epochs.iter().flat_map(|e| e.segments.values());
        self.other_bytes + segments.map(|file| file.blocks).sum::<u64>()
    }

    /// Looks at the whole directory anew.
    pub(super) fn survey(&mut self) {
        let total = tree_bytes(&*self.disk, &self.options.dir, 0);
        for epoch in &mut self.epochs {
            for file in epoch.segments.values_mut() {
                if let Ok(blocks) = self.disk.blocks(&file.path) {
                    file.blocks = blocks;
                }
            }
        }
        let segments = self.usage() - self.other_bytes;
        self.other_bytes = total.saturating_sub(segments);
    }

    /// What the next commit of so many bytes of values may take at most, and the next save of the state.
    fn next_step(&self, values: u64) -> u64 {
        let ranges: usize = self.epochs.iter().map(|e| e.ledger.done().range_count()).sum();
        let state = (ranges + self.book.all().len()) as u64 * STATE_RANGE;
        2 * values + COMMIT_EXTRA + state
    }

    /// Makes room for values of so many bytes. False when it cannot or, by policy, may not: `drop-newest` keeps
    /// a reserve in which the loss of what it refuses can still be recorded.
    pub(super) fn make_room(&mut self, values: u64) -> bool {
        let refusing = self.options.drop == DropPolicy::DropNewest && values > 0;
        let step = self.next_step(values) + if refusing { REFUSAL_RESERVE } else { 0 };
        let mut rolled = false;
        while self.usage() + step > self.options.max_bytes {
            if self.drop_settled() {
                continue;
            }
            if self.options.drop == DropPolicy::DropNewest {
                return false;
            }
            if self.drop_oldest(LossReason::Quota) {
                continue;
            }
            // Only the active segment is left: close it so that it can go.
            if rolled || !self.roll() {
                return false;
            }
            rolled = true;
        }
        true
    }

    /// Whether the segment is written to, or would be the last of the current epoch: that one marks the next seq.
    fn is_last(&self, epoch: usize, first: u64) -> bool {
        epoch + 1 == self.epochs.len() && self.epochs[epoch].segments.range(first + 1..).next().is_none()
    }

    /// Every segment but the last, oldest first.
    fn droppable(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let all = self.epochs.iter().enumerate().flat_map(|(at, e)| e.segments.keys().map(move |first| (at, *first)));
        all.filter(|(at, first)| !self.is_last(*at, *first))
    }

    fn is_done(&self, at: usize, first: u64) -> bool {
        let epoch = &self.epochs[at];
        epoch.ledger.done().covers(epoch.seqs_of(first))
    }

    /// Gives up the oldest segment of which nothing is held.
    fn drop_settled(&mut self) -> bool {
        let oldest = self.droppable().find(|(at, first)| self.is_done(*at, *first));
        oldest.is_some_and(|(at, first)| self.drop_segment(at, first, LossReason::Quota))
    }

    /// Gives up every segment of which nothing is held: the disk is full.
    pub(super) fn release_settled(&mut self) {
        while self.drop_settled() {}
    }

    fn drop_oldest(&mut self, reason: LossReason) -> bool {
        let oldest = self.droppable().next();
        oldest.is_some_and(|(at, first)| self.drop_segment(at, first, reason))
    }

    /// The file system is full and memory too: under `drop-oldest` the oldest segment makes way for the newest
    /// records. Returns whether something was given up.
    pub fn make_way(&mut self, now: Now) -> bool {
        let full = matches!(&self.writing, Writing::Broken { full: true, .. });
        if !full || self.options.drop == DropPolicy::DropNewest || !self.drop_oldest(LossReason::Quota) {
            return false;
        }
        drop(self.recover(now));
        true
    }

    /// Gives up one segment. Nothing changes when the disk refuses.
    fn drop_segment(&mut self, at: usize, first: u64, reason: LossReason) -> bool {
        let seqs = self.epochs[at].seqs_of(first);
        let held: RangeSet = self.epochs[at].ledger.held(seqs.clone()).into_iter().collect();
        // Losses that the state does not know yet would be forgotten with the file, and a crash call them settled.
        let unsaved = self.unsaved_losses(at, seqs.clone());
        let times = if held.is_empty() { Times::default() } else { self.times_of(at, first) };
        let epoch = &self.epochs[at];
        let Some(file) = epoch.segments.get(&first) else { return false };
        let path = file.path.clone();
        let id = epoch.id;
        self.let_go(id, first);
        // An empty one (nothing of it could be proven, ever) says nothing.
        let known = seqs.is_empty() || self.epochs[at].saved.covers(seqs.clone());
        let gone = if known {
            self.disk.unlink(&path).map_err(Fault::from)
        } else {
            let mut lost = held.clone();
            lost.union(&unsaved);
            let lost = lost.first().zip(lost.last()).map(|(from, to)| DroppedLoss {
                hull: from..=to,
                count: lost.len(),
                t0: times.t0,
                t1: times.t1,
                reason,
            });
            self.rename_away(at, &path, &Dropped { seqs: seqs.clone(), lost })
        };
        if let Err(fault) = gone {
            self.problem(format!("{} could not be given up: {fault}", path.display()));
            return false;
        }
        self.epochs[at].segments.remove(&first);
        self.unsaved = true;
        for range in held.iter() {
            self.declare(at, range, reason, times, true);
        }
        true
    }

    /// What of `seqs` is lost or quarantined, and not known as such to the state file.
    fn unsaved_losses(&self, at: usize, seqs: RangeInclusive<u64>) -> RangeSet {
        let epoch = &self.epochs[at];
        let mut lost = epoch.ledger.lost_within(seqs);
        lost.subtract(&epoch.saved);
        lost
    }

    /// After this the name is the durable knowledge of what became of the seqs.
    fn rename_away(&mut self, at: usize, path: &Path, dropped: &Dropped) -> Result<(), Fault> {
        let dir = self.epochs[at].dir.clone();
        let marker = dir.join(dropped.file_name());
        self.disk.rename(path, &marker)?;
        if let Err(error) = self.disk.sync_dir(&dir) {
            // The name may not last: back, so that a later attempt starts afresh, or at least it is known where it is.
            if self.disk.rename(&marker, path).is_err()
                && let Some(file) = self.epochs[at].segments.get_mut(dropped.seqs.start())
            {
                file.path = marker;
            }
            return Err(error.into());
        }
        // Not truncated: its blocks come back when the marker is unlinked after the next save.
        if let Err(error) = self.disk.truncate(&marker) {
            self.problem(format!("{} could not be truncated: {error}", marker.display()));
            self.other_bytes += self.disk.blocks(&marker).unwrap_or(0);
        }
        self.markers.push(marker);
        Ok(())
    }

    /// Wall clock of a segment's records, as far as it can be read.
    fn times_of(&mut self, at: usize, first: u64) -> Times {
        if let Some(times) = self.epochs[at].segments.get(&first).and_then(|file| file.times) {
            return times;
        }
        let (id, seqs) = (self.epochs[at].id, self.epochs[at].seqs_of(first));
        let mut times = Times::default();
        if let Ok(position) = self.open_segment(at, first) {
            for from in [*seqs.start(), *seqs.end()] {
                let query = Query { epoch: id, from, to: *seqs.end(), max_bytes: 1 };
                let items = self.readers[position].sealed.read(&query).unwrap_or_default();
                if let Some(Item::Chunk(_, t)) = items.iter().find(|item| matches!(item, Item::Chunk(..))) {
                    times = times.join(*t);
                }
            }
        }
        if let Some(file) = self.epochs[at].segments.get_mut(&first) {
            file.times = Some(times);
        }
        times
    }

    /// What is due: writing again after a failure, ages, the lazy save, the bounds of what was set aside. Call it
    /// about once a second; it does next to nothing most times. Returns new losses.
    pub fn maintain(&mut self, now: Now) -> Vec<Loss> {
        self.retry(now);
        self.drop_aged(now);
        if now.mono.saturating_sub(self.last_survey) >= SURVEY_EVERY.min(self.options.save_every) {
            self.last_survey = now.mono;
            if !self.owed.is_empty() && !self.is_broken() {
                drop(self.append(&[], now).map(|appended| self.fresh_losses.extend(appended.losses)));
            }
            if now.mono.saturating_sub(self.last_save) >= self.options.save_every {
                self.last_save = now.mono;
                if self.unsaved {
                    self.save_or_say(now);
                }
            }
            self.keep_within_bounds();
        }
        self.take_losses()
    }

    /// By a look at the whole directory: something was put there that no commit accounts for.
    pub(super) fn keep_within_bounds(&mut self) {
        self.bound_aside();
        self.survey();
        self.make_room(0);
    }

    fn retry(&mut self, now: Now) {
        let due = matches!(&self.writing, Writing::Broken { retry_at, .. } if *retry_at <= now.mono);
        if due && self.recover(now).is_ok() {
            self.problem("the outbox can be written again".into());
        }
    }

    fn drop_aged(&mut self, now: Now) {
        let stepped = self.last_maintained.replace(now).is_some_and(|before| {
            let real = now.mono.saturating_sub(before.mono).as_millis() as i64;
            (now.wall_ms - before.wall_ms - real).unsigned_abs() > STEP_DISTRUST.as_millis() as u64
        });
        if stepped {
            self.ages_from = now.mono + STEP_DISTRUST;
        }
        let Some(max_age) = self.options.max_age.filter(|_| now.mono >= self.ages_from) else { return };
        let limit = now.wall_ms.saturating_sub(i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX));
        let possible = now.wall_ms.saturating_add(STEP_DISTRUST.as_millis() as i64);
        while let Some((at, first, made)) = self.oldest_held(possible) {
            if made >= limit || !self.drop_segment(at, first, LossReason::Age) {
                return;
            }
        }
    }

    /// The oldest segment of which something is held, and since when at the latest: one whose time cannot be read, or is
    /// beyond what is `possible` (a clock was ahead), is at least as old as the next one.
    fn oldest_held(&mut self, possible: i64) -> Option<(usize, u64, i64)> {
        let held: Vec<_> = self.droppable().filter(|(at, first)| !self.is_done(*at, *first)).collect();
        let (at, first) = *held.first()?;
        let mut times = held.iter().map(|(at, first)| self.times_of(*at, *first));
        let made = times.find(|times| *times != Times::default() && times.t1 <= possible)?.t1;
        Some((at, first, made))
    }

    /// Evidence is kept only within its share of the quota.
    fn bound_aside(&mut self) {
        let share = self.options.max_bytes / ASIDE_SHARE;
        loop {
            let raw = self.droppable().filter(|(at, first)| {
                self.epochs[*at].segments.get(first).is_some_and(|file| file.raw) && self.is_done(*at, *first)
            });
            let raw: Vec<_> = raw.collect();
            let bytes: u64 = raw.iter().map(|(at, first)| self.epochs[*at].segments[first].blocks).sum();
            let Some((at, first)) = raw.first().copied().filter(|_| bytes > share) else { break };
            if !self.drop_segment(at, first, LossReason::Corrupt) {
                break;
            }
        }
        let dir = self.options.dir.join(names::QUARANTINE);
        let disk = Arc::clone(&self.disk);
        let mut kept = disk.list(&dir).unwrap_or_default();
        kept.retain(|entry| entry.name.ends_with(".value"));
        let mut bytes: u64 = kept.iter().map(|entry| entry.blocks).sum();
        for entry in kept {
            if bytes <= share {
                break;
            }
            if disk.unlink(&dir.join(&entry.name)).is_ok() {
                bytes -= entry.blocks;
            }
        }
    }
}

/// Bytes on disk of a directory and what is in it. Bounded in depth: deeper is not ours.
pub(super) fn tree_bytes(disk: &dyn Disk, dir: &Path, depth: u32) -> u64 {
    let own = disk.blocks(dir).unwrap_or(0);
    let entries = disk.list(dir).unwrap_or_default();
    let inside = entries.iter().map(|entry| {
        if entry.is_dir && depth < MAX_DEPTH {
            tree_bytes(disk, &dir.join(&entry.name), depth + 1)
        } else {
            entry.blocks
        }
    });
    own + inside.sum::<u64>()
}
