//! Full and failing disks: nothing is lost silently, draining goes on, appending comes back.

use std::io::ErrorKind;
use std::sync::Arc;

use super::crash_disk::{Rng, SimDisk};
use super::*;
use crate::wire::Chunk;

fn sim() -> Options {
    Options { max_bytes: 4 << 20, segment_bytes: Some(96 << 10), ..Options::new("/outbox") }
}

fn open_on(disk: &SimDisk) -> (Outbox, Opened) {
    Outbox::open(Arc::new(disk.clone()), sim(), at(0)).unwrap()
}

fn load_all(outbox: &mut Outbox, epoch: u64, mut from: u64, to: u64) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while from <= to {
        let loaded = outbox.load(epoch, from..=to, 1 << 20, at(0));
        let Some(last) = loaded.chunks.last() else { break };
        from = last.last() + 1;
        chunks.extend(loaded.chunks);
    }
    chunks
}

#[test]
fn a_segment_whose_giving_up_fails_half_way_is_neither_lost_nor_in_the_way() {
    let append = |outbox: &mut Outbox, now| outbox.append(&[run(2, 6_000)], at(now)).unwrap();
    let full = SimDisk::new();
    let (mut outbox, _) = open_on(&full);
    while append(&mut outbox, 0).losses.is_empty() {}
    outbox.close(at(1));
    let (mut outbox, _) = open_on(&full.killed());
    let before = (0..).find(|_| !append(&mut outbox, 2).losses.is_empty()).unwrap();
    for (after, times) in (0..8).flat_map(|after| (1..5).map(move |times| (after, times))) {
        let disk = full.killed();
        let (mut outbox, _) = open_on(&disk);
        (0..before).for_each(|_| drop(append(&mut outbox, 2)));
        // In the append that gives up a segment.
        disk.fail(after, times, ErrorKind::Other);
        drop(outbox.append(&[run(2, 6_000)], at(3)));
        disk.world().failure = None;
        for now in 100..130 {
            assert_eq!(
                append(&mut outbox, now).refused,
                0,
                "after {after}, {times} times: {:?}",
                outbox.take_problems()
            );
        }
        let view = outbox.epochs().remove(0);
        let loaded = load_all(&mut outbox, view.epoch, 1, view.next - 1);
        assert_eq!(loaded.iter().map(|chunk| u64::from(chunk.count)).sum::<u64>(), view.pending.len());
        let corrupt = outbox.losses().iter().find(|l| l.reason == LossReason::Corrupt);
        assert!(corrupt.is_none(), "after {after}, {times} times: {corrupt:?}");
    }
}

#[test]
fn a_full_file_system_stops_neither_reading_nor_the_return_to_appending() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_on(&disk);
    let mut stored = Vec::new();
    let mut append = |outbox: &mut Outbox, now: u64| {
        let appended = outbox.append(&[run(2, 700)], at(now))?;
        stored.extend(appended.runs.into_iter().flat_map(|(_, chunks)| chunks));
        Ok::<_, AppendError>(())
    };
    for _ in 0..100 {
        append(&mut outbox, 1).unwrap();
    }
    // Someone else fills the rest.
    let used = disk.world().used();
    disk.world().capacity = Some(used);
    let refused = (2..40).filter(|now| append(&mut outbox, *now).is_err()).count();
    assert!(refused > 30, "{refused}");
    assert!(outbox.is_broken() && !outbox.take_problems().is_empty());
    let epoch = opened.epoch;
    let all = outbox.next_seq() - 1;
    assert_eq!(load_all(&mut outbox, epoch, 1, all).len() as u64, all / 2, "draining goes on");
    // What is settled is given up for new records, on a disk without a free block.
    outbox.settle(epoch, &RangeSet::from_iter([1..=all / 2]));
    let mut now = 200;
    while append(&mut outbox, now).is_err() {
        now += 60;
        assert!(now < 2000, "{:?}", outbox.stats());
    }
    disk.world().capacity = None;
    now += 100;
    for _ in 0..20 {
        append(&mut outbox, now).unwrap();
    }
    drop(outbox);
    let (mut outbox, opened) = open_on(&disk);
    assert_eq!(opened.epoch, epoch);
    assert_eq!(opened.losses, [], "nothing was lost");
    let held = &opened.epochs[0].pending;
    for chunk in stored.iter().filter(|c| held.contains(c.first)) {
        assert_eq!(outbox.load(epoch, chunk.seqs(), 1, at(0)).chunks, std::slice::from_ref(chunk));
    }
    assert!(held.len() >= all / 2);
}

#[test]
fn memory_that_overflows_on_a_full_disk_makes_the_oldest_segment_give_way() {
    let disk = SimDisk::new();
    let (mut outbox, _) = open_on(&disk);
    for _ in 0..100 {
        outbox.append(&[run(2, 700)], at(1)).unwrap();
    }
    let used = disk.world().used();
    disk.world().capacity = Some(used);
    while outbox.append(&[run(2, 700)], at(2)).is_ok() {}
    outbox.owe(7, LossReason::Memory, Times { t0: 1, t1: 2 });
    assert!(outbox.make_way(at(3)));
    let appended = outbox.append(&[run(2, 700)], at(3)).unwrap();
    let reasons: Vec<_> = appended.losses.iter().map(|l| l.reason).collect();
    assert!(reasons.contains(&LossReason::Quota) && reasons.contains(&LossReason::Memory), "{:?}", appended.losses);
    let burned = appended.losses.iter().find(|l| l.reason == LossReason::Memory).unwrap();
    assert_eq!((burned.count, burned.t0, burned.t1), (7, 1, 2));
    drop(outbox);
    let (outbox, opened) = open_on(&disk);
    assert!(opened.losses.contains(burned), "{:?}", opened.losses);
    assert!(outbox.identity().iter().all(Identity::holds));
}

#[test]
fn drop_newest_keeps_what_it_has_and_declares_what_it_refuses() {
    let disk = SimDisk::new();
    let options = Options { max_bytes: 1 << 20, drop: DropPolicy::DropNewest, ..sim() };
    let (mut outbox, opened) = Outbox::open(Arc::new(disk.clone()), options.clone(), at(0)).unwrap();
    let (mut refused, mut lost) = (0, 0);
    for i in 0..400 {
        let appended = outbox.append(&[run(2, 1500)], at(i)).unwrap();
        refused += appended.refused;
        lost += appended.losses.iter().chain(&outbox.maintain(at(i))).map(|l| l.count).sum::<u64>();
        assert!(disk.world().used() <= 1 << 20, "{} at {i}", disk.world().used());
    }
    assert!(refused > 100 && lost > 0 && lost <= refused, "{refused} {lost}");
    let view = &outbox.epochs()[0];
    assert_eq!(view.pending.first(), Some(1), "the oldest stay");
    assert_eq!(view.pending.len() + lost, view.next - 1);
    outbox.close(at(500));
    let (outbox, again) = Outbox::open(Arc::new(disk), options, at(501)).unwrap();
    assert_eq!(again.epoch, opened.epoch);
    assert!(outbox.losses().iter().all(|l| l.reason == LossReason::Quota));
    assert_eq!(outbox.losses().iter().map(|l| l.count).sum::<u64>(), refused);
}

#[test]
fn an_error_at_any_operation_loses_nothing_that_was_stored() {
    let first = super::crash::seed();
    let mut rng = Rng(first | 1);
    let mut tried = 0;
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for after in (0..160).step_by(2) {
            tried += 1;
            let disk = SimDisk::new();
            let (mut outbox, opened) = open_on(&disk);
            disk.fail(after, 1 + rng.below(6), kind);
            let mut stored: Vec<Chunk> = Vec::new();
            let mut waiting: Vec<Run> = Vec::new();
            for i in 0..30 {
                waiting.push(run(1 + i % 3, 200 * i));
                let now = at(10 + 70 * i as u64);
                if let Ok(appended) = outbox.append(&waiting, now) {
                    waiting.clear();
                    stored.extend(appended.runs.into_iter().flat_map(|(_, chunks)| chunks));
                }
                drop(outbox.maintain(now));
            }
            assert!(waiting.is_empty(), "appending comes back ({kind}, {after})");
            let seqs: Vec<u64> = stored.iter().flat_map(Chunk::seqs).collect();
            assert!(seqs.windows(2).all(|w| w[0] < w[1]), "a seq was used twice ({kind}, {after})");
            if rng.one_in(2) {
                drop(outbox);
            } else {
                outbox.close(at(9000));
            }
            // Half of the time the machine loses power too.
            let disk = if rng.one_in(2) { disk.world().crash(&mut rng) } else { disk };
            let (mut outbox, again) = open_on(&disk);
            assert_eq!((again.epoch, &again.losses), (opened.epoch, &vec![]), "{kind}, {after}: {:?}", again.problems);
            let last = again.next_seq - 1;
            assert_eq!(load_all(&mut outbox, again.epoch, 1, last), stored, "{kind}, {after}, HOLDOVER_SEED={first}");
        }
    }
    eprintln!("{tried} failures planted");
}

#[test]
fn a_directory_that_is_full_from_the_start_is_opened_and_waits() {
    let disk = SimDisk::new();
    disk.world().capacity = Some(0);
    let (mut outbox, opened) = open_on(&disk);
    assert!(!opened.problems.is_empty());
    assert!(outbox.append(&[run(1, 1)], at(0)).is_err());
    disk.world().capacity = None;
    assert_eq!(outbox.append(&[run(1, 1)], at(100)).unwrap().next_seq, 2);
}
