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
fn settled_records_that_are_refused_when_asked_for_again_are_declared_and_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let epoch = opened.epoch;
    outbox.append(&[run(2, 10), run(3, 10), run(1, 10)], at(0)).unwrap();
    outbox.settle(epoch, &RangeSet::from_iter([1..=6]));
    outbox.save(at(0)).unwrap();
    let told = |losses: &[Loss]| losses.iter().map(|l| (l.from, l.to, l.count, l.reason)).collect::<Vec<_>>();
    let declared = [(3, Some(5), 3, LossReason::Quarantined)];
    assert_eq!(told(&outbox.quarantine(epoch, 3..=5, "refused", at(1)).unwrap()), declared);
    sound(&outbox);
    let identity = &outbox.identity()[0];
    assert_eq!((identity.settled, identity.quarantined, identity.held.len()), (3, 3, 0));
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 2);
    assert_eq!(told(&opened.losses), declared, "durable, and told until it is confirmed");
    outbox.settle_losses(&opened.losses);
    // Whoever asks again is told again, and no broker is given what it refuses.
    let loaded = outbox.load(epoch, 3..=5, 100_000, at(2));
    assert_eq!((loaded.chunks.len(), told(&loaded.losses)), (0, declared.to_vec()));
    let (values, _) = quarantine::list(&FileDisk, dir.path()).unwrap();
    assert_eq!(outbox.retry_quarantined(&values, at(3)), Ok(3), "a person may send them again");
    sound(&outbox);
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
    assert!(!values[0].value().unwrap().exists());
    sound(&outbox);
}

#[test]
fn a_file_that_its_checksum_does_not_prove_is_named_and_can_only_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, values) = set_aside(dir.path());
    let file = values[0].value().unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    let end = bytes.len() - 3;
    bytes[end] ^= 1;
    std::fs::write(file, bytes).unwrap();
    std::fs::write(file.with_file_name("x-1.value"), b"").unwrap();
    let (listed, notes) = quarantine::list(&FileDisk, dir.path()).unwrap();
    assert_eq!((listed.len(), notes.len()), (1, 2), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("checksum")), "{notes:?}");
    assert_eq!((listed[0].seqs(), &listed[0].file), (3..=5, &None));
    let why = outbox.retry_quarantined(&listed, at(1)).unwrap_err();
    let drop = format!("quarantine drop 3-5 --epoch {epoch}");
    assert!(why.contains("seqs 3 to 5") && why.contains("no longer kept") && why.contains(&drop), "{why}");
    assert_eq!(outbox.drop_quarantined(&listed, at(1)), Ok(3));
    assert!(!file.exists(), "the broken file goes with them");
    assert_eq!(quarantine::list(&FileDisk, dir.path()).unwrap().0, []);
    sound(&outbox);
}

#[test]
fn values_that_made_way_for_newer_ones_are_still_listed_and_can_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let epoch = opened.epoch;
    for seq in 1..=40 {
        outbox.append(&[run(1, 15_000)], at(0)).unwrap();
        outbox.quarantine(epoch, seq..=seq, "refused", at(0)).unwrap();
    }
    outbox.maintain(at(61));
    let (listed, notes) = quarantine::list(&FileDisk, dir.path()).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let all: RangeSet = listed.iter().map(Quarantined::seqs).collect();
    assert_eq!(all, RangeSet::from_iter([1..=40]), "each once, with its value or without");
    let (kept, gone): (Vec<_>, Vec<_>) = listed.into_iter().partition(|value| value.file.is_some());
    assert!(!kept.is_empty() && !gone.is_empty(), "{} kept, {} gone", kept.len(), gone.len());
    let without: u64 = gone.iter().map(|value| value.to - value.from + 1).sum();
    assert_eq!(outbox.drop_quarantined(&gone, at(62)), Ok(without));
    assert_eq!(quarantine::list(&FileDisk, dir.path()).unwrap().0, kept);
    assert_eq!(outbox.identity()[0].lost[&LossReason::Quarantined], without);
    sound(&outbox);
}

#[test]
fn a_settled_value_set_aside_while_the_state_cannot_be_saved_stays_declared_when_its_segment_makes_way() {
    let disk = crash_disk::SimDisk::new();
    let open = |disk: &crash_disk::SimDisk, now| {
        Outbox::open(Arc::new(disk.clone()), options(Path::new("/outbox")), at(now)).unwrap()
    };
    let (mut outbox, opened) = open(&disk, 0);
    let epoch = opened.epoch;
    let mut next = 1;
    while outbox.current().segments.len() < 2 {
        next = outbox.append(&[run(4, 1000)], at(0)).unwrap().next_seq;
    }
    outbox.settle(epoch, &RangeSet::from_iter([1..=next - 1]));
    outbox.save(at(0)).unwrap();
    disk.fail(0, u64::MAX, std::io::ErrorKind::Other);
    outbox.quarantine(epoch, 5..=8, "refused", at(1)).unwrap_err();
    disk.world().failure = None;
    outbox.release_settled();
    assert!(!outbox.current().segments.contains_key(&1), "it made way");
    let (outbox, opened) = open(&disk.killed(), 2);
    let told: Vec<_> = opened.losses.iter().map(|l| (l.from, l.to, l.count)).collect();
    assert_eq!(told, [(5, Some(8), 4)]);
    sound(&outbox);
}
