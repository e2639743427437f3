//! What the tracker says: verdicts on records, findings, ranges that are missing or declared lost, and counts.
//!
//! Plain values; [`super`] defines the terms.

use std::ops::RangeInclusive;

use crate::wire::LossReason;

/// What one record is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate,
    /// Had been missing or declared lost.
    Late,
    /// The host is beyond [`super::Bounds::hosts`]: nothing can be said.
    Untracked,
}

/// The answer to one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// In the order of the message; expanded, they are exactly its seqs.
    pub verdicts: Vec<(RangeInclusive<u64>, Verdict)>,
    pub findings: Vec<Finding>,
}

/// Something a person or a program may want to act on. Each is found once, not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The first message of an epoch; `previous` is the one heard before it.
    NewEpoch { epoch: u64, previous: Option<u64> },
    /// Seqs became missing. `pending`: the last status says that they are still to come.
    Gap { epoch: u64, seqs: RangeInclusive<u64>, pending: bool },
    /// Missing, and two heartbeats neither promised nor declared it.
    Confirmed { epoch: u64, seqs: RangeInclusive<u64> },
    /// A loss, or the part of it that was not declared before. `to` is `None` when the host cannot know it.
    Lost { epoch: u64, from: u64, to: Option<u64>, reason: LossReason },
    /// A bound was reached for the first time for this host; later ones are only counted.
    Bound(Bound),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    Hosts,
    Epochs,
    Ranges,
}

/// Why seqs are not here, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapState {
    /// The last status says that they are still to come.
    Pending,
    /// Not explained, not yet confirmed.
    Open,
    /// Two heartbeats neither promised nor declared them.
    Confirmed,
}

/// One missing range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub epoch: u64,
    pub seqs: RangeInclusive<u64>,
    pub state: GapState,
}

/// One declared loss, as it stands; parts of it may have arrived after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub epoch: u64,
    pub from: u64,
    pub to: Option<u64>,
    pub reason: LossReason,
}

/// Counts of one host. Seqs, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub new: u64,
    pub duplicate: u64,
    pub late: u64,
    /// Missing seqs that a bound made the tracker forget: never excused, never found again.
    pub overflowed: u64,
    /// Seen seqs that a bound made the tracker forget: their duplicates count as new.
    pub forgotten: u64,
    /// Declared seqs that a bound made the tracker forget.
    pub losses_forgotten: u64,
    /// Epochs heard (not seqs).
    pub epochs: u64,
}

/// What is not here of one host, in seqs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub pending: u64,
    pub open: u64,
    pub confirmed: u64,
    /// Declared lost and not seen; open-ended losses count up to the highest seq known.
    pub declared: u64,
}

impl Tally {
    /// Distinct records, as far as it is known.
    pub fn records(&self) -> u64 {
        self.new.saturating_add(self.late)
    }

    pub(super) fn count(&mut self, verdicts: &[(RangeInclusive<u64>, Verdict)]) {
        for (run, verdict) in verdicts {
            let seqs = run.end() - run.start() + 1;
            match verdict {
                Verdict::New => self.new += seqs,
                Verdict::Duplicate => self.duplicate += seqs,
                Verdict::Late => self.late += seqs,
                Verdict::Untracked => {}
            }
        }
    }
}
