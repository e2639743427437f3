//! What is asked of the outbox, when, and what is made of its answers.

use std::ops::RangeInclusive;

use super::*;
use crate::uplink::reasons::*;

/// The loads asked for since the last call.
fn loads(b: &mut Bench) -> Vec<(RangeInclusive<u64>, usize)> {
    let found = b.actions.extract_if(.., |a| matches!(a, Action::Load { .. }));
    found
        .map(|a| match a {
            Action::Load { range, max_bytes, .. } => (range, max_bytes),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Answers the load of `asked` with these chunks.
fn answer(b: &mut Bench, asked: RangeInclusive<u64>, chunks: RangeInclusive<u64>) {
    let chunks = chunks.map(|seq| b.chunks[&(EPOCH, seq)].clone()).collect();
    b.input(Input::Loaded { epoch: EPOCH, range: asked, chunks });
}

fn bytes_of(b: &Bench, chunks: RangeInclusive<u64>) -> usize {
    chunks.map(|seq| b.chunks[&(EPOCH, seq)].maps.len()).sum()
}

/// Connected, with the first load asked for.
fn reader(backlog: Vec<Chunk>) -> Bench {
    let mut b = Bench::new(Settings { pace: None, ..settings() }, backlog);
    b.answers_loads = false;
    b.come_up();
    b.ack_own();
    b
}

/// As [`reader`], with a live message in the only place: nothing that is loaded can be sent.
fn full_reader(n: u64, bytes: usize) -> Bench {
    let mut b = Bench::new(Settings { pace: None, window: 1, ..settings() }, backlog(n, bytes));
    b.answers_loads = false;
    b.come_up();
    b.ack_own();
    b.append("cpu", vec![chunk(n + 1, 100)]);
    b.take_one("m/cpu");
    b
}

#[test]
fn one_load_is_read_ahead_while_no_more_than_a_batch_is_held() {
    let size = chunk(1, 1_000).maps.len() as u64;
    for (held, ahead) in [(16_384 / size, true), (16_384 / size + 1, false)] {
        let mut b = full_reader(100, 1_000);
        assert_eq!(loads(&mut b), [(1..=100, 16_384)]);
        answer(&mut b, 1..=100, 1..=held);
        let expected = if ahead { vec![(held + 1..=100, 16_384)] } else { vec![] };
        assert_eq!(loads(&mut b), expected, "{held} chunks are held");
        b.pass(Duration::from_secs(1));
        assert_eq!(loads(&mut b), vec![], "one at a time");
    }
}

#[test]
fn one_batch_exactly_may_be_held_and_the_next_is_read_ahead() {
    let mut b = full_reader(100, 1_000);
    loads(&mut b);
    let exact = (16_300..16_450).map(|bytes| chunk(1, bytes)).find(|c| c.maps.len() == 16_384);
    b.chunks.insert((EPOCH, 1), exact.unwrap());
    answer(&mut b, 1..=100, 1..=1);
    assert_eq!(loads(&mut b), [(2..=100, 16_384)]);
}

#[test]
fn few_chunks_are_held_however_small_they_are() {
    for (held, ahead) in [(256, true), (257, false)] {
        let mut b = full_reader(1_000, 0);
        loads(&mut b);
        answer(&mut b, 1..=1_000, 1..=held);
        assert!(b.uplink.held_bytes() < 16_384);
        assert_eq!(loads(&mut b).len(), usize::from(ahead), "{held} chunks are held");
    }
    let mut b = full_reader(1_000, 0);
    answer(&mut b, 1..=1_000, 1..=1_000);
    assert_eq!(b.uplink.loader.bytes(), bytes_of(&b, 1..=512));
    b.append("mem", vec![chunk(1_002, 100)]);
    assert_eq!(b.uplink.held_bytes(), b.uplink.loader.bytes() + b.uplink.live.bytes());
}

#[test]
fn a_load_ahead_that_is_refused_is_asked_for_again_a_second_later() {
    let mut b = full_reader(100, 1_000);
    loads(&mut b);
    answer(&mut b, 1..=100, 1..=10);
    assert_eq!(loads(&mut b).len(), 1);
    b.input(Input::LoadRefused);
    b.sleep(Duration::from_millis(999));
    assert_eq!(loads(&mut b), vec![]);
    b.sleep(Duration::from_millis(1));
    assert_eq!(loads(&mut b), [(11..=100, 16_384)]);
}

#[test]
fn nothing_is_read_ahead_of_a_probe_or_of_a_suspect() {
    let mut b = reader(backlog(10, 100));
    loads(&mut b);
    answer(&mut b, 1..=10, 1..=10);
    let batch = b.take_one("h");
    b.ack(batch.token, QUOTA_EXCEEDED);
    b.pass(Duration::from_secs(2));
    assert_eq!(loads(&mut b), [(1..=10, 1)], "the smallest there is");
    answer(&mut b, 1..=10, 1..=1);
    let probe = b.take_one("h");
    assert_eq!((probe.seqs(), loads(&mut b)), (vec![1], vec![]));
    b.ack(probe.token, SUCCESS);
    assert_eq!(loads(&mut b), [(2..=10, 20_480)]);
    answer(&mut b, 2..=10, 2..=10);
    let batch = b.take_one("h");
    b.ack(batch.token, PAYLOAD_FORMAT_INVALID);
    let largest = 64 * 1024 - 5_536;
    assert_eq!(loads(&mut b), [(2..=5, largest)], "one half of it, whole");
    answer(&mut b, 2..=5, 2..=5);
    assert_eq!((b.take_one("h").seqs(), loads(&mut b)), (vec![2, 3, 4, 5], vec![]));
}

#[test]
fn what_was_asked_for_before_something_older_came_back_is_not_kept() {
    let mut b = reader(backlog(100, 1_000));
    loads(&mut b);
    answer(&mut b, 1..=100, 1..=16);
    let (batch, ahead) = (b.take("h").remove(0), loads(&mut b));
    assert_eq!((batch.seqs()[0], &ahead[..]), (1, &[(17..=100, 16_384)][..]));
    b.ack(batch.token, QUOTA_EXCEEDED);
    answer(&mut b, 17..=100, 17..=20);
    assert_eq!(b.uplink.held_bytes(), 0);
    b.pass(Duration::from_secs(1));
    assert_eq!(loads(&mut b)[0].0.start(), &1, "the oldest first");
}

#[test]
fn what_is_set_aside_does_not_hold_up_what_follows_it() {
    let limits = Limits { max_packet: 2_000, ..Limits::default() };
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, vec![chunk(1, 3_000), chunk(2, 100)], limits);
    assert_eq!((b.quarantined(), b.take_one("h").seqs()), (vec![1], vec![2]));
}

#[test]
fn a_broker_that_takes_no_value_for_its_size_does_not_empty_the_outbox_at_once() {
    let limits = Limits { max_packet: 2_000, ..Limits::default() };
    // All but the first are small enough for the next one to be read ahead.
    let chunks = (1..=20).map(|seq| chunk(seq, if seq == 1 { 3_000 } else { 1_950 })).collect();
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, chunks, limits);
    assert_eq!(b.quarantined(), [1, 2, 3, 4]);
    b.pass(Duration::from_millis(900));
    assert_eq!(b.quarantined(), vec![0; 0]);
    b.pass(Duration::from_millis(200));
    assert_eq!(b.quarantined(), [5], "asked again, one at a time");
}

#[test]
fn an_answer_that_was_not_asked_for_is_counted_and_its_chunks_are_not_kept() {
    let mut b = full_reader(10, 100);
    loads(&mut b);
    b.input(Input::LoadRefused);
    answer(&mut b, 1..=10, 1..=5);
    assert_eq!((b.uplink.counts().stray_inputs, b.uplink.loader.bytes()), (1, 0), "it was refused");
    b.input(Input::LoadRefused);
    b.sleep(Duration::from_millis(999));
    assert_eq!(loads(&mut b), vec![]);
    b.sleep(Duration::from_millis(1));
    assert_eq!(loads(&mut b), [(1..=10, 16_384)]);
    for (epoch, range) in [(EPOCH + 1, 1..=10), (EPOCH, 2..=10)] {
        let chunks = vec![chunk(2, 100)];
        b.input(Input::Loaded { epoch, range, chunks });
    }
    assert_eq!((b.uplink.counts().stray_inputs, b.uplink.loader.bytes()), (3, 0));
    answer(&mut b, 1..=10, 1..=5);
    assert_eq!(loads(&mut b), [(6..=10, 16_384)]);
    // Whole chunks that touch the range are taken, and no others.
    let far = Chunk { epoch: EPOCH + 1, ..chunk(7, 100) };
    let chunks = vec![chunk(4, 100), chunk(6, 100), far, chunk(10, 100), chunk(11, 100)];
    b.input(Input::Loaded { epoch: EPOCH, range: 6..=10, chunks });
    assert_eq!(b.uplink.loader.bytes(), bytes_of(&b, 1..=5) + bytes_of(&b, 6..=6) + bytes_of(&b, 10..=10));
    assert_eq!(b.uplink.counts().unreadable, 3, "7 to 9 were not brought");
}

#[test]
fn what_was_declared_lost_before_the_answer_is_not_missed_in_it() {
    let mut b = full_reader(4, 100);
    loads(&mut b);
    b.input(Input::Lost(vec![loss(2, 2)]));
    b.input(Input::Loaded { epoch: EPOCH, range: 1..=4, chunks: vec![chunk(1, 100), chunk(3, 100), chunk(4, 100)] });
    assert_eq!(b.uplink.counts().unreadable, 0);
    assert!(!b.logs.iter().any(|line| line.contains("did not bring")), "{:?}", b.logs);
}
