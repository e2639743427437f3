//! What has been told, and which of it is known to be stored. The outbox keeps a note of it, and changes the note only
//! with the run in which the event is: what is noted as told has been told.

use std::collections::{BTreeSet, VecDeque};

/// A collector, or one series of an alarm, without its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The collector or the alarm.
    pub owner: u32,
    /// The series; 0 of a collector.
    series: u32,
}

impl Key {
    /// The agent itself, which does less.
    pub const AGENT: Self = Self { owner: 0, series: 0 };

    pub fn collector(name: &str) -> Self {
        Self { owner: hash("collector", name), series: 0 }
    }

    pub fn series(alarm: &str, series: &str) -> Self {
        Self { owner: Self::alarm(alarm), series: hash("series", series) }
    }

    /// The owner of an alarm's series.
    pub fn alarm(name: &str) -> u32 {
        hash("alarm", name)
    }

    /// Sixteen hexadecimal digits: a word of the note.
    pub fn word(self) -> String {
        format!("{:08x}{:08x}", self.owner, self.series)
    }

    pub fn parse(word: &str) -> Option<Self> {
        let (owner, series) = word.split_at_checked(8).filter(|(_, series)| series.len() == 8)?;
        let number = |digits| u32::from_str_radix(digits, 16).ok();
        Some(Self { owner: number(owner)?, series: number(series)? })
    }
}

fn hash(kind: &str, name: &str) -> u32 {
    crc32fast::hash(format!("{kind}\n{name}").as_bytes())
}

/// Something is told as bad, or as over.
pub type Change = (Key, bool);

/// Changes on their way into the outbox, in their order.
#[derive(Debug, Default)]
pub struct Told {
    /// Told as bad by events that are stored.
    stored: BTreeSet<Key>,
    /// For each run with events that was handed over and not answered yet.
    pending: VecDeque<Vec<Change>>,
    /// Not handed over yet: one for each event, in their order.
    fresh: VecDeque<Change>,
}

impl Told {
    pub fn know(&mut self, key: Key) {
        self.stored.insert(key);
    }

    pub fn change(&mut self, key: Key, told: bool) {
        self.fresh.push_back((key, told));
    }

    /// The next run has so many events.
    pub fn hand_over(&mut self, events: usize) -> Vec<Change> {
        let changes: Vec<Change> = self.fresh.drain(..events.min(self.fresh.len())).collect();
        if !changes.is_empty() {
            self.pending.push_back(changes.clone());
        }
        changes
    }

    /// The oldest of the runs that were handed over is stored. Returns what it has told.
    pub fn stored(&mut self) -> Vec<Change> {
        let changes = self.pending.pop_front().unwrap_or_default();
        for (key, told) in &changes {
            if *told {
                self.stored.insert(*key);
            } else {
                self.stored.remove(key);
            }
        }
        changes
    }

    /// The oldest of them never will be. Returns what has been told of its subjects all the same.
    pub fn refused(&mut self) -> Vec<Change> {
        let changes = self.pending.pop_front();
        self.truth(changes)
    }

    /// The newest of them was not even taken.
    pub fn refused_at_once(&mut self) -> Vec<Change> {
        let changes = self.pending.pop_back();
        self.truth(changes)
    }

    fn truth(&self, changes: Option<Vec<Change>>) -> Vec<Change> {
        changes.into_iter().flatten().map(|(key, _)| (key, self.stands(key))).collect()
    }

    /// Whether it is told as bad once everything is stored that is on its way.
    pub fn stands(&self, key: Key) -> bool {
        self.coming(key).unwrap_or_else(|| self.stored.contains(&key))
    }

    /// What is on its way of it, in the end.
    pub fn coming(&self, key: Key) -> Option<bool> {
        self.on_the_way().rev().find(|(of, _)| *of == key).map(|(_, told)| *told)
    }

    /// Of which something is on its way.
    pub fn coming_of(&self, owner: u32) -> BTreeSet<Key> {
        self.on_the_way().map(|(key, _)| *key).filter(|key| key.owner == owner).collect()
    }

    fn on_the_way(&self) -> impl DoubleEndedIterator<Item = &Change> {
        self.pending.iter().flatten().chain(&self.fresh)
    }
}
