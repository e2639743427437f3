//! Reading back: whole chunks, proven by their checksums, and what to do when they are not there.

use std::ops::RangeInclusive;

use super::Loaded;
use super::fault::Fault;
use super::names::SegmentName;
use super::segment::{Item, Query, Sealed};
use super::store::{OpenSegment, Outbox, Writing};
use super::value::{Burn, Times};
use crate::clock::Now;
use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss, LossReason};

/// Sealed segments open at a time.
pub(super) const MAX_OPEN: usize = 2;
/// Segments and holes passed in one load.
const MAX_STEPS: u32 = 4096;
/// Reads in a row that the disk may refuse before a segment's records are given up.
const MAX_REFUSED: u32 = 5;

impl Outbox {
    /// Reads whole chunks from the one that holds the first seq of `range`, in order, until `max_bytes` of maps
    /// (at least one chunk), the end of the range, of its segment, or of a clock context. What turns out to be
    /// missing or damaged is declared lost and reported.
    pub fn load(&mut self, epoch: u64, range: RangeInclusive<u64>, max_bytes: usize, now: Now) -> Loaded {
        let mut loaded = Loaded::default();
        let Some(at) = self.epochs.iter().position(|e| e.id == epoch) else {
            loaded.losses.extend(self.declare_forgotten(epoch, range));
            return loaded;
        };
        let to = (*range.end()).min(self.epochs[at].next - 1);
        let first = (*range.start()).max(1);
        let mut from = first;
        // Each step gets further, or distrusts a segment; the bound is for a disk that changes under our feet.
        for _ in 0..MAX_STEPS {
            if from > to || !loaded.chunks.is_empty() || loaded.failed.is_some() {
                break;
            }
            from = self.load_some(at, from..=to, max_bytes, &mut loaded, now);
        }
        loaded.losses = self.take_losses();
        let looked_at = loaded.chunks.last().map_or(from, |chunk| chunk.last() + 1).min(to + 1);
        if looked_at > first {
            self.declare_again(at, first..=looked_at - 1, &mut loaded);
        }
        loaded
    }

    /// What was looked for, is not there, and is no news: somebody asks for it again, and is told again why it is gone.
    /// What was delivered and then made way for newer records stays settled here; whoever asks has to do without.
    fn declare_again(&mut self, at: usize, range: RangeInclusive<u64>, loaded: &mut Loaded) {
        let mut absent = RangeSet::from_iter([range]);
        loaded.chunks.iter().for_each(|chunk| absent.remove(chunk.seqs()));
        let told = loaded.losses.iter().filter_map(|loss| Some(loss.from..=loss.to?));
        told.for_each(|range| absent.remove(range));
        let epoch = &self.epochs[at];
        let lost = epoch.ledger.lost().iter().map(|(reason, set)| (*reason, set));
        let others =
            [(LossReason::Quarantined, epoch.ledger.quarantined()), (LossReason::Quota, epoch.ledger.settled())];
        let mut again = Vec::new();
        for (reason, set) in lost.chain(others) {
            for gone in absent.iter().flat_map(|range| set.within(range)) {
                let (from, to) = (*gone.start(), *gone.end());
                let count = to - from + 1;
                again.push(Loss { epoch: epoch.id, from, to: Some(to), count, reason, t0: 0, t1: 0 });
            }
        }
        for loss in again {
            self.book.add(loss.clone());
            loaded.losses.push(loss);
            self.unsaved = true;
        }
    }

    /// Of an epoch that was forgotten because nothing was left of it, every seq was settled, or lost and told. Whoever asks
    /// again (a hub that was set back, say) is told that it is gone, for whichever reason: the account went with the epoch.
    fn declare_forgotten(&mut self, epoch: u64, range: RangeInclusive<u64>) -> Option<Loss> {
        let (from, to) = ((*range.start()).max(1), *range.end());
        let count = (from <= to).then(|| to - from + 1)?;
        let loss = Loss { epoch, from, to: Some(to), count, reason: LossReason::Mixed, t0: 0, t1: 0 };
        self.book.add(loss.clone());
        self.unsaved = true;
        Some(loss)
    }

    /// Loads from one segment, or declares a hole. Returns the seq to go on with.
    fn load_some(
        &mut self,
        at: usize,
        range: RangeInclusive<u64>,
        max_bytes: usize,
        loaded: &mut Loaded,
        now: Now,
    ) -> u64 {
        let (from, to) = (*range.start(), *range.end());
        let epoch = &self.epochs[at];
        let holder = epoch.segments.range(..=from).next_back().map(|(first, _)| *first);
        let holder = holder.filter(|first| epoch.seqs_of(*first).contains(&from));
        let Some(first) = holder else {
            // No segment holds it: gone up to where the next one begins.
            let hole_end = epoch.segments.range(from..).next().map_or(to, |(next, _)| to.min(next - 1));
            self.declare(at, from..=hole_end, LossReason::Corrupt, Times::default(), true);
            return hole_end + 1;
        };
        let to = to.min(*epoch.seqs_of(first).end());
        let query = Query { epoch: epoch.id, from, to, max_bytes };
        match self.read_segment(at, first, &query) {
            Ok(items) => self.take_items(at, items, from..=to, loaded),
            Err(Fault::Damaged(why)) => {
                if self.distrust(at, first, &why, now) {
                    from
                } else {
                    to + 1
                }
            }
            Err(fault) => {
                if self.refused(at, first, &fault, loaded, now) {
                    from
                } else {
                    to + 1
                }
            }
        }
    }

    /// Collects chunks up to a hole or a change of clock context. Returns the seq to go on with.
    fn take_items(&mut self, at: usize, items: Vec<Item>, range: RangeInclusive<u64>, loaded: &mut Loaded) -> u64 {
        let mut expected = *range.start();
        let mut passed_over = false;
        for item in items {
            if item.first() > expected {
                if !loaded.chunks.is_empty() {
                    return expected;
                }
                self.declare(at, expected..=item.first() - 1, LossReason::Corrupt, Times::default(), true);
            }
            let last = item.last();
            match item {
                Item::Chunk(chunk, _) => {
                    if loaded.chunks.first().is_some_and(|first: &Chunk| first.context != chunk.context) {
                        return expected;
                    }
                    // Asked for again: no broker takes it.
                    if self.epochs[at].ledger.quarantined().covers(chunk.seqs()) {
                        passed_over = true;
                    } else {
                        loaded.chunks.push(chunk);
                    }
                }
                Item::Burn(Burn { first, reason, times, .. }) => {
                    self.declare(at, first..=last, reason, times, true);
                }
            }
            expected = expected.max(last + 1);
        }
        // Nothing more was there: a hole to the end, unless the read stopped for its size.
        if loaded.chunks.is_empty() && !passed_over && expected <= *range.end() {
            self.declare(at, expected..=*range.end(), LossReason::Corrupt, Times::default(), true);
            return *range.end() + 1;
        }
        expected
    }

    fn read_segment(&mut self, at: usize, first: u64, query: &Query) -> Result<Vec<Item>, Fault> {
        let current = at + 1 == self.epochs.len();
        let newest = self.epochs[at].segments.last_key_value().is_some_and(|(last, _)| *last == first);
        if let (Writing::Ready(active), true) = (&self.writing, current && newest) {
            return active.read(query);
        }
        let position = self.open_segment(at, first)?;
        let read = self.readers[position].sealed.read(query);
        match &read {
            Ok(_) => {
                if let Some(file) = self.epochs[at].segments.get_mut(&first) {
                    file.refused = 0;
                }
            }
            // redb latches an error: the next read gets a new handle.
            Err(_) => drop(self.readers.remove(position)),
        }
        read
    }

    /// The position of the open segment in `readers`, which then is the last.
    pub(super) fn open_segment(&mut self, at: usize, first: u64) -> Result<usize, Fault> {
        let epoch = &self.epochs[at];
        let id = epoch.id;
        if let Some(open) = self.readers.iter().position(|r| (r.epoch, r.first) == (id, first)) {
            self.readers[open..].rotate_left(1);
            return Ok(self.readers.len() - 1);
        }
        if self.readers.len() >= MAX_OPEN {
            self.readers.remove(0);
        }
        let seqs = epoch.seqs_of(first);
        let sealed = match self.looked_through(id, first, &seqs) {
            Some(sealed) => sealed,
            None => self.open_anew(at, first, seqs)?,
        };
        self.readers.push(OpenSegment { epoch: id, first, sealed });
        Ok(self.readers.len() - 1)
    }

    fn open_anew(&self, at: usize, first: u64, seqs: RangeInclusive<u64>) -> Result<Sealed, Fault> {
        let epoch = &self.epochs[at];
        let file = epoch.segments.get(&first).ok_or_else(|| Fault::Damaged("the segment is gone".into()))?;
        if file.raw {
            Sealed::open_raw(&*self.disk, &file.path, epoch.id, first)
        } else {
            Sealed::open_proven(&*self.disk, &file.path, self.reader_cache(), epoch.id, seqs)
        }
    }

    /// Wall clock of the oldest record held, as far as it can be read.
    pub(super) fn oldest(&mut self) -> Option<i64> {
        let (at, seq) = self.epochs.iter().enumerate().find_map(|(at, e)| Some((at, e.held().first()?)))?;
        let epoch = &self.epochs[at];
        let first = epoch.segments.range(..=seq).next_back().map(|(first, _)| *first)?;
        let query = Query { epoch: epoch.id, from: seq, to: seq, max_bytes: 1 };
        // What is damaged is dealt with when it is loaded.
        let items = self.read_segment(at, first, &query).ok()?;
        items.iter().find_map(|item| if let Item::Chunk(_, times) = item { Some(times.t0) } else { None })
    }

    pub(super) fn reader_cache(&self) -> usize {
        self.options.cache_bytes / 4
    }

    /// A segment whose tree lied: from now on only its checksums count. The file is renamed, nothing in it is
    /// changed, and what they do not prove is declared. Returns whether reading it again makes sense.
    pub(super) fn distrust(&mut self, at: usize, first: u64, why: &str, now: Now) -> bool {
        if self.is_active(at, first) {
            // Appending goes on in a new segment; this one is then judged as any sealed one.
            self.break_off(&Fault::Damaged(why.into()), now);
            drop(self.recover(now));
            if self.is_active(at, first) {
                // The file was sound after all and has been written anew.
                return true;
            }
        }
        let id = self.epochs[at].id;
        self.let_go(id, first);
        let seqs = self.epochs[at].seqs_of(first);
        let epoch = &mut self.epochs[at];
        let dir = epoch.dir.clone();
        let Some(file) = epoch.segments.get_mut(&first) else { return false };
        if file.raw {
            // Not even its bytes can be read as such.
            let path = file.path.clone();
            self.declare(at, seqs, LossReason::Corrupt, Times::default(), true);
            self.problem(format!("{} is not readable: {why}; its records are declared lost", path.display()));
            return false;
        }
        file.raw = true;
        let to = dir.join(SegmentName { first, last: file.last, corrupt: true }.file_name());
        if self.disk.rename(&file.path, &to).is_ok() {
            file.path = to;
            // Not durable yet: an unsynced rename is found again, damaged, and judged the same.
            drop(self.disk.sync_dir(&dir));
        }
        let path = file.path.clone();
        let lost = self.declare_unproven(at, first, seqs);
        let path = path.display();
        match lost {
            Some(lost) => {
                self.problem(format!("{path} is damaged ({why}): {lost} records declared lost, the rest is sent"));
            }
            None => self.problem(format!("{path} is not readable ({why}): its records are declared lost")),
        }
        lost.is_some()
    }

    pub(super) fn is_active(&self, at: usize, first: u64) -> bool {
        let newest = self.epochs[at].segments.last_key_value().is_some_and(|(last, _)| *last == first);
        matches!(self.writing, Writing::Ready(_)) && at + 1 == self.epochs.len() && newest
    }

    /// Declares what a raw segment's checksums do not prove. Returns how many records that are; `None` when its
    /// bytes cannot even be read, and all of it is declared.
    fn declare_unproven(&mut self, at: usize, first: u64, seqs: RangeInclusive<u64>) -> Option<u64> {
        let Ok(position) = self.open_segment(at, first) else {
            self.declare(at, seqs, LossReason::Corrupt, Times::default(), true);
            return None;
        };
        let sealed = &self.readers[position].sealed;
        let proven = sealed.proven();
        let burns = sealed.burns(self.epochs[at].id).unwrap_or_default();
        let before = self.book_count();
        for burn in burns.iter().filter(|b| seqs.contains(&b.first)) {
            self.declare(at, burn.first..=burn.last().min(*seqs.end()), burn.reason, burn.times, true);
        }
        for gap in proven.missing_within(seqs) {
            self.declare(at, gap, LossReason::Corrupt, Times::default(), true);
        }
        Some(self.book_count() - before)
    }

    fn book_count(&self) -> u64 {
        self.fresh_losses.iter().map(|loss| loss.count).sum()
    }

    /// The disk refused a read: asked again later, given up after some times. Returns as [`Self::distrust`].
    fn refused(&mut self, at: usize, first: u64, fault: &Fault, loaded: &mut Loaded, now: Now) -> bool {
        let Some(file) = self.epochs[at].segments.get_mut(&first) else { return false };
        file.refused += 1;
        if file.refused < MAX_REFUSED {
            loaded.failed = Some(fault.to_string());
            return true;
        }
        file.refused = 0;
        self.distrust(at, first, &fault.to_string(), now)
    }
}
