//! The account at the end: what the outboxes hold against what arrived, seq by seq. Pure.

use std::collections::BTreeMap;

use crate::ranges::RangeSet;

/// Seqs by epoch.
pub(super) type Seqs = BTreeMap<u64, RangeSet>;

/// What is known of one host, from two sides that do not know of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Books {
    /// Read from the outbox's files.
    pub recorded: Seqs,
    /// Arrived at the hub.
    pub delivered: Seqs,
    /// Declared by the host, as heard by the hub.
    pub declared: Seqs,
    /// Waiting in the outbox for the agent's next start, by its own files.
    pub held: Seqs,
    /// Arrivals of what had arrived before.
    pub duplicates: u64,
    /// Why the outbox does not tell the whole story; each makes the account worthless.
    pub doubts: Vec<String>,
}

/// One row of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub recorded: u64,
    pub delivered: u64,
    pub duplicates: u64,
    /// Recorded, declared lost, and not delivered.
    pub declared: u64,
    /// Recorded, neither delivered nor declared, and kept to be sent at the next start.
    pub held: Seqs,
    /// Recorded, and none of these.
    pub silent: Seqs,
    /// Delivered and never recorded, or why the outbox cannot be trusted: the numbers mean nothing then.
    pub wrong: Vec<String>,
}

impl Books {
    pub fn close(&self) -> Row {
        let mut wrong = self.doubts.clone();
        let strays = without(&self.delivered, &self.recorded);
        if count(&strays) > 0 {
            wrong.push(format!("delivered, but in no outbox: {}", text(&strays)));
        }
        let missing = without(&self.recorded, &self.delivered);
        let undeclared = without(&missing, &self.declared);
        let silent = without(&undeclared, &self.held);
        let row = Row {
            recorded: count(&self.recorded),
            delivered: count(&self.delivered),
            duplicates: self.duplicates,
            declared: count(&missing) - count(&undeclared),
            held: without(&undeclared, &silent),
            silent,
            wrong,
        };
        row.checked()
    }

    /// Recorded, and neither delivered nor declared so far.
    pub fn waiting(&self) -> u64 {
        count(&without(&without(&self.recorded, &self.delivered), &self.declared))
    }
}

impl Row {
    fn checked(mut self) -> Self {
        if self.recorded == 0 {
            self.wrong.push("nothing was recorded".to_owned());
        }
        if self.recorded != self.delivered + self.declared + count(&self.held) + self.lost() && self.wrong.is_empty() {
            self.wrong.push("recorded is not the sum of the others".to_owned());
        }
        self
    }

    pub fn lost(&self) -> u64 {
        count(&self.silent)
    }

    pub fn good(&self) -> bool {
        self.silent.is_empty() && self.wrong.is_empty()
    }
}

pub(super) fn count(seqs: &Seqs) -> u64 {
    seqs.values().map(RangeSet::len).sum()
}

pub(super) fn insert(seqs: &mut Seqs, epoch: u64, from: u64, to: u64) {
    seqs.entry(epoch).or_default().insert(from..=to);
}

/// `seq 412` or `seqs 3..7, 9`, with epochs where there are several.
pub(super) fn text(seqs: &Seqs) -> String {
    let one = |(epoch, set): (&u64, &RangeSet)| {
        let ranges: Vec<String> = set
            .iter()
            .map(|r| if r.start() == r.end() { r.start().to_string() } else { format!("{}..{}", r.start(), r.end()) })
            .collect();
        let word = if set.len() == 1 { "seq" } else { "seqs" };
        let epoch = if seqs.len() > 1 { format!(" of epoch {epoch}") } else { String::new() };
        format!("{word} {}{epoch}", ranges.join(", "))
    };
    seqs.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn without(these: &Seqs, those: &Seqs) -> Seqs {
    let mut left = these.clone();
    for (epoch, set) in &mut left {
        if let Some(gone) = those.get(epoch) {
            set.subtract(gone);
        }
    }
    left.retain(|_, set| !set.is_empty());
    left
}

/// Ages of live records on arrival, milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Ages(Vec<u64>);

impl Ages {
    pub fn push(&mut self, ms: i64) {
        self.0.push(u64::try_from(ms).unwrap_or(0));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Median and largest.
    pub fn spread(&self) -> Option<(u64, u64)> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(ranges: &[(u64, u64, u64)]) -> Seqs {
        let mut set = Seqs::new();
        for &(epoch, from, to) in ranges {
            insert(&mut set, epoch, from, to);
        }
        set
    }

    fn books(recorded: Seqs, delivered: Seqs, declared: Seqs) -> Row {
        Books { recorded, delivered, declared, ..Books::default() }.close()
    }

    #[test]
    fn everything_delivered_is_good() {
        let all = seqs(&[(1, 1, 10), (2, 1, 5)]);
        let row = books(all.clone(), all, Seqs::new());
        assert!(row.good());
        assert_eq!((row.recorded, row.delivered, row.declared, row.lost()), (15, 15, 0, 0));
    }

    #[test]
    fn what_nobody_declared_is_silently_lost_and_named() {
        let row = books(seqs(&[(1, 1, 10)]), seqs(&[(1, 1, 3), (1, 5, 10)]), Seqs::new());
        assert!(!row.good());
        assert_eq!(text(&row.silent), "seq 4");
        assert_eq!(row.recorded, row.delivered + row.declared + row.lost());
    }

    #[test]
    fn a_declared_loss_is_no_silent_one_and_excuses_absence_only() {
        let row = books(seqs(&[(1, 1, 10)]), seqs(&[(1, 1, 7)]), seqs(&[(1, 6, 9)]));
        assert_eq!((row.declared, text(&row.silent).as_str()), (2, "seq 10"));
        // Another epoch's declaration excuses nothing.
        let row = books(seqs(&[(1, 1, 10)]), seqs(&[(1, 1, 7)]), seqs(&[(2, 8, 10)]));
        assert_eq!((row.declared, text(&row.silent).as_str()), (0, "seqs 8..10"));
    }

    #[test]
    fn what_waits_for_the_next_start_is_not_lost_and_what_was_settled_does_not_wait() {
        let (recorded, delivered) = (seqs(&[(1, 1, 10)]), seqs(&[(1, 1, 3), (1, 5, 8)]));
        let row = Books { recorded, delivered, held: seqs(&[(1, 8, 10)]), ..Books::default() }.close();
        assert_eq!((text(&row.held).as_str(), text(&row.silent).as_str()), ("seqs 9..10", "seq 4"));
        assert_eq!((row.recorded, row.delivered + count(&row.held) + row.lost()), (10, 10));
        assert!(!row.good());
    }

    #[test]
    fn what_was_never_recorded_does_not_add_up() {
        let row = books(seqs(&[(1, 1, 10)]), seqs(&[(1, 1, 11)]), Seqs::new());
        assert!(!row.good());
        assert_eq!(row.wrong, ["delivered, but in no outbox: seq 11"]);
        assert!(!books(Seqs::new(), Seqs::new(), Seqs::new()).good());
    }

    #[test]
    fn an_unreadable_outbox_is_not_good() {
        let all = seqs(&[(1, 1, 10)]);
        let doubts = vec!["segment 1: damaged".to_owned()];
        let books = Books { recorded: all.clone(), delivered: all, doubts, ..Books::default() };
        assert!(!books.close().good());
    }

    #[test]
    fn the_median_of_ages_is_not_moved_by_one_late_record() {
        let mut ages = Ages::default();
        assert_eq!(ages.spread(), None);
        [3, 1, 2, 900, -5].into_iter().for_each(|ms| ages.push(ms));
        assert_eq!(ages.spread(), Some((2, 900)));
    }
}
