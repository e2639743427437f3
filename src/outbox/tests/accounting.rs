//! What is told of every seq stays true through failures half-way, drops before a save, wrong clocks and damage.

use std::io::ErrorKind;

use super::crash::path_of;
use super::crash_disk::SimDisk;
use super::*;
use crate::record::{NO_MONO, Record};

fn sim() -> Options {
    Options { max_bytes: 700 << 10, segment_bytes: Some(80 << 10), ..Options::new("/outbox") }
}

fn open_with(disk: &SimDisk, options: Options, now: Now) -> (Outbox, Opened) {
    Outbox::open(Arc::new(disk.clone()), options, now).unwrap()
}

fn is_told(losses: &[Loss], seq: u64) -> bool {
    losses.iter().any(|l| l.from <= seq && l.to.is_some_and(|to| seq <= to))
}

#[test]
fn a_new_segment_that_failed_half_way_voids_nothing_appended_after_it() {
    for after in 0..60 {
        let disk = SimDisk::new();
        let (mut outbox, opened) = open_with(&disk, Options { max_bytes: 4 << 20, ..sim() }, at(0));
        outbox.append(&[run(4, 3000)], at(0)).unwrap();
        disk.fail(after, 1, ErrorKind::Other);
        let mut stored = RangeSet::new();
        for i in 1..20 {
            if let Ok(appended) = outbox.append(&[run(4, 3000)], at(i * 100)) {
                stored.extend_with(&appended);
            }
        }
        assert!(outbox.stats().segments > 1);
        drop(outbox);
        let (mut outbox, again) = open_with(&disk.killed(), Options { max_bytes: 4 << 20, ..sim() }, at(3000));
        assert_eq!((again.epoch, again.losses.len()), (opened.epoch, 0), "{after}: {:?}", again.problems);
        assert!(again.next_seq > stored.last().unwrap(), "{after}: seqs would be used again");
        let there: RangeSet = drain(&mut outbox).iter().map(|(first, n)| *first..=first + u64::from(*n) - 1).collect();
        stored.subtract(&there);
        assert_eq!(stored, RangeSet::new(), "{after}: gone without a word");
    }
}

trait Extend {
    fn extend_with(&mut self, appended: &Appended);
}

impl Extend for RangeSet {
    fn extend_with(&mut self, appended: &Appended) {
        appended.runs.iter().flat_map(|(_, chunks)| chunks).for_each(|chunk| self.insert(chunk.seqs()));
    }
}

#[test]
fn a_burn_outlives_its_segment_though_the_state_was_never_saved() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_with(&disk, sim(), at(0));
    outbox.owe(5, LossReason::Memory, Times::of(7));
    outbox.append(&[run(1, 10)], at(0)).unwrap();
    // The first segment is settled and gives way before anything is saved.
    while !outbox.identity()[0].lost.contains_key(&LossReason::Quota) {
        outbox.append(&[run(4, 3000)], at(0)).unwrap();
        outbox.settle(opened.epoch, &RangeSet::from_iter([6..=20]));
    }
    assert!((1..=5).all(|seq| is_told(outbox.losses(), seq)));
    let (_, again) = open_with(&disk.killed(), sim(), at(1));
    assert!((1..=5).all(|seq| is_told(&again.losses, seq)), "{:?}", again.losses);
    assert_eq!(again.epoch, opened.epoch);
}

#[test]
fn a_burn_in_a_sealed_segment_is_told_at_the_start_though_it_was_never_saved() {
    let disk = SimDisk::new();
    let (mut outbox, _) = open_with(&disk, sim(), at(0));
    outbox.owe(5, LossReason::Memory, Times::of(7));
    while outbox.stats().segments < 3 {
        outbox.append(&[run(4, 3000)], at(0)).unwrap();
    }
    let (_, again) = open_with(&disk.killed(), sim(), at(1));
    assert!((1..=5).all(|seq| is_told(&again.losses, seq)), "{:?}", again.losses);
}

#[test]
fn a_save_that_fails_changes_nothing_that_a_crash_could_show() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_with(&disk, sim(), at(0));
    let mut lost = Vec::new();
    while lost.is_empty() {
        lost = outbox.append(&[run(4, 3000)], at(0)).unwrap().losses;
    }
    let settled = lost[0].to.unwrap() + 1;
    outbox.settle(opened.epoch, &RangeSet::from_iter([settled..=settled + 30]));
    disk.fail(0, 1, ErrorKind::Other);
    assert!(outbox.save(at(1)).is_err());
    assert!(lost.iter().all(|loss| is_told(&open_with(&disk.killed(), sim(), at(2)).1.losses, loss.from)));
    // The settled segment goes next: a crash must not find it missing.
    while outbox.epochs()[0].pending.first() == Some(settled + 31) {
        outbox.append(&[run(4, 3000)], at(2)).unwrap();
    }
    let (_, again) = open_with(&disk.killed(), sim(), at(3));
    let corrupt: Vec<_> = again.losses.iter().filter(|loss| loss.reason == LossReason::Corrupt).collect();
    assert!(corrupt.is_empty(), "settled, and declared missing: {corrupt:?}");
}

#[test]
fn the_count_of_a_dropped_segment_stays_honest_through_a_crash() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_with(&disk, sim(), at(0));
    let mut told = 0;
    while told == 0 {
        let appended = outbox.append(&[run(4, 3000)], at(0)).unwrap();
        let last = appended.next_seq - 1;
        outbox.settle(opened.epoch, &RangeSet::from_iter([last - 2..=last - 1]));
        told = appended.losses.iter().map(|loss| loss.count).sum();
    }
    let (_, again) = open_with(&disk.killed(), sim(), at(1));
    assert_eq!(again.losses.iter().map(|loss| loss.count).sum::<u64>(), told, "{:?}", again.losses);
}

#[test]
fn an_epoch_that_never_began_is_no_loss() {
    let disk = SimDisk::new();
    disk.world().capacity = Some(0);
    let (mut outbox, _) = open_with(&disk, sim(), at(0));
    disk.world().capacity = None;
    outbox.save(at(0)).unwrap();
    drop(outbox);
    let (_, opened) = open_with(&disk, sim(), at(1));
    assert_eq!(opened.losses, [], "{:?}", opened.problems);
}

#[test]
fn a_clock_that_is_wrong_from_the_start_ages_nothing_for_an_hour() {
    let disk = SimDisk::new();
    let aging = || Options { max_age: Some(Duration::from_secs(86_400)), ..sim() };
    let (mut outbox, _) = open_with(&disk, aging(), at(0));
    for _ in 0..20 {
        outbox.append(&[run(4, 3000)], at(0)).unwrap();
    }
    drop(outbox);
    let later = |seconds| Now { wall_ms: at(seconds).wall_ms + 1000 * 86_400 * 3650, ..at(seconds) };
    let (mut outbox, _) = open_with(&disk, aging(), later(1));
    assert_eq!(outbox.maintain(later(2)), []);
    // Still the same after an hour: then it is true.
    outbox.maintain(later(3000));
    let losses = outbox.maintain(later(3700));
    assert!(losses.iter().any(|loss| loss.reason == LossReason::Age), "{losses:?}");
}

/// What an application put: of a month ago, or of next year, while the agent's clock is right.
fn put_at(now: Now, days: i64) -> Run {
    let mut run = run(4, 3000);
    for point in &mut run.points {
        (point.ts, point.mono) = (now.wall_ms + days * 86_400_000, now.boot_ms());
    }
    run
}

/// The losses of a look ten minutes after everything was stored, and of one two days later.
fn aged(runs: impl Fn(usize, Now) -> Run) -> [Vec<Loss>; 2] {
    let disk = SimDisk::new();
    let aging = Options { max_age: Some(Duration::from_secs(86_400)), max_bytes: 4 << 20, ..sim() };
    let (mut outbox, _) = open_with(&disk, aging, at(0));
    for i in 0..20 {
        let now = at(4000 + i as u64);
        outbox.append(&[runs(i, now)], now).unwrap();
        outbox.maintain(now);
    }
    assert!(outbox.stats().segments > 2);
    let look = |outbox: &mut Outbox, seconds| outbox.maintain(at(seconds));
    let fresh = look(&mut outbox, 4600);
    [fresh, look(&mut outbox, 4000 + 2 * 86_400)]
}

#[test]
fn an_age_is_not_that_which_an_application_says() {
    for days in [-30, 365, -700_000] {
        for runs in [&(|_, now| put_at(now, days)) as &dyn Fn(usize, Now) -> Run, &|i, now| {
            put_at(now, if i % 2 == 0 { days } else { 0 })
        }] {
            let [fresh, old] = aged(runs);
            assert_eq!(fresh, [], "{days} days: stored ten minutes ago");
            assert!(old.iter().any(|loss| loss.reason == LossReason::Age), "{days} days: nothing ages");
        }
    }
}

/// What was stored while the clock was years ahead is as old as what was stored after it.
#[test]
fn a_segment_of_a_clock_that_was_ahead_does_not_stop_those_behind_it_from_ageing() {
    let disk = SimDisk::new();
    let aging = Options { max_age: Some(Duration::from_secs(86_400)), max_bytes: 4 << 20, ..sim() };
    let (mut outbox, _) = open_with(&disk, aging, at(0));
    let ahead = |seconds: u64| Now { wall_ms: at(seconds).wall_ms + 3650 * 86_400_000, ..at(seconds) };
    for i in 0..40 {
        let now = if i < 20 { ahead(4000 + i) } else { at(4000 + i) };
        outbox.append(&[put_at(now, 0)], now).unwrap();
        outbox.maintain(now);
    }
    assert_eq!(outbox.maintain(at(8000)), []);
    let losses = outbox.maintain(at(4000 + 2 * 86_400));
    assert!(is_told(&losses, 1) && is_told(&losses, 100), "{losses:?}");
}

/// They keep their order, and each has the context that its time is of.
#[test]
fn times_of_another_clock_are_kept_apart_while_nobody_vouches_for_the_hosts() {
    for synced in [false, true] {
        let disk = SimDisk::new();
        let (mut outbox, opened) = open_with(&disk, sim(), at(0));
        let mut mixed = run(6, 10);
        mixed.context.synced = synced;
        for point in &mut mixed.points[2..5] {
            (point.ts, point.mono) = (5, NO_MONO);
        }
        let appended = outbox.append(&[mixed], at(9)).unwrap();
        let chunks = &appended.runs[0].1;
        for chunk in chunks {
            assert_eq!(outbox.load(opened.epoch, chunk.seqs(), 1 << 20, at(9)).chunks, std::slice::from_ref(chunk));
        }
        let contexts: Vec<_> =
            chunks.iter().map(|chunk| (chunk.seqs(), &*chunk.context.boot, chunk.context.synced)).collect();
        match synced {
            true => assert_eq!(contexts, [(1..=6, "boot-1", true)]),
            false => {
                let expected =
                    [(1..=2, "boot-1", false), (3..=5, ClockContext::NO_BOOT, false), (6..=6, "boot-1", false)];
                assert_eq!(contexts, expected);
            }
        }
        let records = chunks.iter().flat_map(|chunk| chunk.records().map(|(_, map)| map.to_vec()));
        let records: Vec<Record> = records.map(|map| rmp_serde::from_slice(&map).unwrap()).collect();
        let times: Vec<_> = records.iter().map(|record| (record.ts - 1_700_000_000_000, record.mono)).collect();
        let far = (5 - 1_700_000_000_000, 9_000);
        assert_eq!(times, [(0, 0), (1, 1), far, far, far, (5, 5)]);
    }
}

/// A board without a clock boots in 1970 again and again: what it once knew stays a floor under its time.
#[test]
fn a_time_that_was_vouched_for_outlives_saves_under_a_wrong_clock() {
    let disk = SimDisk::new();
    let in_1970 = |seconds: u64| Now { wall_ms: seconds as i64 * 1000, ..at(seconds) };
    let known = at(50).wall_ms;
    let (mut outbox, _) = open_with(&disk, sim(), at(0));
    outbox.vouch(at(50));
    outbox.close(at(60));
    for boot in 1..=3 {
        let (mut outbox, opened) = open_with(&disk, sim(), in_1970(boot));
        assert!(opened.last_wall_ms >= known, "boot {boot} is told {}", opened.last_wall_ms);
        outbox.append(&[run(1, 10)], in_1970(boot)).unwrap();
        outbox.close(in_1970(boot + 5));
    }
    // A clock ahead that nobody vouched for is forgotten with the next save; one that was, with the next word.
    let ahead = |seconds: u64| Now { wall_ms: known + 1000 * 86_400 * 3650, ..at(seconds) };
    let (outbox, _) = open_with(&disk, sim(), ahead(9));
    outbox.close(ahead(9));
    let (mut outbox, opened) = open_with(&disk, sim(), at(70));
    assert_eq!(opened.last_wall_ms, ahead(9).wall_ms);
    outbox.vouch(ahead(9));
    outbox.vouch(at(70));
    outbox.close(at(70));
    assert_eq!(open_with(&disk, sim(), at(71)).1.last_wall_ms, at(70).wall_ms);
}

#[test]
fn a_state_file_damaged_while_running_is_replaced() {
    let disk = SimDisk::new();
    let (mut outbox, opened) = open_with(&disk, sim(), at(0));
    outbox.append(&[run(9, 10)], at(0)).unwrap();
    outbox.save(at(0)).unwrap();
    disk.fail(0, 1, ErrorKind::Other);
    outbox.settle(opened.epoch, &RangeSet::from_iter([1..=4]));
    assert!(outbox.save(at(1)).is_err());
    let state = path_of(&disk, |name| name == super::super::names::STATE).unwrap();
    disk.world().edit(&state, |bytes| bytes.fill(0));
    outbox.save(at(2)).unwrap();
    drop(outbox);
    let (_, again) = open_with(&disk, sim(), at(3));
    assert_eq!(again.epochs[0].pending, RangeSet::from_iter([5..=9]), "{:?}", again.problems);
}
