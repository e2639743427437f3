//! By which pair of clocks a reader can correct the times of a boot: kept for the boots that have learnt the time.
//!
//! A boot's pair is taken once, when the first record is made under a synchronised clock, and kept in the outbox's notes: it
//! outlives the boot. So what was collected before that and could not be sent until the next boot is corrected all the same. A
//! boot that never learns the time has none, and another one's says nothing about it.

use std::sync::Arc;

use super::Uplink;
use super::io::Action;
use crate::clock::Now;
use crate::record::{ClockContext, Record};
use crate::wire::{Chunk, MAX_BOOT_ID};

/// Of the note, in bytes: some fourteen boots; of more the oldest are forgotten.
const MAX_NOTE: usize = 960;

/// Boot, ms since it began, wall clock in ms since 1970; oldest boot first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anchors {
    boots: Vec<(Arc<str>, [i64; 2])>,
}

impl Anchors {
    /// Key of the note.
    pub const NOTE: &str = "anchors";

    /// What is not as it was written is passed over.
    pub fn from_note(note: Option<&str>) -> Self {
        let boots = note.unwrap_or_default().split(';').filter_map(|entry| {
            let mut words = entry.split(' ');
            let boot = words.next().filter(|boot| is_id(boot))?;
            let pair = [words.next()?.parse().ok()?, words.next()?.parse().ok()?];
            words.next().is_none().then(|| (Arc::from(boot), pair))
        });
        Self { boots: boots.collect() }
    }

    fn note(&self) -> String {
        let entry = |(boot, [mono, wall]): &(Arc<str>, [i64; 2])| format!("{boot} {mono} {wall}");
        self.boots.iter().map(entry).collect::<Vec<_>>().join(";")
    }

    pub fn of(&self, boot: &str) -> Option<[i64; 2]> {
        self.boots.iter().find(|(known, _)| **known == *boot).map(|(_, pair)| *pair)
    }

    /// A record was made in this context and by the clocks of which `now` is a pair. Returns the note to keep, if that is news.
    pub fn learn(&mut self, context: &ClockContext, now: [i64; 2]) -> Option<String> {
        let news = context.synced && is_id(&context.boot) && self.of(&context.boot).is_none();
        news.then(|| {
            self.boots.push((Arc::clone(&context.boot), now));
            self.bounded_note()
        })
    }

    /// The outbox, opened late, has kept these. Returns the note to keep, if it is another.
    pub fn remember(&mut self, kept: Anchors) -> Option<String> {
        let before = kept.clone();
        let newer = std::mem::replace(self, kept);
        for (boot, pair) in newer.boots {
            if self.of(&boot).is_none() {
                self.boots.push((boot, pair));
            }
        }
        (*self != before).then(|| self.bounded_note())
    }

    fn bounded_note(&mut self) -> String {
        while self.note().len() > MAX_NOTE {
            self.boots.remove(0);
        }
        self.note()
    }
}

impl Uplink {
    /// These were made in this boot; the clock may have been set while they waited for the disk, and then `now` is not what
    /// their context speaks of.
    pub(super) fn learn_anchor(&mut self, chunks: &[Chunk], now: Now) {
        if self.anchors.of(&self.settings.boot).is_some() {
            return;
        }
        let mut ours = chunks.iter().filter(|chunk| chunk.context.boot == self.settings.boot && chunk.context.synced);
        let news = ours.find(|chunk| is_of_clock(chunk, now)).map(|chunk| chunk.context.clone());
        let news = news.and_then(|context| self.anchors.learn(&context, now.anchor()));
        self.keep_anchors(news);
    }

    pub(super) fn keep_anchors(&mut self, news: Option<String>) {
        self.out.extend(news.map(|value| Action::Note { key: Anchors::NOTE, value }));
    }
}

/// Whether the wall clock was not set since one of the records was made.
fn is_of_clock(chunk: &Chunk, now: Now) -> bool {
    let mut records = chunk.records().filter_map(|(_, map)| rmp_serde::from_slice::<Record>(map).ok());
    records.any(|record| now.continues(record.ts, record.mono))
}

fn is_id(boot: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    (1..=MAX_BOOT_ID).contains(&boot.len()) && boot.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(boot: &str, synced: bool) -> ClockContext {
        ClockContext { boot: boot.into(), synced }
    }

    #[test]
    fn a_boot_has_the_first_pair_for_ever_and_only_once_it_was_synchronised() {
        let mut anchors = Anchors::default();
        assert_eq!(anchors.learn(&context("a", false), [1, 20_000]), None);
        assert_eq!(anchors.of("a"), None);
        let note = anchors.learn(&context("a", true), [2, 1_790_000_000_000]).unwrap();
        assert_eq!(anchors.learn(&context("a", true), [9, 1_790_000_999_999]), None);
        let mut next = Anchors::from_note(Some(&note));
        assert_eq!(next, anchors, "after a restart too");
        next.learn(&context("b", true), [-3, -4]).unwrap();
        assert_eq!((next.of("a"), next.of("b"), next.of("c")), (Some([2, 1_790_000_000_000]), Some([-3, -4]), None));
    }

    #[test]
    fn the_note_is_bounded_by_forgetting_the_oldest_boots() {
        let (mut anchors, mut note) = (Anchors::default(), String::new());
        for n in 0..100 {
            note = anchors.learn(&context(&format!("{n:036}"), true), [i64::MAX, i64::MIN]).unwrap();
            assert!(note.len() <= MAX_NOTE);
        }
        let kept = Anchors::from_note(Some(&note));
        assert!(kept == anchors && kept.boots.len() >= 10 && kept.of(&format!("{:036}", 99)).is_some());
    }

    #[test]
    fn a_note_that_just_fits_forgets_nothing() {
        let mut anchors = Anchors::default();
        for n in 10..23 {
            anchors.learn(&context(&format!("{n}{}", "x".repeat(62)), true), [1, 2]).unwrap();
        }
        let note = anchors.learn(&context(&"y".repeat(59), true), [1, 2]).unwrap();
        assert_eq!((note.len(), anchors.boots.len()), (MAX_NOTE, 14));
        anchors.learn(&context("z", true), [1, 2]).unwrap();
        assert_eq!(anchors.boots.len(), 14, "one has gone");
    }

    #[test]
    fn one_record_made_by_the_present_clock_is_enough() {
        let now = Now { mono: std::time::Duration::ZERO, boot: std::time::Duration::from_secs(9), wall_ms: 1_000_000 };
        let of = |times: &[i64]| {
            let mut maps = Vec::new();
            for (seq, ts) in (1..).zip(times) {
                let point = crate::record::Point {
                    ts: *ts,
                    mono: 9_000,
                    name: "t".into(),
                    tags: [].into(),
                    fields: [].into(),
                    error: None,
                };
                crate::wire::encode_record(&Record::new(seq, point), &mut maps);
            }
            Chunk { epoch: 1, first: 1, count: times.len() as u32, context: context("a", true), maps: maps.into() }
        };
        assert!(is_of_clock(&of(&[500, 1_000_000]), now) && !is_of_clock(&of(&[500, 600]), now));
    }

    #[test]
    fn what_an_outbox_opened_late_has_kept_is_joined_and_its_own_pair_stands() {
        let mut anchors = Anchors::default();
        anchors.learn(&context("now", true), [5, 6]).unwrap();
        let kept = Anchors::from_note(Some("old 1 2;now 3 4"));
        assert_eq!(anchors.clone().remember(kept.clone()), None, "nothing new");
        let note = anchors.remember(Anchors::from_note(Some("old 1 2"))).unwrap();
        assert_eq!(note, "old 1 2;now 5 6");
        assert_eq!(kept.of("now"), Some([3, 4]));
    }

    #[test]
    fn a_note_of_another_make_costs_only_what_cannot_be_read() {
        let long = format!("{} 1 2", "x".repeat(65));
        for bad in ["", ";", "a", "a 1", "a 1 x", "a 1 2 3", " 1 2", "a 1 99999999999999999999", &long] {
            assert_eq!(Anchors::from_note(Some(bad)), Anchors::default(), "{bad:?}");
        }
        assert_eq!(Anchors::from_note(Some("junk;a 1 2;b")).of("a"), Some([1, 2]));
        assert_eq!(Anchors::default().learn(&context("a b;c", true), [1, 2]), None);
    }
}
