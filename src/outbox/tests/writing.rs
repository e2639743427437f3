//! The writer's thread: group commit, bounds, no deadlock, orderly and disorderly ends.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc::Receiver;

use super::crash_disk::SimDisk;
use super::writer::{Edit, Event, Handle, Witness};
use super::*;
use crate::clock;
use crate::wire::Chunk;

const WINDOW: Duration = Duration::from_millis(50);
/// Another run is expected at any time.
const SOON: Option<Duration> = Some(Duration::ZERO);
/// Nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options { max_bytes: 4 << 20, segment_bytes: Some(128 << 10), ..Options::new("/outbox") }
}

fn start(disk: &SimDisk, witness: Option<Witness>) -> (Handle, Receiver<Event>) {
    let opening = writer::open(Arc::new(disk.clone()), options(), clock::now()).unwrap();
    opening.spawn(WINDOW, witness).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// The next event that `pick` wants.
async fn until<T>(events: &mut Receiver<Event>, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(found) = pick(events.recv().await.expect("the thread lives")) {
                return found;
            }
        }
    })
    .await
    .expect("in time")
}

/// As the loop does with the only run of a turn.
fn store(handle: &Handle, run: Run) {
    assert!(handle.append(run, clock::now().mono));
    handle.commit(SOON);
}

fn appended(event: Event) -> Option<Vec<Chunk>> {
    if let Event::Appended { chunks, .. } = event { Some(chunks) } else { None }
}

#[test]
fn runs_within_the_window_share_one_commit_and_are_witnessed_first() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let witnessed = Arc::clone(&seen);
        let witness: Witness = Box::new(move |chunk| witnessed.lock().unwrap().push(chunk.first));
        let (handle, mut events) = start(&disk, Some(witness));
        let before = disk.world().syncs;
        for _ in 0..10 {
            assert!(handle.append(run(2, 50), clock::now().mono));
            handle.commit(SOON);
        }
        let mut firsts = Vec::new();
        while firsts.len() < 10 {
            let chunks = until(&mut events, appended).await;
            firsts.extend(chunks.iter().map(|c| c.first));
            assert!(seen.lock().unwrap().contains(&firsts[firsts.len() - 1]), "told before it was witnessed");
        }
        assert_eq!(firsts, (0..10).map(|i| 1 + 2 * i).collect::<Vec<_>>());
        assert!(disk.world().syncs - before <= 6, "{} syncs", disk.world().syncs - before);
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn nothing_waits_for_the_end_of_a_window_in_which_no_other_run_is_expected() {
    runtime().block_on(async {
        let window = Duration::from_secs(3600);
        let opening = writer::open(Arc::new(SimDisk::new()), options(), clock::now()).unwrap();
        let (handle, mut events) = opening.spawn(window, None).unwrap();
        // The first waits for the second; after that, none is expected at all, or only later.
        store(&handle, run(1, 50));
        for next in [None, Some(clock::now().mono + 2 * window)] {
            assert!(handle.append(run(1, 50), clock::now().mono));
            handle.commit(next);
        }
        let mut stored = 0;
        while stored < 3 {
            stored += until(&mut events, appended).await.len();
        }
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn what_was_appended_before_a_shutdown_is_there_after_it() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, events) = start(&disk, None);
        for _ in 0..20 {
            assert!(handle.append(run(3, 50), clock::now().mono));
        }
        assert!(handle.shutdown(events, PATIENCE).await, "ends in time though nobody read an event");
        let (mut outbox, opened) = Outbox::open(Arc::new(disk), options(), at(0)).unwrap();
        assert_eq!((opened.next_seq, opened.losses.len()), (61, 0));
        assert_eq!(outbox.load(opened.epoch, 1..=60, 1 << 20, at(0)).chunks.len(), 20);
    });
}

#[test]
fn full_queues_on_both_sides_do_not_block_each_other() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        // Nobody reads: the thread soon waits for room, and the handle goes on taking or refusing at once.
        let (mut taken, mut refused, mut loads) = (0, 0, 0);
        while refused < 50 || loads < 30 {
            if handle.append(run(4, 3000), clock::now().mono) {
                taken += 1
            } else {
                refused += 1
            }
            loads += u32::from(!handle.load(1, 1..=2, 1000));
        }
        handle.flush();
        let (mut stored, mut lost) = (0, 0);
        while stored < taken || lost < 4 * refused {
            until(&mut events, |event| {
                match event {
                    Event::Appended { .. } => stored += 1,
                    Event::Lost(losses) => {
                        lost += losses.iter().filter(|l| l.reason == LossReason::Memory).map(|l| l.count).sum::<u64>()
                    }
                    _ => {}
                }
                handle.flush();
                Some(())
            })
            .await;
        }
        assert_eq!((stored, lost), (taken, 4 * refused), "what memory could not hold is declared, with seqs");
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn loads_are_answered_with_what_was_stored_and_settling_lasts() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        store(&handle, run(3, 50));
        let chunks = until(&mut events, appended).await;
        let epoch = chunks[0].epoch;
        assert!(handle.load(epoch, 2..=3, 10_000));
        let loaded =
            until(&mut events, |e| if let Event::Loaded { chunks, .. } = e { Some(chunks) } else { None }).await;
        assert_eq!(loaded, chunks);
        handle.settle(epoch, RangeSet::from_iter([1..=2]));
        handle.quarantine(epoch, 3..=3, "the broker takes it not");
        handle.set_note("level", "hub");
        let lost = until(&mut events, |e| if let Event::Lost(losses) = e { Some(losses) } else { None }).await;
        assert_eq!((lost[0].from, lost[0].to), (3, Some(3)));
        assert!(handle.shutdown(events, PATIENCE).await);
        let (outbox, opened) = Outbox::open(Arc::new(disk), options(), at(0)).unwrap();
        assert!(opened.epochs[0].pending.is_empty(), "{:?}", opened.epochs);
        assert_eq!((outbox.identity()[0].settled, outbox.identity()[0].quarantined), (2, 1));
        assert_eq!(opened.losses, lost);
        assert_eq!(outbox.note("level"), Some("hub"));
    });
}

#[test]
fn what_was_handed_over_before_a_flush_is_told_before_its_end() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        for _ in 0..5 {
            assert!(handle.append(run(2, 50), clock::now().mono));
        }
        // No point, no seq: nothing is told of it.
        assert!(handle.append(run(0, 0), clock::now().mono));
        handle.flush();
        let mut told = 0;
        let count = |event| {
            told += usize::from(matches!(event, Event::Appended { .. }));
            matches!(event, Event::Flushed(_)).then_some(())
        };
        until(&mut events, count).await;
        assert_eq!(told, 5);
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn the_end_of_an_earlier_flush_is_not_taken_for_that_of_a_later_one() {
    let disk = SimDisk::new();
    let opening = writer::open(Arc::new(disk), options(), at(0)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let (handle, mut writer) = opening.stepped(
        WINDOW,
        Duration::ZERO,
        Box::new(move |event| match event {
            Event::Appended { .. } => tell.lock().unwrap().push(None),
            Event::Flushed(number) => tell.lock().unwrap().push(Some(number)),
            _ => {}
        }),
    );
    // As a note does, and nobody has listened to its end when the agent stops.
    let of_a_note = handle.flush();
    writer.step(at(1));
    assert!(handle.append(run(1, 50), at(1).mono));
    let last = handle.flush();
    writer.step(at(1));
    assert!(of_a_note < last);
    assert_eq!(*told.lock().unwrap(), [Some(of_a_note), None, Some(last)]);
}

/// What a run made at `made` lets the state vouch for when it is committed at `committed`.
fn vouched(synced: bool, made: Now, committed: Now) -> i64 {
    let disk = SimDisk::new();
    let opening = writer::open(Arc::new(disk.clone()), options(), made).unwrap();
    let (handle, mut writer) = opening.stepped(WINDOW, made.mono, Box::new(|_| {}));
    let mut run = run(2, 50);
    run.context.synced = synced;
    // The first has a time of its own, as a script may give.
    for (point, ts) in run.points.iter_mut().zip([5, made.wall_ms]) {
        (point.ts, point.mono) = (ts, made.boot_ms());
    }
    assert!(handle.append(run, made.mono));
    handle.flush();
    writer.step(committed);
    let state::Loaded::State(saved) = state::load(&disk, Path::new("/outbox")).unwrap() else { panic!("none") };
    saved.vouched_ms
}

#[test]
fn a_run_under_a_synchronised_clock_vouches_for_the_time_and_no_other_does() {
    assert_eq!(vouched(true, at(5), at(6)), at(6).wall_ms);
    assert_eq!(vouched(false, at(5), at(6)), 0);
    // The disk refused for an hour: as long as nobody has set the clock it is still the one that was vouched for.
    assert_eq!(vouched(true, at(5), at(3605)), at(3605).wall_ms);
    for set_by in [10 * 365 * 86_400_000, -3_600_000] {
        let set = Now { wall_ms: at(3605).wall_ms + set_by, ..at(3605) };
        assert_eq!(vouched(true, at(5), set), 0, "set by {set_by} ms meanwhile: nobody vouches for that");
    }
}

#[test]
fn a_disk_that_fails_for_a_while_costs_nothing_and_is_reported() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        store(&handle, run(1, 50));
        until(&mut events, appended).await;
        disk.fail(0, u64::MAX, std::io::ErrorKind::Other);
        store(&handle, run(1, 50));
        until(&mut events, |e| if let Event::Problem(line) = e { Some(line) } else { None }).await;
        disk.world().failure = None;
        let mut recovered = false;
        let chunks = until(&mut events, |e| {
            recovered |= matches!(e, Event::Recovered);
            appended(e)
        })
        .await;
        assert_eq!(chunks[0].first, 2);
        assert!(recovered, "told before the records");
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn a_shutdown_tries_the_disk_once_more_without_waiting_for_its_turn() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        disk.world().capacity = Some(0);
        store(&handle, run(3, 50));
        until(&mut events, |event| matches!(event, Event::Problem(_)).then_some(())).await;
        disk.world().capacity = None;
        assert!(handle.shutdown(events, PATIENCE).await);
        let (_, opened) = Outbox::open(Arc::new(disk), options(), at(0)).unwrap();
        assert_eq!(opened.next_seq, 4, "{:?}", opened.problems);
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_opened_when_it_can() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        disk.fail(0, 1, std::io::ErrorKind::PermissionDenied);
        let opening = writer::open(Arc::new(disk.clone()), options(), clock::now()).unwrap();
        assert!(opening.found().problems[0].contains("/outbox"), "{:?}", opening.found());
        assert!(opening.stats().broken.is_some());
        let (handle, mut events) = opening.spawn(WINDOW, None).unwrap();
        store(&handle, run(2, 50));
        let mut opened = None;
        let chunks = until(&mut events, |e| match e {
            Event::Opened(found) => {
                opened = Some(found);
                None
            }
            other => appended(other),
        })
        .await;
        assert_eq!(chunks[0].epoch, opened.expect("told before the records").epoch);
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}

#[test]
fn a_panic_of_the_thread_closes_the_channel() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let count = Arc::new(AtomicU64::new(0));
        let calls = Arc::clone(&count);
        let witness: Witness = Box::new(move |_| {
            assert!(calls.fetch_add(1, Ordering::Relaxed) == 0, "planted");
        });
        let (handle, mut events) = start(&disk, Some(witness));
        store(&handle, run(1, 1));
        until(&mut events, appended).await;
        store(&handle, run(1, 1));
        let ended = tokio::time::timeout(PATIENCE, async { while events.recv().await.is_some() {} }).await;
        assert!(ended.is_ok());
        assert!(!handle.shutdown(events, PATIENCE).await, "an end by panic is not orderly");
        assert!(path_exists(&disk));
    });
}

fn path_exists(disk: &SimDisk) -> bool {
    disk.list(Path::new("/outbox")).is_ok()
}

/// A note never says more than what is stored, whatever is flushed meanwhile.
#[test]
fn a_note_is_edited_with_the_run_that_it_tells_of_and_not_before() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let (handle, mut events) = start(&disk, None);
        let edit = |word: &str| Some(Edit { note: "told", words: vec![(word.to_owned(), true)] });
        let noted = |event| if let Event::Noted { stored } = event { Some(stored) } else { None };
        let note = |disk: SimDisk| Outbox::open(Arc::new(disk), options(), at(0)).unwrap().1.notes.remove("told");
        assert!(handle.append_noting(run(1, 50), edit("a"), clock::now().mono));
        handle.flush();
        assert!(until(&mut events, noted).await);
        assert_eq!(note(disk.killed()).as_deref(), Some("a"));
        // A commit and the segment anew are refused; the state could be saved by the flush.
        disk.world().capacity = Some(0);
        assert!(handle.append_noting(run(200, 500), edit("b"), clock::now().mono));
        let flush = handle.flush();
        until(&mut events, |event| matches!(event, Event::Flushed(number) if number >= flush).then_some(())).await;
        assert_eq!(note(disk.killed()).as_deref(), Some("a"), "the run of the other waits in memory");
        disk.world().capacity = None;
        assert!(until(&mut events, noted).await);
        assert_eq!(note(disk.killed()).as_deref(), Some("a b"));
        assert!(handle.shutdown(events, PATIENCE).await);
    });
}
