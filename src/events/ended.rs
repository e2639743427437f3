//! Ends of what is no longer configured. Nothing measures it any more, so an end that could not be stored would be told by
//! nobody: it is kept here until it is stored.

use std::collections::BTreeMap;

use super::told::Key;
use crate::clock::Now;
use crate::record::Point;

/// As many as can stand: a reload ends all of them at most, and the note knows fewer.
const MAX: usize = 1024;

#[derive(Debug, Default)]
pub struct Ended(BTreeMap<Key, End>);

#[derive(Debug)]
struct End {
    event: Point,
    /// It was told, and is not stored: it is to be told again.
    owed: bool,
}

impl Ended {
    /// Told with this event, or by one before it that is on its way.
    pub fn told(&mut self, key: Key, event: &Point) {
        if self.0.len() < MAX || self.0.contains_key(&key) {
            self.0.insert(key, End { event: event.clone(), owed: false });
        }
    }

    /// It is stored, or its subject is configured again and speaks for itself. Returns whether it was owed.
    pub fn forget(&mut self, key: Key) -> bool {
        self.0.remove(&key).is_some_and(|end| end.owed)
    }

    /// It could not be stored. False for one that is not known.
    pub fn owe(&mut self, key: Key) -> bool {
        self.0.get_mut(&key).map(|end| end.owed = true).is_some()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.0.keys().copied().collect()
    }

    /// One that is to be told again.
    pub fn owed(&self) -> Option<Key> {
        self.0.iter().find(|(_, end)| end.owed).map(|(key, _)| *key)
    }

    /// The event anew, of now.
    pub fn tell(&mut self, key: Key, now: &Now) -> Option<Point> {
        let end = self.0.get_mut(&key)?;
        end.owed = false;
        (end.event.ts, end.event.mono) = (now.wall_ms, now.boot_ms());
        Some(end.event.clone())
    }
}
