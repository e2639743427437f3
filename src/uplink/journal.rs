//! Log lines, said once and then counted: an outage of a week is not a log of a week.
//!
//! Each subject speaks at once, then at most once in [`QUIET`] with the number of lines left out.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::io::{Action, Severity};

/// Between two lines on one subject.
pub const QUIET: Duration = Duration::from_secs(60);
/// Lines that may wait to be taken.
const MAX_WAITING: usize = 32;

/// What a line is about; lines on one subject summarise each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Connected,
    Disconnected,
    Refused,
    Status,
    Quarantine,
    Unreadable,
    Hub,
    Command,
    Stop,
    Twin,
}

#[derive(Debug, Default)]
struct Spoken {
    at: Option<Duration>,
    left_out: u64,
}

#[derive(Debug, Default)]
pub struct Journal {
    subjects: BTreeMap<Subject, Spoken>,
    waiting: VecDeque<Action>,
}

impl Journal {
    pub fn say(&mut self, subject: Subject, severity: Severity, now: Duration, text: impl FnOnce() -> String) {
        let spoken = self.subjects.entry(subject).or_default();
        let quiet = spoken.at.is_some_and(|at| now < at + QUIET);
        if quiet || self.waiting.len() >= MAX_WAITING {
            spoken.left_out += 1;
            return;
        }
        let text = match std::mem::take(&mut spoken.left_out) {
            0 => text(),
            n => format!("{} ({n} similar lines left out)", text()),
        };
        spoken.at = Some(now);
        self.waiting.push_back(Action::Log { severity, text });
    }

    pub fn take(&mut self) -> Option<Action> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_wait_to_be_taken_and_no_more() {
        let mut journal = Journal::default();
        for n in 0..40 {
            journal.say(Subject::Hub, Severity::Warn, QUIET * n, || format!("line {n}"));
        }
        assert_eq!(std::iter::from_fn(|| journal.take()).count(), MAX_WAITING);
        journal.say(Subject::Hub, Severity::Warn, QUIET * 40, || "line 40".into());
        let Some(Action::Log { text, .. }) = journal.take() else { panic!("it speaks again") };
        assert_eq!(text, "line 40 (8 similar lines left out)");
    }

    #[test]
    fn a_subject_speaks_once_a_minute_and_counts_the_rest() {
        let mut journal = Journal::default();
        for second in 0..=60u64 {
            let now = Duration::from_secs(100 + second);
            journal.say(Subject::Disconnected, Severity::Warn, now, || format!("line {second}"));
        }
        journal.say(Subject::Refused, Severity::Warn, Duration::from_secs(101), || "other".into());
        let texts: Vec<String> = std::iter::from_fn(|| journal.take())
            .map(|a| match a {
                Action::Log { text, .. } => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["line 0", "line 60 (59 similar lines left out)", "other"]);
    }
}
