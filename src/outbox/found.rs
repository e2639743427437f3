//! One epoch as found at the start: its files, where it ends, what its names say, and what is missing.

use std::collections::BTreeMap;
use std::path::Path;

use super::disk::Entry;
use super::epoch::{Epoch, SegmentFile};
use super::fault::Fault;
use super::names::{self, Dropped, EpochName, FileName, SegmentName};
use super::open::{End, Opening};
use super::segment::{Meta, Sealed};
use super::state::EpochState;
use super::store::OpenSegment;
use super::value::Times;
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

impl Opening<'_> {
    /// `None` for a directory in which nothing was ever stored.
    pub(super) fn epoch(&mut self, name: EpochName) -> Result<Option<(Epoch, End)>, Fault> {
        let dir = self.options.dir.join(names::epoch_dir(name.ordinal, name.epoch));
        let saved = self.state.epochs.iter().find(|e| e.epoch == name.epoch).cloned();
        let mut epoch = Epoch {
            id: name.epoch,
            ordinal: name.ordinal,
            prev: saved.as_ref().and_then(|s| s.prev),
            created: saved.as_ref().map_or(0, |s| s.created),
            fingerprint: String::new(),
            dir,
            segments: BTreeMap::new(),
            next: 1,
            ledger: saved.as_ref().map(EpochState::ledger).unwrap_or_default(),
            in_doubt: false,
            saved: RangeSet::new(),
        };
        epoch.saved = epoch.ledger.done().clone();
        let dropped = self.files(&mut epoch)?;
        // What the state and the names know to have been drawn.
        let saved_next = saved.as_ref().map(|s| s.next);
        let drawn = [saved_next, epoch.ledger.done().last().map(|l| l + 1)].into_iter().flatten();
        let drawn = drawn.chain(dropped.iter().map(|d| d.seqs.end() + 1)).max().unwrap_or(1);
        if epoch.segments.is_empty() && drawn == 1 {
            // Best effort: an empty directory does no harm.
            drop(self.disk.remove_dir(&epoch.dir));
            return Ok(None);
        }
        let end = self.find_end(&mut epoch, drawn);
        self.close_names(&mut epoch);
        self.recent_burns(&mut epoch, saved_next);
        for given_up in dropped {
            self.absorb(&mut epoch, &given_up);
        }
        self.declare_absent(&mut epoch);
        Ok(Some((epoch, end)))
    }

    /// Burns in segments sealed since the last save. Those of older ones the state knows; if it was lost, they are met
    /// when their segment is loaded.
    fn recent_burns(&mut self, epoch: &mut Epoch, saved_next: Option<u64>) {
        let Some(saved_next) = saved_next else { return };
        let recent = |first: &&u64| *epoch.seqs_of(**first).end() >= saved_next;
        let recent: Vec<u64> = epoch.segments.keys().rev().skip(1).take_while(recent).copied().collect();
        for first in recent {
            let Some(file) = epoch.segments.get(&first) else { continue };
            let sealed = match file.raw {
                true => Sealed::open_raw(self.disk, &file.path, epoch.id, first),
                false => Sealed::open(self.disk, &file.path, self.options.cache_bytes / 4),
            };
            let seqs = epoch.seqs_of(first);
            // A damaged one is judged when it is loaded. What lies beyond the segment's end is void.
            let burns = sealed.and_then(|sealed| sealed.burns(epoch.id)).unwrap_or_default();
            for burn in burns.iter().filter(|burn| seqs.contains(&burn.first)) {
                self.lose(epoch, burn.first..=burn.last().min(*seqs.end()), burn.reason, burn.times, true);
            }
        }
    }

    /// Segments that a crash left without their last seq in the name get it now: their successor may go first.
    fn close_names(&self, epoch: &mut Epoch) {
        let firsts: Vec<u64> = epoch.segments.keys().copied().collect();
        for pair in firsts.windows(2) {
            let Some(file) = epoch.segments.get_mut(&pair[0]).filter(|file| file.last.is_none()) else { continue };
            let name = SegmentName { first: pair[0], last: Some(pair[1] - 1), corrupt: file.raw };
            let path = epoch.dir.join(name.file_name());
            if self.disk.rename(&file.path, &path).is_ok() {
                file.path = path;
            }
            file.last = Some(pair[1] - 1);
        }
    }

    /// Sorts the names of an epoch's directory. Returns the segments that were given up.
    fn files(&mut self, epoch: &mut Epoch) -> Result<Vec<Dropped>, Fault> {
        let mut dropped = Vec::new();
        for Entry { name, blocks, is_dir, .. } in self.disk.list(&epoch.dir)? {
            let path = epoch.dir.join(&name);
            match names::parse_file(&name) {
                _ if is_dir => self.problems.push(format!("{} is not ours: left alone", path.display())),
                FileName::Segment(segment) => {
                    let better = epoch.segments.get(&segment.first).is_none_or(|known| known.raw && !segment.corrupt);
                    if better {
                        epoch.segments.insert(segment.first, SegmentFile::new(&epoch.dir, segment, blocks));
                    }
                }
                FileName::Dropped(given_up) => {
                    self.markers.push(path);
                    dropped.push(given_up);
                }
                // Never finished, so never appended to.
                FileName::Temp => drop(self.disk.unlink(&path)),
                FileName::Foreign => self.problems.push(format!("{} is not ours: left alone", path.display())),
            }
        }
        Ok(dropped)
    }

    /// Where the epoch ends, from its newest segment.
    fn find_end(&mut self, epoch: &mut Epoch, drawn: u64) -> End {
        let Some((&first, file)) = epoch.segments.last_key_value() else {
            epoch.next = drawn;
            return End::Unknown("it has no segment".into());
        };
        let (path, last, raw) = (file.path.clone(), file.last, file.raw);
        let end = if raw { Err(Fault::Damaged("set aside".into())) } else { self.read_end(epoch, first, &path) };
        let end = match (end, last) {
            (Ok(end), None) => {
                epoch.next = self.end_by_checksums(epoch, first, &path, end);
                if epoch.next >= drawn {
                    End::Known
                } else {
                    End::Unknown("it is older than what is known of it".into())
                }
            }
            (Ok(_), Some(last)) => {
                epoch.next = last + 1;
                End::Unknown("the segment after the last one is missing".into())
            }
            (Err(fault), _) => {
                self.problems.push(format!("{}: {fault}; what its checksums prove is sent", path.display()));
                epoch.next = self.set_aside(epoch, first).unwrap_or(first).max(last.map_or(1, |l| l + 1));
                End::Unknown(format!("its newest segment is {fault}"))
            }
        };
        if epoch.next < drawn {
            // What lies between is absent, not held by the newest segment.
            let (held, file) = (epoch.next, epoch.segments.get_mut(&first));
            match file {
                Some(file) if held > first => file.last = Some(held - 1),
                _ => drop(epoch.segments.remove(&first)),
            }
            epoch.next = drawn;
        }
        end
    }

    /// The end of a sound tree, unless checksums prove records beyond it: it fell back to an older root, because the
    /// newest was never written to its end, or was and is damaged now. Then their seqs may be known outside, and count.
    fn end_by_checksums(&mut self, epoch: &mut Epoch, first: u64, path: &Path, end: u64) -> u64 {
        let id = epoch.id;
        let proven = Sealed::open_raw(self.disk, path, id, first).and_then(|raw| raw.end(id)).ok().flatten();
        if proven.is_none_or(|proven| proven <= end) {
            return end;
        }
        self.readers.retain(|reader| (reader.epoch, reader.first) != (id, first));
        self.problems.push(format!(
            "{}: its tree ends before its records do: it was cut off while it was written, or is damaged; what its checksums \
             prove is sent",
            path.display()
        ));
        self.set_aside(epoch, first).unwrap_or(end).max(end)
    }

    fn read_end(&mut self, epoch: &mut Epoch, first: u64, path: &Path) -> Result<u64, Fault> {
        let sealed = Sealed::open(self.disk, path, self.options.cache_bytes / 4)?;
        let Meta { format, epoch: id, first: named, prev, created, fingerprint } = sealed.meta()?;
        if format != names::FORMAT || id != epoch.id || named != first {
            return Err(Fault::Damaged(format!("it says it is segment {named} of epoch {id}")));
        }
        (epoch.prev, epoch.created, epoch.fingerprint) = (prev, created, fingerprint);
        let end = sealed.end(epoch.id)?.unwrap_or(first);
        // Burns of sealed segments are met when those are loaded, if the state does not know them.
        for burn in sealed.burns(epoch.id)? {
            self.lose(epoch, burn.first..=burn.last(), burn.reason, burn.times, true);
        }
        self.readers.push(OpenSegment { epoch: epoch.id, first, sealed });
        while self.readers.len() > 2 {
            self.readers.remove(0);
        }
        Ok(end.max(first))
    }

    /// The newest segment is read by its checksums from now on. Returns the seq after the last one they prove.
    fn set_aside(&mut self, epoch: &mut Epoch, first: u64) -> Option<u64> {
        let (id, dir) = (epoch.id, epoch.dir.clone());
        let file = epoch.segments.get_mut(&first)?;
        file.raw = true;
        let to = dir.join(SegmentName { first, last: file.last, corrupt: true }.file_name());
        if file.path != to && self.disk.rename(&file.path, &to).is_ok() {
            file.path = to;
            drop(self.disk.sync_dir(&dir));
        }
        let sealed = Sealed::open_raw(self.disk, &file.path, id, first).ok()?;
        let end = sealed.end(id).ok().flatten();
        let proven = sealed.proven();
        for burn in sealed.burns(id).unwrap_or_default() {
            self.lose(epoch, burn.first..=burn.last(), burn.reason, burn.times, true);
        }
        if let Some(end) = end.filter(|end| *end > first) {
            for gap in proven.missing_within(first..=end - 1) {
                self.lose(epoch, gap, LossReason::Corrupt, Times::default(), true);
            }
        }
        end
    }

    /// A segment given up before the state could be saved: its name says what became of its seqs.
    fn absorb(&mut self, epoch: &mut Epoch, dropped: &Dropped) {
        let mut settled = RangeSet::from_iter([dropped.seqs.clone()]);
        // What the state already knows to be lost or quarantined stays so.
        settled.subtract(epoch.ledger.done());
        if let Some(lost) = &dropped.lost {
            settled.remove(lost.hull.clone());
            let open: u64 = epoch.ledger.held(lost.hull.clone()).iter().map(|r| r.end() - r.start() + 1).sum();
            if open + epoch.ledger.lost_within(lost.hull.clone()).len() < lost.count {
                // What the state calls settled was quarantined after it was saved. A loss excuses absence only: it may name
                // too much.
                epoch.ledger.unsettle(lost.hull.clone());
            }
            let times = Times { t0: lost.t0, t1: lost.t1 };
            let known = self.losses.len();
            self.lose(epoch, lost.hull.clone(), lost.reason, times, true);
            // The hull spans settled seqs too, of which the state may not know: the name says how many were lost.
            let mut left = lost.count;
            for loss in &mut self.losses[known..] {
                loss.count = loss.count.min(left);
                left -= loss.count;
            }
        }
        epoch.ledger.settle(&settled);
    }

    /// Seqs that were drawn, and that neither a segment nor any record of their fate covers.
    pub(super) fn declare_absent(&mut self, epoch: &mut Epoch) {
        if epoch.next == 1 {
            return;
        }
        let mut absent = RangeSet::from_iter([1..=epoch.next - 1]);
        for first in epoch.segments.keys() {
            absent.remove(epoch.seqs_of(*first));
        }
        let counted = self.state_known;
        for range in absent.iter() {
            self.lose(epoch, range, LossReason::Corrupt, Times::default(), counted);
        }
    }

    fn lose(
        &mut self,
        epoch: &mut Epoch,
        range: std::ops::RangeInclusive<u64>,
        reason: LossReason,
        times: Times,
        counted: bool,
    ) {
        let before = self.losses.len();
        for gone in epoch.ledger.lose(range, reason).iter() {
            let (from, to) = (*gone.start(), *gone.end());
            let count = if counted { to - from + 1 } else { 0 };
            self.losses.push(Loss { epoch: epoch.id, from, to: Some(to), count, reason, t0: times.t0, t1: times.t1 });
        }
        let found = &self.losses[before..];
        if reason == LossReason::Corrupt && !found.is_empty() {
            let ranges: Vec<String> = found.iter().map(|l| format!("{}..={}", l.from, l.to.unwrap_or(0))).collect();
            self.problems.push(format!("epoch {}: seqs {} are gone and declared lost", epoch.id, ranges.join(", ")));
        }
    }
}
