//! What is asked for again: read back from what is kept, or declared again as what it is; and an epoch that ends early.

use super::*;
use crate::outbox::redraw::STEP;

/// Settled records of which the oldest segments have made way for newer ones: the epoch, and the first seq still there.
fn settled_and_dropped(dir: &Path) -> (Outbox, u64, u64) {
    let (mut outbox, opened) = open(dir, 0);
    let epoch = opened.epoch;
    for _ in 0..1500 {
        let appended = outbox.append(&[run(4, 1000)], at(0)).unwrap();
        assert!(appended.losses.is_empty(), "settled ones go first: {:?}", appended.losses);
        outbox.settle(epoch, &RangeSet::from_iter([1..=appended.next_seq - 1]));
    }
    let first = outbox.current().segments.keys().next().copied().unwrap();
    assert!(first > 100);
    (outbox, epoch, first)
}

#[test]
fn settled_records_are_loaded_again_while_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, first) = settled_and_dropped(dir.path());
    let loaded = outbox.load(epoch, first..=first + 7, 100_000, at(1));
    assert_eq!(loaded.chunks.iter().map(|c| u64::from(c.count)).sum::<u64>(), 8);
    assert!(loaded.losses.is_empty());
}

#[test]
fn what_was_settled_and_made_way_is_declared_to_who_asks_and_stays_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, first) = settled_and_dropped(dir.path());
    let before = outbox.identity();
    let loaded = outbox.load(epoch, first - 10..=first + 3, 100_000, at(1));
    let gone =
        Loss { epoch, from: first - 10, to: Some(first - 1), count: 10, reason: LossReason::Quota, t0: 0, t1: 0 };
    assert_eq!(loaded.losses, std::slice::from_ref(&gone));
    assert_eq!(loaded.chunks.first().map(|c| c.first), Some(first));
    assert_eq!(outbox.identity(), before);
    assert_eq!(outbox.losses(), std::slice::from_ref(&gone), "told again until it is confirmed");
    outbox.settle_losses(&[gone]);
    assert!(outbox.losses().is_empty());
    // Somebody else asks.
    assert_eq!(outbox.load(epoch, first - 2..=first - 1, 1000, at(1)).losses[0].count, 2);
}

#[test]
fn a_confirmed_loss_is_declared_again_with_its_own_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let epoch = opened.epoch;
    let appended = outbox.append(&[run(1, 10), run(1, 17_000), run(1, 10)], at(0)).unwrap();
    outbox.settle_losses(&appended.losses);
    assert!(outbox.losses().is_empty());
    outbox.settle(epoch, &RangeSet::from_iter([1..=3]));
    let loaded = outbox.load(epoch, 2..=3, 100_000, at(1));
    let told: Vec<_> = loaded.losses.iter().map(|l| (l.from, l.to, l.reason)).collect();
    // An acknowledgement up to 3 covers what was declared as well.
    assert_eq!(told, [(2, Some(2), LossReason::Quota)]);
    let (mut outbox2, epoch2) = {
        let dir = tempfile::tempdir().unwrap();
        let (mut outbox, opened) = open(dir.path(), 0);
        let appended = outbox.append(&[run(1, 10), run(1, 17_000), run(1, 10)], at(0)).unwrap();
        outbox.settle_losses(&appended.losses);
        (outbox, opened.epoch)
    };
    let loaded = outbox2.load(epoch2, 2..=3, 100_000, at(1));
    assert_eq!(loaded.losses[0].reason, LossReason::Oversize);
}

#[test]
fn what_is_asked_of_an_epoch_that_was_forgotten_is_declared_until_it_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let old = opened.epoch;
    outbox.append(&[run(4, 1000)], at(0)).unwrap();
    outbox.begin_epoch(at(1));
    outbox.settle(old, &RangeSet::from_iter([1..=4]));
    // Its segment makes way, and with the next save nothing is left of it.
    outbox.release_settled();
    outbox.save(at(1)).unwrap();
    outbox.save(at(2)).unwrap();
    assert!(outbox.epochs().iter().all(|view| view.epoch != old), "{:?}", outbox.epochs());
    let loaded = outbox.load(old, 2..=4, 1000, at(3));
    let gone = Loss { epoch: old, from: 2, to: Some(4), count: 3, reason: LossReason::Mixed, t0: 0, t1: 0 };
    assert_eq!((loaded.chunks.len(), loaded.losses), (0, vec![gone.clone()]));
    outbox.save(at(3)).unwrap();
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 4);
    assert_eq!(opened.losses, std::slice::from_ref(&gone), "told again until it is confirmed");
    outbox.settle_losses(&[gone]);
    assert_eq!(outbox.losses(), []);
}

#[test]
fn quarantined_records_are_not_handed_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let epoch = opened.epoch;
    outbox.append(&[run(1, 10), run(1, 10), run(1, 10)], at(0)).unwrap();
    let losses = outbox.quarantine(epoch, 2..=2, "refused", at(0)).unwrap();
    outbox.settle_losses(&losses);
    let loaded = outbox.load(epoch, 2..=3, 1, at(1));
    assert_eq!(loaded.chunks.iter().map(|c| c.first).collect::<Vec<_>>(), [3]);
    assert_eq!(loaded.losses.iter().map(|l| (l.from, l.reason)).collect::<Vec<_>>(), [(2, LossReason::Quarantined)]);
}

#[test]
fn a_settled_record_that_is_asked_for_and_that_no_broker_takes_is_declared() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let epoch = opened.epoch;
    outbox.append(&[run(1, 10), run(1, 10), run(1, 10)], at(0)).unwrap();
    outbox.settle(epoch, &RangeSet::from_iter([1..=3]));
    let losses = outbox.quarantine(epoch, 2..=2, "too large for this broker", at(0)).unwrap();
    assert_eq!(losses.iter().map(|l| (l.from, l.reason)).collect::<Vec<_>>(), [(2, LossReason::Quarantined)]);
    assert!(outbox.load(epoch, 2..=2, 1, at(1)).chunks.is_empty(), "it would be refused again and again");
    assert!(outbox.identity().iter().all(Identity::holds));
}

#[test]
fn what_was_settled_and_declared_in_parts_is_confirmed_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, epoch, first) = settled_and_dropped(dir.path());
    let mut told = Vec::new();
    for range in [first - 10..=first - 6, first - 5..=first - 1] {
        told.extend(outbox.load(epoch, range, 1000, at(1)).losses);
    }
    assert_eq!((told.len(), outbox.losses().len()), (2, 1), "neighbours became one");
    outbox.settle_losses(&told);
    assert_eq!(outbox.losses(), []);
}

#[test]
fn quarantined_values_stay_within_the_quota_from_the_first() {
    let disk = crash_disk::SimDisk::new();
    let options = Options { max_bytes: 1 << 20, segment_bytes: Some(128 << 10), ..Options::new("/outbox") };
    let (mut outbox, opened) = Outbox::open(Arc::new(disk.clone()), options, at(0)).unwrap();
    for _ in 0..100 {
        outbox.append(&[run(1, 12_000)], at(0)).unwrap();
        let used = disk.world().used();
        assert!(used <= 1 << 20, "{used} bytes");
    }
    let from = opened.epochs[0].next.max(outbox.epochs()[0].pending.first().unwrap());
    for seq in from..=100 {
        outbox.quarantine(opened.epoch, seq..=seq, "refused", at(0)).unwrap();
        let used = disk.world().used();
        assert!(used <= 1 << 20, "{used} bytes after seq {seq} was set aside");
    }
    // As many as their share has room for: no more of them made way than had to.
    let values = disk.list(&Path::new("/outbox").join(names::QUARANTINE)).unwrap();
    let (share, most) = ((1 << 20) / 20, values.iter().map(|entry| entry.blocks).max().unwrap());
    let kept: u64 = values.iter().map(|entry| entry.blocks).sum();
    assert!(kept <= share && kept + most > share, "{kept} of {share} bytes");
}

#[test]
fn an_epoch_that_is_given_up_is_kept_and_the_next_counts_from_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let old = opened.epoch;
    outbox.append(&[run(3, 10)], at(0)).unwrap();
    outbox.begin_epoch(at(1));
    let appended = outbox.append(&[run(2, 10)], at(1)).unwrap();
    assert!(outbox.epoch() != old && appended.next_seq == 3);
    assert_eq!(outbox.load(old, 1..=3, 1000, at(1)).chunks[0].count, 3);
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 2);
    assert_eq!((opened.epochs.len(), opened.next_seq), (2, 3), "{:?}", opened.problems);
    assert_eq!((opened.epochs[0].epoch, opened.epochs[0].next, opened.epochs[1].prev), (old, 4, Some(old)));
    assert_eq!(opened.losses, []);
    assert_eq!(drain(&mut outbox).iter().map(|(_, n)| *n).sum::<u32>(), 5);
}

#[test]
fn what_was_not_delivered_of_an_epoch_that_is_given_up_is_drawn_anew_and_declared() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    let old = opened.epoch;
    for _ in 0..400 {
        outbox.append(&[run(4, 400)], at(0)).unwrap();
    }
    outbox.settle(old, &RangeSet::from_iter([1..=400]));
    outbox.begin_epoch(at(1));
    let (mut redrawn, mut lost, mut steps) = (0, 0, 0);
    while let Some(appended) = outbox.redraw(at(1)).unwrap() {
        redrawn += appended.runs.iter().flat_map(|(_, chunks)| chunks).map(|c| u64::from(c.count)).sum::<u64>();
        assert!(appended.losses.iter().all(|l| l.epoch == old && l.reason == LossReason::Epoch));
        lost += appended.losses.iter().map(|l| l.count).sum::<u64>();
        steps += 1;
    }
    assert_eq!((redrawn, lost), (1200, 1200));
    assert!(steps > 2, "in steps of {STEP} bytes");
    assert_eq!(outbox.next_seq(), 1201);
    assert_eq!(outbox.epochs()[0].pending.len(), 0);
    outbox.save(at(1)).unwrap();
    drop(outbox);
    let (outbox, opened) = open(dir.path(), 2);
    assert_eq!((opened.next_seq, opened.losses.iter().map(|l| l.count).sum::<u64>()), (1201, 1200));
    let pending: Vec<u64> = outbox.epochs().iter().map(|e| e.pending.len()).collect();
    assert_eq!(pending, [0, 1200]);
}

#[test]
fn an_epoch_without_a_record_can_be_given_up_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    outbox.begin_epoch(at(0));
    assert!(outbox.redraw(at(0)).unwrap().is_none());
    outbox.append(&[run(2, 10)], at(0)).unwrap();
    assert_ne!(outbox.epoch(), opened.epoch);
    drop(outbox);
    let (mut outbox, _) = open(dir.path(), 1);
    assert_eq!(drain(&mut outbox).iter().map(|(_, n)| *n).sum::<u32>(), 2);
}

/// Their `mono` may be of an earlier boot: by this one's they would be given up for their age at once.
#[test]
fn what_is_drawn_anew_ages_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _) = open(dir.path(), 0);
    outbox.append(&[run(3, 10)], at(1000)).unwrap();
    assert_eq!(outbox.stats().oldest_ms, Some(at(0).wall_ms), "made when the host had just booted");
    outbox.begin_epoch(at(9000));
    while outbox.redraw(at(9000)).unwrap().is_some() {}
    assert_eq!(outbox.stats().oldest_ms, Some(at(9000).wall_ms));
}

#[test]
fn notes_are_bounded_in_number_and_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _) = open(dir.path(), 0);
    assert!(outbox.set_note("key", &"x".repeat(2045)) && !outbox.set_note("key", &"x".repeat(2046)));
    assert_eq!(outbox.note("key").map(str::len), Some(2045), "what was refused has changed nothing");
    assert!((1..16).all(|i| outbox.set_note(&i.to_string(), "x")));
    assert!(!outbox.set_note("16", "x") && outbox.set_note("15", "y"), "one that is there may be changed");
    assert!(outbox.set_note("15", "") && outbox.set_note("16", "x"), "a removed one makes room");
}

#[test]
fn notes_survive_a_kill_once_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _) = open(dir.path(), 0);
    assert!(outbox.set_note("hub", "acknowledged"));
    outbox.save(at(0)).unwrap();
    drop(outbox);
    let (_, opened) = open(dir.path(), 1);
    assert_eq!(opened.notes.get("hub").map(String::as_str), Some("acknowledged"));
}

/// A commit fails at each of its operations and its disk with it; then the epoch is given up. What the failed commit left in the
/// file is stored in the next epoch, and there alone, for every process that comes after.
#[test]
fn what_a_failed_commit_left_in_an_epoch_that_is_given_up_is_stored_in_the_next_alone() {
    let options = || Options { max_bytes: 4 << 20, segment_bytes: Some(128 << 10), ..Options::new("/outbox") };
    let mut left_whole = 0;
    for after in 0..40 {
        for empty in [false, true] {
            let disk = crash_disk::SimDisk::new();
            let (mut outbox, opened) = Outbox::open(Arc::new(disk.clone()), options(), at(0)).unwrap();
            if !empty {
                outbox.append(&[run(2, 10)], at(0)).unwrap();
            }
            let known = outbox.next_seq();
            disk.fail(after, u64::MAX, std::io::ErrorKind::Other);
            let failed = outbox.append(&[run(3, 10)], at(1)).is_err();
            if !failed {
                continue;
            }
            // While the disk refuses it comes to nothing; a kill then finds what the commit left, and goes on with it.
            outbox.begin_epoch(at(1));
            let killed = Outbox::open(Arc::new(disk.killed()), options(), at(2)).unwrap().1;
            left_whole += u64::from(killed.epochs[0].next > known);
            disk.world().failure = None;
            outbox.append(&[run(3, 10)], at(100)).unwrap();
            while outbox.redraw(at(100)).unwrap().is_some() {}
            assert!(outbox.identity().iter().all(Identity::holds), "{:?}", outbox.identity());
            outbox.save(at(100)).unwrap();
            let (outbox, opened_again) = Outbox::open(Arc::new(disk.killed()), options(), at(101)).unwrap();
            let old = opened_again.epochs.iter().find(|view| view.epoch == opened.epoch);
            assert_eq!(old.map_or(known, |view| view.next), known, "failed after {after} operations: {opened_again:?}");
            assert!(old.is_none_or(|view| !view.in_doubt && view.pending.is_empty()), "{opened_again:?}");
            let held = outbox.epochs().iter().map(|view| view.pending.len()).sum::<u64>();
            assert_eq!(held, known - 1 + 3, "failed after {after} operations: {:?}", outbox.identity());
            assert_eq!(outbox.epochs().len() as u64, 1 + u64::from(old.is_some()));
        }
    }
    assert!(left_whole > 0, "no failed commit left anything: this has tested nothing");
}
