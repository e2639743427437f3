//! What became of what applications handed over since the socket was opened: for `status`.

use serde::Serialize;

use crate::put::{Answer, Kind};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Answered.
    batches: u64,
    /// Records, durable.
    stored: u64,
    /// Lines that are no records.
    refused: u64,
    /// Batches with an error, by its kind.
    failed: Failed,
    /// Of the latest of them, or of the latest line that was refused.
    last_error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Failed {
    invalid: u64,
    oversize: u64,
    busy: u64,
    unwritable: u64,
    unknown: u64,
}

impl Tally {
    pub fn count(&mut self, answer: &Answer) {
        self.batches += 1;
        self.stored += answer.stored;
        self.refused += answer.refused.len() as u64;
        if let Some(line) = answer.refused.last() {
            self.last_error = Some(line.reason.clone());
        }
        let Some(trouble) = &answer.error else { return };
        *match trouble.kind {
            Kind::Invalid => &mut self.failed.invalid,
            Kind::Oversize => &mut self.failed.oversize,
            Kind::Busy => &mut self.failed.busy,
            Kind::Unwritable => &mut self.failed.unwritable,
            Kind::Unknown => &mut self.failed.unknown,
        } += 1;
        self.last_error = Some(trouble.message.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::put::{Refused, Trouble};

    #[test]
    fn every_answer_is_counted_where_it_belongs() {
        let mut tally = Tally::default();
        let line = |line| Refused { line, reason: "no field".to_owned() };
        tally.count(&Answer { stored: 3, refused: vec![line(1), line(5)], ..Answer::default() });
        assert_eq!(tally.last_error.as_deref(), Some("no field"));
        for kind in [Kind::Invalid, Kind::Oversize, Kind::Busy, Kind::Busy, Kind::Unwritable, Kind::Unknown] {
            tally.count(&Answer { error: Some(Trouble::new(kind, format!("{kind:?}"))), ..Answer::default() });
        }
        let failed = Failed { invalid: 1, oversize: 1, busy: 2, unwritable: 1, unknown: 1 };
        let last_error = Some("Unknown".to_owned());
        assert_eq!(tally, Tally { batches: 7, stored: 3, refused: 2, failed, last_error });
    }
}
