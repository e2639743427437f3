//! A built-in collector whose source this host lacks: that is recorded once, not at every run.
//!
//! It goes on being run, which costs an attempt to open a file: sources appear (a module is loaded, a disk is plugged
//! in). A run that only repeats the news has nothing to record and is booked as silent, so the account of runs holds.

use crate::record::{ErrorKind, Point};

/// What a collector's last record said, as far as that was "there is no such thing here".
#[derive(Debug, Default)]
pub(super) struct Absent(Option<String>);

impl Absent {
    /// Whether the run says no more than the one before: its points are to be dropped.
    pub(super) fn repeats(&mut self, points: &[Point]) -> bool {
        let Some(message) = absence(points) else {
            self.0 = None;
            return false;
        };
        if self.0.as_deref() == Some(message) {
            return true;
        }
        self.0 = Some(message.to_owned());
        false
    }

    /// Whether the last run came to nothing for that reason.
    pub(super) fn is_said(&self) -> bool {
        self.0.is_some()
    }
}

/// The reason, if a whole run came to nothing because the host lacks what it would read. One part that is missing (a
/// disk that the configuration names) has tags, and is told at every run.
pub fn absence(points: &[Point]) -> Option<&str> {
    let [point] = points else { return None };
    let error = point.error.as_ref().filter(|e| e.kind == ErrorKind::Unsupported)?;
    (point.tags.is_empty() && point.fields.is_empty()).then_some(&error.message)
}
