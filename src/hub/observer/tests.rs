use std::time::Duration;

use super::*;
use crate::hub::line::{GapWord, VerdictWord};
use crate::hub::summary::{Run, Summary};
use crate::hub::text::json_line;
use crate::record::{ClockContext, ErrorKind, Point, Record, RunError, Value};
use crate::wire::{BatchHeader, Chunk, Loss, LossReason, PendingRange, encode_batch, encode_payload, encode_record};

fn at(seconds: u64) -> Now {
    let mono = Duration::from_secs(seconds);
    Now { mono, boot: mono, wall_ms: 1_790_000_000_000 + seconds as i64 * 1000 }
}

pub(in crate::hub) fn record(seq: u64, name: &str) -> Record {
    let point = Point {
        ts: 1_790_000_000_123,
        mono: 5,
        name: name.to_owned().into(),
        tags: [("cpu".into(), "0".into())].into(),
        fields: [("utilization".into(), Value::Float(0.25))].into(),
        error: None,
    };
    Record::new(seq, point)
}

/// An envelope as an agent makes it: contiguous records of host `edge-01` at `plant-a`.
pub(in crate::hub) fn batch(epoch: u64, lane: Lane, records: &[Record], losses: &[Loss]) -> Vec<u8> {
    let context = ClockContext { boot: "boot-1".into(), synced: true };
    let header = BatchHeader {
        host: "edge-01",
        site: "plant-a",
        epoch,
        context: &context,
        anchor: None,
        sent: 1_790_000_000_500,
        lane,
    };
    let mut maps = Vec::new();
    records.iter().for_each(|r| encode_record(r, &mut maps));
    let first = records.first().map_or(1, |r| r.seq);
    let chunk = Chunk { epoch, first, count: records.len() as u32, context: context.clone(), maps: maps.into() };
    encode_batch(&header, losses, if records.is_empty() { &[] } else { std::slice::from_ref(&chunk) })
}

fn live(seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let records: Vec<Record> = seqs.map(|seq| record(seq, "system.cpu")).collect();
    batch(7, Lane::Live, &records, &[])
}

fn status(next_seq: u64, session: &str, pending: Vec<PendingRange>) -> Vec<u8> {
    encode_payload(&Status {
        v: 1,
        state: State::Online,
        session: session.into(),
        host: "edge-01".into(),
        site: "plant-a".into(),
        sent: 1_790_000_000_000,
        version: "0.1.0".into(),
        epoch: 7,
        next_seq,
        pending,
        backlog: 12,
        oldest: None,
        eta_s: Some(3),
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    })
}

const CPU: &str = "v1/plant-a/edge-01/m/cpu";
const HISTORY: &str = "v1/plant-a/edge-01/h";
const STATUS: &str = "v1/plant-a/edge-01/status";

fn observer() -> Observer {
    Observer::new("", Filter::default(), true)
}

fn ndjson(lines: &[Line]) -> Vec<String> {
    let line = |line| {
        let mut out = Vec::new();
        json_line(line, &mut out);
        String::from_utf8(out).unwrap().trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

fn complete(observer: &Observer) -> bool {
    Summary::of(observer, Run::default()).complete
}

#[test]
fn lines_have_the_shapes_that_programs_rely_on() {
    let mut observer = observer();
    let mut failed = record(2, "backup_age");
    failed.status = crate::record::Status::Err;
    failed.fields.clear();
    failed.error = Some(RunError::new(ErrorKind::Timeout, "killed after 5 s"));
    let mut lines = observer.take(CPU, &batch(7, Lane::Live, &[record(1, "system.cpu"), failed], &[]), false, at(0));
    let loss = Loss { epoch: 7, from: 3, to: Some(4), count: 2, reason: LossReason::WriteFailure, t0: 0, t1: 0 };
    lines.extend(observer.take(HISTORY, &batch(7, Lane::History, &[], &[loss]), false, at(0)));
    lines.extend(observer.take(CPU, &live(6..=6), false, at(1)));
    lines.extend(observer.take(STATUS, &status(7, "s", vec![]), true, at(2)));
    lines.extend(observer.take(STATUS, br#"{"state":"offline","session":"s"}"#, false, at(3)));
    lines.extend(observer.take(CPU, b"\xc1", false, at(4)));
    let expected = [
        r#"{"type":"epoch","host":"edge-01","site":"plant-a","epoch":7,"previous":null}"#,
        r#"{"type":"record","host":"edge-01","site":"plant-a","epoch":7,"seq":1,"ts":1790000000123,"time":"2026-09-21T14:13:20.123Z","name":"system.cpu","status":"ok","tags":{"cpu":"0"},"fields":{"utilization":0.25},"synced":true,"lane":"live","verdict":"new","topic":"v1/plant-a/edge-01/m/cpu"}"#,
        r#"{"type":"record","host":"edge-01","site":"plant-a","epoch":7,"seq":2,"ts":1790000000123,"time":"2026-09-21T14:13:20.123Z","name":"backup_age","status":"err","tags":{"cpu":"0"},"fields":{},"error":{"kind":"timeout","message":"killed after 5 s"},"synced":true,"lane":"live","verdict":"new","topic":"v1/plant-a/edge-01/m/cpu"}"#,
        r#"{"type":"loss","host":"edge-01","site":"plant-a","epoch":7,"from":3,"to":4,"reason":"write-failure"}"#,
        r#"{"type":"gap","host":"edge-01","site":"plant-a","epoch":7,"from":5,"to":5,"count":1,"state":"open"}"#,
        r#"{"type":"record","host":"edge-01","site":"plant-a","epoch":7,"seq":6,"ts":1790000000123,"time":"2026-09-21T14:13:20.123Z","name":"system.cpu","status":"ok","tags":{"cpu":"0"},"fields":{"utilization":0.25},"synced":true,"lane":"live","verdict":"new","topic":"v1/plant-a/edge-01/m/cpu"}"#,
        r#"{"type":"status","host":"edge-01","site":"plant-a","state":"online","retained":true,"sent":1790000000000,"version":"0.1.0","epoch":7,"next_seq":7,"backlog":12,"oldest":null,"eta_s":3,"level":"broker","problems":[]}"#,
        r#"{"type":"status","host":"edge-01","site":"plant-a","state":"offline","retained":false}"#,
    ];
    let got = ndjson(&lines);
    assert_eq!(got.len(), expected.len() + 1);
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got, expected);
    }
    let bad: serde_json::Value = serde_json::from_str(got.last().unwrap()).unwrap();
    assert_eq!((&bad["type"], &bad["topic"], &bad["bytes"]), (&"bad".into(), &CPU.into(), &1.into()));
}

#[test]
fn the_summary_lists_what_is_missing_and_is_not_complete() {
    let mut observer = observer();
    observer.take(CPU, &live(1..=2), false, at(0));
    assert!(complete(&observer));
    observer.take(CPU, &live(5..=5), false, at(0));
    let summary = Summary::of(&observer, Run { seconds: 9, connections: 1, discarded: 0 });
    assert!(!summary.complete);
    let [host] = summary.hosts.as_slice() else { panic!("one host") };
    assert_eq!((host.new, host.open, host.confirmed), (3, 2, 0));
    assert_eq!((host.gaps[0].from, host.gaps[0].to, host.gaps[0].state), (3, 4, GapWord::Open));
    assert_eq!(summary.verdict_text(), "NOT COMPLETE: 2 missing (not yet confirmed)");
    assert!(summary.text().contains("missing seq 3..=4 of epoch 7 (open)"), "{}", summary.text());

    let pending = vec![PendingRange { epoch: 7, from: 3, to: 4 }];
    observer.take(STATUS, &status(6, "s", pending), false, at(60));
    assert!(complete(&observer), "promised by the host");
    observer.take(HISTORY, &batch(7, Lane::History, &[record(3, "a"), record(4, "a")], &[]), false, at(61));
    let summary = Summary::of(&observer, Run::default());
    assert_eq!((summary.hosts[0].late, summary.hosts[0].pending), (2, 0));
    assert_eq!(summary.verdict_text(), "nothing is missing");
}

#[test]
fn a_message_that_speaks_of_another_host_is_bad_and_never_merged() {
    let mut observer = observer();
    for topic in ["v1/plant-a/edge-02/m/cpu", "v1/plant-b/edge-01/m/cpu", "v1/plant-a/edge-02/h"] {
        let lines = observer.take(topic, &live(1..=1), false, at(0));
        assert!(matches!(lines.as_slice(), [Line::Bad(bad)] if bad.reason.contains("identity")), "{topic}: {lines:?}");
    }
    let lines = observer.take("v1/plant-a/edge-02/status", &status(5, "s", vec![]), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Bad(_)]));
    assert_eq!((observer.counts.bad, observer.counts.records), (4, 0));
    assert!(observer.hosts.is_empty());
    assert!(!complete(&observer), "somebody may have lost records by it");
}

#[test]
fn hostile_messages_do_not_stop_the_next() {
    let mut deep = b"\x81\xa1x".repeat(20_000);
    deep.push(0xc0);
    let huge_claim = b"\x81\xa7records\xdd\xff\xff\xff\xff".to_vec();
    let mut noise: u64 = 0x9e37_79b9;
    let mut random = |n: usize| -> Vec<u8> {
        (0..n)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect()
    };
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(b' '), 64 << 20), 3).unwrap();
    let mut payloads = vec![deep, huge_claim, bomb, vec![b'{'; 4 << 20], random(4 << 20), Vec::new()];
    payloads.extend((0..500).map(&mut random));
    let mut observer = observer();
    let mut bad = 0;
    for payload in &payloads {
        for topic in [CPU, HISTORY, STATUS, "v1/plant-a/edge-01/event"] {
            let lines = observer.take(topic, payload, false, at(0));
            assert!(matches!(lines.as_slice(), [Line::Bad(_)]), "{topic} took {:?}", payload.get(..16));
            bad += 1;
        }
    }
    for topic in ["", "/", "v1", "v1//edge-01/m/cpu", "v1/a/b/m/c/d", "$SYS/broker", "v1/a/b/m/\u{1b}[2J"] {
        let lines = observer.take(topic, &live(1..=1), false, at(0));
        assert!(matches!(lines.as_slice(), [Line::Bad(_)]), "{topic:?}");
        bad += 1;
    }
    assert_eq!(observer.counts.bad, bad);
    let lines = observer.take(CPU, &live(1..=1), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Epoch(_), Line::Record(r)] if r.verdict == Some(VerdictWord::New)));
}

#[test]
fn escape_codes_in_names_reach_no_line() {
    let mut observer = observer();
    let mut evil = record(1, "cpu\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}");
    evil.tags.insert("\u{1b}[31m".into(), "\r\n{\"type\":\"summary\"}".into());
    evil.fields.insert("x".into(), Value::Str("\u{85}\u{7f}".into()));
    let lines = observer.take(CPU, &batch(7, Lane::Live, &[evil], &[]), false, at(0));
    let [_, record @ Line::Record(_)] = lines.as_slice() else { panic!("{lines:?}") };
    let fit = |text: &str| text.chars().all(|c| !c.is_control() && c != '\u{202e}');
    assert!(fit(&record.text(200)), "{:?}", record.text(200));
    let json = ndjson(&lines);
    assert!(json.iter().all(|line| fit(line)), "{json:?}");
    let back: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
    assert_eq!(back["name"], "cpu\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}");
}

#[test]
fn filters_hide_lines_and_change_nothing_else() {
    let filter = Filter { names: vec!["other".into()], ..Filter::default() };
    let mut observer = Observer::new("", filter, true);
    let lines = observer.take(CPU, &live(1..=2), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Epoch(_)]));
    let lines = observer.take(CPU, &batch(7, Lane::Live, &[record(3, "other")], &[]), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Record(r)] if r.seq == 3));
    assert!(complete(&observer), "1 and 2 are hidden, not missing");

    let filter = Filter { hosts: vec!["edge-9*".into()], ..Filter::default() };
    let mut observer = Observer::new("", filter, true);
    observer.take(CPU, &live(1..=1), false, at(0));
    assert!(observer.take(CPU, &live(5..=5), false, at(0)).is_empty());
    assert!(observer.take(CPU, b"bad", false, at(0)).is_empty());
    let summary = Summary::of(&observer, Run::default());
    assert_eq!((summary.bad, summary.hosts.len()), (0, 0), "the gap and the bad message are another host's");
    assert!(!summary.complete, "and of the one that was asked for nothing was heard");
    assert_eq!(observer.tracker.missing("edge-01").open, 3);
}

#[test]
fn a_late_will_of_an_older_connection_is_no_news() {
    let mut observer = observer();
    observer.take(STATUS, &status(1, "new", vec![]), false, at(0));
    assert!(observer.take(STATUS, br#"{"state":"offline","session":"old"}"#, false, at(1)).is_empty());
    assert_eq!(observer.hosts["edge-01"].state, Some(State::Online));
    assert_eq!(observer.take(STATUS, br#"{"state":"offline","session":"new"}"#, false, at(1)).len(), 1);
    assert_eq!(observer.hosts["edge-01"].state, Some(State::Offline));
}

#[test]
fn a_retained_live_record_is_no_proof_of_listening() {
    let mut observer = observer();
    observer.take(CPU, &live(1..=1), true, at(0));
    observer.take(CPU, &live(100..=100), false, at(0));
    assert!(complete(&observer));
}

#[test]
fn a_member_of_a_shared_subscription_judges_no_gaps() {
    let mut observer = Observer::new("", Filter::default(), false);
    observer.take(CPU, &live(1..=1), false, at(0));
    let lines = observer.take(CPU, &live(9..=9), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Record(_)]));
    let summary = Summary::of(&observer, Run::default());
    assert!(summary.complete && !summary.gaps_judged && summary.hosts[0].gaps.is_empty());
    assert!(summary.verdict_text().starts_with("gaps not judged"));
}

#[test]
fn a_message_under_another_prefix_is_bad() {
    let mut observer = Observer::new("acme/prod", Filter::default(), true);
    assert!(matches!(observer.take(CPU, &live(1..=1), false, at(0)).as_slice(), [Line::Bad(_)]));
    let lines = observer.take("acme/prod/v1/plant-a/edge-01/m/cpu", &live(1..=1), false, at(0));
    assert!(matches!(lines.as_slice(), [Line::Epoch(_), Line::Record(_)]));
}

#[test]
fn the_rate_is_of_the_last_nine_whole_seconds() {
    let mut rate = Rate::default();
    for second in 100..110 {
        rate.add(18, at(second));
    }
    assert_eq!(rate.per_second(at(110)), 18.0);
    assert_eq!(rate.per_second(at(114)), 10.0);
    assert_eq!(rate.per_second(at(1000)), 0.0);
}
