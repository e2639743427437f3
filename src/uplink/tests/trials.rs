//! When suspects are tried: alone, after other data, and not at the cost of what is live.

use super::*;
use crate::uplink::reasons::*;
use crate::wire::encode_payload;

const S: Duration = Duration::from_secs(1);

/// Two values were refused together, while a live message is in flight. Its token.
fn accused_beside_live() -> (Bench, u64) {
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(2, 100), Limits::default());
    let batch = b.take_one("h");
    b.append("cpu", vec![chunk(3, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(batch.token, PAYLOAD_FORMAT_INVALID);
    (b, live.token)
}

#[test]
fn a_suspect_waits_for_live_data_in_flight_and_live_data_for_it_only_after_two_seconds() {
    let (mut b, mut token) = accused_beside_live();
    for seq in 4..=7 {
        assert!(b.take("h").is_empty());
        b.sleep(S / 2 - Duration::from_millis(1));
        b.append("cpu", vec![chunk(seq, 100)]);
        let live = b.take_one("m/cpu");
        b.ack(token, SUCCESS);
        token = live.token;
    }
    b.pass(Duration::from_millis(10));
    b.append("cpu", vec![chunk(8, 100)]);
    assert!(b.take("m/cpu").is_empty(), "paused, so that the suspect is alone some time");
    b.ack(token, SUCCESS);
    let trial = b.take_one("h");
    assert_eq!((trial.seqs(), b.seen.len()), (vec![1], 0));
    b.ack(trial.token, SUCCESS);
    assert_eq!(b.take_one("m/cpu").seqs(), [8]);
}

#[test]
fn a_suspect_goes_at_once_when_nothing_else_is_in_flight() {
    let (mut b, token) = accused_beside_live();
    b.ack(token, SUCCESS);
    let trial = b.take_one("h");
    assert_eq!((trial.seqs(), b.seen.len()), (vec![1], 0));
}

/// The value rests as a suspect until then.
fn suspect(b: &mut Bench, seq: u64, until: Duration) {
    b.uplink.suspects.accuse(EPOCH, &[seq..=seq]);
    b.uplink.suspects.adjourn(until);
    b.input(Input::Progress);
}

#[test]
fn other_data_goes_first_on_each_connection_and_then_the_suspect_however_much_there_is() {
    let limits = Limits { receive_max: 1, ..Limits::default() };
    let mut b = Bench::new(Settings { pace: None, ..settings() }, backlog(8, 20_000));
    suspect(&mut b, 1, Duration::ZERO);
    b.input(Input::Connected(limits));
    b.ack_own();
    let other = b.take_one("h");
    assert_eq!(other.seqs(), [2]);
    b.ack(other.token, SUCCESS);
    let trial = b.take_one("h");
    assert_eq!(trial.seqs(), [1]);
    b.ack(trial.token, SUCCESS);
    let due = b.now.mono + S;
    suspect(&mut b, 6, due);
    for seq in [3, 4, 5] {
        let other = b.take_one("h");
        assert_eq!(other.seqs(), [seq]);
        if seq == 5 {
            b.sleep(S);
        }
        b.ack(other.token, SUCCESS);
    }
    assert_eq!(b.take_one("h").seqs(), [6], "it is due");
}

/// Ended so often with the value alone in flight, a connection says something about it, or not.
fn held_after(ends: impl Fn(&mut Bench)) -> u64 {
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(1, 100), Limits::default());
    b.seen.clear();
    suspect(&mut b, 1, Duration::ZERO);
    for _ in 0..4 {
        ends(&mut b);
        b.come_up();
        for _ in 0..20 {
            b.ack_own();
            if b.take("h").into_iter().any(|s| s.seqs() == [1]) {
                break;
            }
            b.pass(S * 60);
            b.input(Input::Progress);
        }
    }
    b.uplink.suspects.held_records()
}

#[test]
fn an_end_that_blames_nothing_is_not_held_against_the_suspect_that_was_alone() {
    assert_eq!(held_after(Bench::lose), 1);
    let shut_down = || Input::Closed(CloseReason::Server { code: 0x8B, text: "shutting down".into() });
    assert_eq!(held_after(|b| b.input(shut_down())), 0);
}

#[test]
fn a_connection_that_ends_with_nothing_in_flight_does_not_put_suspects_off() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.uplink.suspects.accuse(EPOCH, &[1..=1]);
    b.uplink.handle(Input::Closed(CloseReason::Lost("reset".into())), b.now);
    assert_eq!(b.uplink.suspects.next_due(), Some(b.now.mono));
}

#[test]
fn a_suspect_does_not_go_where_nothing_was_answered_yet() {
    let mut b = Bench::new(Settings { pace: None, meta: vec![], ..settings() }, backlog(1, 80));
    suspect(&mut b, 1, Duration::ZERO);
    // The status is too large to be published, and so to be answered.
    let limits = Limits { max_packet: encode_payload(&b.uplink.status(b.now)).len() as u32, ..Limits::default() };
    b.input(Input::Connected(limits));
    b.pass(S * 30);
    assert!(b.seen.is_empty(), "{:?}", b.seen);
    b.append("cpu", vec![chunk(2, 80)]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, SUCCESS);
    assert_eq!(b.take_one("h").seqs(), [1]);
}

#[test]
fn live_data_goes_first_when_a_slow_trial_is_over() {
    let (mut b, token) = accused_beside_live();
    b.ack(token, SUCCESS);
    let trial = b.take_one("h");
    b.pass(S * 5);
    b.append("cpu", vec![chunk(9, 100)]);
    assert!(b.seen.is_empty());
    b.ack(trial.token, SUCCESS);
    assert_eq!((b.take_one("m/cpu").seqs(), b.seen.len()), (vec![9], 0));
}

#[test]
fn suspects_of_an_epoch_that_is_given_up_are_neither_loaded_nor_in_the_way() {
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(3, 100), Limits::default());
    let batch = b.take_one("h");
    b.ack(batch.token, PAYLOAD_FORMAT_INVALID);
    let trial = b.take_one("h");
    b.input(hubs::ack(EPOCH, 9, &[]));
    b.ack(trial.token, SUCCESS);
    assert!(b.pass(S) < 10 && b.take("h").is_empty(), "no suspect");
    let anew: Vec<Chunk> = (1..=3).map(|seq| Chunk { epoch: EPOCH + 1, ..chunk(seq, 100) }).collect();
    b.chunks.extend(anew.iter().map(|c| ((c.epoch, c.first), c.clone())));
    b.input(Input::Redrawn(anew));
    assert_eq!(b.take_one("h").seqs(), [1, 2, 3]);
}
