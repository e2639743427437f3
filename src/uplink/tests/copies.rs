//! Copies of events: when they go, and what they have to wait for.

use super::*;
use crate::uplink::reasons::*;

/// One event, with a text of `bytes`.
fn event(seq: u64, bytes: usize) -> Chunk {
    let mut event = chunk(seq, 100);
    let mut record: Record = rmp_serde::from_slice(&event.maps).unwrap();
    record.name = crate::wire::EVENT_NAME.into();
    record.fields.insert("message".into(), Value::Str("m".repeat(bytes)));
    let mut maps = Vec::new();
    encode_record(&record, &mut maps);
    event.maps = maps.into();
    event
}

#[test]
fn a_copy_goes_behind_its_live_record_and_waits_for_a_place() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    b.append("events", vec![event(1, 10)]);
    let live = b.take_one("m/events");
    assert!(b.seen.is_empty(), "there is place for one message");
    b.ack(live.token, SUCCESS);
    let copy = b.take_one("event");
    assert_eq!((copy.seqs(), copy.retain), (vec![1], false));
    b.ack(copy.token, QUOTA_EXCEEDED);
    assert_eq!((b.settled(), b.take("event").len()), (vec![1], 0), "its answer means nothing for the record");
}

#[test]
fn a_copy_goes_beside_no_suspect() {
    let mut b = Bench::connected(settings(), backlog(2, 100), Limits::default());
    let batch = b.take_one("h");
    b.append("cpu", vec![chunk(3, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(batch.token, PAYLOAD_FORMAT_INVALID);
    b.append("events", vec![event(4, 10)]);
    let own = b.take_one("m/events");
    let copy = b.take_one("event");
    for seen in [live, own, copy] {
        b.ack(seen.token, SUCCESS);
    }
    let trial = b.take_one("h");
    assert_eq!(trial.seqs(), [1]);
    b.append("events", vec![event(5, 10)]);
    assert!(b.seen.is_empty(), "a suspect is alone in flight: {:?}", b.seen);
    b.ack(trial.token, SUCCESS);
    assert_eq!((b.take("m/events").len(), b.take("event").len()), (1, 1));
}

#[test]
fn a_copy_is_forgotten_with_the_connection_and_when_it_is_too_large() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    b.append("events", vec![event(1, 10)]);
    b.seen.clear();
    b.lose();
    b.reconnect();
    assert!(b.take("event").is_empty());
    let limits = Limits { max_packet: 2_000, ..Limits::default() };
    let mut b = Bench::connected(settings(), vec![], limits);
    b.append("events", vec![event(1, 3_000), event(2, 10)]);
    assert_eq!(b.take_one("event").seqs(), [2], "what this broker does not take holds nothing up");
}
