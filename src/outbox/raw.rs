//! A segment by its checksums alone: where the values lie that prove themselves, whatever redb's tree says of them.
//!
//! That is all there is of a file whose tree is not sound. Of a sound one it is the quick way, taken only when the values
//! prove every seq that the segment holds and no seq twice. A value covers its epoch and seqs, is written once and never
//! changed or removed: those that the tree leads to are all in the file, so whatever else proves itself in a page that redb
//! let go is a copy of one of them, or void, or contradicts one, and then the tree decides.

use std::ops::RangeInclusive;

use redb::StorageBackend;

use super::ahead::Ahead;
use super::fault::Fault;
use super::segment::{Item, Query};
use super::value::{self, Burn, Lying, Proven};
use crate::ranges::RangeSet;

/// Read at a time when the file is looked through; a value may reach beyond.
const WINDOW: usize = 112 * 1024;
/// The quick way is for segments of at most so many values, copies included: 512 KiB of places.
const MAX_PLACES: usize = 32 * 1024;

/// Where a proven chunk lies. Seqs are counted from the segment's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    first: u32,
    crc: u32,
    offset: u32,
    count: u16,
    len: u16,
}

impl Place {
    /// `None` for what no segment can hold.
    fn of(chunk: &Lying<'_>, base: u64, offset: u64) -> Option<Self> {
        Some(Self {
            first: chunk.first.checked_sub(base)?.try_into().ok()?,
            crc: chunk.crc,
            offset: offset.try_into().ok()?,
            count: chunk.count.try_into().ok()?,
            len: chunk.len.try_into().ok()?,
        })
    }

    fn seqs(&self, base: u64) -> RangeInclusive<u64> {
        let first = base + u64::from(self.first);
        first..=first + u64::from(self.count) - 1
    }

    /// Of two equal ones, one is a copy of the other.
    fn content(&self) -> (u32, u32, u16, u16) {
        (self.first, self.crc, self.count, self.len)
    }
}

/// 16 bytes of memory a value, so a few hundred KiB for the largest segment.
pub(super) struct Raw {
    /// The segment's first seq.
    base: u64,
    /// By first seq.
    places: Vec<Place>,
    burns: Vec<Burn>,
    file: Box<dyn StorageBackend>,
    file_len: u64,
    ahead: Ahead,
    /// They proved everything: one that no longer does is damage, and not merely a hole.
    whole: bool,
}

impl Raw {
    /// What is left of a file that is not sound, from the seq `base` on, with which the segment begins.
    pub(super) fn remains(file: Box<dyn StorageBackend>, epoch: u64, base: u64) -> Result<Self, Fault> {
        let mut raw = Self::new(file, base)?;
        raw.index(epoch, usize::MAX)?;
        raw.places.dedup_by_key(|place| place.first);
        Ok(raw)
    }

    /// A segment whose values prove each of `seqs` exactly once, copies aside; `None` when they do not.
    pub(super) fn whole(
        file: Box<dyn StorageBackend>,
        epoch: u64,
        seqs: RangeInclusive<u64>,
    ) -> Result<Option<Self>, Fault> {
        let mut raw = Self { whole: true, ..Self::new(file, *seqs.start())? };
        if !raw.index(epoch, MAX_PLACES)? {
            return Ok(None);
        }
        // What begins beyond is void: a commit that failed, or that nobody was told of.
        let base = raw.base;
        raw.places.retain(|place| place.seqs(base).start() <= seqs.end());
        raw.burns.retain(|burn| burn.first <= *seqs.end());
        let whole = raw.drop_copies()? && raw.follow_each_other(seqs);
        raw.places.shrink_to_fit();
        Ok(whole.then_some(raw))
    }

    /// Keeps one of several equal values. False when they are not equal: a checksum is no proof against a text that was
    /// made to have it.
    fn drop_copies(&mut self) -> Result<bool, Fault> {
        let (mut kept, mut other) = (Vec::new(), Vec::new());
        for pair in self.places.windows(2).filter(|pair| pair[0].content() == pair[1].content()) {
            for (place, bytes) in pair.iter().zip([&mut kept, &mut other]) {
                bytes.resize(usize::from(place.len), 0);
                self.file.read(u64::from(place.offset), bytes)?;
            }
            if kept != other {
                return Ok(false);
            }
        }
        self.places.dedup_by_key(|place| place.content());
        Ok(true)
    }

    /// Whether values and burns are all of `seqs`, none of it twice.
    fn follow_each_other(&self, seqs: RangeInclusive<u64>) -> bool {
        let mut places = self.places.iter().map(|place| place.seqs(self.base)).peekable();
        let mut burns = self.burns.iter().map(|burn| burn.first..=burn.last()).peekable();
        let mut next = *seqs.start();
        while let Some(part) = places.next_if(|p| *p.start() == next).or_else(|| burns.next_if(|b| *b.start() == next))
        {
            next = part.end() + 1;
        }
        next == seqs.end() + 1 && places.next().is_none() && burns.next().is_none()
    }

    fn new(file: Box<dyn StorageBackend>, base: u64) -> Result<Self, Fault> {
        let file_len = file.len()?;
        let (places, burns, ahead) = (Vec::new(), Vec::new(), Ahead::default());
        Ok(Self { base, places, burns, file, file_len, ahead, whole: false })
    }

    /// Looks through the file. False when that ended early, at `most` places.
    fn index(&mut self, epoch: u64, most: usize) -> Result<bool, Fault> {
        let mut window = vec![0; WINDOW + value::MAX_VALUE];
        let mut at = 0;
        while at < self.file_len {
            let take = (self.file_len - at).min(window.len() as u64) as usize;
            self.file.read(at, &mut window[..take])?;
            at += value::scan_raw(&window[..take], WINDOW, epoch, |offset, proven| {
                self.note(at + offset as u64, proven);
            }) as u64;
            if self.places.len() > most {
                return Ok(false);
            }
        }
        self.places.sort_unstable();
        self.burns.sort_by_key(|b| b.first);
        // A burn rewritten with a larger count supersedes the smaller one; keep the longest.
        self.burns.dedup_by(|b, a| {
            a.first == b.first && {
                a.count = a.count.max(b.count);
                true
            }
        });
        Ok(true)
    }

    fn note(&mut self, offset: u64, proven: Proven<'_>) {
        match proven {
            Proven::Chunk(chunk) => self.places.extend(Place::of(&chunk, self.base, offset)),
            Proven::Burn(burn) => self.burns.push(burn),
        }
    }

    pub(super) fn burns(&self) -> &[Burn] {
        &self.burns
    }

    /// The seqs of the chunks.
    pub(super) fn proven(&self) -> RangeSet {
        self.places.iter().map(|place| place.seqs(self.base)).collect()
    }

    /// The seq after the last one; `None` when there is nothing.
    pub(super) fn end(&self) -> Option<u64> {
        let chunk = self.places.last().map(|place| place.seqs(self.base).end() + 1);
        chunk.max(self.burns.last().map(|burn| burn.last() + 1))
    }

    /// What was proven when the file was looked through is proven again: it was not kept.
    pub(super) fn read(&mut self, query: &Query) -> Result<Vec<Item>, Fault> {
        let mut items = Vec::new();
        let (mut bytes, mut context) = (0, None);
        let base = self.base;
        let start = self.places.partition_point(|place| *place.seqs(base).end() < query.from);
        for place in self.places[start..].iter().take_while(|place| *place.seqs(base).start() <= query.to) {
            let (offset, len) = (u64::from(place.offset), usize::from(place.len));
            let mut own = Vec::new();
            let value = match self.ahead.bytes(&*self.file, self.file_len, offset, len) {
                Some(value) => value,
                None => {
                    own.resize(len, 0);
                    self.file.read(offset, &mut own)?;
                    &own
                }
            };
            let proven = value::prove_chunk(value, query.epoch);
            let Some(lying) = proven.filter(|lying| (lying.first, lying.crc) == (*place.seqs(base).start(), place.crc))
            else {
                if self.whole {
                    return Err(Fault::Damaged(format!(
                        "the value at seq {} does not match its checksum",
                        place.first
                    )));
                }
                continue;
            };
            let chunk = lying.chunk(context.as_ref());
            bytes += chunk.maps.len();
            if bytes > query.max_bytes && bytes > chunk.maps.len() {
                break;
            }
            context = Some(chunk.context.clone());
            items.push(Item::Chunk(chunk, lying.times));
        }
        let end = items.last().map_or(query.to, Item::last);
        let burns = self.burns.iter().filter(|b| b.last() >= query.from && b.first <= end);
        items.extend(burns.map(|b| Item::Burn(*b)));
        items.sort_by_key(Item::first);
        Ok(items)
    }
}
