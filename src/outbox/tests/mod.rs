//! The outbox on the real file system.

mod accounting;
mod asking;
mod bytes;
mod crash;
#[path = "../../../tests/support/crash_disk.rs"]
mod crash_disk;
mod damage;
mod full;
mod inspecting;
mod model;
mod proven;
mod putting;
mod quarantine;
mod reread;
mod segments;
mod starting;
mod turns;
mod writing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Now;
use crate::record::{ClockContext, Fields, Point, Run, Tags, Value};

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now { mono, boot: mono, wall_ms: 1_700_000_000_000 + seconds as i64 * 1000 }
}

fn run(points: usize, size: usize) -> Run {
    let point = |i: usize| Point {
        ts: 1_700_000_000_000 + i as i64,
        mono: i as u64,
        name: "system.cpu".into(),
        tags: Tags::new(),
        fields: Fields::from([("text".into(), Value::Str("x".repeat(size)))]),
        error: None,
    };
    let context = ClockContext { boot: Arc::from("boot-1"), synced: true };
    Run { collector: Arc::from("cpu"), context, points: (0..points).map(point).collect() }
}

fn options(dir: &Path) -> Options {
    Options { max_bytes: 4 << 20, segment_bytes: Some(128 << 10), ..Options::new(dir) }
}

fn open(dir: &Path, seconds: u64) -> (Outbox, Opened) {
    Outbox::open(Arc::new(FileDisk), options(dir), at(seconds)).unwrap()
}

/// Everything held, loaded in small bites: (first seq, records) of each chunk.
fn drain(outbox: &mut Outbox) -> Vec<(u64, u32)> {
    let mut seen = Vec::new();
    for view in outbox.epochs() {
        let mut from = 1;
        while from < view.next {
            let loaded = outbox.load(view.epoch, from..=view.next - 1, 8000, at(1));
            assert_eq!(loaded.failed, None);
            let Some(last) = loaded.chunks.last().map(crate::wire::Chunk::last) else { break };
            seen.extend(loaded.chunks.iter().map(|c| (c.first, c.count)));
            from = last + 1;
        }
    }
    seen
}

#[test]
fn what_was_appended_is_loaded_after_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, opened) = open(dir.path(), 0);
    assert_eq!((opened.next_seq, opened.problems.len()), (1, 0), "{:?}", opened.problems);
    let first = outbox.append(&[run(3, 10), run(2, 10)], at(0)).unwrap();
    assert_eq!(first.next_seq, 6);
    let epoch = outbox.epoch();
    outbox.settle(epoch, &RangeSet::from_iter([1..=3]));
    outbox.close(at(1));
    let (mut outbox, opened) = open(dir.path(), 2);
    assert_eq!((opened.epoch, opened.next_seq), (epoch, 6), "{:?}", opened.problems);
    assert_eq!(opened.epochs[0].pending, RangeSet::from_iter([4..=5]));
    let loaded = outbox.load(epoch, 4..=5, 1000, at(2));
    assert_eq!(loaded.chunks, first.runs[1].1);
    assert!(outbox.identity().iter().all(Identity::holds));
}

#[test]
fn the_sockets_that_a_killed_agent_left_are_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["agent.sock", "agent.new", crate::put::SOCKET, "put.new"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    assert_eq!(open(dir.path(), 0).1.problems, [""; 0]);
}

#[test]
fn many_segments_are_rolled_dropped_and_declared_within_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _) = open(dir.path(), 0);
    let mut losses = Vec::new();
    for _ in 0..1500 {
        losses.extend(outbox.append(&[run(4, 1000)], at(0)).unwrap().losses);
        assert!(retain::tree_bytes(&FileDisk, dir.path(), 0) <= 4 << 20);
    }
    assert!(!losses.is_empty());
    let lost: u64 = losses.iter().map(|l| l.count).sum();
    let identity = &outbox.identity()[0];
    assert!(identity.holds(), "{identity:?}");
    assert_eq!(identity.held.len() + lost, 6000);
    let held = identity.held.len();
    assert_eq!(drain(&mut outbox).iter().map(|(_, n)| u64::from(*n)).sum::<u64>(), held);
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 1);
    assert_eq!(opened.losses.iter().map(|l| l.count).sum::<u64>(), lost, "{:?}", opened.losses);
    let view = &opened.epochs[0];
    assert_eq!(view.pending.len() + lost, 6000);
    let mut from = view.pending.first().unwrap();
    while from < view.next {
        let loaded = outbox.load(view.epoch, from..=view.next - 1, 50_000, at(1));
        assert_eq!(loaded.losses, []);
        from = loaded.chunks.last().unwrap().last() + 1;
    }
}

#[test]
fn opening_reads_the_same_whatever_the_backlog() {
    let disk = crash_disk::SimDisk::new();
    let options = Options { max_bytes: 64 << 20, segment_bytes: Some(128 << 10), ..Options::new("/outbox") };
    let mut read = Vec::new();
    for segments in [4, 40] {
        let (mut outbox, _) = Outbox::open(Arc::new(disk.clone()), options.clone(), at(0)).unwrap();
        // Offline: nothing settles, and nobody asks for a save.
        let mut now = 0;
        while outbox.stats().segments < segments {
            now += 10;
            outbox.append(&[run(10, 1000)], at(now)).unwrap();
            outbox.maintain(at(now));
        }
        outbox.append(&[run(10, 1000), run(10, 1000)], at(now)).unwrap();
        outbox.maintain(at(now + 61));
        drop(outbox);
        let killed = disk.killed();
        killed.world().read = 0;
        let (outbox, opened) = Outbox::open(Arc::new(killed.clone()), options.clone(), at(1)).unwrap();
        assert_eq!(opened.epochs[0].pending.len(), opened.next_seq - 1);
        read.push(killed.world().read);
        drop(outbox);
    }
    assert!(read[1] < read[0] * 2, "bytes read at the start: {read:?}");
}

#[test]
fn a_second_agent_is_refused_with_the_name_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (_outbox, _) = open(dir.path(), 0);
    let error = Outbox::open(Arc::new(FileDisk), options(dir.path()), at(0)).err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn an_oversize_record_is_a_declared_loss_and_its_neighbours_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outbox, _) = open(dir.path(), 0);
    let mut mixed = run(3, 10);
    mixed.points[1] = run(1, 17_000).points.remove(0);
    let appended = outbox.append(&[mixed, run(1, 15_000)], at(0)).unwrap();
    assert_eq!(appended.next_seq, 5);
    assert_eq!(appended.losses.len(), 1);
    let loss = &appended.losses[0];
    assert_eq!((loss.from, loss.to, loss.count, loss.reason), (2, Some(2), 1, LossReason::Oversize));
    drop(outbox);
    let (mut outbox, opened) = open(dir.path(), 1);
    assert_eq!(opened.next_seq, 5);
    assert_eq!(opened.losses, appended.losses);
    assert_eq!(drain(&mut outbox), [(1, 1), (3, 1), (4, 1)]);
}
