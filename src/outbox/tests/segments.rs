//! Which file records go to: the present segment, the next one, or the small one of an earlier run written anew; what it
//! is called; and what gives way for it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash_disk::SimDisk;
use super::*;

fn sim() -> Options {
    Options { max_bytes: 8 << 20, segment_bytes: Some(1 << 20), ..Options::new("/outbox") }
}

fn open_with(disk: &SimDisk, options: Options) -> (Outbox, Opened) {
    Outbox::open(Arc::new(disk.clone()), options, at(0)).unwrap()
}

/// Names of the files of the only epoch.
fn files(disk: &SimDisk) -> Vec<String> {
    let root = Path::new("/outbox");
    let entries = disk.list(root).unwrap();
    let dirs: Vec<PathBuf> = entries.iter().filter(|entry| entry.is_dir).map(|entry| root.join(&entry.name)).collect();
    assert_eq!(dirs.len(), 1, "{dirs:?}");
    disk.list(&dirs[0]).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn starts_pile_up_no_small_segments_and_leave_large_ones_as_they_are() {
    let disk = SimDisk::new();
    let mut next = 1;
    for _ in 0..5 {
        let (mut outbox, opened) = open_with(&disk, sim());
        assert_eq!(opened.next_seq, next, "{:?}", opened.problems);
        next = outbox.append(&[run(2, 100)], at(0)).unwrap().next_seq;
    }
    assert_eq!(files(&disk), [format!("{:020}.seg", 1)]);
    let (mut outbox, _) = open_with(&disk, sim());
    // More than a quarter of a segment.
    for _ in 0..30 {
        next = outbox.append(&[run(4, 3000)], at(0)).unwrap().next_seq;
    }
    drop(outbox);
    let (mut outbox, opened) = open_with(&disk, sim());
    assert_eq!(opened.epochs[0].pending.len(), next - 1);
    // It is called by the last seq that it holds.
    assert_eq!(files(&disk), [format!("{:020}-{:020}.seg", 1, next - 1), format!("{next:020}.seg")]);
    assert_eq!(drain(&mut outbox).iter().map(|(_, n)| u64::from(*n)).sum::<u64>(), next - 1);
}

#[test]
fn a_segment_that_is_all_there_is_makes_way_and_nothing_is_refused() {
    let disk = SimDisk::new();
    // Never full before the outbox is.
    let (mut outbox, _) = open_with(&disk, Options { max_bytes: 1 << 20, ..sim() });
    let mut lost = 0;
    for _ in 0..200 {
        let appended = outbox.append(&[run(4, 3000)], at(0)).unwrap();
        assert_eq!(appended.refused, 0);
        lost += appended.losses.iter().map(|loss| loss.count).sum::<u64>();
    }
    let identity = &outbox.identity()[0];
    assert!(lost > 0 && identity.holds() && identity.held.len() + lost == 800, "{lost} lost: {identity:?}");
}

#[test]
fn what_made_way_in_vain_is_told_with_the_refusal() {
    let disk = SimDisk::new();
    let (mut outbox, _) = open_with(&disk, Options { max_bytes: 1 << 20, segment_bytes: Some(128 << 10), ..sim() });
    let stored = outbox.append(&[run(40, 3000)], at(0)).unwrap().next_seq - 1;
    let appended = outbox.append(&[run(50, 15_000)], at(0)).unwrap();
    assert_eq!((appended.refused, appended.runs.len()), (50, 0), "it never fits");
    assert_eq!(appended.losses.iter().map(|loss| loss.count).sum::<u64>(), stored, "{:?}", appended.losses);
}

#[test]
fn after_a_failure_the_disk_is_left_alone_until_it_is_time() {
    let disk = SimDisk::new();
    let (mut outbox, _) = open_with(&disk, sim());
    disk.fail(0, u64::MAX, ErrorKind::Other);
    let AppendError::Unavailable { retry_in, attempted, .. } = outbox.append(&[run(1, 10)], at(10)).unwrap_err();
    assert!(attempted && retry_in >= Duration::from_secs(1));
    disk.world().failure = None;
    let operations = disk.world().operations;
    let early = outbox.append(&[run(1, 10)], at(10)).unwrap_err();
    let AppendError::Unavailable { retry_in: wait, attempted, .. } = early;
    assert_eq!((wait, attempted, disk.world().operations), (retry_in, false, operations));
    assert_eq!(outbox.append(&[run(1, 10)], at(10 + retry_in.as_secs())).unwrap().next_seq, 2);
}
