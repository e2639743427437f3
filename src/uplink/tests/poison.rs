use super::*;
use crate::uplink::reasons::*;

fn unpaced() -> Settings {
    Settings { pace: None, ..settings() }
}

/// Answers every history message by what `poison` says of its seqs until nothing is pending.
fn drain(b: &mut Bench, poison: impl Fn(u64) -> bool) -> usize {
    let mut messages = 0;
    for _ in 0..10_000 {
        b.ack_own();
        for seen in b.take("h") {
            messages += 1;
            let code = if seen.seqs().into_iter().any(&poison) { PAYLOAD_FORMAT_INVALID } else { SUCCESS };
            b.ack(seen.token, code);
        }
        if b.uplink.backlog() == 0 {
            break;
        }
        if b.seen.is_empty() {
            b.sleep_until_woken();
        }
    }
    messages
}

#[test]
fn a_refused_batch_is_bisected_to_the_stored_value_which_is_quarantined() {
    let mut b = Bench::connected(unpaced(), backlog(60, 200), Limits::default());
    let messages = drain(&mut b, |seq| seq == 23);
    assert_eq!(b.quarantined(), vec![23]);
    assert_eq!(b.settled().len(), 59);
    assert!(messages < 25, "{messages} messages");
    assert!(b.uplink.problems()[0].contains("1 stored values (1 records) were set aside"), "{:?}", b.uplink.problems());
}

#[test]
fn a_broker_that_refuses_everything_does_not_empty_the_outbox_at_line_speed() {
    let mut b = Bench::connected(unpaced(), backlog(200, 200), Limits::default());
    let begun = b.now.mono;
    drain_for(&mut b, Duration::from_secs(600));
    let found = b.quarantined().len();
    assert!(found < 30, "{found} values set aside in {:?}", b.now.mono - begun);
    assert!(b.uplink.problems()[0].contains("refuses one value after another"), "{:?}", b.uplink.problems());
}

fn drain_for(b: &mut Bench, time: Duration) {
    let end = b.now.mono + time;
    while b.now.mono < end {
        b.ack_own();
        b.take("h").into_iter().for_each(|s| b.ack(s.token, PAYLOAD_FORMAT_INVALID));
        if b.seen.is_empty() {
            b.sleep_until_woken();
        }
    }
}

#[test]
fn a_value_above_the_brokers_packet_limit_is_never_handed_over() {
    let limits = Limits { max_packet: 2_000, ..Limits::default() };
    let mut b = Bench::connected(unpaced(), vec![chunk(1, 300), chunk(2, 3_000), chunk(3, 300)], limits);
    for _ in 0..5 {
        b.seen.iter().for_each(|s| assert!(s.payload.len() < 2_000));
        b.take("h").into_iter().for_each(|s| b.ack(s.token, SUCCESS));
    }
    assert_eq!((b.settled(), b.quarantined()), (vec![1, 3], vec![2]));
    b.append("cpu", vec![chunk(4, 3_000)]);
    assert!(b.take("m/cpu").is_empty());
    assert_eq!(b.quarantined(), vec![4]);
}

#[test]
fn a_refused_live_message_is_judged_by_history() {
    let mut b = Bench::connected(unpaced(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.ack(live.token, PAYLOAD_FORMAT_INVALID);
    assert_eq!(b.quarantined(), vec![0; 0]);
    let history = b.take_one("h");
    b.ack(history.token, PAYLOAD_FORMAT_INVALID);
    assert_eq!(b.quarantined(), vec![1]);
}

#[test]
fn losses_that_ride_along_are_not_held_against_the_records() {
    let mut b = Bench::new(unpaced(), backlog(1, 100));
    b.input(Input::Lost(vec![loss(50, 60)]));
    b.input(Input::Connected(Limits::default()));
    b.ack_own();
    let both = b.take_one("h");
    assert_eq!((both.seqs(), both.envelope().losses.len()), (vec![1], 1));
    b.ack(both.token, PAYLOAD_FORMAT_INVALID);
    let alone = b.take_one("h");
    assert_eq!((alone.seqs(), alone.envelope().losses.len()), (vec![1], 0));
    b.ack(alone.token, SUCCESS);
    assert_eq!((b.settled(), b.quarantined()), (vec![1], vec![]));
    b.pass(Duration::from_secs(50));
    b.append("cpu", vec![chunk(2, 100)]);
    b.seen.clear();
    b.actions.clear();
    b.lose();
    b.reconnect();
    assert_eq!(b.take_one("h").envelope().losses.len(), 0, "not beside other records either");
    b.pass(Duration::from_secs(11));
    assert_eq!(b.take_one("h").envelope().losses.len(), 1, "the losses are still told");
}

/// A link on which other data goes well and `kills` says which messages end the connection, for `time`. A run is appended
/// every ten seconds, one of 2,000 bytes each minute if `large`. Returns the seqs of each history message that was sent.
fn live_on(b: &mut Bench, time: Duration, large: bool, kills: impl Fn(&Seen) -> bool) -> Vec<Vec<u64>> {
    let (end, mut next, mut sent) = (b.now.mono + time, 1_000 + b.now.mono.as_secs() * 10, Vec::new());
    while b.now.mono < end {
        if !b.uplink.is_connected() {
            b.reconnect();
        }
        next += 1;
        b.append("cpu", vec![chunk(next, if large && next % 6 == 0 { 2_000 } else { 150 })]);
        let until = b.now.mono + Duration::from_secs(10);
        while b.uplink.is_connected() {
            b.ack_own();
            match (b.seen.is_empty(), b.uplink.next_wake().filter(|at| *at < until)) {
                (true, None) => break,
                (true, Some(_)) => b.sleep_until_woken(),
                (false, _) => {
                    let seen = b.seen.remove(0);
                    sent.extend((seen.topic == "h").then(|| seen.seqs()));
                    if kills(&seen) {
                        b.seen.clear();
                        b.lose();
                    } else {
                        b.ack(seen.token, SUCCESS);
                    }
                }
            }
        }
        b.sleep(until.saturating_sub(b.now.mono));
    }
    sent
}

fn carries(seq: u64) -> impl Fn(&Seen) -> bool {
    move |seen| !matches!(&*seen.topic, "status" | "meta") && seen.seqs().contains(&seq)
}

#[test]
fn a_value_that_ends_connections_is_found_and_quarantined() {
    let mut b = Bench::connected(unpaced(), backlog(8, 200), Limits::default());
    live_on(&mut b, Duration::from_secs(3_600), true, carries(5));
    assert_eq!(b.quarantined(), vec![5]);
    let settled = b.settled();
    assert!([1, 2, 3, 4, 6, 7, 8].iter().all(|seq| settled.contains(seq)), "{settled:?}");
    assert_eq!(b.uplink.backlog(), 0);
}

#[test]
fn a_value_larger_than_all_others_is_held_and_tried_again_and_everything_else_flows() {
    let mut chunks = backlog(8, 200);
    chunks[4] = chunk(5, 3_000);
    let mut b = Bench::connected(unpaced(), chunks, Limits::default());
    let sent = live_on(&mut b, Duration::from_secs(7_200), false, carries(5));
    assert_eq!((b.quarantined(), b.uplink.pending(EPOCH).iter().collect::<Vec<_>>()), (vec![], vec![5..=5]));
    let trials = sent.iter().filter(|seqs| **seqs == [5]).count();
    assert!((8..=20).contains(&trials), "{trials} trials in two hours");
    let line = "1 records end the connection each time they are sent; held, tried again every 10 min at most";
    assert!(b.uplink.problems().iter().any(|p| p == line), "{:?}", b.uplink.problems());
    live_on(&mut b, Duration::from_secs(1_300), false, |_| false);
    assert_eq!((b.uplink.backlog(), b.uplink.problems()), (0, vec![]), "what it took to be delivered in the end");
}

#[test]
fn a_link_that_ends_each_connection_after_so_many_bytes_costs_no_record() {
    for limit in (1_500..20_000).step_by(700) {
        let chunks = (1..=120).map(|seq| chunk(seq, 100 + seq as usize * 37 % 1_900)).collect();
        let mut b = Bench::connected(unpaced(), chunks, Limits::default());
        let carried = std::cell::Cell::new(0);
        live_on(&mut b, Duration::from_secs(7_200), limit % 3 == 0, |seen| {
            carried.set(carried.get() + seen.payload.len() + 30);
            let cut = carried.get() > limit;
            if cut {
                carried.set(0);
            }
            cut
        });
        assert_eq!(b.quarantined(), vec![0; 0], "cut after {limit} bytes");
        live_on(&mut b, Duration::from_secs(3_600), false, |_| false);
        assert_eq!(b.uplink.backlog(), 0, "cut after {limit} bytes");
    }
}

#[test]
fn a_value_that_dies_on_a_link_that_also_dies_of_itself_is_not_convicted() {
    let mut b = Bench::connected(unpaced(), backlog(8, 200), Limits::default());
    for minute in 0..240 {
        live_on(&mut b, Duration::from_secs(60), true, carries(5));
        if minute % 3 == 2 && b.uplink.is_connected() {
            b.seen.clear();
            b.lose();
        }
    }
    assert_eq!(b.quarantined(), vec![0; 0]);
}

#[test]
fn a_value_that_dies_on_a_link_that_also_ends_with_others_is_not_convicted() {
    let mut b = Bench::connected(unpaced(), backlog(8, 200), Limits::default());
    let runs = std::cell::Cell::new(0);
    live_on(&mut b, Duration::from_secs(4 * 3_600), true, |seen| {
        let live = seen.topic == "m/cpu";
        runs.set(runs.get() + u32::from(live));
        carries(5)(seen) || live && runs.get().is_multiple_of(18)
    });
    assert_eq!(b.quarantined(), vec![0; 0]);
}

#[test]
fn live_goes_at_once_while_suspects_rest() {
    let mut b = Bench::connected(unpaced(), backlog(8, 200), Limits::default());
    live_on(&mut b, Duration::from_secs(100), false, carries(5));
    assert!(b.uplink.is_connected() && b.uplink.backlog() > 0 && b.seen.is_empty());
    b.append("cpu", vec![chunk(900_000, 150)]);
    b.take_one("m/cpu");
}

#[test]
fn silence_and_shutdowns_quarantine_nothing() {
    let mut b = Bench::connected(unpaced(), backlog(1, 200), Limits::default());
    for i in 0..30 {
        b.seen.clear();
        if i % 2 == 0 {
            b.input(Input::Closed(CloseReason::Server { code: 0x8B, text: "shutting down".into() }));
        } else {
            while b.uplink.is_connected() {
                b.sleep_until_woken();
            }
        }
        b.reconnect();
    }
    assert_eq!(b.quarantined(), vec![0; 0]);
}

#[test]
fn packet_too_large_convicts_none_of_two_that_were_in_flight() {
    let mut b = Bench::connected(unpaced(), vec![chunk(1, 20_000), chunk(2, 19_000)], Limits::default());
    assert_eq!(b.take("h").len(), 2);
    b.input(Input::Closed(CloseReason::Server { code: PACKET_TOO_LARGE, text: "too large".into() }));
    assert_eq!(b.quarantined(), vec![0; 0]);
    b.reconnect();
    let other = b.take_one("h");
    assert_eq!(other.seqs(), [2], "what is suspected makes way");
    b.ack(other.token, SUCCESS);
    assert_eq!(b.take_one("h").seqs(), [1]);
    b.input(Input::Closed(CloseReason::Server { code: PACKET_TOO_LARGE, text: "too large".into() }));
    assert_eq!(b.quarantined(), [1]);
}

#[test]
fn packet_too_large_blames_the_largest_and_only_alone() {
    let mut b = Bench::connected(unpaced(), backlog(2, 3_000), Limits::default());
    let too_large = || Input::Closed(CloseReason::Server { code: PACKET_TOO_LARGE, text: "too large".into() });
    let mut seen = Vec::new();
    for _ in 0..10 {
        let history = b.take("h");
        seen.extend(history.iter().map(Seen::seqs));
        if b.uplink.backlog() == 0 {
            break;
        }
        b.seen.clear();
        if history.iter().any(|s| s.seqs().contains(&2)) {
            b.input(too_large());
            b.reconnect();
        } else {
            history.iter().for_each(|s| b.ack(s.token, SUCCESS));
        }
    }
    assert_eq!((b.settled(), b.quarantined()), (vec![1], vec![2]), "{seen:?}");
}
