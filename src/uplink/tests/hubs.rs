//! Level hub: what a hub's word settles, what it may ask for, and how it is answered.

use super::*;
use crate::wire::{Ack, Command, Reply, decode_payload, encode_payload};

pub(super) fn at_level_hub(backlog: Vec<Chunk>) -> Bench {
    let settings = Settings { level: Level::Hub, pace: None, ..settings() };
    Bench::connected(settings, backlog, Limits::default())
}

pub(super) fn ack(epoch: u64, upto: u64, ranges: &[[u64; 2]]) -> Input {
    let payload = encode_payload(&Ack { v: 1, epoch, upto, ranges: ranges.to_vec() });
    Input::Received(Message { topic: "v1/plant/edge/ack/hub".into(), payload, ..Message::default() })
}

pub(super) fn command(text: &str) -> Message {
    Message {
        topic: "v1/plant/edge/cmd".into(),
        payload: text.into(),
        retained: false,
        response_topic: Some("v1/plant/edge/reply/hub".into()),
        correlation: Some(b"c".to_vec()),
    }
}

pub(super) fn resend(from: u64, to: u64) -> Input {
    let payload = encode_payload(&Command::Resend { id: "r".into(), epoch: EPOCH, from, to });
    Input::Received(Message { payload, ..command("") })
}

pub(super) fn reply(b: &mut Bench) -> Reply {
    let seen = b.take_one("reply/hub");
    assert_eq!(seen.correlation.as_deref(), Some(&b"c"[..]));
    b.ack(seen.token, 0);
    decode_payload(&seen.payload).unwrap()
}

/// Everything in flight on `h` is accepted by the broker.
pub(super) fn accept_history(b: &mut Bench) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let batch = b.take("h");
        if batch.is_empty() {
            return seqs;
        }
        for seen in batch {
            seqs.extend(seen.seqs());
            b.ack(seen.token, 0);
        }
    }
}

#[test]
fn a_puback_settles_nothing_and_a_hubs_word_does() {
    let mut b = at_level_hub(backlog(9, 100));
    assert!(b.uplink.is_at_level_hub() && !Bench::new(settings(), vec![]).uplink.is_at_level_hub());
    assert_eq!(accept_history(&mut b).len(), 9);
    assert!(b.settled().is_empty());
    assert_eq!((b.uplink.backlog(), b.uplink.pending(EPOCH).len()), (9, 0));
    b.input(ack(EPOCH, 4, &[[6, 7]]));
    assert_eq!(b.settled(), [1, 2, 3, 4, 6, 7]);
    assert_eq!(b.uplink.unsettled(EPOCH).iter().collect::<Vec<_>>(), [5..=5, 8..=9]);
    b.lose();
    b.reconnect();
    assert!(accept_history(&mut b).is_empty(), "nothing comes again on a plain reconnect");
    b.input(resend(1, 9));
    assert_eq!(accept_history(&mut b).len(), 9, "settled ones too");
}

#[test]
fn an_ack_of_another_epoch_or_beyond_the_next_seq_settles_nothing() {
    let mut b = at_level_hub(backlog(9, 100));
    accept_history(&mut b);
    b.input(ack(EPOCH + 1, 9, &[]));
    assert!(b.settled().is_empty() && b.uplink.problems().is_empty());
    b.input(ack(EPOCH, 10, &[]));
    assert!(b.settled().is_empty());
    assert!(b.uplink.problems()[0].contains("ALARM"), "{:?}", b.uplink.problems());
    assert_eq!(b.actions.iter().filter(|a| matches!(a, Action::BeginEpoch)).count(), 1);
    b.input(ack(EPOCH, 3, &[[9, 11]]));
    assert_eq!(b.actions.iter().filter(|a| matches!(a, Action::BeginEpoch)).count(), 1, "once is enough");
}

#[test]
fn a_resend_of_what_is_on_its_way_does_nothing_and_is_granted() {
    let mut b = at_level_hub(backlog(3, 100));
    b.input(resend(1, 3));
    assert!(reply(&mut b).ok);
    assert_eq!(accept_history(&mut b), [1, 2, 3]);
    assert!(accept_history(&mut b).is_empty());
}

#[test]
fn what_was_never_drawn_is_refused_and_so_is_an_unknown_epoch() {
    let mut b = at_level_hub(backlog(3, 100));
    accept_history(&mut b);
    b.input(resend(4, 9));
    assert!(!reply(&mut b).ok);
    b.input(Input::Received(command(r#"{"cmd":"resend","id":"x","epoch":5,"from":1,"to":2}"#)));
    assert_eq!((reply(&mut b).id.as_str(), accept_history(&mut b).len()), ("x", 0));
    b.input(resend(2, 900));
    assert!(reply(&mut b).ok, "up to what there is");
    assert_eq!(accept_history(&mut b), [2, 3]);
}

#[test]
fn a_loss_is_settled_by_a_hubs_word_and_told_again_when_asked_for() {
    let mut b = at_level_hub(Vec::new());
    b.append("cpu", vec![chunk(1, 100)]);
    b.input(Input::Lost(vec![loss(2, 5)]));
    let told = b.take_one("h");
    b.ack(told.token, 0);
    assert!(!b.actions.iter().any(|a| matches!(a, Action::SettleLosses(_))));
    b.input(resend(3, 3));
    let again = b.take_one("h");
    assert_eq!(again.envelope().losses, [loss(2, 5)]);
    b.ack(again.token, 0);
    b.input(ack(EPOCH, 0, &[[2, 5]]));
    assert!(b.actions.iter().any(|a| matches!(a, Action::SettleLosses(l) if *l == [loss(2, 5)])));
}

#[test]
fn what_no_hub_confirms_of_an_epoch_that_is_over_comes_again_ever_more_rarely() {
    let mut b = at_level_hub(backlog(3, 100));
    accept_history(&mut b);
    b.append("cpu", vec![Chunk { epoch: EPOCH + 1, ..chunk(1, 100) }]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, 0);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let since = b.now.mono;
        while b.take("h").into_iter().map(|s| b.ack(s.token, 0)).count() == 0 {
            b.input(Input::Progress);
            b.ack_own();
            b.sleep(Duration::from_secs(10));
        }
        waits.push((b.now.mono - since).as_secs() / 60);
    }
    assert_eq!(waits, [10, 20, 40]);
}

#[test]
fn commands_are_answered_only_on_our_own_reply_topics() {
    let mut b = at_level_hub(Vec::new());
    b.input(Input::Received(command(r#"{"cmd":"ping","id":"p"}"#)));
    assert!(reply(&mut b).ok);
    for response_topic in [None, Some("v1/plant/other/reply/hub".to_owned()), Some("v1/plant/edge/status".to_owned())] {
        b.input(Input::Received(Message { response_topic, ..command(r#"{"cmd":"ping","id":"p"}"#) }));
    }
    b.input(Input::Received(command(r#"{"cmd":"format","id":"x"}"#)));
    let refusal = reply(&mut b);
    assert_eq!((refusal.ok, refusal.id.as_str()), (false, "x"));
    b.input(Input::Received(Message { retained: true, ..command(r#"{"cmd":"run","id":"r","collector":"cpu"}"#) }));
    assert!(!reply(&mut b).ok, "a retained one would be carried out on each connection");
    assert!(!b.actions.iter().any(|a| matches!(a, Action::Run { .. })));
}

#[test]
fn runs_on_command_are_handed_on_a_second_apart() {
    let mut b = at_level_hub(Vec::new());
    let run = || Input::Received(command(r#"{"cmd":"run","id":"r","collector":"cpu"}"#));
    b.input(run());
    b.input(run());
    assert!(!reply(&mut b).ok);
    let Some(Action::Run { collector, ticket }) = b.actions.pop() else { panic!("{:?}", b.actions) };
    b.input(Input::Ran { ticket, outcome: Ok("done".into()) });
    assert_eq!((collector.as_str(), reply(&mut b).message.as_deref()), ("cpu", Some("done")));
}

#[test]
fn a_retained_status_of_ours_from_the_future_begins_a_new_epoch() {
    let mut b = at_level_hub(backlog(3, 100));
    accept_history(&mut b);
    let mut status = b.uplink.status(b.now);
    let seen = |status: &Status| {
        let (topic, payload) = ("v1/plant/edge/status".to_owned(), encode_payload(status));
        Input::Received(Message { topic, payload, retained: true, ..Message::default() })
    };
    b.input(seen(&status));
    assert!(b.uplink.problems().is_empty());
    status.next_seq += 1;
    b.input(seen(&status));
    assert!(b.uplink.problems().is_empty(), "it is our own");
    status.session = "older".into();
    b.input(seen(&status));
    assert!(b.actions.iter().any(|a| matches!(a, Action::BeginEpoch)));
}

/// A copy of the outbox was put back, and has drawn seqs before anybody could say that they are taken.
#[test]
fn a_kept_word_is_measured_by_where_this_process_began() {
    let ack = |retained| {
        let payload = encode_payload(&Ack { v: 1, epoch: EPOCH, upto: 4, ranges: Vec::new() });
        Input::Received(Message { topic: "v1/plant/edge/ack/hub".into(), payload, retained, ..Message::default() })
    };
    for retained in [false, true] {
        let mut b = at_level_hub(backlog(3, 100));
        b.append("cpu", vec![chunk(4, 100), chunk(5, 100)]);
        b.input(ack(retained));
        let given_up = b.actions.iter().any(|a| matches!(a, Action::BeginEpoch));
        assert_eq!((given_up, b.settled().is_empty()), (retained, retained));
    }
}

#[test]
fn of_an_epoch_that_is_given_up_nothing_more_is_sent() {
    let mut b = at_level_hub(backlog(3, 100));
    accept_history(&mut b);
    let mut status = b.uplink.status(b.now);
    (status.session, status.next_seq) = ("older".into(), 50);
    let topic = "v1/plant/edge/status".to_owned();
    let kept = Message { topic, payload: encode_payload(&status), retained: true, ..Message::default() };
    b.input(Input::Received(kept));
    b.append("cpu", vec![chunk(4, 100)]);
    b.pass(Duration::from_secs(30));
    assert!(b.seen.iter().all(|s| s.topic == "status"), "{:?}", b.seen);
    b.ack_own();
    let anew: Vec<Chunk> = (1..=4).map(|seq| Chunk { epoch: EPOCH + 1, ..chunk(seq, 100) }).collect();
    b.chunks.extend(anew.iter().map(|c| ((c.epoch, c.first), c.clone())));
    b.input(Input::Redrawn(anew));
    assert_eq!(b.take_one("h").seqs(), [1, 2, 3, 4]);
}

#[test]
fn hostile_messages_change_nothing() {
    let mut b = at_level_hub(backlog(3, 100));
    accept_history(&mut b);
    for topic in
        ["v1/plant/edge/ack/hub", "v1/plant/edge/cmd", "v1/plant/edge/status", "v1/plant/other/ack/hub", "x", ""]
    {
        for payload in [&b""[..], b"{", b"\xc1", b"{\"v\":1,\"epoch\":77,\"upto\":3,\"ranges\":[[9,1]]}", b"[1,2]"] {
            let (topic, payload) = (topic.to_owned(), payload.to_vec());
            b.input(Input::Received(Message { topic, payload, ..Message::default() }));
        }
    }
    assert!(b.settled().is_empty());
    assert!(b.logs.len() < 5 && b.logs.iter().any(|line| line.contains("is ignored")), "{:?}", b.logs);
}

#[test]
fn a_refused_subscription_is_a_problem_and_no_end() {
    let mut b = Bench::new(settings(), backlog(2, 100));
    b.act();
    b.uplink.handle(Input::Connected(Limits::default()), b.now);
    let Some(Action::Subscribe(filters)) =
        std::iter::from_fn(|| b.uplink.poll(b.now)).find(|a| matches!(a, Action::Subscribe(_)))
    else {
        panic!("it subscribes first")
    };
    assert_eq!(filters, ["v1/plant/edge/cmd", "v1/plant/edge/ack/+", "v1/plant/edge/status"]);
    let refused = filters.into_iter().map(|filter| (filter, 0x87)).collect();
    b.input(Input::Subscribed(refused));
    b.ack_own();
    assert_eq!(accept_history(&mut b), [1, 2]);
    assert!(b.uplink.problems().iter().any(|line| line.contains("subscription")), "{:?}", b.uplink.problems());
}
