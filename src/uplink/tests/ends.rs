//! What the end of a connection says: about another client of our name, about what was in flight, about the link.

use super::*;
use crate::uplink::reasons::*;

const S: Duration = Duration::from_secs(1);

fn by_server(code: u8) -> Input {
    Input::Closed(CloseReason::Server { code, text: "so it says".into() })
}

#[test]
fn a_connection_that_is_taken_over_twice_is_an_alarm_for_an_hour() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    for code in [0x8B, 0x8B, SESSION_TAKEN_OVER] {
        b.input(by_server(code));
        b.reconnect();
        assert!(b.uplink.problems().is_empty(), "0x{code:02x}");
    }
    b.input(by_server(SESSION_TAKEN_OVER));
    assert_eq!(b.logs.iter().filter(|line| line.contains("another client connects")).count(), 1, "{:?}", b.logs);
    b.reconnect();
    assert!(b.uplink.problems()[0].starts_with("ALARM: another client"), "{:?}", b.uplink.problems());
    for _ in 0..61 {
        b.input(Input::Progress);
        b.pass(S * 60);
        b.ack_own();
    }
    assert!(b.uplink.problems().is_empty());
}

/// Connections that end with nothing but the status in flight count against it, if the reason blames what was sent.
#[test]
fn only_codes_that_a_publish_can_provoke_are_held_against_what_was_sent() {
    for code in 0..=u8::MAX {
        let mut b = Bench::new(settings(), vec![]);
        for _ in 0..3 {
            b.come_up();
            b.input(by_server(code));
        }
        let blames = matches!(code, 0x80..=0x83 | TOPIC_NAME_INVALID | PAYLOAD_FORMAT_INVALID | PACKET_TOO_LARGE);
        let suspected = b.uplink.problems().iter().any(|line| line.contains("when status or meta are published"));
        assert_eq!(suspected, blames, "0x{code:02x}");
    }
}

#[test]
fn only_a_batch_in_flight_makes_the_next_one_smaller() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    let before = b.uplink.batch.bytes();
    b.append("cpu", vec![chunk(1, 100)]);
    b.take_one("m/cpu");
    b.lose();
    assert_eq!(b.uplink.batch.bytes(), before, "live data says nothing about batches");
    b.reconnect();
    b.take_one("h");
    b.append("cpu", vec![chunk(2, 100)]);
    b.take_one("m/cpu");
    b.lose();
    assert_eq!(b.uplink.batch.bytes(), before / 2);
}

#[test]
fn what_fits_no_state_is_counted_and_changes_nothing() {
    let mut b = Bench::new(settings(), vec![]);
    b.lose();
    assert_eq!(b.uplink.counts().stray_inputs, 1, "no attempt was made yet");
    b.input(Input::Connected(Limits::default()));
    b.ack_own();
    b.input(Input::Connected(Limits { receive_max: 1, ..Limits::default() }));
    assert_eq!((b.uplink.counts().stray_inputs, b.uplink.room().messages), (2, 10));
    b.lose();
    b.lose();
    assert_eq!((b.uplink.counts().stray_inputs, b.uplink.is_connected()), (3, false));
}

#[test]
fn an_end_with_data_in_flight_or_with_nothing_is_not_held_against_the_status() {
    for data in [true, false] {
        let mut b = Bench::new(settings(), vec![]);
        for seq in 1..=9 {
            b.come_up();
            match data {
                true => b.append("cpu", vec![chunk(seq, 100)]),
                false => b.ack_own(),
            }
            b.seen.clear();
            b.lose();
        }
        assert!(!b.uplink.heartbeat.is_suspect());
    }
}

#[test]
fn meta_that_is_answered_ends_the_suspicion_against_status_and_meta() {
    let mut b = Bench::new(settings(), vec![]);
    for _ in 0..3 {
        b.come_up();
        b.lose();
    }
    b.reconnect();
    assert!(b.uplink.heartbeat.is_suspect() && b.take("meta").is_empty());
    for _ in 0..10 {
        b.pass(S * 60);
        b.input(Input::Progress);
        b.ack_own();
    }
    assert!(!b.uplink.heartbeat.is_suspect(), "it went well");
}
