//! Every name in the outbox directory, built and parsed here and nowhere else.
//!
//! `v1-{ordinal}-{epoch}/` holds an epoch: `{first}.seg` the segment being appended to, `{first}-{last}.seg` one
//! that has a successor, `.corrupt` instead of `.seg` one that is read by its checksums only. `*.settled` and
//! `*.lost-{reason}` are segments given up whose name is the fact until the state file has it, `new.tmp` is a
//! creation that did not finish. The number after `v` is the format: a reader leaves what it does not know alone.

use std::ops::RangeInclusive;

use crate::wire::LossReason;

/// The format written by this version: of epoch directories, of the state file and of the values inside.
pub(super) const FORMAT: u32 = 1;
pub(super) const STATE: &str = "state-v1.redb";
pub(super) const HOST_ID: &str = "host-id";
/// The agent's sockets and their names while they are made: known here only so that they are not called foreign.
pub(super) const SOCKETS: [&str; 4] = ["agent.sock", "agent.new", "put.sock", "put.new"];
pub(super) const LOCK: &str = "agent.lock";
pub(super) const QUARANTINE: &str = "quarantine";
pub(super) const TEMP: &str = "new.tmp";

/// The reasons a whole segment is dropped for; only these occur in names.
const REASONS: [(LossReason, &str); 2] = [(LossReason::Quota, "quota"), (LossReason::Age, "age")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EpochName {
    pub format: u32,
    /// 1, 2, 3 ... in order of creation in this directory.
    pub ordinal: u32,
    pub epoch: u64,
}

pub(super) fn epoch_dir(ordinal: u32, epoch: u64) -> String {
    format!("v{FORMAT}-{ordinal:06}-{epoch}")
}

pub(super) fn parse_epoch_dir(name: &str) -> Option<EpochName> {
    let mut parts = name.strip_prefix('v')?.split('-');
    let format = number(parts.next()?)?;
    let ordinal = number(parts.next()?)?;
    let epoch = number(parts.next()?)?;
    let known = EpochName {
        format: u32::try_from(format).ok()?,
        ordinal: u32::try_from(ordinal).ok().filter(|n| *n < u32::MAX)?,
        epoch,
    };
    (parts.next().is_none() && known.epoch > 0).then_some(known)
}

/// A segment given up: the seqs it held, and the hull and number of those that were not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub seqs: RangeInclusive<u64>,
    /// `None`: all were settled.
    pub lost: Option<DroppedLoss>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DroppedLoss {
    pub hull: RangeInclusive<u64>,
    pub count: u64,
    pub t0: i64,
    pub t1: i64,
    pub reason: LossReason,
}

/// What a file in an epoch directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileName {
    Segment(SegmentName),
    Dropped(Dropped),
    Temp,
    Foreign,
}

/// A segment by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentName {
    pub first: u64,
    /// The last seq that counts; `None` while it is appended to.
    pub last: Option<u64>,
    /// Its tree is not to be trusted.
    pub corrupt: bool,
}

impl SegmentName {
    pub(super) fn file_name(self) -> String {
        let kind = if self.corrupt { "corrupt" } else { "seg" };
        match self.last {
            None => format!("{:020}.{kind}", self.first),
            Some(last) => format!("{:020}-{last:020}.{kind}", self.first),
        }
    }

    fn parse(stem: &str, corrupt: bool) -> Option<Self> {
        let (first, last) = stem.split_once('-').map_or((stem, None), |(first, last)| (first, Some(last)));
        let padded = |text: &str| number(text).filter(|_| text.len() == 20);
        let first = padded(first).filter(|first| *first > 0)?;
        let last = match last {
            None => None,
            Some(text) => Some(padded(text).filter(|last| *last >= first)?),
        };
        Some(Self { first, last, corrupt })
    }
}

impl Dropped {
    pub(super) fn file_name(&self) -> String {
        let (first, last) = (self.seqs.start(), self.seqs.end());
        match &self.lost {
            None => format!("{first}-{last}.settled"),
            Some(lost) => {
                let reason = REASONS.iter().find(|(r, _)| *r == lost.reason).map_or("quota", |(_, name)| name);
                let (from, to, count) = (lost.hull.start(), lost.hull.end(), lost.count);
                // Times before 1970 come from a clock never set; they are as good as unknown.
                let (t0, t1) = (lost.t0.max(0), lost.t1.max(0));
                format!("{first}-{last}.{from}-{to}.{count}.{t0}-{t1}.lost-{reason}")
            }
        }
    }
}

pub(super) fn parse_file(name: &str) -> FileName {
    if name == TEMP {
        return FileName::Temp;
    }
    parse_known(name).unwrap_or(FileName::Foreign)
}

fn parse_known(name: &str) -> Option<FileName> {
    let (stem, kind) = name.rsplit_once('.')?;
    match kind {
        "seg" => Some(FileName::Segment(SegmentName::parse(stem, false)?)),
        "corrupt" => Some(FileName::Segment(SegmentName::parse(stem, true)?)),
        "settled" => Some(FileName::Dropped(Dropped { seqs: range(stem)?, lost: None })),
        _ => {
            let word = kind.strip_prefix("lost-")?;
            let reason = REASONS.iter().find(|(_, name)| *name == word)?.0;
            let mut parts = stem.split('.');
            let seqs = range(parts.next()?)?;
            let hull = range(parts.next()?)?;
            let count = number(parts.next()?)?;
            let (t0, t1) = parts.next()?.split_once('-')?;
            let lost = DroppedLoss { hull, count, t0: t0.parse().ok()?, t1: t1.parse().ok()?, reason };
            parts.next().is_none().then_some(FileName::Dropped(Dropped { seqs, lost: Some(lost) }))
        }
    }
}

fn range(text: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = text.split_once('-')?;
    let range = number(first)?..=number(last)?;
    (!range.is_empty() && *range.start() > 0).then_some(range)
}

/// Digits only: `parse` alone would take a leading `+`. Nothing of ours reaches 2^53, so sums stay far from the end.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok().filter(|n| *n < 1 << 53) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_written() {
        let lost = DroppedLoss {
            hull: 60..=99,
            count: 31,
            t0: 1_700_000_000_000,
            t1: 1_700_000_060_000,
            reason: LossReason::Age,
        };
        for dropped in [Dropped { seqs: 50..=100, lost: Some(lost) }, Dropped { seqs: 1..=1, lost: None }] {
            assert_eq!(parse_file(&dropped.file_name()), FileName::Dropped(dropped));
        }
        for last in [None, Some(7), Some((1 << 53) - 1)] {
            for corrupt in [false, true] {
                let name = SegmentName { first: 7, last, corrupt };
                assert_eq!(parse_file(&name.file_name()), FileName::Segment(name));
            }
        }
        assert_eq!(parse_epoch_dir(&epoch_dir(3, 99)), Some(EpochName { format: 1, ordinal: 3, epoch: 99 }));
    }

    #[test]
    fn other_names_are_foreign() {
        for name in [
            "",
            "x",
            "1.seg",
            "0000000000000000000x.seg",
            "+0000000000000000001.seg",
            "00000000000000000009-00000000000000000008.seg",
            "00000000000000000001-18446744073709551615.seg",
            "1-18446744073709551615.settled",
            "9-1.settled",
            "0-4.settled",
        ] {
            assert_eq!(parse_file(name), FileName::Foreign, "{name}");
        }
        for name in ["v1-1", "v1-1-0", "w1-1-1", "v1-1-1-1", "v1-4294967295-1", "lost+found"] {
            assert_eq!(parse_epoch_dir(name), None, "{name}");
        }
    }
}
