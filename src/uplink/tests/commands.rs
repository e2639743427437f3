//! The bounds of what a hub may ask for, and when it is answered.

use super::hubs::{at_level_hub, command, reply, resend};
use super::*;
use crate::uplink::delivery::MAX_RANGES;

fn ping(id: &str) -> Input {
    Input::Received(command(&format!(r#"{{"cmd":"ping","id":"{id}"}}"#)))
}

#[test]
fn a_resend_ends_with_what_was_drawn_and_says_so() {
    let mut b = at_level_hub(backlog(3, 100));
    hubs::accept_history(&mut b);
    b.answers_loads = false;
    b.input(resend(2, 900));
    assert_eq!(b.uplink.delivery.pending(EPOCH).iter().collect::<Vec<_>>(), [2..=3]);
    let text = reply(&mut b).message.unwrap();
    assert_eq!(text, "2 of the seqs up to 3 are sent again; the others are on their way");
}

#[test]
fn a_million_seqs_may_be_asked_for_and_no_more_until_they_have_come() {
    let mut b = at_level_hub(vec![chunk(2_000_000, 100)]);
    b.answers_loads = false;
    b.input(resend(3, 1_999_999));
    let text = reply(&mut b).message.unwrap();
    assert!(text.starts_with("1000000 of the seqs up to 1000002 are sent again"), "{text}");
    b.input(resend(1_500_000, 1_500_000));
    let refusal = reply(&mut b);
    assert!(!refusal.ok && refusal.message.unwrap().contains("ask again later"));
    assert_eq!(b.uplink.delivery.asked(), 1_000_000);
}

#[test]
fn nothing_more_is_asked_for_while_there_are_as_many_ranges_as_may_be() {
    for (ranges, ok) in [(MAX_RANGES as u64 - 1, true), (MAX_RANGES as u64, false)] {
        let mut b = at_level_hub((1..=ranges).map(|n| chunk(n * 2, 100)).collect());
        b.answers_loads = false;
        b.input(resend(1, 1));
        assert_eq!(reply(&mut b).ok, ok, "{ranges} ranges");
    }
}

#[test]
fn what_was_not_drawn_is_refused_by_what_became_of_its_epoch() {
    let mut b = at_level_hub(backlog(3, 100));
    b.append("cpu", vec![Chunk { epoch: EPOCH + 1, ..chunk(1, 100) }]);
    b.input(resend(4, 4));
    assert_eq!(reply(&mut b).message.unwrap(), "seq 4 was not drawn: the epoch is over and would have gone on with 4");
    b.input(Input::Received(command(r#"{"cmd":"resend","id":"r","epoch":78,"from":2,"to":2}"#)));
    assert_eq!(reply(&mut b).message.unwrap(), "seq 2 was not drawn: the next one is 2");
}

#[test]
fn what_is_asked_for_of_an_epoch_that_is_given_up_leaves_the_room_to_others() {
    let mut b = at_level_hub(vec![chunk(2_000_000, 100)]);
    b.answers_loads = false;
    b.input(resend(3, 1_999_999));
    assert_eq!((reply(&mut b).ok, b.uplink.delivery.asked()), (true, 1_000_000));
    b.input(hubs::ack(EPOCH, 3_000_000, &[]));
    assert_eq!(b.uplink.delivery.asked(), 0);
}

#[test]
fn a_run_on_command_may_follow_another_after_a_second() {
    let mut b = at_level_hub(Vec::new());
    let runs = |b: &mut Bench| {
        b.input(Input::Received(command(r#"{"cmd":"run","id":"r","collector":"cpu"}"#)));
        b.actions.extract_if(.., |a| matches!(a, Action::Run { .. })).count()
    };
    assert_eq!((runs(&mut b), runs(&mut b)), (1, 0));
    b.sleep(Duration::from_millis(999));
    assert_eq!(runs(&mut b), 0);
    b.sleep(Duration::from_millis(1));
    assert_eq!(runs(&mut b), 1);
}

#[test]
fn answers_wait_for_a_place_in_turn_and_sixteen_at_most() {
    let mut b = Bench::connected(settings(), Vec::new(), Limits { receive_max: 1, ..Limits::default() });
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    for n in 0..20 {
        b.input(ping(&n.to_string()));
    }
    assert!(b.seen.is_empty(), "{:?}", b.seen);
    b.ack(live.token, 0);
    for n in 0..16 {
        assert_eq!(reply(&mut b).id, n.to_string());
    }
    assert!(b.seen.is_empty(), "{:?}", b.seen);
}

#[test]
fn as_many_answers_go_at_once_as_may_be_in_flight() {
    let mut b = at_level_hub(Vec::new());
    for n in 0..12 {
        b.input(ping(&n.to_string()));
    }
    assert_eq!(b.take("reply/hub").len(), 10);
}

#[test]
fn an_answer_goes_beside_no_suspect() {
    let mut b = at_level_hub(backlog(2, 100));
    let batch = b.take_one("h");
    b.ack(batch.token, crate::uplink::reasons::PAYLOAD_FORMAT_INVALID);
    let trial = b.take_one("h");
    assert_eq!(trial.seqs(), [1]);
    b.input(ping("p"));
    assert!(b.seen.is_empty(), "a suspect is alone in flight");
    b.ack(trial.token, 0);
    assert!(reply(&mut b).ok);
}

#[test]
fn what_comes_back_in_an_answer_is_bounded() {
    let mut b = at_level_hub(Vec::new());
    for (bytes, comes_back) in [(256, true), (257, false)] {
        b.input(Input::Received(Message {
            correlation: Some(vec![7; bytes]),
            ..command(r#"{"cmd":"ping","id":"p"}"#)
        }));
        let seen = b.take_one("reply/hub");
        assert_eq!(seen.correlation.is_some(), comes_back, "{bytes} bytes of correlation");
    }
    for (length, comes_back) in [(64, true), (65, false)] {
        b.input(Input::Received(command(&format!(r#"{{"cmd":"format","id":"{}"}}"#, "x".repeat(length)))));
        assert_eq!(!reply(&mut b).id.is_empty(), comes_back, "an id of {length} bytes");
    }
    b.input(Input::Received(command(r#"{"cmd":"run","id":"r","collector":"cpu"}"#)));
    let Some(Action::Run { ticket, .. }) = b.actions.pop() else { panic!("{:?}", b.actions) };
    b.input(Input::Ran { ticket, outcome: Err("\u{e9}".repeat(500)) });
    let text = reply(&mut b).message.unwrap();
    assert_eq!((text.len(), text.chars().count()), (300, 150));
}
