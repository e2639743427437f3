//! Runs whose makers keep them until they are stored: answered after the commit, given back when they cannot be stored,
//! never a loss by memory or by a disk that fails.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

use super::crash_disk::{Rng, SimDisk};
use super::writer::{Event, Handle, Returned, Stored};
use super::*;
use crate::clock;

const PATIENCE: Duration = Duration::from_secs(60);

fn options(drop: DropPolicy) -> Options {
    Options { max_bytes: 4 << 20, segment_bytes: Some(128 << 10), drop, ..Options::new("/outbox") }
}

/// What came of `test` with a writer, whose events are taken meanwhile.
fn with_writer<T>(disk: &SimDisk, drop: DropPolicy, test: impl AsyncFnOnce(&Handle) -> T) -> (T, Vec<Event>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let opening = writer::open(Arc::new(disk.clone()), options(drop), clock::now()).unwrap();
        let (handle, mut events) = opening.spawn(Duration::from_millis(20), None).unwrap();
        let mut told = Vec::new();
        let done = tokio::select! {
            done = test(&handle) => done,
            () = take(&mut events, &mut told) => panic!("the thread ended"),
        };
        assert!(handle.shutdown(events, PATIENCE).await);
        (done, told)
    })
}

async fn take(events: &mut Receiver<Event>, told: &mut Vec<Event>) {
    while let Some(event) = events.recv().await {
        told.push(event);
    }
}

async fn put(handle: &Handle, points: usize, bytes: usize) -> Result<Stored, Returned> {
    let (reply, answer) = oneshot::channel();
    handle.put(run(points, bytes), reply, clock::now().mono);
    handle.commit(None);
    tokio::time::timeout(PATIENCE, answer).await.expect("in time").expect("answered")
}

fn next_seq(disk: &SimDisk, drop: DropPolicy) -> u64 {
    Outbox::open(Arc::new(disk.clone()), options(drop), at(0)).unwrap().1.next_seq
}

#[test]
fn what_is_answered_as_stored_is_there_after_a_crash() {
    let disk = SimDisk::new();
    let (next, _) = with_writer(&disk, DropPolicy::DropOldest, async |handle| {
        let stored = put(handle, 40, 1000).await.unwrap();
        let seqs: Vec<u64> = stored.seqs.iter().cloned().flatten().collect();
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>(), "several values, each with its range: {stored:?}");
        assert!(stored.seqs.len() > 1 && stored.epoch != 0);
        (1..20).map(|seed| next_seq(&disk.world().crash(&mut Rng(seed)), DropPolicy::DropOldest)).collect::<Vec<_>>()
    });
    assert_eq!(next, [41; 19]);
}

/// The writer without its thread: each step is the caller's, and `unstored` counts what it tells to be nowhere.
struct Bench {
    disk: SimDisk,
    handle: Handle,
    writer: writer::Writer,
    unstored: Arc<AtomicU64>,
}

impl Bench {
    /// One record is stored.
    fn new(drop: DropPolicy) -> Self {
        let disk = SimDisk::new();
        let unstored = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&unstored);
        let tell = Box::new(move |event| {
            if matches!(event, Event::Lost(_)) && drop == DropPolicy::DropOldest {
                panic!("a loss: {event:?}");
            }
            counter.fetch_add(u64::from(matches!(event, Event::Unstored)), Ordering::Relaxed);
        });
        let opening = writer::open(Arc::new(disk.clone()), options(drop), at(0)).unwrap();
        let (handle, writer) = opening.stepped(Duration::from_millis(20), at(0).mono, tell);
        let mut bench = Self { disk, handle, writer, unstored };
        let mut first = bench.put(1, 50, 0);
        bench.step(1);
        assert_eq!(first.try_recv().unwrap().unwrap().seqs, [1..=1]);
        bench
    }

    fn put(&self, points: usize, bytes: usize, seconds: u64) -> oneshot::Receiver<Result<Stored, Returned>> {
        let (reply, answer) = oneshot::channel();
        self.handle.put(run(points, bytes), reply, at(seconds).mono);
        answer
    }

    fn step(&mut self, seconds: u64) {
        self.handle.commit(None);
        self.writer.step(at(seconds));
    }

    /// The next seq after a kill, and after power cuts.
    fn next_seqs(&self) -> BTreeSet<u64> {
        let cuts = (1..6).map(|seed| self.disk.world().crash(&mut Rng(seed))).collect::<Vec<_>>();
        [self.disk.killed()].iter().chain(&cuts).map(|disk| next_seq(disk, DropPolicy::DropOldest)).collect()
    }

    fn mend(&self) {
        self.disk.world().failure = None;
    }
}

/// A failed commit may be found by the next start. So who put it is told nothing until it is stored; who comes meanwhile
/// is refused at once.
#[test]
fn a_disk_that_fails_gives_them_back_and_stores_them_never() {
    let (mut held, mut found, mut stored) = (0, 0, 0);
    let kinds = [ErrorKind::StorageFull, ErrorKind::Other].into_iter();
    let cases = kinds.flat_map(|kind| [1, 2, 4, 8, u64::MAX].map(|times| (kind, times)));
    for ((kind, times), after) in cases.flat_map(|case| (0..24).map(move |after| (case, after))) {
        let case = format!("{kind}, {times} times after {after}");
        let mut bench = Bench::new(DropPolicy::DropOldest);
        bench.disk.fail(after, times, kind);
        let mut answer = bench.put(2, 50, 2);
        bench.step(2);
        let next = bench.next_seqs();
        match answer.try_recv() {
            Ok(Ok(_)) => {
                stored += 1;
                assert_eq!(next, BTreeSet::from([4]), "{case}");
            }
            Ok(Err(why)) => assert_eq!(next, BTreeSet::from([2]), "{case}: it was given back: {why}"),
            Err(_) => {
                held += 1;
                found += usize::from(next.contains(&4));
                let mut late = bench.put(1, 50, 2);
                assert!(matches!(late.try_recv().unwrap(), Err(Returned::Unwritable(_))), "{case}");
                bench.step(10);
                bench.mend();
                bench.step(100);
                assert_eq!(answer.try_recv().unwrap().unwrap().seqs, [2..=3], "{case}");
                assert_eq!(bench.next_seqs(), BTreeSet::from([4]), "{case}");
            }
        }
        assert_eq!(bench.unstored.load(Ordering::Relaxed), 0, "what was refused at once never waited");
    }
    assert!(held > 10 && found > 1 && stored > 10, "{held} held, of which a start finds {found}; {stored} stored");
}

#[test]
fn those_that_wait_behind_a_failed_commit_are_given_back_with_it() {
    let mut bench = Bench::new(DropPolicy::DropOldest);
    let mut answers: Vec<_> = (0..4).map(|_| bench.put(100, 1000, 2)).collect();
    assert!(bench.handle.append(run(1, 50), at(2).mono), "a collector's");
    bench.disk.fail(0, u64::MAX, ErrorKind::Other);
    bench.step(2);
    let outcomes: Vec<_> = answers.iter_mut().map(oneshot::Receiver::try_recv).collect();
    assert!(outcomes[..2].iter().all(Result::is_err), "they were in the commit");
    assert!(outcomes[2..].iter().all(|o| matches!(o, Ok(Err(Returned::Unwritable(_))))), "{outcomes:?}");
    assert_eq!(bench.unstored.load(Ordering::Relaxed), 2);
    bench.mend();
    bench.step(100);
    assert!(answers[..2].iter_mut().all(|answer| answer.try_recv().unwrap().is_ok()));
    assert_eq!(bench.next_seqs(), BTreeSet::from([203]), "the collector's is stored too");
}

#[test]
fn one_that_nobody_waits_for_any_more_is_let_go_instead_of_tried_again() {
    let mut bench = Bench::new(DropPolicy::DropOldest);
    bench.disk.fail(0, u64::MAX, ErrorKind::Other);
    // More than half of the memory for such runs: the next one finds room only when it is free again.
    let answer = bench.put(100, 3000, 2);
    bench.step(2);
    drop(answer);
    bench.mend();
    bench.step(100);
    assert_eq!(bench.unstored.load(Ordering::Relaxed), 1);
    let mut next = bench.put(100, 3000, 101);
    bench.step(101);
    let seqs = next.try_recv().unwrap().unwrap().seqs;
    assert_eq!((seqs[0].start(), seqs[seqs.len() - 1].end()), (&2, &101));
}

#[test]
fn every_run_that_is_not_stored_is_told_to_be_so() {
    let mut bench = Bench::new(DropPolicy::DropNewest);
    let mut seconds = 2;
    let full = loop {
        let mut answer = bench.put(100, 500, seconds);
        bench.step(seconds);
        seconds += 1;
        assert!(seconds < 1000);
        if let Err(why) = answer.try_recv().unwrap() {
            break why;
        }
    };
    assert_eq!((full, bench.unstored.load(Ordering::Relaxed)), (Returned::Full, 1));
    for _ in 0..3 {
        assert!(bench.handle.append(run(100, 500), at(seconds).mono), "a collector's");
    }
    bench.step(seconds);
    assert_eq!(bench.unstored.load(Ordering::Relaxed), 4);
}

/// Its maker has it, and may bring it again and again: each time it were declared lost, and in the end it would be stored too.
#[test]
fn what_a_full_outbox_gives_back_is_not_declared_lost() {
    let mut bench = Bench::new(DropPolicy::DropNewest);
    let put = |bench: &mut Bench, seconds| {
        let mut answer = bench.put(100, 500, seconds);
        bench.step(seconds);
        answer.try_recv().unwrap()
    };
    let full = (2..1000).find(|seconds| put(&mut bench, *seconds).is_err()).unwrap();
    let stands = |bench: &Bench| {
        let outbox = bench.writer.outbox().unwrap();
        (outbox.next_seq(), outbox.owed.iter().map(|owed| owed.count).sum::<u64>())
    };
    let (next, _) = stands(&bench);
    for seconds in full + 1..full + 5 {
        assert_eq!(put(&mut bench, seconds), Err(Returned::Full));
    }
    assert_eq!(stands(&bench), (next, 0));
    assert!(bench.handle.append(run(70, 500), at(full + 5).mono), "a collector's, in one commit with it");
    assert_eq!(put(&mut bench, full + 5), Err(Returned::Full));
    assert_eq!(stands(&bench), (next, 70));
}

#[test]
fn they_leave_half_of_the_memory_to_the_collectors() {
    let disk = SimDisk::new();
    with_writer(&disk, DropPolicy::DropOldest, async |handle| {
        // Nothing is committed meanwhile: the thread is not told.
        let mut replies = Vec::new();
        let refused = loop {
            let (reply, mut answer) = oneshot::channel();
            if !handle.put(run(100, 500), reply, clock::now().mono) {
                break answer.try_recv().unwrap();
            }
            replies.push(answer);
            assert!(replies.len() < 100);
        };
        assert_eq!((refused, replies.is_empty()), (Err(Returned::Busy), false));
        for _ in 0..5 {
            assert!(handle.append(run(100, 500), clock::now().mono), "a collector's run was refused");
        }
        handle.commit(None);
        for answer in replies {
            assert!(answer.await.unwrap().is_ok());
        }
        let (reply, answer) = oneshot::channel();
        assert!(!handle.put(run(2000, 500), reply, clock::now().mono));
        assert_eq!(answer.await.unwrap(), Err(Returned::Oversize), "it would never fit");
    });
}

#[test]
fn a_full_outbox_that_keeps_what_it_has_says_so() {
    let disk = SimDisk::new();
    with_writer(&disk, DropPolicy::DropNewest, async |handle| {
        let mut count = 0;
        let refused = loop {
            match put(handle, 100, 500).await {
                Ok(_) => count += 1,
                Err(why) => break why,
            }
            assert!(count < 1000);
        };
        assert_eq!((refused, count > 10), (Returned::Full, true));
    });
}
