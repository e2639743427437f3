//! Commits through the real ledger and files, and through sinks and disks that fail at every step.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::hub::ingest::start::begin;
use crate::hub::ledger::LEDGER;
use crate::hub::sinks::{Begun, SinkOptions, ndjson};
use crate::hub::tracker;
use crate::record::{ClockContext, Point, Tags};
use crate::wire::{Lane, LossReason};

const WALL: i64 = 1_790_000_000_000;

fn now() -> Now {
    Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: WALL }
}

fn envelope(epoch: u64, seqs: impl IntoIterator<Item = u64>) -> Envelope {
    let record = |seq| {
        let point = Point {
            ts: 1000,
            mono: seq * 10,
            name: "m".into(),
            tags: Tags::new(),
            fields: Default::default(),
            error: None,
        };
        Record::new(seq, point)
    };
    Envelope {
        v: 1,
        host: "edge-01".to_owned(),
        site: "lab".to_owned(),
        epoch,
        boot: "boot-1".to_owned(),
        synced: true,
        anchor: None,
        sent: 0,
        lane: Lane::Live,
        losses: Vec::new(),
        records: seqs.into_iter().map(record).collect(),
    }
}

fn data(envelope: Envelope) -> Item {
    Item::Data { envelope, topic: "v1/lab/edge-01/m/x".to_owned() }
}

fn loss(epoch: u64, from: u64, to: Option<u64>) -> Loss {
    let count = to.map_or(0, |to| to - from + 1);
    Loss { epoch, from, to, count, reason: LossReason::Quota, t0: 0, t1: 0 }
}

fn status(next_seq: u64, pending: &[(u64, u64)]) -> Status {
    let pending: Vec<_> = pending.iter().map(|&(from, to)| (7, from, to)).collect();
    let (host, site, session) = ("edge-01".to_owned(), "lab".to_owned(), "s".to_owned());
    Status { host, site, session, level: "hub".to_owned(), ..tracker::tests::status(7, next_seq, &pending) }
}

fn online(next_seq: u64, pending: &[(u64, u64)]) -> Item {
    Item::Online { status: Box::new(status(next_seq, pending)), retained: false }
}

fn sink(dir: &Path) -> Box<dyn Sink> {
    let options = SinkOptions { dir: dir.to_owned(), file_bytes: 4000, file_age: Duration::from_secs(3600) };
    ndjson::open(&options).unwrap()
}

struct Stage {
    dir: tempfile::TempDir,
    ledger: Ledger,
    sink: Box<dyn Sink>,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let mut sink = sink(dir.path());
        assert_eq!(sink.begin(None, now()).unwrap(), Begun::Ready);
        let position = sink.flush().unwrap();
        ledger.draft().unwrap().commit(&position).unwrap();
        Self { dir, ledger, sink }
    }

    /// As after a crash: nothing of the old process is left.
    fn restart(self) -> Self {
        self.restart_after(|_| ())
    }

    /// Somebody is at the directory before the start.
    fn restart_after(self, between: impl FnOnce(&Path)) -> Self {
        let Self { dir, ledger, sink: old } = self;
        drop((ledger, old));
        between(dir.path());
        let (mut ledger, mut sink) = (Ledger::open(dir.path()).unwrap(), sink(dir.path()));
        begin(&mut ledger, sink.as_mut(), now()).unwrap();
        Self { ledger, sink, dir }
    }

    fn commit(&mut self, items: Vec<Item>) -> Committed {
        commit(&Batch { items }, &mut self.ledger, self.sink.as_mut(), now()).unwrap()
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "ndjson")).collect();
        files.sort();
        let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn seqs(&self) -> Vec<u64> {
        self.lines().iter().filter(|line| line["type"] == "record").map(|line| line["seq"].as_u64().unwrap()).collect()
    }

    /// (seq, time by the line, whether it is corrected) in the order of the files; a correction has seq 0.
    fn times(&self) -> Vec<(u64, i64, bool)> {
        let ms = |text: &serde_json::Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let told = |line: &serde_json::Value| match line["type"].as_str().unwrap() {
            "clock" => (0, line["offset"].as_i64().unwrap(), true),
            _ => (line["seq"].as_u64().unwrap(), ms(&line["time"]), line["corrected"] == true),
        };
        self.lines().iter().map(told).collect()
    }
}

/// Fails at the `left`th operation from now.
struct Failing<'a> {
    sink: &'a mut dyn Sink,
    left: usize,
}

impl Failing<'_> {
    fn step(&mut self) -> Result<(), SinkError> {
        self.left = self.left.saturating_sub(1);
        match self.left {
            0 => Err(SinkError {
                what: "planted",
                path: "/nowhere".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            }),
            _ => Ok(()),
        }
    }
}

impl Sink for Failing<'_> {
    fn begin(&mut self, durable: Option<&str>, now: Now) -> Result<Begun, SinkError> {
        self.step()?;
        self.sink.begin(durable, now)
    }

    fn write(&mut self, record: &Stored<'_>) -> Result<(), SinkError> {
        self.sink.write(record)?;
        self.step()
    }

    fn correct(&mut self, correction: &Correction<'_>) -> Result<(), SinkError> {
        self.sink.correct(correction)?;
        self.step()
    }

    /// Flushed, and then the answer is lost: the crash between the sink's sync and the ledger's commit.
    fn flush(&mut self) -> Result<String, SinkError> {
        let position = self.sink.flush()?;
        self.step()?;
        Ok(position)
    }
}

#[test]
fn new_records_are_stored_and_known_ones_are_not() {
    let mut stage = Stage::new();
    let first = stage.commit(vec![data(envelope(7, 1..=3)), data(envelope(7, 2..=5))]);
    assert_eq!(first.stored, 5);
    assert_eq!(first.acks[0].ack.upto, 5);
    let mut stage = stage.restart();
    let again = stage.commit(vec![data(envelope(7, 1..=6)), data(envelope(8, 1..=1))]);
    assert_eq!(again.stored, 2);
    assert_eq!(again.acks.iter().map(|ack| (ack.ack.epoch, ack.ack.upto)).collect::<Vec<_>>(), [(7, 6), (8, 1)]);
    assert_eq!(stage.seqs(), [1, 2, 3, 4, 5, 6, 1]);
}

#[test]
fn one_message_that_repeats_itself_is_stored_once() {
    let mut stage = Stage::new();
    stage.commit(vec![data(envelope(7, [4, 5, 4, 5, 5, 9, 1]))]);
    assert_eq!(stage.seqs(), [4, 5, 9, 1]);
}

#[test]
fn duplicates_are_acknowledged_again() {
    let mut stage = Stage::new();
    stage.commit(vec![data(envelope(7, 1..=3))]);
    let again = stage.commit(vec![data(envelope(7, 2..=3))]);
    assert_eq!((again.acks[0].ack.upto, again.acks[0].stored), (3, 0));
}

#[test]
fn what_a_host_calls_pending_though_it_is_here_is_acknowledged_again() {
    let mut stage = Stage::new();
    stage.commit(vec![data(envelope(7, 1..=3))]);
    assert!(stage.commit(vec![online(4, &[])]).acks.is_empty());
    assert!(stage.commit(vec![online(9, &[(4, 8)])]).acks.is_empty());
    assert_eq!(stage.commit(vec![online(9, &[(3, 8)])]).acks[0].ack.upto, 3);
}

#[test]
fn a_host_that_waits_for_our_word_hears_it_again() {
    let mut stage = Stage::new();
    stage.commit(vec![data(envelope(7, 1..=3))]);
    let waits = |backlog| Item::Online { status: Box::new(Status { backlog, ..status(4, &[]) }), retained: false };
    assert!(stage.commit(vec![waits(0)]).acks.is_empty());
    assert_eq!(stage.commit(vec![waits(3)]).acks[0].ack.upto, 3);
    let to_come = Item::Online { status: Box::new(Status { backlog: 2, ..status(6, &[(4, 5)]) }), retained: false };
    assert!(stage.commit(vec![to_come]).acks.is_empty(), "it has not sent those");
}

#[test]
fn a_retained_status_is_no_sign_of_life_and_a_late_will_no_news() {
    let mut stage = Stage::new();
    let told = |stage: &mut Stage| {
        let mut found = (0, None);
        let mut note =
            |row: &crate::hub::ledger::HostRow| found = (row.last_ms, row.told.as_ref().map(|told| told.state));
        stage.ledger.view().unwrap().each(|_, row, _| note(row)).unwrap();
        found
    };
    stage.commit(vec![online(4, &[])]);
    let later = Now { wall_ms: WALL + 5_000, ..now() };
    let items = vec![Item::Online { status: Box::new(status(4, &[])), retained: true }];
    commit(&Batch { items }, &mut stage.ledger, stage.sink.as_mut(), later).unwrap();
    assert_eq!(told(&mut stage), (WALL, Some(State::Online)));
    let gone = |session: &str| Item::Offline { host: "edge-01".to_owned(), session: session.to_owned() };
    stage.commit(vec![gone("older")]);
    assert_eq!(told(&mut stage).1, Some(State::Online));
    stage.commit(vec![gone("s")]);
    assert_eq!(told(&mut stage).1, Some(State::Offline));
}

/// Wills of hosts that are no more are kept by the broker for ever. In front of a first message one takes nothing from it.
#[test]
fn a_will_of_a_host_that_was_never_heard_of_is_no_host() {
    let mut stage = Stage::new();
    let gone = |host: &str| Item::Offline { host: host.to_owned(), session: "s".to_owned() };
    let mut anchored = envelope(7, 1..=1);
    (anchored.synced, anchored.anchor) = (false, Some([0, WALL]));
    stage.commit(vec![gone("ghost"), gone("edge-01"), data(anchored)]);
    let mut hosts = Vec::new();
    stage.ledger.view().unwrap().each(|host, _, _| hosts.push(host.to_owned())).unwrap();
    assert_eq!((hosts, stage.times()), (vec!["edge-01".to_owned()], vec![(1, WALL + 10, true)]));
}

#[test]
fn declared_losses_carry_the_acknowledgement_over() {
    let mut stage = Stage::new();
    stage.commit(vec![data(envelope(7, 1..=3)), data(envelope(7, 6..=8))]);
    let mut losing = envelope(9, []);
    losing.losses = vec![loss(7, 4, Some(5)), loss(8, 1, None)];
    let acks = stage.commit(vec![data(losing)]).acks;
    let upto: Vec<_> = acks.iter().map(|ack| (ack.ack.epoch, ack.ack.upto)).collect();
    assert_eq!(upto, [(7, 8), (8, 0), (9, 0)]);
    // One that names more than it counts excuses absence; the host may still have some of them.
    let mut merged = envelope(9, []);
    merged.losses = vec![Loss { count: 1, ..loss(7, 9, Some(11)) }];
    stage.commit(vec![data(merged)]);
    let acks = stage.commit(vec![data(envelope(7, 12..=13))]).acks;
    assert_eq!((acks[0].ack.upto, &acks[0].ack.ranges), (8, &vec![[12, 13]]));
    // A loss excuses absence and never overrides presence.
    assert_eq!(stage.commit(vec![data(envelope(7, 4..=4))]).stored, 1);
    assert_eq!(stage.seqs(), [1, 2, 3, 6, 7, 8, 12, 13, 4]);
}

/// Made under a clock that said 1970-01-01T00:00:01.
fn unsynced(seqs: RangeInclusive<u64>, anchor: Option<[i64; 2]>) -> Envelope {
    Envelope { synced: false, anchor, ..envelope(7, seqs) }
}

#[test]
fn times_made_under_a_wrong_clock_are_corrected_once_and_stay_so() {
    let mut stage = Stage::new();
    stage.commit(vec![data(unsynced(1..=1, None))]);
    stage.commit(vec![
        data(unsynced(2..=2, None)),
        data(unsynced(3..=3, Some([1_000, WALL]))),
        data(unsynced(4..=4, Some([2_000, WALL + 1_500]))),
    ]);
    let mut stage = stage.restart();
    stage.commit(vec![data(unsynced(5..=5, Some([9_000, WALL + 9_900]))), data(unsynced(6..=6, None))]);
    let mut other_boot = unsynced(7..=7, Some([0, WALL]));
    other_boot.boot = "boot-2".to_owned();
    stage.commit(vec![data(other_boot), data(envelope(7, 8..=8))]);
    let right = |seq: u64| (seq, WALL - 1_000 + seq as i64 * 10, true);
    let told = stage.times();
    assert_eq!(told[..2], [(1, 1_000, false), (0, WALL - 1_000, true)], "as it came, and what puts it right");
    assert_eq!(told[2..7], [right(2), right(3), right(4), right(5), right(6)]);
    assert_eq!(told[7..], [(7, WALL + 70, true), (8, 1_000, false)]);
    let first = &stage.lines()[0];
    assert_eq!(
        (first["boot"].as_str(), first["mono"].as_u64(), first["ts"].as_i64()),
        (Some("boot-1"), Some(10), Some(1_000))
    );
}

#[test]
fn an_anchor_that_comes_with_records_of_a_right_clock_serves_the_others() {
    let mut stage = Stage::new();
    stage.commit(vec![data(Envelope { anchor: Some([1_000, WALL]), ..envelope(7, 5..=6) })]);
    stage.commit(vec![data(unsynced(1..=1, None))]);
    assert_eq!(stage.times(), [(5, 1_000, false), (6, 1_000, false), (1, WALL - 990, true)]);
}

#[test]
fn a_boot_that_was_never_synchronised_is_flagged() {
    let mut stage = Stage::new();
    stage.commit(vec![data(unsynced(1..=2, None))]);
    let next = Envelope { boot: "boot-2".to_owned(), anchor: Some([1_000, WALL]), ..envelope(7, 3..=3) };
    stage.commit(vec![data(next)]);
    stage.commit(vec![data(unsynced(4..=4, None))]);
    assert_eq!(stage.times().iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4], "and nothing is told");
    assert!(stage.lines().iter().filter(|line| line["boot"] == "boot-1").all(|line| line["synced"] == false));
    assert!(stage.times().iter().all(|(.., corrected)| !corrected));
}

#[test]
fn what_the_ledger_forgot_is_stored_again_with_the_same_time() {
    let mut stage = Stage::new();
    stage.commit(vec![data(unsynced(1..=3, None))]);
    stage.commit(vec![data(unsynced(4..=6, Some([1_000, WALL])))]);
    let mut draft = stage.ledger.draft().unwrap();
    draft.remove("edge-01", 7);
    let position = stage.sink.flush().unwrap();
    draft.commit(&position).unwrap();
    let mut stage = stage.restart();
    stage.commit(vec![data(unsynced(1..=6, Some([5_000, WALL + 4_500])))]);
    let (mut first, again) = (stage.times(), stage.times().split_off(7));
    first.truncate(7);
    first.retain(|(seq, ..)| *seq != 0);
    assert_eq!(first.len(), 6);
    assert_eq!(first, again);
}

/// An application's own time, put while the host's clock was wrong: before and after the host learnt the time, sent again.
#[test]
fn a_time_of_another_clock_is_never_put_right() {
    let mut stage = Stage::new();
    let foreign =
        |seqs: RangeInclusive<u64>| Envelope { boot: ClockContext::NO_BOOT.to_owned(), ..unsynced(seqs, None) };
    stage.commit(vec![data(unsynced(1..=1, None)), data(foreign(2..=3))]);
    stage.commit(vec![data(unsynced(4..=4, Some([1_000, WALL]))), data(foreign(5..=6))]);
    let first = stage.times();
    let own = |seq: u64| (seq, WALL - 1_000 + seq as i64 * 10, true);
    let as_came = |seq: u64| (seq, 1_000, false);
    assert_eq!(first, [as_came(1), as_came(2), as_came(3), (0, WALL - 1_000, true), own(4), as_came(5), as_came(6)]);
    let mut draft = stage.ledger.draft().unwrap();
    draft.remove("edge-01", 7);
    let position = stage.sink.flush().unwrap();
    draft.commit(&position).unwrap();
    let mut stage = stage.restart();
    stage.commit(vec![data(foreign(2..=3)), data(foreign(5..=6))]);
    assert_eq!(stage.times()[7..], [as_came(2), as_came(3), as_came(5), as_came(6)]);
    // Nothing that a `clock` line could be applied to.
    for line in stage.lines().iter().filter(|line| [2, 3, 5, 6].iter().any(|seq| line["seq"] == *seq)) {
        assert!(line["synced"] == false && line.get("boot").is_none() && line.get("mono").is_none(), "{line}");
    }
}

#[test]
fn a_correction_is_told_once_whatever_fails() {
    for crash in [false, true] {
        for failing_at in 1..=5 {
            let mut stage = Stage::new();
            stage.commit(vec![data(unsynced(1..=1, None))]);
            let batch = |wall| Batch { items: vec![data(unsynced(2..=2, Some([1_000, wall])))] };
            let mut failing = Failing { sink: stage.sink.as_mut(), left: failing_at };
            let failed = commit(&batch(WALL), &mut stage.ledger, &mut failing, now()).is_err();
            assert_eq!(failed, failing_at <= 4, "begin, correction, record, flush");
            if crash {
                stage = stage.restart();
            }
            // It comes again with another anchor: what was not stored was not chosen.
            commit(&batch(WALL + 5), &mut stage.ledger, stage.sink.as_mut(), now()).unwrap();
            // What was flushed counts from the restart on.
            let again = failed && !(crash && failing_at == 4);
            let offset = WALL - 1_000 + if again { 5 } else { 0 };
            assert_eq!(stage.times(), [(1, 1_000, false), (0, offset, true), (2, offset + 20, true)]);
        }
    }
}

/// An older ledger put back, and none at all.
#[test]
fn what_the_files_hold_and_the_ledger_does_not_is_stored_and_keeps_its_time() {
    for lost in [false, true] {
        let mut stage = Stage::new();
        stage.commit(vec![data(unsynced(1..=1, None)), data(envelope(3, 1..=2))]);
        let mut copy = Vec::new();
        let mut stage = stage.restart_after(|dir| copy = std::fs::read(dir.join(LEDGER)).unwrap());
        stage.commit(vec![data(unsynced(2..=3, None)), data(envelope(8, 5..=6))]);
        stage.commit(vec![data(unsynced(4..=70, Some([1_000, WALL])))]);
        let (lines, times) = (stage.lines(), stage.times());
        let mut stage = stage.restart_after(|dir| match lost {
            true => std::fs::remove_file(dir.join(LEDGER)).unwrap(),
            false => std::fs::write(dir.join(LEDGER), &copy).unwrap(),
        });
        assert_eq!(stage.lines(), lines, "nothing is cut");
        let anchor = Some([9_000, WALL + 9_900]);
        let again =
            stage.commit(vec![data(unsynced(1..=71, anchor)), data(envelope(8, 1..=6)), data(envelope(3, 1..=2))]);
        assert_eq!(again.stored, 5, "71 of one epoch, 1..=4 of another");
        assert_eq!(stage.lines()[..lines.len()], lines);
        let mut expected = times;
        expected.push((71, WALL - 1_000 + 710, true));
        expected.extend((1..=4).map(|seq| (seq, 1_000, false)));
        assert_eq!(stage.times(), expected, "and the boot's offset is the one chosen then");
        let upto: Vec<_> = again.acks.iter().map(|ack| (ack.ack.epoch, ack.ack.upto)).collect();
        assert_eq!(upto, [(3, 2), (7, 71), (8, 6)]);
    }
}

/// Somebody puts record files back while the hub runs: before a batch of nothing, one that fails, one that is stored.
#[test]
fn files_put_back_while_the_hub_runs_are_learnt_and_none_is_deleted() {
    let mut other = Stage::new();
    let name = |seq: u64| format!("records-{seq:08}-20260921T141320Z.ndjson");
    other.commit(vec![data(envelope(3, 1..=4))]);
    for started in [false, true] {
        let mut stage = Stage::new();
        if started {
            stage.commit(vec![data(envelope(7, 1..=2))]);
        }
        let mut expected = stage.seqs();
        for number in [3, 9] {
            let batch = |seqs| Batch { items: vec![data(envelope(7, seqs))] };
            let failed = |stage: &mut Stage| {
                let mut failing = Failing { sink: stage.sink.as_mut(), left: 3 };
                assert!(commit(&batch(1..=9), &mut stage.ledger, &mut failing, now()).is_err());
            };
            failed(&mut stage);
            let text = std::fs::read_to_string(other.dir.path().join(name(1))).unwrap();
            let text = text.replace("\"epoch\":3", &format!("\"epoch\":{number}"));
            std::fs::write(stage.dir.path().join(name(number)), text).unwrap();
            failed(&mut stage);
            stage.commit(vec![]);
            failed(&mut stage);
            expected.extend(1..=4);
            assert_eq!(stage.seqs(), expected, "nothing is deleted");
            assert_eq!(stage.commit(vec![data(envelope(number, 1..=5))]).stored, 1, "and it is known at once");
            expected.push(5);
            assert_eq!(stage.seqs(), expected);
        }
    }
}

#[test]
fn hostile_anchors_are_not_used() {
    let mut stage = Stage::new();
    for (seq, anchor) in [(1, [i64::MIN, i64::MAX]), (2, [0, WALL + 10 * 366 * 86_400_000]), (3, [WALL, WALL])] {
        let mut hostile = unsynced(seq..=seq, Some(anchor));
        hostile.records[0].mono = u64::MAX;
        stage.commit(vec![data(hostile)]);
    }
    assert_eq!(stage.times(), [(1, 1_000, false), (2, 1_000, false), (3, 1_000, false)]);
}

#[test]
fn every_failure_leaves_the_batch_to_be_committed_whole() {
    for crash in [false, true] {
        for failing_at in 1..=9 {
            let mut stage = Stage::new();
            stage.commit(vec![data(envelope(7, 1..=3))]);
            let batch = Batch { items: vec![data(envelope(7, 2..=6)), data(envelope(8, 1..=2))] };
            let mut failing = Failing { sink: stage.sink.as_mut(), left: failing_at };
            let failed = commit(&batch, &mut stage.ledger, &mut failing, now());
            assert_eq!(failed.is_err(), failing_at <= 7, "1 begin, 5 records, 1 flush");
            if crash {
                stage = stage.restart();
            }
            let stored = commit(&batch, &mut stage.ledger, stage.sink.as_mut(), now()).unwrap().stored;
            // What was flushed is known after a restart.
            let known = failing_at > 7 || (crash && failing_at == 7);
            assert_eq!(stored, if known { 0 } else { 5 });
            assert_eq!(stage.seqs(), [1, 2, 3, 4, 5, 6, 1, 2], "failing at {failing_at}");
        }
    }
}

#[test]
fn too_many_epochs_make_room_and_the_host_stays_bounded() {
    let mut stage = Stage::new();
    for epoch in 1..=200 {
        stage.commit(vec![data(envelope(epoch, 1..=1))]);
    }
    let mut known = 0;
    stage.ledger.view().unwrap().each(|_, _, accounts| known = accounts.len()).unwrap();
    assert_eq!(known, crate::hub::ledger::MAX_EPOCHS);
    assert_eq!(stage.commit(vec![data(envelope(200, 1..=2))]).stored, 1, "the newest is known");
}

#[derive(Clone, Debug)]
enum Step {
    Data { epoch: u64, from: u64, count: u64 },
    FailedData { epoch: u64, from: u64, count: u64, at: usize },
    Loss { epoch: u64, from: u64, count: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (1u64..3, 1u64..60, 1u64..12);
    prop_oneof![
        6 => range().prop_map(|(epoch, from, count)| Step::Data { epoch, from, count }),
        2 => (range(), 1usize..14).prop_map(|((epoch, from, count), at)| Step::FailedData { epoch, from, count, at }),
        1 => range().prop_map(|(epoch, from, count)| Step::Loss { epoch, from, count }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Whatever fails and restarts: each record once in the files, and no acknowledgement beyond files and losses.
    #[test]
    fn files_hold_each_record_once_and_acks_never_run_ahead(steps in proptest::collection::vec(step(), 1..25)) {
        let mut stage = Stage::new();
        let (mut sent, mut lost, mut flushed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for step in steps {
            let acks = match step {
                Step::Data { epoch, from, count } => {
                    sent.extend((from..from + count).map(|seq| (epoch, seq)));
                    stage.commit(vec![data(envelope(epoch, from..from + count))]).acks
                }
                Step::FailedData { epoch, from, count, at } => {
                    let items = vec![data(envelope(epoch, from..from + count))];
                    let mut failing = Failing { sink: stage.sink.as_mut(), left: at };
                    match commit(&Batch { items }, &mut stage.ledger, &mut failing, now()) {
                        Ok(committed) => {
                            sent.extend((from..from + count).map(|seq| (epoch, seq)));
                            committed.acks
                        }
                        Err(_) => {
                            flushed.extend((from..from + count).map(|seq| (epoch, seq)));
                            Vec::new()
                        }
                    }
                }
                Step::Loss { epoch, from, count } => {
                    lost.extend((from..from + count).map(|seq| (epoch, seq)));
                    let mut losing = envelope(epoch, []);
                    losing.losses = vec![loss(epoch, from, Some(from + count - 1))];
                    stage.commit(vec![data(losing)]).acks
                }
                Step::Restart => {
                    stage = stage.restart();
                    Vec::new()
                }
            };
            let stored: Vec<(u64, u64)> = stage.lines().iter()
                .map(|line| (line["epoch"].as_u64().unwrap(), line["seq"].as_u64().unwrap())).collect();
            let set: BTreeSet<_> = stored.iter().copied().collect();
            for HostAck { ack, .. } in &acks {
                let fine = |seq: u64| set.contains(&(ack.epoch, seq)) || lost.contains(&(ack.epoch, seq));
                prop_assert!((1..=ack.upto).all(fine), "{:?} beyond {:?}", ack, set);
                prop_assert!(ack.ranges.iter().flat_map(|[a, b]| *a..=*b).all(fine), "{:?} beyond {:?}", ack, set);
            }
        }
        stage.commit(vec![data(envelope(9, 1..=1))]);
        sent.insert((9, 1));
        let stored: Vec<(u64, u64)> = stage.lines().iter()
            .map(|line| (line["epoch"].as_u64().unwrap(), line["seq"].as_u64().unwrap())).collect();
        let set: BTreeSet<_> = stored.iter().copied().collect();
        prop_assert_eq!(stored.len(), set.len(), "something is there twice");
        prop_assert!(set.is_superset(&sent));
        flushed.extend(sent);
        prop_assert!(set.is_subset(&flushed));
    }
}
