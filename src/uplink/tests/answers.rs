use super::*;
use crate::uplink::reasons::*;

fn with_backlog(unheard: Unheard) -> (Bench, Seen) {
    let mut s = settings();
    s.unheard = unheard;
    let mut b = Bench::connected(s, backlog(3, 20_000), Limits::default());
    let first = b.seen.remove(0);
    assert_eq!((first.topic.as_str(), first.seqs()), ("h", vec![1]));
    (b, first)
}

#[test]
fn success_alone_settles() {
    for code in 0..=u8::MAX {
        let (mut b, first) = with_backlog(Unheard::Hold);
        b.ack(first.token, code);
        let settles = code < 0x80 && code != NO_MATCHING_SUBSCRIBERS;
        assert_eq!(b.settled(), if settles { vec![1] } else { vec![] }, "0x{code:02x}");
    }
}

#[test]
fn a_topic_that_nobody_hears_is_probed_with_the_oldest_ever_more_slowly() {
    let (mut b, first) = with_backlog(Unheard::Hold);
    let mut others = b.take("h");
    b.ack(first.token, NO_MATCHING_SUBSCRIBERS);
    others.drain(..).for_each(|s| b.ack(s.token, NO_MATCHING_SUBSCRIBERS));
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let begun = b.now.mono;
        while !b.seen.iter().any(|s| s.topic == "h") {
            b.sleep_until_woken();
            b.ack_own();
        }
        let probe = b.take_one("h");
        assert_eq!(probe.seqs(), vec![1], "the oldest, alone");
        gaps.push(b.now.mono - begun);
        b.ack(probe.token, NO_MATCHING_SUBSCRIBERS);
    }
    assert_eq!(gaps[0], Duration::from_secs(1));
    assert!(gaps[11] >= Duration::from_secs(45) && gaps.iter().all(|g| *g <= Duration::from_secs(60)), "{gaps:?}");
    assert!(b.uplink.problems()[0].contains("nobody subscribes to v1/plant/edge/h"), "{:?}", b.uplink.problems());
    assert_eq!(b.logs.iter().filter(|l| l.contains("no matching subscribers")).count(), 1, "said once");
    b.pass(Duration::from_secs(60));
    let probe = b.take_one("h");
    b.ack(probe.token, SUCCESS);
    b.ack_own();
    assert_eq!(b.settled(), vec![1]);
    assert_eq!(b.take("h")[0].seqs(), vec![2], "open again");
}

#[test]
fn unheard_settles_where_the_preset_says_so_and_the_status_tells() {
    let (mut b, first) = with_backlog(Unheard::Settle);
    b.ack(first.token, NO_MATCHING_SUBSCRIBERS);
    assert_eq!(b.settled(), vec![1]);
    assert!(b.uplink.problems().iter().any(|p| p.contains("unheard = \"settle\"")));
    assert_eq!(b.logs.iter().filter(|l| l.contains("nobody subscribes")).count(), 1);
}

#[test]
fn an_unheard_live_topic_is_judged_by_itself_and_goes_by_history() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let cpu = b.take_one("m/cpu");
    b.ack(cpu.token, NO_MATCHING_SUBSCRIBERS);
    assert_eq!(b.take_one("h").seqs(), vec![1]);
    b.append("mem", vec![chunk(2, 100)]);
    assert_eq!(b.take_one("m/mem").seqs(), vec![2], "another topic is not affected");
    b.append("cpu", vec![chunk(3, 100)]);
    assert!(b.take("m/cpu").is_empty());
    b.pass(Duration::from_secs(2));
    assert_eq!(b.take_one("h").seqs(), vec![3]);
    b.append("cpu", vec![chunk(4, 100)]);
    b.append("cpu", vec![chunk(5, 100)]);
    let probe = b.take_one("m/cpu");
    assert_eq!(probe.seqs(), vec![4], "one probe in flight");
    b.ack(probe.token, SUCCESS);
    b.append("cpu", vec![chunk(6, 100)]);
    assert_eq!(b.take_one("m/cpu").seqs(), vec![6], "heard again");
}

#[test]
fn a_full_quota_holds_and_backs_off() {
    for code in [QUOTA_EXCEEDED, UNSPECIFIED, IMPLEMENTATION_SPECIFIC, PACKET_ID_IN_USE, 0xFE] {
        let (mut b, first) = with_backlog(Unheard::Hold);
        b.ack(first.token, code);
        b.seen.clear();
        b.sleep(Duration::from_millis(900));
        assert!(b.take("h").is_empty(), "0x{code:02x}");
        b.uplink.window.take_all();
        b.pass(Duration::from_millis(200));
        assert_eq!(b.take_one("h").seqs(), vec![1], "0x{code:02x}: again after a second");
    }
}

#[test]
fn a_forbidden_live_topic_goes_by_history_and_a_forbidden_history_is_an_alarm() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, NOT_AUTHORIZED);
    let history = b.take_one("h");
    assert_eq!(history.seqs(), vec![1]);
    b.ack(history.token, NOT_AUTHORIZED);
    assert!(b.take("h").is_empty());
    assert!(b.logs.iter().any(|line| line.starts_with("Error: the broker refused")), "{:?}", b.logs);
    assert!(b.uplink.problems()[0].contains("not authorized to publish to v1/plant/edge/h"));
    b.pass(Duration::from_secs(6));
    let status = b.take("status").pop().expect("a marked change is told within seconds");
    assert!(status.status().problems.iter().any(|p| p.contains("check the broker's ACL")));
    assert_eq!(b.settled(), vec![0; 0]);
}

#[test]
fn refusals_of_status_and_meta_do_not_disturb_data() {
    let mut b = Bench::new(settings(), backlog(1, 100));
    b.act();
    b.input(Input::Connected(Limits::default()));
    let (status, meta) = (b.take_one("status"), b.take_one("meta"));
    b.ack(status.token, NOT_AUTHORIZED);
    b.ack(meta.token, PAYLOAD_FORMAT_INVALID);
    let batch = b.take_one("h");
    b.ack(batch.token, SUCCESS);
    assert_eq!((b.settled(), b.quarantined()), (vec![1], vec![]));
    assert!(b.logs.iter().any(|l| l.contains("refused our Status message: 0x87, not authorized")), "{:?}", b.logs);
}

#[test]
fn that_history_has_caught_up_is_told_once_and_only_when_all_of_it_is_answered() {
    for receive_max in [1, 10] {
        let limits = Limits { receive_max, ..Limits::default() };
        let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(2, 20_000), limits);
        b.pass(Duration::from_secs(10));
        for seq in [1, 2] {
            assert!(b.take("status").is_empty(), "{} are to come", b.uplink.backlog());
            let batch = b.seen.remove(0);
            assert_eq!(batch.seqs(), [seq]);
            b.ack(batch.token, SUCCESS);
        }
        let status = b.take_one("status");
        assert_eq!(status.status().backlog, 0);
        b.ack(status.token, SUCCESS);
        b.pass(Duration::from_secs(10));
        b.append("cpu", vec![chunk(3, 100)]);
        let live = b.take_one("m/cpu");
        b.ack(live.token, SUCCESS);
        assert!(b.seen.is_empty(), "there is nothing to catch up with");
    }
}

#[test]
fn losses_that_are_refused_alone_close_the_topic_and_are_told_again() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.input(Input::Lost(vec![loss(1, 5)]));
    let told = b.take_one("h");
    b.ack(told.token, PAYLOAD_FORMAT_INVALID);
    assert!(
        b.uplink.problems()[0].contains("not authorized to publish to v1/plant/edge/h"),
        "{:?}",
        b.uplink.problems()
    );
    b.pass(Duration::from_secs(2));
    assert_eq!(b.take_one("h").envelope().losses, [loss(1, 5)]);
}

#[test]
fn a_live_topic_that_is_invalid_is_closed_and_no_value_is_suspected_for_it() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, TOPIC_NAME_INVALID);
    assert!(b.uplink.suspects.is_empty() && b.uplink.problems()[0].contains("publish to v1/plant/edge/m/cpu"));
    let history = b.take_one("h");
    assert_eq!(history.seqs(), [1]);
    b.ack(history.token, TOPIC_NAME_INVALID);
    assert_eq!(b.quarantined(), [1], "on `h` it can only be the content");
}

#[test]
fn a_live_message_refused_for_its_content_does_not_close_its_topic() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, PAYLOAD_FORMAT_INVALID);
    let history = b.take_one("h");
    b.ack(history.token, SUCCESS);
    assert_eq!((b.settled(), b.uplink.problems()), (vec![1], vec![]));
    b.append("cpu", vec![chunk(2, 100)]);
    assert_eq!(b.take_one("m/cpu").seqs(), [2]);
}

#[test]
fn what_is_left_of_a_batch_that_was_refused_is_judged_by_itself() {
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(2, 100), Limits::default());
    let batch = b.take_one("h");
    assert_eq!(batch.seqs(), [1, 2]);
    b.input(Input::Lost(vec![loss(1, 1)]));
    let told = b.take_one("h");
    b.ack(told.token, SUCCESS);
    b.ack(batch.token, PAYLOAD_FORMAT_INVALID);
    assert_eq!(b.quarantined(), vec![0; 0], "the other one may have been at fault");
    let alone = b.take_one("h");
    assert_eq!(alone.seqs(), [2]);
    b.ack(alone.token, SUCCESS);
    assert_eq!(b.settled(), [2]);
}

#[test]
fn four_values_refused_in_a_row_close_history_and_one_that_is_taken_starts_the_count_anew() {
    let mut b = Bench::connected(
        Settings { pace: None, ..settings() },
        backlog(9, 20_000),
        Limits { receive_max: 1, ..Limits::default() },
    );
    let refuse = |b: &mut Bench, code| {
        let batch = b.take_one("h");
        b.ack(batch.token, code);
    };
    for code in [PAYLOAD_FORMAT_INVALID, PAYLOAD_FORMAT_INVALID, PAYLOAD_FORMAT_INVALID, SUCCESS] {
        refuse(&mut b, code);
    }
    for _ in 0..3 {
        refuse(&mut b, PAYLOAD_FORMAT_INVALID);
    }
    assert!(b.uplink.history_gate.is_open());
    refuse(&mut b, PAYLOAD_FORMAT_INVALID);
    assert!(!b.uplink.history_gate.is_open() && b.take("h").is_empty());
    let counts = b.uplink.counts();
    assert_eq!((counts.quarantined, counts.quarantined_records), (7, 7));
}

#[test]
fn a_refusal_of_our_own_word_is_told_and_an_answer_that_nobody_hears_it_is_not() {
    for (code, told) in [(NO_MATCHING_SUBSCRIBERS, false), (0x7F, false), (UNSPECIFIED, true), (QUOTA_EXCEEDED, true)] {
        let mut b = Bench::new(settings(), vec![]);
        b.come_up();
        let status = b.take_one("status");
        b.ack(status.token, code);
        assert_eq!(
            b.logs.iter().any(|line| line.starts_with("Warn: the broker refused our Status")),
            told,
            "0x{code:02x}"
        );
    }
}
