use std::collections::VecDeque;

use super::*;

#[test]
fn a_live_run_goes_out_at_once_under_its_collector_and_settles_by_its_own_puback() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100), chunk(2, 100)]);
    let live = b.take_one("m/cpu");
    let envelope = live.envelope();
    assert_eq!((live.seqs(), envelope.epoch, envelope.lane), (vec![1, 2], EPOCH, crate::wire::Lane::Live));
    assert_eq!((live.retain, live.content_type), (false, "application/vnd.msgpack"));
    assert_eq!(envelope.anchor, Some([500_000, 1_700_000_000_000]));
    b.ack(live.token + 1, 0);
    assert_eq!((b.settled(), b.uplink.counts().stray_acks), (vec![], 1));
    b.ack(live.token, 0);
    assert_eq!((b.settled(), b.uplink.backlog()), (vec![1, 2], 0));
    b.ack(live.token, 0);
    assert_eq!(b.settled(), vec![0; 0], "a duplicate PUBACK settles nothing");
}

#[test]
fn every_live_run_of_a_healthy_hour_goes_live() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    for seq in 1..=3600 {
        b.append(["cpu", "mem"][seq as usize % 2], vec![chunk(seq, 200)]);
        let tokens: Vec<u64> = b.seen.iter().map(|s| s.token).collect();
        assert!(b.take("h").is_empty(), "seq {seq} went by history");
        b.seen.clear();
        tokens.into_iter().for_each(|t| b.ack(t, 0));
        b.pass(Duration::from_secs(1));
    }
    assert_eq!(b.uplink.backlog(), 0);
}

#[test]
fn a_message_never_mixes_clock_contexts() {
    let mut unsynced = chunk(2, 100);
    unsynced.context.synced = false;
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100), unsynced, chunk(3, 100)]);
    let seen = b.take("m/cpu");
    assert_eq!(seen.iter().map(Seen::seqs).collect::<Vec<_>>(), vec![vec![1], vec![2], vec![3]]);
    assert_eq!(seen.iter().map(|s| s.envelope().synced).collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn the_clocks_of_a_boot_are_kept_once_and_put_its_records_right_in_the_next() {
    let of_boot = |seq: u64, boot: &str, synced: bool| Chunk {
        context: ClockContext { boot: boot.into(), synced },
        ..chunk(seq, 100)
    };
    let notes = |b: &mut Bench| -> Vec<String> {
        let found = b.actions.extract_if(.., |a| matches!(a, Action::Note { key: Anchors::NOTE, .. }));
        found.map(|a| if let Action::Note { value, .. } = a { value } else { String::new() }).collect()
    };
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![of_boot(1, "boot-1", false)]);
    assert!(notes(&mut b).is_empty(), "the clock is wrong");
    b.append("cpu", vec![of_boot(2, "boot-1", true)]);
    b.sleep(Duration::from_secs(9));
    b.append("cpu", vec![of_boot(3, "boot-1", true)]);
    let kept = notes(&mut b);
    assert_eq!(kept, ["boot-1 500000 1700000000000"]);

    let settings = Settings { boot: "boot-2".into(), anchors: Anchors::from_note(Some(&kept[0])), ..settings() };
    let backlog = vec![of_boot(4, "boot-0", false), of_boot(5, "boot-1", false), of_boot(6, "boot-2", false)];
    let mut b = Bench::connected(Settings { pace: None, ..settings }, backlog, Limits::default());
    let sent: Vec<_> = b.take("h").iter().map(|seen| (seen.seqs(), seen.envelope().anchor)).collect();
    let right = Some([500_000, 1_700_000_000_000]);
    assert_eq!(sent, [(vec![4], None), (vec![5], right), (vec![6], None)]);
    b.append("cpu", vec![of_boot(7, "boot-2", true)]);
    assert_eq!(notes(&mut b)[0].split(';').count(), 2, "both are kept");
}

#[test]
fn a_boot_learns_the_time_by_its_own_records_under_a_synchronised_clock_alone() {
    let of_boot = |seq: u64, boot: &str, synced: bool| Chunk {
        context: ClockContext { boot: boot.into(), synced },
        ..chunk(seq, 100)
    };
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![of_boot(1, "boot-0", true)]);
    assert_eq!((b.uplink.anchors.of("boot-0"), b.uplink.anchors.of("boot-1")), (None, None));
    b.append("cpu", vec![of_boot(2, "boot-1", false), of_boot(3, "boot-1", true)]);
    assert_eq!(b.uplink.anchors.of("boot-1"), Some([500_000, 1_700_000_000_000]), "by the second of them");
}

#[test]
fn a_clock_that_was_set_while_the_disk_refused_is_not_the_one_of_the_records_that_waited() {
    let anchors = |b: &Bench| {
        let notes = b.actions.iter().filter(|a| matches!(a, Action::Note { key: Anchors::NOTE, .. }));
        notes.count()
    };
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.now.wall_ms += 3_600_000;
    b.append("cpu", vec![chunk(1, 100)]);
    assert_eq!(anchors(&b), 0, "it was made an hour ago by this clock, and just now by the other");
    b.now.wall_ms -= 3_600_000;
    b.append("cpu", vec![chunk(2, 100)]);
    assert_eq!(anchors(&b), 1);
}

#[test]
fn anchor_is_given_for_the_running_boot_and_a_synchronised_clock_only() {
    let mut old = backlog(1, 100);
    old[0].context.boot = "boot-0".into();
    let mut b = Bench::connected(settings(), old, Limits::default());
    assert_eq!(b.take_one("h").envelope().anchor, None, "of another boot nothing is known");
    let mut unsynced = chunk(2, 100);
    unsynced.context.synced = false;
    b.append("cpu", vec![unsynced]);
    assert_eq!(b.take_one("m/cpu").envelope().anchor, None, "the clock is wrong");
}

#[test]
fn a_live_record_is_preceded_by_at_most_one_history_batch() {
    for receive_max in [1, 2, 4, 20] {
        let limits = Limits { receive_max, ..Limits::default() };
        let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(3_000, 400), limits);
        let mut in_flight: VecDeque<u64> = VecDeque::new();
        for seq in 3_001..3_200 {
            in_flight.extend(b.seen.drain(..).map(|s| s.token));
            b.append("cpu", vec![chunk(seq, 300)]);
            let mut since = Vec::new();
            while !since.contains(&"m/cpu".to_owned()) {
                in_flight.extend(b.seen.iter().map(|s| s.token));
                since.extend(b.seen.drain(..).map(|s| s.topic));
                if !since.contains(&"m/cpu".to_owned()) {
                    let oldest = in_flight.pop_front().expect("live waits for what is in flight only");
                    b.ack(oldest, 0);
                }
            }
            let before = since.iter().take_while(|t| *t != "m/cpu").filter(|t| *t == "h").count();
            assert!(before <= 1, "receive maximum {receive_max}, seq {seq}: {since:?}");
            for _ in 0..2 {
                in_flight.pop_front().into_iter().for_each(|t| b.ack(t, 0));
            }
            b.sleep(Duration::from_millis(50));
        }
        assert!(b.uplink.backlog() < 3_000, "history goes on in between");
    }
}

#[test]
fn live_that_cannot_wait_becomes_history_and_is_delivered() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    for seq in 1..=20 {
        b.append("cpu", vec![chunk(seq, 10_000)]);
    }
    assert!(b.uplink.held_bytes() <= LIVE_BYTES);
    let mut delivered = Vec::new();
    for _ in 0..2_000 {
        let now: Vec<Seen> = b.seen.drain(..).collect();
        for seen in now.iter().filter(|s| s.topic == "h" || s.topic == "m/cpu") {
            delivered.extend(seen.seqs());
        }
        now.iter().for_each(|s| b.ack(s.token, 0));
        if b.uplink.backlog() == 0 {
            break;
        }
        b.pass(Duration::from_millis(200));
    }
    assert_eq!(delivered.len(), 20, "each once: {delivered:?}");
    assert_eq!(delivered[0], 1);
    assert!(delivered[1] > 10, "the newest waited as live: {delivered:?}");
}

#[test]
fn a_run_too_large_to_wait_goes_by_history_and_pushes_nothing_out() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    b.append("cpu", vec![chunk(1, 100)]);
    let first = b.take_one("m/cpu");
    b.append("mem", vec![chunk(2, 100)]);
    let held = b.uplink.held_bytes();
    b.append("big", (3..=12).map(|seq| chunk(seq, 7_000)).collect());
    assert_eq!(b.uplink.held_bytes(), held);
    b.ack(first.token, 0);
    let second = b.take_one("m/mem");
    b.ack(second.token, 0);
    assert_eq!(b.take_one("h").seqs()[0], 3);
}

#[test]
fn an_append_of_nothing_holds_nothing_up() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![]);
    b.append("cpu", vec![chunk(1, 100)]);
    assert_eq!(b.take_one("m/cpu").seqs(), [1]);
}

#[test]
fn history_goes_oldest_first_epoch_by_epoch_and_is_paced() {
    let mut s = settings();
    s.pace = Some(Pace { bytes_per_s: 1_000_000, batches_per_s: 2 });
    let mut b = Bench::connected(s, backlog(3_000, 1_000), Limits::default());
    let mut seqs = Vec::new();
    let mut batches = 0;
    for _ in 0..100 {
        for seen in b.take("h") {
            batches += 1;
            seqs.extend(seen.seqs());
            b.ack(seen.token, 0);
        }
        b.pass(Duration::from_millis(100));
        b.ack_own();
    }
    assert!((18..=22).contains(&batches), "{batches} batches in ten seconds at two a second");
    assert!(seqs.is_sorted() && seqs[0] == 1, "oldest first");
    assert_eq!(b.settled(), seqs);
}

#[test]
fn an_eased_uplink_sends_history_no_faster_than_by_default_and_then_as_before() {
    let batches = |b: &mut Bench| {
        let mut batches = 0;
        for _ in 0..250 {
            for seen in b.take("h") {
                batches += 1;
                b.ack(seen.token, 0);
            }
            b.pass(Duration::from_millis(20));
            b.ack_own();
        }
        batches
    };
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(20_000, 1_000), Limits::default());
    b.input(Input::Ease(true));
    let eased = batches(&mut b);
    assert!((36..=44).contains(&eased), "{eased} batches in five seconds at eight a second");
    b.input(Input::Ease(false));
    assert!(batches(&mut b) > 2 * eased);
    // A pace that is slower anyway stays as it is.
    let slow = Settings { pace: Some(Pace { bytes_per_s: 1_000_000, batches_per_s: 2 }), ..settings() };
    let mut b = Bench::connected(slow, backlog(3_000, 1_000), Limits::default());
    b.input(Input::Ease(true));
    let eased = batches(&mut b);
    assert!((8..=12).contains(&eased), "{eased} batches in five seconds at two a second");
}

#[test]
fn losses_ride_on_history_and_are_sent_again_until_settled() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.input(Input::Lost(vec![loss(1, 5)]));
    let first = b.take_one("h");
    assert_eq!((first.envelope().losses, first.seqs()), (vec![loss(1, 5)], vec![]));
    b.lose();
    b.reconnect();
    let second = b.take_one("h");
    assert_eq!(second.envelope().losses, vec![loss(1, 5)]);
    b.ack(first.token, 0);
    assert!(!b.actions.iter().any(|a| matches!(a, Action::SettleLosses(_))));
    b.ack(second.token, 0);
    assert!(b.actions.iter().any(|a| matches!(a, Action::SettleLosses(l) if *l == vec![loss(1, 5)])));
    b.pass(Duration::from_secs(30));
    assert!(b.take("h").is_empty());
}

#[test]
fn what_was_declared_lost_is_not_sent_and_not_settled() {
    let mut b = Bench::new(settings(), backlog(3, 100));
    b.input(Input::Lost(vec![loss(1, 1)]));
    b.input(Input::Connected(Limits::default()));
    let batch = b.take_one("h");
    assert_eq!(batch.seqs(), vec![2, 3]);
    b.input(Input::Lost(vec![loss(2, 2)]));
    b.ack(batch.token, 0);
    assert_eq!(b.settled(), vec![3], "a loss declared in the meantime stays a loss");
}

#[test]
fn json_carries_equal_records() {
    let mut s = settings();
    s.encoding = Encoding::Json;
    let mut b = Bench::connected(s, backlog(2, 100), Limits::default());
    let history = b.take_one("h");
    assert_eq!((history.payload[0], history.content_type), (b'{', "application/json"));
    assert_eq!(history.seqs(), vec![1, 2]);
}

#[test]
fn seqs_that_a_load_does_not_bring_are_said_and_asked_for_again() {
    let mut b = Bench::new(settings(), backlog(4, 100));
    let missing = b.chunks.remove(&(EPOCH, 2)).unwrap();
    b.act();
    b.input(Input::Connected(Limits::default()));
    b.ack_own();
    let batch = b.take_one("h");
    assert_eq!(batch.seqs(), vec![1, 3, 4]);
    b.ack(batch.token, 0);
    assert_eq!(b.uplink.counts().unreadable, 1);
    assert_eq!(b.uplink.problems(), ["1 records cannot be read from the outbox at present"]);
    assert!(b.logs.iter().any(|l| l.contains("did not bring seqs 2 to 2")), "{:?}", b.logs);
    b.chunks.insert((EPOCH, 2), missing);
    b.pass(Duration::from_secs(31));
    assert_eq!(b.take_one("h").seqs(), vec![2]);
}

#[test]
fn a_refused_load_is_asked_again_and_never_doubled() {
    let mut b = Bench::new(settings(), backlog(2, 100));
    b.answers_loads = false;
    b.act();
    b.input(Input::Connected(Limits::default()));
    b.ack_own();
    let loads = |b: &Bench| b.actions.iter().filter(|a| matches!(a, Action::Load { .. })).count();
    assert_eq!(loads(&b), 1);
    b.pass(Duration::from_secs(20));
    assert_eq!(loads(&b), 1, "one at a time");
    b.input(Input::LoadRefused);
    b.pass(Duration::from_secs(2));
    assert_eq!(loads(&b), 2);
    for i in 0..31 {
        assert!(loads(&b) == 2 || i > 28, "after {i} times ten seconds");
        b.pass(Duration::from_secs(10));
        b.input(Input::Progress);
        b.ack_own();
    }
    assert_eq!(loads(&b), 3, "an answer that got lost is not waited for for ever");
    let late = Input::Loaded { epoch: EPOCH + 1, range: 1..=2, chunks: vec![] };
    b.input(late);
    assert_eq!(b.uplink.counts().stray_inputs, 1);
}

#[test]
fn what_waits_to_go_live_is_history_on_the_next_connection() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    b.append("cpu", vec![chunk(1, 100)]);
    b.append("mem", vec![chunk(2, 100)]);
    b.seen.clear();
    b.lose();
    assert_eq!(b.uplink.held_bytes(), 0);
    b.reconnect();
    assert_eq!((b.take_one("h").seqs(), b.seen.len()), (vec![1, 2], 0));
}

#[test]
fn json_that_weighs_more_than_was_estimated_waits_for_its_place() {
    let tight = Settings { encoding: Encoding::Json, in_flight_bytes: 32 << 10, ..settings() };
    let mut escaped = chunk(2, 100);
    let mut record: Record = rmp_serde::from_slice(&escaped.maps).unwrap();
    record.fields.insert("x".into(), Value::Str("\u{1}".repeat(4_500)));
    let mut maps = Vec::new();
    encode_record(&record, &mut maps);
    escaped.maps = maps.into();
    let mut b = Bench::connected(tight, vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 10_000)]);
    let first = b.take_one("m/cpu");
    b.append("mem", vec![escaped]);
    assert!(b.seen.is_empty(), "10 and 27 KB are more than 32");
    b.ack(first.token, 0);
    assert!(b.take_one("m/mem").payload.len() > 27_000);
}

#[test]
fn a_message_of_the_running_boot_has_the_clocks_as_they_stand_now() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    b.seen.clear();
    b.sleep(Duration::from_secs(10));
    b.append("cpu", vec![chunk(2, 100)]);
    assert_eq!(b.take_one("m/cpu").envelope().anchor, Some([510_000, 1_700_000_010_000]));
}

#[test]
fn so_many_losses_ride_on_a_message_as_it_has_room_for() {
    let losses: Vec<Loss> = (1..=40).map(|i| loss(1_000 + i * 10, 1_000 + i * 10)).collect();
    for (max_packet, full) in [(u32::MAX, true), (700, false)] {
        let mut b = Bench::new(Settings { pace: None, ..settings() }, backlog(1, 200));
        b.input(Input::Lost(losses.clone()));
        b.input(Input::Connected(Limits { max_packet, ..Limits::default() }));
        let mut told = Vec::new();
        while told.iter().sum::<usize>() < 40 {
            let own = b.seen.remove(0);
            if own.topic == "h" {
                assert!(own.payload.len() < max_packet as usize);
                told.push(own.envelope().losses.len());
            }
            b.ack(own.token, 0);
        }
        assert_eq!(told == [32, 8], full, "{told:?}");
        assert_eq!((b.uplink.backlog(), b.quarantined()), (0, vec![]));
    }
}
