//! What a person may do with records that no broker took: list them, have them sent again, delete them.

use super::*;
use crate::outbox::quarantine::{self, Quarantined};

/// Seqs 3 to 5 of six are set aside.
fn set_aside(dir: &Path) -> (Outbox, u64, Vec<Quarantined>) {
    let (mut outbox, opened) = open(dir, 0);
    let epoch = opened.epoch;
    outbox.append(&[run(2, 10), run(3, 10), run(1, 10)], at(0)).unwrap();
    let losses = outbox.quarantine(epoch, 3..=5, "refused", at(0)).unwrap();
    assert_eq!(losses.len(), 1);
    let (values, notes) = quarantine::list(&FileDisk, dir).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(values.iter().map(Quarantined::seqs).collect::<Vec<_>>(), [3..=5]);
    assert!(values[0].bytes > 0 && values[0].t0 != 0 && values[0].t0 <= values[0].t1 && !values[0].names.is_empty());
    (outbox, epoch, values)
}

fn sound(outbox: &Outbox) {
    assert!(outbox.identity().iter().all(Identity::holds), "{:?}", outbox.identity());
}

#[test]
fn retried_records_get_new_seqs_even_after_the_loss_was_confirmed_and_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, values) = set_aside(dir.path());
    let losses = outbox.losses().to_vec();
    outbox.settle_losses(&losses);
    outbox.settle(epoch, &RangeSet::from_iter([1..=6]));
    assert_eq!(outbox.retry_quarantined(&values, at(2)), Ok(3));
    sound(&outbox);
    assert_eq!(outbox.identity()[0].held, RangeSet::from_iter([7..=9]));
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 3);
    assert_eq!(opened.epochs[0].pending, RangeSet::from_iter([7..=9]), "it is durable");
    let again = outbox.load(epoch, 7..=9, 100_000, at(3)).chunks;
    let before = outbox.load(epoch, 1..=6, 100_000, at(3)).chunks;
    let contents = |chunks: &[crate::wire::Chunk], seqs: std::ops::RangeInclusive<u64>| -> Vec<crate::record::Record> {
        let records = chunks.iter().flat_map(|chunk| chunk.records()).filter(|(seq, _)| seqs.contains(seq));
        records.map(|(_, map)| crate::record::Record { seq: 0, ..rmp_serde::from_slice(map).unwrap() }).collect()
    };
    assert_eq!(contents(&again, 7..=9), contents(&before, 3..=5), "all but the seq is as it was");
    assert_eq!(quarantine::list(&FileDisk, dir.path()).unwrap().0, []);
}

#[test]
fn dropped_records_stay_declared_and_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _, values) = set_aside(dir.path());
    let declared = outbox.losses().to_vec();
    assert_eq!(outbox.drop_quarantined(&values, at(1)).unwrap(), 3);
    sound(&outbox);
    let identity = &outbox.identity()[0];
    assert_eq!((identity.quarantined, identity.lost[&LossReason::Quarantined], identity.held.len()), (0, 3, 3));
    assert_eq!(outbox.losses(), declared);
    drop(outbox);
    let (outbox, opened) = open(dir.path(), 2);
    assert_eq!((opened.epochs[0].pending.len(), outbox.identity()[0].lost[&LossReason::Quarantined]), (3, 3));
    assert_eq!(quarantine::list(&FileDisk, dir.path()).unwrap().0, []);
}

#[test]
fn what_made_way_is_retried_from_its_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, values) = set_aside(dir.path());
    let mut next = 0;
    while outbox.current().segments.keys().next().is_some_and(|first| *first == 1) {
        next = outbox.append(&[run(4, 1000)], at(0)).unwrap().next_seq;
        outbox.settle(epoch, &RangeSet::from_iter([1..=2, 6..=next - 1]));
    }
    assert_eq!(outbox.retry_quarantined(&values, at(1)), Ok(3));
    assert!(outbox.identity()[0].held.covers(next..=next + 2));
    assert!(!values[0].file.exists());
    sound(&outbox);
}

#[test]
fn a_file_that_its_checksum_does_not_prove_is_named_and_listed_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (_outbox, _, values) = set_aside(dir.path());
    let mut bytes = std::fs::read(&values[0].file).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    std::fs::write(&values[0].file, bytes).unwrap();
    std::fs::write(values[0].file.with_file_name("x-1.value"), b"").unwrap();
    let (listed, notes) = quarantine::list(&FileDisk, dir.path()).unwrap();
    assert_eq!((listed.len(), notes.len()), (0, 2), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("checksum")), "{notes:?}");
}
