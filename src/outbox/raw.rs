//! A segment by its checksums alone: where the values lie that prove themselves, whatever redb's tree says of them.
//!
//! That is all there is of a file whose tree is not sound. Of a sound one it is the quick way, taken only when the values
//! prove every seq that the segment holds and no seq twice. A value covers its epoch and seqs, is written once and never
//! changed or removed: those that the tree leads to are all in the file, so whatever else proves itself in a page that redb
//! let go is a copy of one of them, or void, or contradicts one, and then the tree decides.

use std::cmp::Reverse;
use std::ops::RangeInclusive;

use redb::StorageBackend;

use super::fault::Fault;
use super::segment::{Item, Query};
use super::stretch::{Blocks, Stretch};
use super::taken::Taken;
use super::value::{self, Burn, Proven};
use crate::ranges::RangeSet;

/// The quick way is for segments of at most so many stretches, copies included: 256 KiB of them.
const MAX_STRETCHES: usize = 16 * 1024;

/// What a stretch is beside those that are there already.
enum Beside {
    /// This much of it is not there yet.
    New(Stretch),
    Copy,
    Contradiction,
}

/// 16 bytes of memory a page of the tree: some ten KiB for the largest segment.
pub(super) struct Raw {
    epoch: u64,
    /// The segment's first seq.
    base: u64,
    /// By first seq; none of them has a seq of another.
    stretches: Vec<Stretch>,
    burns: Vec<Burn>,
    blocks: Blocks,
    /// How far the file has been looked through.
    looked: u64,
    /// They proved everything: one that no longer does is damage, and not merely a hole.
    whole: bool,
}

/// A segment that is being looked through.
pub(super) struct Unproven {
    raw: Raw,
    seqs: RangeInclusive<u64>,
}

impl Unproven {
    pub(super) fn new(file: Box<dyn StorageBackend>, epoch: u64, seqs: RangeInclusive<u64>) -> Result<Self, Fault> {
        Ok(Self { raw: Raw { whole: true, ..Raw::new(file, epoch, *seqs.start())? }, seqs })
    }

    /// Looks through some more of it. Returns whether that was not the end.
    pub(super) fn look(&mut self) -> Result<bool, Fault> {
        Ok(self.raw.stretches.len() <= MAX_STRETCHES && self.raw.look(*self.seqs.end())?)
    }

    /// Looks through the rest: a segment whose values prove each of its seqs exactly once, copies aside; `None` when they
    /// do not.
    pub(super) fn prove(mut self) -> Result<Option<Raw>, Fault> {
        while self.look()? {}
        let Self { mut raw, seqs } = self;
        raw.sort_burns();
        let few = raw.stretches.len() <= MAX_STRETCHES;
        let whole = few && raw.drop_copies()? && raw.follow_each_other(&seqs);
        Ok(whole.then_some(raw))
    }
}

impl Raw {
    /// What is left of a file that is not sound, from the seq `base` on, with which the segment begins.
    pub(super) fn remains(file: Box<dyn StorageBackend>, epoch: u64, base: u64) -> Result<Self, Fault> {
        let mut raw = Self::new(file, epoch, base)?;
        while raw.look(u64::MAX)? {}
        raw.sort_burns();
        raw.drop_copies()?;
        Ok(raw)
    }

    fn new(file: Box<dyn StorageBackend>, epoch: u64, base: u64) -> Result<Self, Fault> {
        let (stretches, burns) = (Vec::new(), Vec::new());
        Ok(Self { epoch, base, stretches, burns, blocks: Blocks::new(file)?, looked: 0, whole: false })
    }

    /// Looks through a window of the file for what begins at or before the seq `end`: the rest is void, of a commit that
    /// failed or that nobody was told of. Returns whether that was not the last one.
    fn look(&mut self, end: u64) -> Result<bool, Fault> {
        if self.looked >= self.blocks.file_len() {
            return Ok(false);
        }
        let (stretches, burns, base, at) = (&mut self.stretches, &mut self.burns, self.base, self.looked);
        let (window, until) = self.blocks.window(at)?;
        self.looked += value::scan_raw(window, until, self.epoch, |offset, proven| match proven {
            Proven::Chunk(chunk) if chunk.first <= end => Stretch::note(stretches, base, &chunk, at + offset as u64),
            Proven::Burn(burn) if burn.first <= end => burns.push(burn),
            Proven::Chunk(_) | Proven::Burn(_) => {}
        }) as u64;
        Ok(true)
    }

    fn sort_burns(&mut self) {
        self.burns.sort_by_key(|b| b.first);
        // A burn rewritten with a larger count supersedes the smaller one; keep the longest.
        self.burns.dedup_by(|b, a| {
            a.first == b.first && {
                a.count = a.count.max(b.count);
                true
            }
        });
    }

    /// Leaves each seq in one stretch. False when two values do not say the same of one, which ends it where all must
    /// be proven; else the first one is believed.
    fn drop_copies(&mut self) -> Result<bool, Fault> {
        let mut found = std::mem::take(&mut self.stretches);
        found.sort_unstable_by_key(|stretch| (stretch.first, Reverse(stretch.seqs)));
        self.stretches.reserve_exact(found.len());
        let mut agree = true;
        for stretch in found {
            match self.beside(stretch)? {
                Beside::New(stretch) => self.stretches.push(stretch),
                Beside::Copy => {}
                Beside::Contradiction => {
                    agree = false;
                    if self.whole {
                        break;
                    }
                    let next = self.stretches.last().map_or(0, Stretch::next);
                    self.stretches.extend(self.blocks.tail_at(self.epoch, self.base, stretch, next)?);
                }
            }
        }
        self.stretches.shrink_to_fit();
        Ok(agree)
    }

    /// By its bytes: a checksum is no proof against a text that was made to have it.
    fn beside(&mut self, mut stretch: Stretch) -> Result<Beside, Fault> {
        let mut at = self.stretches.partition_point(|other| other.next() <= stretch.first);
        while let Some(other) = self.stretches.get(at).copied() {
            let there = self.blocks.tail_at(self.epoch, self.base, other, stretch.first)?;
            let Some(there) = there.filter(|there| there.first == stretch.first) else {
                return Ok(Beside::Contradiction);
            };
            if !self.blocks.begin_alike(stretch, there)? {
                return Ok(Beside::Contradiction);
            }
            let Some(beyond) = stretch.beyond(there) else { return Ok(Beside::Copy) };
            stretch = beyond;
            at += 1;
        }
        Ok(Beside::New(stretch))
    }

    /// Whether values and burns are all of `seqs`, none of it twice.
    fn follow_each_other(&self, seqs: &RangeInclusive<u64>) -> bool {
        let mut values = self.stretches.iter().map(|stretch| stretch.range(self.base)).peekable();
        let mut burns = self.burns.iter().map(|burn| burn.first..=burn.last()).peekable();
        let mut next = *seqs.start();
        while let Some(part) = values.next_if(|v| *v.start() == next).or_else(|| burns.next_if(|b| *b.start() == next))
        {
            next = part.end() + 1;
        }
        next == seqs.end() + 1 && values.next().is_none() && burns.next().is_none()
    }

    pub(super) fn burns(&self) -> &[Burn] {
        &self.burns
    }

    /// The seqs of the chunks.
    pub(super) fn proven(&self) -> RangeSet {
        self.stretches.iter().map(|stretch| stretch.range(self.base)).collect()
    }

    /// The seq after the last one; `None` when there is nothing.
    pub(super) fn end(&self) -> Option<u64> {
        let chunk = self.stretches.last().map(|stretch| stretch.range(self.base).end() + 1);
        chunk.max(self.burns.last().map(|burn| burn.last() + 1))
    }

    pub(super) fn read(&mut self, query: &Query) -> Result<Vec<Item>, Fault> {
        let mut taken = Taken::new(query);
        let base = self.base;
        let start = self.stretches.partition_point(|stretch| *stretch.range(base).end() < query.from);
        for at in start..self.stretches.len() {
            let more = *self.stretches[at].range(base).start() <= query.to && self.take(at, query, &mut taken)?;
            if !more {
                break;
            }
        }
        let mut items = taken.items();
        let end = items.last().map_or(query.to, Item::last);
        let burns = self.burns.iter().filter(|b| b.last() >= query.from && b.first <= end);
        let chunks = items.len();
        items.extend(burns.map(|b| Item::Burn(*b)));
        if items.len() > chunks {
            items.sort_by_key(Item::first);
        }
        Ok(items)
    }

    /// Takes what is asked for out of one stretch. What was proven when the file was looked through is proven again: it
    /// was not kept. Returns whether there may be more.
    fn take(&mut self, at: usize, query: &Query, taken: &mut Taken) -> Result<bool, Fault> {
        let stretch = self.stretches[at];
        let mut seqs = stretch.range(self.base);
        let mut bytes = self.blocks.stretch(&self.stretches[at..])?;
        while *seqs.start() < query.from {
            let passed = value::passed(bytes).filter(|(count, _)| seqs.start() + u64::from(*count) <= query.from);
            let Some((count, rest)) = passed else { break };
            (seqs, bytes) = (seqs.start() + u64::from(count)..=*seqs.end(), rest);
        }
        while !seqs.is_empty() {
            if *seqs.start() > query.to {
                return Ok(false);
            }
            let chunk = value::prove_chunk(bytes, self.epoch);
            match chunk.filter(|chunk| chunk.first == *seqs.start() && chunk.last() <= *seqs.end()) {
                Some(chunk) if !taken.add(&chunk) => return Ok(false),
                Some(chunk) => (seqs, bytes) = (chunk.last() + 1..=*seqs.end(), &bytes[chunk.len..]),
                None if self.whole => {
                    let seq = seqs.start();
                    return Err(Fault::Damaged(format!("the value at seq {seq} does not match its checksum")));
                }
                None => break,
            }
        }
        Ok(true)
    }
}
