//! When suspects are tried: alone, after other data, and not at the cost of what is live.

use super::*;
use crate::uplink::reasons::*;

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
