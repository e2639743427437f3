use super::*;

const S: Duration = Duration::from_secs(1);

fn connects(b: &Bench) -> Vec<usize> {
    b.actions.iter().filter_map(|a| if let Action::Connect { url, .. } = a { Some(*url) } else { None }).collect()
}

#[test]
fn connecting_brings_will_status_and_meta_of_one_session() {
    let mut b = Bench::new(settings(), backlog(3, 100));
    b.act();
    let Some(Action::Connect { url: 0, session, will }) = b.actions.pop() else { panic!("{:?}", b.actions) };
    let offline: crate::wire::Offline = serde_json::from_slice(&will.payload).unwrap();
    assert_eq!((will.topic.as_str(), will.retain, &offline.session), ("v1/plant/edge/status", true, &session));
    b.input(Input::Connected(Limits::default()));
    assert_eq!(b.logs, ["Info: connected to mqtts://one:8883"]);
    let (status, meta) = (b.take_one("status"), b.take_one("meta"));
    assert!(status.retain && meta.retain && status.content_type == "application/json");
    let status = status.status();
    assert_eq!(status.state, crate::wire::State::Online);
    assert_eq!((status.session, status.epoch, status.next_seq, status.backlog), (session, EPOCH, 4, 3));
    assert_eq!((status.pending[0].from, status.pending[0].to), (1, 3));
}

#[test]
fn sessions_differ_between_connections_and_an_old_offline_is_answered() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    let session = b.uplink.status(b.now).session;
    b.pass(S * 10);
    b.input(offline(&session));
    assert!(b.take("status").is_empty(), "our own will is no news");
    b.input(offline("older"));
    assert_eq!(b.take_one("status").status().session, session);
    b.ack_own();
    b.lose();
    b.reconnect();
    assert_ne!(b.uplink.status(b.now).session, session);
}

#[test]
fn status_beats_each_minute_and_idle_means_quiet() {
    let mut b = Bench::connected(settings(), vec![], Limits { keep_alive: S * 60, ..Limits::default() });
    let (mut wakes, mut statuses) = (0, 0);
    for _ in 0..360 {
        wakes += b.pass(S * 10);
        statuses += b.seen.len();
        b.ack_own();
        b.input(Input::Progress);
    }
    assert!((59..=61).contains(&statuses), "{statuses} statuses in an hour");
    assert!(wakes <= 62, "{wakes} wakes in an idle hour");
}

#[test]
fn retain_is_not_asked_of_a_broker_that_has_none() {
    let mut b = Bench::new(settings(), vec![]);
    b.act();
    b.input(Input::Connected(Limits { retain_available: false, ..Limits::default() }));
    assert!(b.seen.iter().all(|s| !s.retain));
}

/// The URL of the next attempt, and whether its will is to be retained.
fn attempt(b: &mut Bench) -> (usize, bool) {
    b.act();
    loop {
        for action in std::mem::take(&mut b.actions) {
            if let Action::Connect { url, will, .. } = action {
                return (url, will.retain);
            }
        }
        b.sleep_until_woken();
    }
}

#[test]
fn a_broker_that_refuses_a_retained_will_gets_one_that_is_not_and_no_other_does() {
    let mut b = Bench::new(settings(), backlog(3, 100));
    let mut wills = Vec::new();
    for _ in 0..5 {
        let (url, retain) = attempt(&mut b);
        wills.push((url, retain));
        let text = "it is so".to_owned();
        let plain = (url, retain) == (0, true);
        b.input(Input::Closed(if plain { CloseReason::NoRetain(text) } else { CloseReason::Connect(text) }));
    }
    assert_eq!(wills, [(0, true), (1, true), (0, false), (1, true), (0, false)]);
    // The first is asked again when it says that it keeps them now.
    assert_eq!((attempt(&mut b), b.uplink.link.url()), ((1, true), 1));
    b.input(Input::Closed(CloseReason::Connect("not there".into())));
    assert_eq!(attempt(&mut b), (0, false));
    b.input(Input::Connected(Limits { retain_available: false, ..Limits::default() }));
    assert!(!b.take_one("status").retain);
    assert!(b.logs.iter().any(|line| line.contains("keeps no retained messages")), "{:?}", b.logs);
    b.lose();
    assert_eq!(attempt(&mut b), (1, true));
    b.input(Input::Closed(CloseReason::Connect("not there".into())));
    assert_eq!(attempt(&mut b), (0, false));
    b.input(Input::Connected(Limits::default()));
    assert!(b.take_one("status").retain && b.uplink.link.retains());
}

#[test]
fn what_was_in_flight_is_sent_again_by_history_after_a_lost_connection() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.lose();
    b.ack(live.token, 0);
    assert_eq!((b.settled(), b.uplink.counts().stray_acks), (vec![], 1), "an ack of an old connection settles nothing");
    b.append("cpu", vec![chunk(2, 100)]);
    b.reconnect();
    let batch = b.take_one("h");
    assert_eq!(batch.seqs(), vec![1, 2]);
    b.ack(batch.token, 0);
    assert_eq!(b.settled(), vec![1, 2]);
}

#[test]
fn urls_are_tried_in_turn_with_growing_pauses_and_little_noise() {
    let mut b = Bench::new(settings(), vec![]);
    b.act();
    let end = b.now.mono + S * 3600;
    while b.now.mono < end {
        b.input(Input::Closed(CloseReason::Connect("refused".into())));
        b.sleep_until_woken();
    }
    let urls = connects(&b);
    assert!(urls.iter().enumerate().all(|(i, u)| *u == i % 2), "{urls:?}");
    assert!((100..200).contains(&urls.len()), "{} attempts in an hour", urls.len());
    assert!(b.logs.len() <= 61, "{} lines in an hour", b.logs.len());
    assert!(b.logs.last().unwrap().contains("similar lines left out"));
    assert!(b.uplink.problems()[0].starts_with("not connected"));
}

#[test]
fn a_hanging_attempt_and_a_silent_peer_are_given_up_but_not_a_slow_one() {
    let mut b = Bench::new(settings(), backlog(3, 15_000));
    b.act();
    b.actions.clear();
    b.pass(S * 30);
    assert!(matches!(b.actions[0], Action::Disconnect { clean: false }), "no CONNACK: {:?}", b.actions);
    while connects(&b).is_empty() {
        b.sleep_until_woken();
    }
    b.actions.clear();
    b.input(Input::Connected(Limits { keep_alive: S * 20, ..Limits::default() }));
    b.ack_own();
    for _ in 0..4 {
        b.pass(S * 25);
        b.input(Input::Progress);
        assert!(b.uplink.is_connected(), "it makes progress");
    }
    b.pass(S * 36);
    assert!(b.actions.iter().any(|a| matches!(a, Action::Disconnect { clean: false })), "silence");
}

#[test]
fn a_puback_that_never_comes_ends_the_connection_though_others_do() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let lost = b.take_one("m/cpu");
    for seq in 2..=13 {
        b.append("cpu", vec![chunk(seq, 100)]);
        let live = b.take("m/cpu");
        live.iter().for_each(|s| b.ack(s.token, 0));
        b.ack_own();
        b.pass(S * 10);
    }
    assert!(!b.uplink.is_connected(), "after two minutes");
    b.reconnect();
    assert!(b.take("h").iter().any(|s| s.seqs().contains(&1)) && lost.token > 0);
}

#[test]
fn stop_waits_for_acks_then_says_offline_then_disconnects() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    let live = b.take_one("m/cpu");
    b.input(Input::Stop);
    b.append("cpu", vec![chunk(2, 100)]);
    assert!(b.seen.is_empty(), "nothing new is published");
    b.sleep(S);
    b.ack(live.token, 0);
    let offline = b.take_one("status");
    assert!(offline.retain && offline.payload.starts_with(b"{\"state\":\"offline\""));
    assert!(!b.uplink.is_stopped());
    b.ack(offline.token, 0);
    assert!(matches!(b.actions.last(), Some(Action::Disconnect { clean: true })));
    assert!(b.uplink.is_stopped() && b.uplink.next_wake().is_none());
    assert_eq!(b.settled(), vec![1]);
}

#[test]
fn what_waits_to_go_live_goes_before_the_goodbye_and_history_does_not() {
    let limits = Limits { receive_max: 1, ..Limits::default() };
    let mut b = Bench::connected(settings(), backlog(1, 100), limits);
    let history = b.take_one("h");
    b.append("cpu", vec![chunk(2, 100)]);
    b.append("mem", vec![chunk(3, 100)]);
    b.input(Input::Stop);
    b.append("cpu", vec![chunk(4, 100)]);
    assert!(b.seen.is_empty(), "there is place for one message");
    b.ack(history.token, 0x97);
    for topic in ["m/cpu", "m/mem"] {
        let live = b.take_one(topic);
        b.ack(live.token, 0);
    }
    let offline = b.take_one("status");
    b.ack(offline.token, 0);
    assert!(matches!(b.actions.last(), Some(Action::Disconnect { clean: true })));
    assert_eq!((b.settled(), b.uplink.pending(EPOCH).len()), (vec![2, 3], 2));
}

#[test]
fn stop_is_bounded_and_leaves_the_goodbye_to_the_will_when_it_must() {
    let mut b = Bench::connected(settings(), vec![], Limits { receive_max: 1, ..Limits::default() });
    b.append("cpu", vec![chunk(1, 100)]);
    b.input(Input::Stop);
    b.pass(S * 3);
    assert!(matches!(b.actions.last(), Some(Action::Disconnect { clean: false })), "{:?}", b.actions);
    assert!(b.uplink.is_stopped());
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.input(Input::Stop);
    b.pass(S * 4);
    assert!(matches!(b.actions.last(), Some(Action::Disconnect { clean: false })), "the goodbye was not answered");
    let mut b = Bench::new(settings(), vec![]);
    b.input(Input::Stop);
    assert!(b.uplink.is_stopped(), "nothing to say goodbye to");
}

#[test]
fn the_status_tells_oldest_backlog_and_rate() {
    let mut b = Bench::connected(settings(), backlog(500, 10_000), Limits::default());
    assert_eq!(b.uplink.status(b.now).oldest, Some(BOOTED + 1));
    for _ in 0..65 {
        b.take("h").into_iter().for_each(|s| b.ack(s.token, 0));
        if let Some(status) = b.take("status").pop() {
            b.ack(status.token, 0);
            let status = status.status();
            assert!(status.backlog < 500 && status.eta_s.is_some(), "{status:?}");
        }
        b.pass(S / 10);
    }
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.append("cpu", vec![chunk(1, 100)]);
    assert_eq!(b.uplink.status(b.now).oldest, Some(b.now.wall_ms));
}

#[test]
fn status_stays_within_its_bounds_whatever_happened() {
    let losses: Vec<Loss> = (1..=900).map(|i| loss(i * 10, i * 10 + 1)).collect();
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.input(Input::Lost(losses));
    b.input(Input::Problems((0..50).map(|i| format!("{i} {}", "\u{e9}".repeat(500))).collect()));
    let status = b.uplink.status(b.now);
    assert_eq!((status.losses.len(), status.problems.len()), (16, 8));
    assert!(status.problems.iter().all(|p| p.len() <= 200));
    assert!(serde_json::to_vec(&status).unwrap().len() < 8_000);
}

#[test]
fn a_status_that_is_too_large_for_the_broker_says_less_but_where_the_backlog_lies() {
    let problems = || Input::Problems((0..4).map(|i| format!("{i} {}", "x".repeat(150))).collect());
    for (max_packet, told) in [(20_000, (4, 16)), (1_200, (1, 16)), (850, (0, 16)), (500, (0, 2))] {
        let backlog = (1..=40).map(|n| chunk(n * 2, 100)).collect();
        let mut b = Bench::new(settings(), backlog);
        b.answers_loads = false;
        b.input(problems());
        b.input(Input::Connected(Limits { max_packet, ..Limits::default() }));
        let status = b.take_one("status").status();
        assert_eq!((status.problems.len(), status.pending.len()), told, "{max_packet}");
        assert_eq!((status.next_seq, status.pending.last().map(|range| range.to)), (81, Some(80)));
    }
}

/// The will of the connection of that session.
fn offline(session: &str) -> Input {
    let payload = format!("{{\"state\":\"offline\",\"session\":\"{session}\"}}").into_bytes();
    Input::Received(Message { topic: "v1/plant/edge/status".into(), payload, ..Message::default() })
}

#[test]
fn meta_is_not_published_when_there_is_none_and_said_to_be_too_large_when_it_is() {
    for (bytes, published, told) in [(0, false, false), (700, true, false), (2_000, false, true)] {
        let mut b = Bench::new(Settings { meta: vec![b'm'; bytes], ..settings() }, vec![]);
        b.act();
        b.input(Input::Connected(Limits { max_packet: 1_000, ..Limits::default() }));
        assert_eq!((b.take("status").len(), b.take("meta").len()), (1, usize::from(published)), "{bytes} bytes");
        assert_eq!(b.logs.iter().any(|line| line.contains("above the broker's limit")), told, "{:?}", b.logs);
    }
}

#[test]
fn failed_attempts_are_told() {
    let mut b = Bench::new(settings(), vec![]);
    b.act();
    for _ in 0..2 {
        b.actions.clear();
        b.input(Input::Closed(CloseReason::Connect("refused".into())));
        b.pass(S * 5);
    }
    assert_eq!(b.uplink.problems(), ["not connected; 2 attempts failed"]);
    b.input(Input::Connected(Limits::default()));
    assert_eq!(b.logs.last().unwrap(), "Info: connected to mqtts://one:8883 after 2 failed attempts");
}

#[test]
fn a_stop_before_our_own_topic_was_heard_publishes_nothing_live() {
    let mut b = Bench::new(settings(), vec![]);
    b.act();
    b.uplink.handle(Input::Connected(Limits::default()), b.now);
    b.uplink.handle(Input::Appended { collector: "cpu".into(), chunks: vec![chunk(1, 100)] }, b.now);
    b.input(Input::Stop);
    assert!(b.take_one("status").payload.starts_with(b"{\"state\":\"offline\"") && b.seen.is_empty());
}

#[test]
fn the_status_tells_how_long_the_backlog_takes_at_the_rate_of_the_last_minute() {
    let b = Bench::connected(settings(), vec![], Limits::default());
    assert_eq!(b.uplink.status(b.now).eta_s, Some(0));
    let mut b = Bench::connected(Settings { pace: None, ..settings() }, backlog(7, 20_000), Limits::default());
    assert_eq!(b.uplink.status(b.now).eta_s, None, "no rate is known yet");
    for _ in 0..3 {
        let batch = b.seen.remove(0);
        b.ack(batch.token, 0);
    }
    b.pass(S * 60);
    let status = b.take_one("status").status();
    assert_eq!((status.backlog, status.eta_s), (4, Some(80)), "three records in a minute");
    b.lose();
    assert_eq!(b.uplink.status(b.now).eta_s, None);
}

#[test]
fn meta_that_finds_no_place_ever_does_not_hold_up_the_status() {
    let tight = Settings { in_flight_bytes: 32 << 10, meta: vec![b'm'; 40_000], ..settings() };
    let mut b = Bench::connected(tight, vec![], Limits::default());
    b.pass(S * 61);
    assert_eq!((b.take("status").len(), b.take("meta").len()), (1, 0));
}

#[test]
fn meta_is_published_again_when_it_is_another() {
    let mut b = Bench::connected(settings(), vec![], Limits::default());
    b.input(Input::Meta(b"{}".to_vec()));
    assert!(b.seen.is_empty());
    b.input(Input::Meta(b"{\"v\":2}".to_vec()));
    assert_eq!(b.take_one("meta").payload, b"{\"v\":2}");
}
