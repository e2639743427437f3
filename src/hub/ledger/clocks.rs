//! How the times of a host's boots are put right. Pure.
//!
//! A record made while the host's clock was not synchronised has a true time all the same: its `mono`, plus what the
//! boot's monotonic clock lacks to the wall clock. That offset comes from an anchor, a pair of both clocks that the host
//! took while it was synchronised.
//!
//! Invariants: a boot's offset is chosen once and never changes. A record is given the same time however often it comes:
//! one that was stored as it came, before the offset was known, stays so; the sink is told the offset instead. An anchor
//! that cannot be true is not chosen. Bounded: beyond [`MAX_BOOTS`] boots the one used least recently is forgotten, one
//! without an offset first, and beyond [`MAX_RANGES`] ranges of a boot the smallest.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::ranges::RangeSet;
use crate::record::Record;
use crate::wire::MAX_BOOT_ID;

/// Boots that are remembered for each host.
pub const MAX_BOOTS: usize = 64;
/// Ranges of seqs that were stored as they came, for each boot and epoch; and epochs.
const MAX_RANGES: usize = 64;
const MAX_EPOCHS: usize = 8;
/// 2026-01-01: no agent is older.
const FIRST_AGENT_MS: i64 = 1_767_225_600_000;
/// An anchor is taken before it arrives; a day for clocks that are not ours.
const AHEAD_MS: i64 = 86_400_000;
/// Nothing runs for thirty years.
const MAX_UPTIME_MS: i64 = 30 * 366 * 86_400_000;

/// Of one host, the boot used last at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clocks {
    boots: Vec<Boot>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Boot {
    id: String,
    /// What `mono` lacks to the wall clock, ms.
    offset: Option<i64>,
    /// Stored as they came, by epoch, oldest first.
    #[serde(default)]
    as_came: Vec<(u64, Vec<(u64, u64)>)>,
}

/// The times of some seqs: as they came, unless something better is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    offset: Option<i64>,
    /// Those among them that were stored before without one.
    as_came: RangeSet,
}

impl Times {
    /// A better time than `ts`, when there is one.
    pub fn time_of(&self, record: &Record) -> Option<i64> {
        let offset = self.offset.filter(|_| !self.as_came.contains(record.seq))?;
        let mono = i64::try_from(record.mono).ok().filter(|mono| *mono <= MAX_UPTIME_MS)?;
        offset.checked_add(mono)
    }
}

impl Clocks {
    /// Takes an anchor in: `[boot ms, wall ms]`, as it came at `now_ms` by our clock. Returns the offset when it was
    /// chosen just now and records of the boot are stored without.
    pub fn learn(&mut self, boot: &str, anchor: [i64; 2], now_ms: i64) -> Option<i64> {
        let offset = offset_of(anchor, now_ms)?;
        let boot = self.boot(boot)?;
        if boot.offset.is_some() {
            return None;
        }
        boot.offset = Some(offset);
        Some(offset).filter(|_| !boot.as_came.is_empty())
    }

    /// For records that are stored now, made in this boot under a clock that was not synchronised.
    pub fn times(&mut self, boot: &str, epoch: u64, seqs: RangeInclusive<u64>) -> Times {
        let Some(boot) = self.boot(boot) else { return Times::default() };
        match boot.offset {
            Some(_) => Times { offset: boot.offset, as_came: boot.stored_before(epoch).within(seqs).collect() },
            None => {
                boot.note(epoch, seqs);
                Times::default()
            }
        }
    }

    /// Takes in what a sink says that it stored: by this offset, or as it came.
    pub fn found(&mut self, boot: &str, epoch: u64, seqs: RangeInclusive<u64>, offset: Option<i64>) {
        match (offset, self.boot(boot)) {
            (Some(offset), Some(boot)) => {
                boot.offset.get_or_insert(offset);
            }
            (None, Some(boot)) => boot.note(epoch, seqs),
            (_, None) => {}
        }
    }

    /// Takes in that a sink was told the offset.
    pub fn told(&mut self, boot: &str, offset: i64) {
        if let Some(boot) = self.boot(boot) {
            boot.offset.get_or_insert(offset);
        }
    }

    /// Made the one used last; `None` for what is no boot id.
    fn boot(&mut self, id: &str) -> Option<&mut Boot> {
        if id.is_empty() || id.len() > MAX_BOOT_ID {
            return None;
        }
        let boot = match self.boots.iter().position(|boot| boot.id == id) {
            Some(at) => self.boots.remove(at),
            None => Boot { id: id.to_owned(), offset: None, as_came: Vec::new() },
        };
        if self.boots.len() >= MAX_BOOTS {
            let unneeded = self.boots.iter().position(|boot| boot.offset.is_none()).unwrap_or(0);
            self.boots.remove(unneeded);
        }
        self.boots.push(boot);
        self.boots.last_mut()
    }
}

impl Boot {
    fn stored_before(&self, epoch: u64) -> RangeSet {
        let of_epoch = self.as_came.iter().filter(|(its, _)| *its == epoch);
        of_epoch.flat_map(|(_, ranges)| ranges).map(|(from, to)| *from..=*to).collect()
    }

    fn note(&mut self, epoch: u64, seqs: RangeInclusive<u64>) {
        let mut stored = self.stored_before(epoch);
        stored.insert(seqs);
        stored.forget_smallest(MAX_RANGES);
        let ranges = stored.iter().map(RangeInclusive::into_inner).collect();
        match self.as_came.iter_mut().find(|(its, _)| *its == epoch) {
            Some((_, known)) => *known = ranges,
            None => {
                if self.as_came.len() >= MAX_EPOCHS {
                    self.as_came.remove(0);
                }
                self.as_came.push((epoch, ranges));
            }
        }
    }
}

/// `None` when the pair cannot be true.
fn offset_of([boot_ms, wall_ms]: [i64; 2], now_ms: i64) -> Option<i64> {
    let possible =
        (0..=MAX_UPTIME_MS).contains(&boot_ms) && (FIRST_AGENT_MS..=now_ms.saturating_add(AHEAD_MS)).contains(&wall_ms);
    possible.then(|| wall_ms - boot_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::record::{Point, Tags};

    const NOW: i64 = 1_790_000_000_000;

    fn record(seq: u64, mono: u64) -> Record {
        let fields = Default::default();
        Record::new(seq, Point { ts: 5, mono, name: "m".into(), tags: Tags::new(), fields, error: None })
    }

    fn time(clocks: &mut Clocks, boot: &str, epoch: u64, seq: u64) -> Option<i64> {
        clocks.times(boot, epoch, seq..=seq).time_of(&record(seq, seq * 10))
    }

    #[test]
    fn the_offset_is_chosen_by_the_first_anchor_and_stays() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.learn("a", [5_000, NOW + 5_000], NOW), None, "nothing to make good");
        assert_eq!(clocks.learn("a", [9_000, NOW + 9_444], NOW), None);
        assert_eq!(time(&mut clocks, "a", 7, 3), Some(NOW + 30));
        assert_eq!(time(&mut clocks, "b", 7, 4), None, "another boot");
    }

    #[test]
    fn what_was_stored_before_the_anchor_stays_as_it_came_and_the_sink_is_told_once() {
        let mut clocks = Clocks::default();
        assert_eq!(time(&mut clocks, "a", 7, 1), None);
        assert_eq!(time(&mut clocks, "a", 7, 2), None);
        assert_eq!(clocks.learn("a", [0, NOW], NOW), Some(NOW));
        assert_eq!(clocks.learn("a", [0, NOW + 9], NOW), None);
        assert_eq!(time(&mut clocks, "a", 7, 2), None, "sent again");
        assert_eq!(time(&mut clocks, "a", 7, 3), Some(NOW + 30));
        assert_eq!(time(&mut clocks, "a", 8, 2), Some(NOW + 20), "the same seq of another epoch");
    }

    #[test]
    fn anchors_that_cannot_be_true_are_not_chosen() {
        let mut clocks = Clocks::default();
        let year = 366 * 86_400_000;
        for anchor in [
            [i64::MIN, i64::MAX],
            [-1, NOW],
            [31 * year, NOW],
            [i64::MAX, NOW],
            [0, 20_000],
            [0, NOW + 10 * year],
            [0, i64::MIN],
        ] {
            assert_eq!(clocks.learn("a", anchor, NOW), None);
            assert_eq!(time(&mut clocks, "a", 7, 1), None, "{anchor:?}");
        }
        assert_eq!(clocks.learn("a", [0, NOW + 1_000], NOW), Some(NOW + 1_000), "the first that can be");
        let absurd = clocks.times("a", 7, 9..=9);
        assert_eq!(absurd.time_of(&record(9, u64::MAX)), None);
        assert_eq!(absurd.time_of(&record(9, i64::MAX as u64)), None);
    }

    #[test]
    fn senseless_boots_are_not_kept_and_the_one_in_use_stays() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.learn(&"x".repeat(65), [0, NOW], NOW), None);
        assert_eq!(clocks.learn("", [0, NOW], NOW), None);
        assert!(clocks.boots.is_empty());
        clocks.learn("live", [0, NOW], NOW);
        for n in 0..1_000 {
            time(&mut clocks, &format!("never-synced-{n}"), n, 1);
        }
        for n in 0..1_000 {
            clocks.learn(&format!("boot-{n}"), [0, NOW + n], NOW);
            assert_eq!(time(&mut clocks, "live", 7, 1), Some(NOW + 10));
        }
        assert_eq!(clocks.boots.len(), MAX_BOOTS);
        for seq in (1..2_000).step_by(2) {
            (0..50).for_each(|epoch| _ = time(&mut clocks, "never", epoch, seq));
        }
        let never = clocks.boot("never").unwrap();
        assert_eq!(never.as_came.len(), MAX_EPOCHS);
        assert!(never.as_came.iter().all(|(_, ranges)| ranges.len() <= MAX_RANGES));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Learn(u8, [i64; 2]),
        Store(u8, u64, u64, u64),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        let anchor = prop_oneof![
            4 => (0i64..10_000, 0i64..10_000).prop_map(|(mono, drift)| [mono, NOW + mono + drift]),
            1 => (any::<i64>(), any::<i64>()).prop_map(|(mono, wall)| [mono, wall]),
        ];
        prop_oneof![
            1 => (0u8..4, anchor).prop_map(|(boot, anchor)| Step::Learn(boot, anchor)),
            6 => (0u8..4, 1u64..4, 1u64..40, 0u64..6).prop_map(|(boot, epoch, from, n)| Step::Store(boot, epoch, from, n)),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        /// Whatever comes in which order and however often: one time for each record, and one offset for each boot.
        #[test]
        fn each_record_has_one_time_for_ever(steps in proptest::collection::vec(step(), 0..80)) {
            let mut clocks = Clocks::default();
            let (mut times, mut offsets, mut told) = (HashMap::new(), HashMap::new(), HashMap::new());
            for step in steps {
                match step {
                    Step::Learn(boot, anchor) => {
                        if let Some(offset) = clocks.learn(&boot.to_string(), anchor, NOW) {
                            prop_assert_eq!(told.insert(boot, offset), None, "told twice");
                        }
                    }
                    Step::Store(boot, epoch, from, n) => {
                        let given = clocks.times(&boot.to_string(), epoch, from..=from + n);
                        for seq in from..=from + n {
                            let mono = seq * 10;
                            let time = given.time_of(&record(seq, mono));
                            prop_assert_eq!(*times.entry((boot, epoch, seq)).or_insert(time), time);
                            if let Some(time) = time {
                                let offset = time - mono as i64;
                                prop_assert_eq!(*offsets.entry(boot).or_insert(offset), offset);
                                prop_assert!(offset <= NOW + AHEAD_MS);
                            }
                        }
                    }
                    Step::Restart => {
                        clocks = rmp_serde::from_slice(&rmp_serde::to_vec_named(&clocks).unwrap()).unwrap();
                    }
                }
            }
            for (boot, offset) in &told {
                prop_assert_eq!(*offsets.entry(*boot).or_insert(*offset), *offset);
            }
            // Whoever was stored as it came can be put right by what was told.
            let with_offset = |boot: &u8| told.contains_key(boot) || !offsets.contains_key(boot);
            let as_came = times.iter().filter(|(_, time)| time.is_none());
            prop_assert!(as_came.map(|((boot, ..), _)| boot).all(with_offset));
        }
    }
}
