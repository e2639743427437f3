//! The segment after the one that is read, looked through a piece at a time after each load: else whoever reads a backlog
//! would stand still at the beginning of every segment.

use std::ops::RangeInclusive;

use super::load::MAX_OPEN;
use super::raw::Unproven;
use super::segment::Sealed;
use super::store::Outbox;

/// Of records loaded, for each window that is looked through. A segment is larger than its records: it is done before
/// they are.
const BYTES_PER_WINDOW: usize = 8 * 1024;

pub(super) struct NextSegment {
    epoch: u64,
    first: u64,
    seqs: RangeInclusive<u64>,
    /// `None`: the disk refused.
    unproven: Option<Unproven>,
}

#[cfg(test)]
impl NextSegment {
    pub(super) fn first(&self) -> u64 {
        self.first
    }
}

impl Outbox {
    /// To be called after the answer to a load of so many bytes up to the seq `last`: there is time until the next one.
    pub(super) fn look_ahead(&mut self, epoch: u64, last: u64, bytes: usize) {
        let Some((at, first)) = self.follower(epoch, last) else { return };
        if self.next.as_ref().is_none_or(|next| (next.epoch, next.first) != (epoch, first)) {
            if self.readers.len() >= MAX_OPEN {
                self.readers.remove(0);
            }
            let seqs = self.epochs[at].seqs_of(first);
            let file = self.disk.open(&self.epochs[at].segments[&first].path, false);
            let unproven = file.ok().and_then(|file| Unproven::new(file, epoch, seqs.clone()).ok());
            self.next = Some(NextSegment { epoch, first, seqs, unproven });
        }
        let Some(next) = &mut self.next else { return };
        for _ in 0..=bytes / BYTES_PER_WINDOW {
            match next.unproven.as_mut().map(Unproven::look) {
                Some(Ok(true)) => {}
                Some(Ok(false)) | None => break,
                Some(Err(_)) => next.unproven = None,
            }
        }
    }

    /// The sealed segment after the one that holds `seq`, if it is neither open nor in doubt: its epoch's position and its
    /// first seq.
    fn follower(&self, id: u64, seq: u64) -> Option<(usize, u64)> {
        let at = self.epochs.iter().position(|epoch| epoch.id == id)?;
        let segments = &self.epochs[at].segments;
        let (holder, _) = segments.range(..=seq).next_back()?;
        let (first, file) = segments.range(holder + 1..).next()?;
        let open = self.readers.iter().any(|reader| (reader.epoch, reader.first) == (id, *first));
        (!file.raw && !open && !self.is_active(at, *first)).then_some((at, *first))
    }

    /// The segment, if it is the one that was looked through, or what of it is left to do is done now. `None` where that
    /// brings nothing.
    pub(super) fn looked_through(&mut self, epoch: u64, first: u64, seqs: &RangeInclusive<u64>) -> Option<Sealed> {
        let next = self.next.take_if(|next| (next.epoch, next.first, &next.seqs) == (epoch, first, seqs))?;
        next.unproven?.prove().ok().flatten().map(Sealed::Raw)
    }

    /// Lets go of a segment that is replaced, given up or distrusted.
    pub(super) fn let_go(&mut self, epoch: u64, first: u64) {
        self.readers.retain(|reader| (reader.epoch, reader.first) != (epoch, first));
        self.next.take_if(|next| (next.epoch, next.first) == (epoch, first));
    }
}
