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
fn retried_records_are_held_again_with_the_same_bytes_even_after_the_loss_was_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, values) = set_aside(dir.path());
    let kept = std::fs::read(&values[0].file).unwrap();
    // A hub confirms the loss, and its acknowledgement covers the seqs.
    let losses = outbox.losses().to_vec();
    outbox.settle_losses(&losses);
    outbox.settle(epoch, &RangeSet::from_iter([1..=6]));
    let decided = outbox.retry_quarantined(&values, at(2)).unwrap();
    assert_eq!((decided.records, decided.gone.len()), (3, 0));
    sound(&outbox);
    assert_eq!(outbox.identity()[0].held, RangeSet::from_iter([3..=5]));
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 3);
    assert_eq!(opened.epochs[0].pending, RangeSet::from_iter([3..=5]), "it is durable");
    let loaded = outbox.load(epoch, 3..=5, 100_000, at(3));
    assert_eq!((loaded.chunks[0].seqs(), loaded.losses), (3..=5, Vec::new()));
    assert!(kept.ends_with(&loaded.chunks[0].maps), "the bytes that were set aside are the ones sent again");
    assert_eq!(quarantine::list(&FileDisk, dir.path()).unwrap().0, []);
}

#[test]
fn dropped_records_stay_declared_and_are_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _, values) = set_aside(dir.path());
    let declared = outbox.losses().to_vec();
    assert_eq!(outbox.drop_quarantined(&values, at(1)).unwrap().records, 3);
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
fn what_made_way_cannot_be_retried_and_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, values) = set_aside(dir.path());
    while outbox.current().segments.keys().next().is_some_and(|first| *first == 1) {
        let next = outbox.append(&[run(4, 1000)], at(0)).unwrap().next_seq;
        outbox.settle(epoch, &RangeSet::from_iter([1..=2, 6..=next - 1]));
    }
    let decided = outbox.retry_quarantined(&values, at(1)).unwrap();
    assert_eq!((decided.records, decided.gone), (0, values.clone()));
    assert!(values[0].file.exists());
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
