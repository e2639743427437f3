//! Values that lie one behind the other in a file, as they do in a page of redb's: what an index has to remember, and
//! what is read at once.

use std::ops::RangeInclusive;

use redb::StorageBackend;

use super::fault::Fault;
use super::value::{self, Lying, MAX_VALUE};

/// Read at a time, when the file is looked through and when stretches are.
const BLOCK: usize = 32 * 1024;
/// A stretch ends with the value that would make it longer.
const MAX_STRETCH: u32 = BLOCK as u32 / 2;
/// Passed over rather than read anew after: the heads of the pages between two stretches.
const GAP: u64 = 4096;

/// Seqs are counted from the segment's first, and follow each other without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub first: u32,
    pub seqs: u32,
    offset: u32,
    len: u32,
}

impl Stretch {
    /// Adds a chunk at `offset` to the last stretch, or begins the next one. What is not in a segment that begins at `base`
    /// is left out.
    pub(super) fn note(stretches: &mut Vec<Self>, base: u64, chunk: &Lying<'_>, offset: u64) {
        let Some(new) = Self::of(base, chunk, offset) else { return };
        match stretches.last_mut() {
            Some(last) if last.is_followed_by(&new) => {
                last.seqs += new.seqs;
                last.len += new.len;
            }
            _ => stretches.push(new),
        }
    }

    fn of(base: u64, chunk: &Lying<'_>, offset: u64) -> Option<Self> {
        let (first, len) = (u32::try_from(chunk.first.checked_sub(base)?).ok()?, u32::try_from(chunk.len).ok()?);
        first.checked_add(chunk.count)?;
        let offset = u32::try_from(offset).ok()?;
        offset.checked_add(len)?;
        Some(Self { first, seqs: chunk.count, offset, len })
    }

    fn is_followed_by(&self, new: &Self) -> bool {
        self.next() == new.first && self.end() == new.offset && self.len + new.len <= MAX_STRETCH
    }

    /// The seq after its last.
    pub(super) fn next(&self) -> u32 {
        self.first + self.seqs
    }

    /// Where it ends in the file.
    fn end(&self) -> u32 {
        self.offset + self.len
    }

    pub(super) fn range(&self, base: u64) -> RangeInclusive<u64> {
        base + u64::from(self.first)..=base + u64::from(self.next()) - 1
    }

    /// What comes after the seqs of `other`, which begins with the same values; `None` when there is nothing more.
    pub(super) fn beyond(self, other: Self) -> Option<Self> {
        self.shortened(other.seqs, other.len)
    }

    /// Without so many seqs in so many bytes at its beginning.
    fn shortened(self, seqs: u32, len: u32) -> Option<Self> {
        let Self { first, offset, .. } = self;
        let (seqs_left, len_left) = (self.seqs.checked_sub(seqs)?, self.len.checked_sub(len)?);
        (seqs_left > 0).then_some(Self { first: first + seqs, seqs: seqs_left, offset: offset + len, len: len_left })
    }
}

/// A file that nobody changes, read in blocks: each read would be a system call.
pub(super) struct Blocks {
    file: Box<dyn StorageBackend>,
    file_len: u64,
    block: Vec<u8>,
    at: u64,
}

impl Blocks {
    pub(super) fn new(file: Box<dyn StorageBackend>) -> Result<Self, Fault> {
        let file_len = file.len()?;
        Ok(Self { file, file_len, block: Vec::new(), at: 0 })
    }

    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// What lies at `at`, and how much of it is looked through: a value may reach beyond. What is there of it from the
    /// window before is not read again.
    pub(super) fn window(&mut self, at: u64) -> Result<(&[u8], usize), Fault> {
        let mut block = std::mem::take(&mut self.block);
        let passed = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let kept = if at < self.at { 0 } else { block.len().saturating_sub(passed) };
        if kept > 0 {
            block.copy_within(passed.., 0);
        }
        block.resize((self.file_len - at).min(BLOCK as u64) as usize, 0);
        self.file.read(at + kept as u64, &mut block[kept..])?;
        (self.block, self.at) = (block, at);
        Ok((&self.block, BLOCK - MAX_VALUE))
    }

    /// The bytes of the first of these stretches, read together with those of the next ones that lie behind it.
    pub(super) fn stretch(&mut self, stretches: &[Stretch]) -> Result<&[u8], Fault> {
        let Some(first) = stretches.first() else { return Ok(&[]) };
        let (from, end) = (u64::from(first.offset), u64::from(first.end()));
        if from < self.at || end > self.at + self.block.len() as u64 {
            let mut until = end;
            for next in &stretches[1..] {
                let (begins, ends) = (u64::from(next.offset), u64::from(next.end()));
                if begins < until || begins > until + GAP || ends > from + BLOCK as u64 {
                    break;
                }
                until = ends;
            }
            self.load(from, until)?;
        }
        let from = (from - self.at) as usize;
        Ok(&self.block[from..from + first.len as usize])
    }

    fn load(&mut self, from: u64, until: u64) -> Result<(), Fault> {
        // Empty while it is being filled: a failed read leaves nothing behind.
        let mut block = std::mem::take(&mut self.block);
        block.resize((until - from) as usize, 0);
        self.file.read(from, &mut block)?;
        (self.block, self.at) = (block, from);
        Ok(())
    }

    /// The part of a stretch that begins with the first value at or behind `seq`; `None` when there is none.
    pub(super) fn tail_at(
        &mut self,
        epoch: u64,
        base: u64,
        stretch: Stretch,
        seq: u32,
    ) -> Result<Option<Stretch>, Fault> {
        let bytes = self.stretch(&[stretch])?;
        let mut rest = Some(stretch);
        while let Some(part) = rest.filter(|part| part.first < seq) {
            let proven = value::prove_chunk(&bytes[(part.offset - stretch.offset) as usize..], epoch);
            let proven = proven.filter(|chunk| chunk.first == base + u64::from(part.first));
            rest = proven.and_then(|chunk| part.shortened(chunk.count, chunk.len as u32));
        }
        Ok(rest)
    }

    /// Whether the shorter one is how the longer one begins.
    pub(super) fn begin_alike(&mut self, one: Stretch, other: Stretch) -> Result<bool, Fault> {
        let len = one.len.min(other.len) as usize;
        let mut copy = vec![0; len];
        self.file.read(u64::from(one.offset), &mut copy)?;
        Ok(self.stretch(&[other])?[..len] == copy)
    }
}
