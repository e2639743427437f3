//! What hubs said and what the broker kept of us: before this connection, or before the outbox was opened.

use super::hubs::{accept_history, ack, at_level_hub};
use super::*;
use crate::wire::{Ack, encode_payload};

/// A status of ours that the broker had kept, by another session.
fn kept(b: &Bench, epoch: u64, next_seq: u64) -> Input {
    let status = Status { session: "other".into(), epoch, next_seq, ..b.uplink.status(b.now) };
    let (topic, payload) = ("v1/plant/edge/status".to_owned(), encode_payload(&status));
    Input::Received(Message { topic, payload, retained: true, ..Message::default() })
}

fn kept_ack(upto: u64) -> Input {
    let payload = encode_payload(&Ack { v: 1, epoch: EPOCH, upto, ranges: Vec::new() });
    Input::Received(Message { topic: "v1/plant/edge/ack/hub".into(), payload, retained: true, ..Message::default() })
}

fn given_up(b: &Bench) -> bool {
    b.actions.iter().any(|a| matches!(a, Action::BeginEpoch))
}

/// Connected at level hub, with an outbox that could not be opened.
fn unopened() -> Bench {
    let mut b = Bench::new(settings(), vec![]);
    b.uplink = Uplink::new(Settings { level: Level::Hub, pace: None, ..settings() }, vec![], vec![], 1);
    b.come_up();
    b.ack_own();
    b
}

fn open(b: &mut Bench, n: u64) {
    let chunks = backlog(n, 100);
    b.chunks.extend(chunks.iter().map(|c| ((c.epoch, c.first), c.clone())));
    let pending = std::iter::once(1..=n).collect();
    let epochs = vec![EpochView { epoch: EPOCH, pending, next_seq: n + 1, in_doubt: false }];
    b.input(Input::Opened { epochs, losses: vec![], hub: HubMemory::Never });
}

#[test]
fn what_hubs_have_said_settles_what_is_found_in_an_outbox_that_is_opened_later() {
    let mut b = unopened();
    b.input(ack(EPOCH, 2, &[]));
    assert_eq!(b.settled(), vec![0; 0]);
    open(&mut b, 3);
    assert_eq!((b.settled(), accept_history(&mut b)), (vec![1, 2], vec![3]));
}

#[test]
fn a_kept_acknowledgement_settles_what_was_there_before_this_process() {
    let mut b = at_level_hub(backlog(3, 100));
    b.append("cpu", vec![chunk(4, 100)]);
    b.input(kept_ack(3));
    assert_eq!((b.settled(), given_up(&b)), (vec![1, 2, 3], false));
}

/// What was published on a connection of this process may be known by the next one.
#[test]
fn a_kept_acknowledgement_of_what_this_process_published_is_no_alarm() {
    for published in [true, false] {
        let mut b = Bench::new(Settings { level: Level::Hub, ..settings() }, vec![]);
        b.act();
        b.actions.clear();
        if published {
            b.input(Input::Connected(Limits::default()));
            b.append("cpu", vec![chunk(1, 100)]);
        } else {
            b.append("cpu", vec![chunk(1, 100)]);
            b.uplink.handle(Input::Connected(Limits::default()), b.now);
        }
        b.uplink.handle(Input::Closed(CloseReason::Lost("reset".into())), b.now);
        b.come_up();
        b.input(kept_ack(1));
        assert_eq!((b.settled().len(), given_up(&b)), (usize::from(published), !published));
    }
}

#[test]
fn an_acknowledgement_beyond_an_epoch_whose_end_is_in_doubt_settles_what_is_known_of_it() {
    let mut b = at_level_hub(backlog(3, 100));
    let view = EpochView { epoch: EPOCH, pending: std::iter::once(1..=3).collect(), next_seq: 4, in_doubt: true };
    b.uplink.delivery = delivery::Delivery::new(vec![view]);
    b.input(ack(EPOCH, 9, &[]));
    assert_eq!((b.settled(), given_up(&b), b.uplink.problems().len()), (vec![1, 2, 3], false, 0));
}

#[test]
fn a_kept_status_of_an_epoch_that_is_not_ours_is_a_twin_unless_it_may_be_of_before_us() {
    let mut b = at_level_hub(backlog(3, 100));
    for opened in [true, false] {
        if !opened {
            b = unopened();
        }
        for _ in 0..3 {
            b.input(kept(&b, 99, 5));
        }
        assert!(b.uplink.problems().is_empty(), "a process before this one may have left it");
        b.lose();
        b.reconnect();
        for _ in 0..2 {
            b.input(kept(&b, 99, 5));
        }
        let problems = b.uplink.problems();
        assert_eq!(problems.len(), usize::from(opened), "{problems:?}");
        assert!(problems.iter().all(|line| line.contains("another client connects")), "{problems:?}");
        assert!(!given_up(&b));
    }
}

#[test]
fn a_kept_status_tells_how_far_somebody_else_has_come_in_our_epoch() {
    let mut b = at_level_hub(backlog(3, 100));
    b.input(kept(&b, EPOCH, 4));
    assert!(!given_up(&b) && b.uplink.problems().is_empty(), "as far as we have");
    b.input(kept(&b, EPOCH, 6));
    assert!(given_up(&b) && b.uplink.problems()[0].starts_with("ALARM: the broker knows seq 5 of epoch 77"));
}

#[test]
fn a_kept_will_tells_how_far_its_host_had_come_and_a_status_that_is_not_kept_tells_nothing() {
    let mut b = at_level_hub(backlog(3, 100));
    let Input::Received(kept) = kept(&b, EPOCH, 6) else { panic!("a message") };
    b.input(Input::Received(Message { retained: false, ..kept.clone() }));
    assert!(!given_up(&b), "the epoch may be somebody else's by that name, and goes on by itself");
    let will = |next: u64| format!(r#"{{"state":"offline","session":"other","epoch":77,"next_seq":{next}}}"#);
    b.input(Input::Received(Message { payload: will(4).into(), ..kept.clone() }));
    assert!(!given_up(&b));
    b.input(Input::Received(Message { payload: will(6).into(), ..kept }));
    assert!(given_up(&b));
}
