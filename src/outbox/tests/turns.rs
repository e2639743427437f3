//! One turn of the writer after the other: what it takes, what it costs the disk, and when it tries again.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use super::crash_disk::SimDisk;
use super::writer::{Event, Handle, Writer};
use super::*;

/// The writer without its thread, and what it has told.
struct Turns {
    disk: SimDisk,
    handle: Handle,
    writer: Writer,
    told: Arc<Mutex<Vec<Event>>>,
}

impl Turns {
    fn on(disk: SimDisk) -> Self {
        let options = Options { max_bytes: 4 << 20, ..Options::new("/outbox") };
        let told: Arc<Mutex<Vec<Event>>> = Arc::default();
        let events = Arc::clone(&told);
        let tell = Box::new(move |event| events.lock().unwrap().push(event));
        let opening = writer::open(Arc::new(disk.clone()), options, at(0)).unwrap();
        let (handle, writer) = opening.stepped(Duration::from_millis(20), at(0).mono, tell);
        Self { disk, handle, writer, told }
    }

    fn append(&self, run: Run) {
        assert!(self.handle.append(run, at(0).mono));
    }

    fn step(&mut self, seconds: u64) -> Vec<Event> {
        self.handle.commit(None);
        self.writer.step(at(seconds));
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

#[test]
fn a_commit_takes_runs_until_they_are_enough() {
    let mut turns = Turns::on(SimDisk::new());
    // 128 KiB as they are estimated: 96 bytes, and 238 for each point beside its text.
    let enough = run(16, 7948);
    let sizes = [(enough.clone(), 1), (run(1, 10), 2), (enough, 2), (run(16, 7947), 3), (run(1, 10), 3)];
    for (run, _) in &sizes {
        turns.append(run.clone());
    }
    let events = turns.step(0);
    // Runs of one commit are told of the seq behind all of them.
    let mut commits: Vec<u64> = Vec::new();
    let mut found = Vec::new();
    for event in events {
        if let Event::Appended { next_seq, .. } = event {
            commits.push(next_seq);
            commits.dedup();
            found.push(commits.len());
        }
    }
    assert_eq!(found, sizes.map(|(_, commit)| commit));
}

#[test]
fn a_turn_that_only_reads_writes_nothing() {
    let mut turns = Turns::on(SimDisk::new());
    turns.append(run(3, 10));
    turns.step(0);
    let operations = turns.disk.world().operations;
    let epoch = turns.writer.outbox().unwrap().epoch();
    assert!(turns.handle.load(epoch, 1..=3, 1000));
    let events = turns.step(0);
    assert!(matches!(&events[..], [Event::Loaded { chunks, .. }] if chunks.len() == 1), "{events:?}");
    assert_eq!(turns.disk.world().operations, operations);
}

#[test]
fn a_directory_that_cannot_be_used_is_tried_again_at_growing_intervals() {
    let disk = SimDisk::new();
    disk.fail(0, u64::MAX, ErrorKind::PermissionDenied);
    let mut turns = Turns::on(disk);
    let mut tried = Vec::new();
    for seconds in 0..200 {
        let operations = turns.disk.world().operations;
        turns.step(seconds);
        if turns.disk.world().operations > operations {
            tried.push(seconds);
        }
    }
    assert_eq!(tried, [1, 3, 7, 15, 31, 63, 123, 183]);
    turns.append(run(1, 10));
    turns.disk.world().failure = None;
    let events = turns.step(300);
    assert!(events.iter().any(|event| matches!(event, Event::Opened(_))), "{events:?}");
    assert_eq!(turns.writer.outbox().unwrap().next_seq(), 2, "what waited is stored");
}
