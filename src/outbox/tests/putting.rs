//! Runs whose makers keep them until they are stored: answered after the commit, given back when they cannot be stored,
//! never a loss by memory or by a disk that fails.

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

#[test]
fn a_disk_that_fails_gives_them_back_and_stores_them_never() {
    let disk = SimDisk::new();
    let (_, told) = with_writer(&disk, DropPolicy::DropOldest, async |handle| {
        put(handle, 1, 50).await.unwrap();
        disk.fail(0, u64::MAX, std::io::ErrorKind::Other);
        for _ in 0..3 {
            assert!(matches!(put(handle, 2, 50).await, Err(Returned::Unwritable(_))));
        }
        disk.world().failure = None;
        let again = async {
            loop {
                match put(handle, 1, 50).await {
                    Ok(stored) => break stored,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let stored = tokio::time::timeout(PATIENCE, again).await.expect("it is written again");
        assert_eq!(stored.seqs, [2..=2], "those that were given back have no seqs");
    });
    assert!(!told.iter().any(|event| matches!(event, Event::Lost(_))), "{told:?}");
    assert!(told.iter().any(|event| matches!(event, Event::Returned)));
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
