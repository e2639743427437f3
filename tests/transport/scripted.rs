//! Against a scripted broker: every way in which a broker can be wrong, one at a time.

use std::time::Duration;

use holdover::clock;
use holdover::uplink::transport::{
    BrokerUrl, CloseKind, ConnectOptions, Connection, PublishRefused, RequestRefused, Session, Subscription,
    TransportEvent, Will,
};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason, Publish, SubscribeReasonCode};

use super::{LONG, closed, connected, next, publish, run};
use crate::support::scripted_broker::{Acks, Script, ScriptedBroker};

pub fn options(port: u16) -> ConnectOptions {
    ConnectOptions::new(BrokerUrl::parse(&format!("mqtt://127.0.0.1:{port}"), true).unwrap(), "edge-01")
}

/// One connection against one script.
async fn open(script: Script) -> (Connection, ScriptedBroker) {
    let broker = ScriptedBroker::start(move |_| script.clone());
    let connection = Connection::open(&options(broker.port)).unwrap();
    (connection, broker)
}

/// Everything acknowledged until the connection closes.
async fn acked_until_closed(connection: &mut Connection) -> (Vec<(u64, u8)>, CloseKind) {
    let mut acked = Vec::new();
    loop {
        match next(connection).await {
            TransportEvent::Acked { token, code } => acked.push((token, code)),
            TransportEvent::Closed(reason) => return (acked, reason.kind),
            _ => {}
        }
    }
}

fn send(connection: &mut Connection, tokens: std::ops::RangeInclusive<u64>) {
    for token in tokens {
        connection.publish(publish(token, "v1/p/e/h", &token.to_be_bytes())).unwrap();
    }
}

/// As `send`, but the connection may have ended already while its last events wait to be taken.
fn send_while_open(connection: &mut Connection, tokens: std::ops::RangeInclusive<u64>) {
    for token in tokens {
        match connection.publish(publish(token, "v1/p/e/h", &token.to_be_bytes())) {
            Ok(()) | Err(PublishRefused::Closed) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

fn incoming(topic: &str, pkid: u16, payload: Vec<u8>) -> Publish {
    let mut p = Publish::new(topic, if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }, payload, None);
    p.pkid = pkid;
    p
}

#[test]
fn connack_limits_reach_the_caller() {
    run(async {
        let script =
            Script { receive_max: Some(5), max_packet: Some(300), retain_available: Some(0), ..Script::default() };
        let (mut c, broker) = open(script).await;
        assert_eq!(c.publish(publish(1, "a", b"x")), Err(PublishRefused::NotConnected));
        let limits = connected(&mut c).await;
        assert_eq!((limits.receive_max, limits.window, limits.max_packet), (5, 4, 300));
        assert!(!limits.retain_available && !limits.session_present);
        let mut retained = publish(1, "a", b"x");
        retained.retain = true;
        assert_eq!(c.publish(retained), Err(PublishRefused::Retain("a".into())));
        assert_eq!(
            c.publish(publish(1, "a", &[0; 300])),
            Err(PublishRefused::TooLarge { topic: "a".into(), size: 309, max: 300 })
        );
        assert_eq!(c.publish(publish(1, "a/#", b"x")), Err(PublishRefused::Topic("a/#".into())));
        // 291 bytes of payload make a packet of exactly 300.
        c.publish(publish(9, "a", &[0; 291])).unwrap();
        assert_eq!(next(&mut c).await, TransportEvent::Acked { token: 9, code: 0 });
        let seen = broker.seen(0);
        assert!(seen.clean_start && seen.session_expiry.is_none());
        assert_eq!(
            (seen.keep_alive, seen.announced_receive_max, seen.announced_max_packet),
            (60, Some(16), Some(65536))
        );
    });
}

#[test]
fn a_caller_that_overruns_the_window_is_refused_and_nothing_is_lost() {
    run(async {
        let (mut c, broker) = open(Script { acks: Acks::Never, ..Script::default() }).await;
        connected(&mut c).await;
        send(&mut c, 1..=10);
        assert_eq!((c.publish(publish(11, "a", b"x")), c.free()), (Err(PublishRefused::WindowFull(10)), 0));
        let seen = broker.wait(0, |s| s.publishes.len() == 10).await;
        assert!(!seen.id_misused);
    });
}

#[test]
fn acks_in_reverse_order_go_to_the_right_tokens() {
    run(async {
        let (mut c, broker) = open(Script { acks: Acks::Reversed(4), receive_max: Some(9), ..Script::default() }).await;
        connected(&mut c).await;
        let (mut next_token, mut acked) = (1, Vec::new());
        while acked.len() < 200 {
            while c.free() > 0 && next_token <= 200 {
                send(&mut c, next_token..=next_token);
                next_token += 1;
            }
            if let TransportEvent::Acked { token, .. } = next(&mut c).await {
                acked.push(token.to_be_bytes().to_vec());
            }
        }
        let seen = broker.seen(0);
        assert_eq!(acked, seen.acked.iter().map(|(payload, _)| payload.clone()).collect::<Vec<_>>());
        assert!(!seen.id_misused && seen.most_unacknowledged <= 8, "{}", seen.most_unacknowledged);
    });
}

#[test]
fn reason_codes_are_told_per_publish() {
    use PubAckReason as R;
    run(async {
        let reasons = [
            R::NoMatchingSubscribers,
            R::UnspecifiedError,
            R::ImplementationSpecificError,
            R::NotAuthorized,
            R::TopicNameInvalid,
            R::PacketIdentifierInUse,
            R::QuotaExceeded,
            R::PayloadFormatInvalid,
        ];
        let codes: Vec<_> = reasons.iter().enumerate().map(|(i, r)| (format!("t{i}/"), *r)).collect();
        let (mut c, _broker) = open(Script { codes, ..Script::default() }).await;
        connected(&mut c).await;
        // The same connection survives any number of refusals.
        for round in 0..20 {
            for (i, want) in [0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99, 0x00].into_iter().enumerate() {
                let token = round * 100 + i as u64;
                c.publish(publish(token, &format!("t{i}/x"), b"x")).unwrap();
                assert_eq!(next(&mut c).await, TransportEvent::Acked { token, code: want });
            }
        }
    });
}

#[test]
fn an_invented_or_repeated_ack_ends_the_connection_and_settles_nothing_more() {
    run(async {
        for script in [
            Script { repeat_ack_of: Some(3), ..Script::default() },
            Script { invent_ack_after: Some(3), ..Script::default() },
            Script { receive_max: Some(1), repeat_ack_of: Some(3), ..Script::default() },
        ] {
            let one = script.receive_max == Some(1);
            let (mut c, broker) = open(script).await;
            connected(&mut c).await;
            let mut acked = Vec::new();
            if one {
                for token in 1..=2 {
                    send(&mut c, token..=token);
                    assert_eq!(next(&mut c).await, TransportEvent::Acked { token, code: 0 });
                    acked.push((token, 0));
                }
                send(&mut c, 3..=3);
            } else {
                send(&mut c, 1..=5);
            }
            let (more, kind) = acked_until_closed(&mut c).await;
            acked.extend(more);
            assert!(matches!(kind, CloseKind::UnsolicitedAck(_)), "{kind:?}");
            // The real PUBACK that came in the same segment as the false one counts.
            assert_eq!(acked, [(1, 0), (2, 0), (3, 0)]);
            let seen = broker.seen(0);
            for (token, _) in acked {
                assert!(seen.acked.iter().any(|(p, _)| *p == token.to_be_bytes()));
            }
        }
    });
}

#[test]
fn acks_that_came_just_before_the_end_are_not_lost() {
    run(async {
        let (mut c, broker) =
            open(Script { acks: Acks::Reversed(10), cut_after_publishes: Some(10), ..Script::default() }).await;
        connected(&mut c).await;
        send(&mut c, 1..=10);
        let (acked, kind) = acked_until_closed(&mut c).await;
        assert_eq!(kind, CloseKind::HungUp);
        assert_eq!(acked.len(), 10);
        assert_eq!(broker.seen(0).acked.len(), 10);
    });
}

#[test]
fn each_connack_refusal_is_named() {
    use ConnectReturnCode as C;
    run(async {
        for (refuse, code, part) in [
            (C::NotAuthorized, 0x87, "0x87 Not authorized"),
            (C::BadUserNamePassword, 0x86, "password file"),
            (C::ServerBusy, 0x89, "busy"),
            (C::ClientIdentifierNotValid, 0x85, "client id"),
            (C::Banned, 0x8a, "banned"),
            (C::ConnectionRateExceeded, 0x9f, "0x9f Connection rate exceeded"),
        ] {
            let (mut c, _broker) = open(Script { refuse: Some(refuse), ..Script::default() }).await;
            let reason = closed(&mut c).await;
            assert_eq!(reason.kind, CloseKind::ConnectRefused { code });
            assert!(reason.to_string().contains(part), "{reason}");
        }
    });
}

#[test]
fn a_disconnect_of_the_broker_is_named() {
    use DisconnectReasonCode as D;
    run(async {
        for (code, number, part) in [
            (D::SessionTakenOver, 0x8e, "same client id"),
            (D::ServerShuttingDown, 0x8b, "stopping"),
            (D::PacketTooLarge, 0x95, "larger than the broker allows"),
            (D::ServerMoved, 0x9d, "moved"),
        ] {
            let (mut c, _broker) = open(Script { disconnect_after: Some((3, code)), ..Script::default() }).await;
            connected(&mut c).await;
            send(&mut c, 1..=3);
            let (acked, kind) = acked_until_closed(&mut c).await;
            let reason = Some("the script says so".to_owned());
            assert_eq!((acked.len(), &kind), (2, &CloseKind::Disconnected { code: number, reason }));
            let TransportEvent::Closed(reason) = c.next().await else { panic!("it stays closed") };
            assert!(reason.to_string().contains(part), "{reason}");
            assert_eq!(c.publish(publish(4, "a", b"")), Err(PublishRefused::Closed));
        }
    });
}

#[test]
fn a_cut_after_any_number_of_bytes_closes_and_settles_only_what_was_acknowledged() {
    run(async {
        // CONNECT is about 40 bytes, each publish about 24: this cuts in every place of the first few packets.
        for cut in 1..=200 {
            let (mut c, broker) = open(Script { cut_after_bytes: Some(cut), ..Script::default() }).await;
            let mut acked = Vec::new();
            let kind = loop {
                match next(&mut c).await {
                    TransportEvent::Connected(_) => send_while_open(&mut c, 1..=10),
                    TransportEvent::Acked { token, .. } => acked.push(token.to_be_bytes().to_vec()),
                    TransportEvent::Closed(reason) => break reason.kind,
                    _ => {}
                }
            };
            assert!(
                matches!(kind, CloseKind::Lost(_) | CloseKind::HungUp | CloseKind::ClosedBeforeConnack { tls: false }),
                "{kind:?}"
            );
            let seen = broker.seen(0);
            assert!(acked.iter().all(|p| seen.acked.iter().any(|(q, _)| p == q)), "cut after {cut}");
        }
    });
}

#[test]
fn a_broker_that_says_nothing_is_given_up_in_time() {
    run(async {
        let broker = ScriptedBroker::start(|_| Script { mute: true, ..Script::default() });
        let mut o = options(broker.port);
        o.connect_timeout = Duration::from_millis(300);
        let reason = closed(&mut Connection::open(&o).unwrap()).await;
        assert_eq!(reason.kind, CloseKind::ConnectTimeout { after: o.connect_timeout, dns: false });
        assert!(reason.to_string().contains(&format!("127.0.0.1:{}", broker.port)), "{reason}");
    });
}

#[test]
fn a_broker_that_stops_answering_pings_is_silence() {
    run(async {
        let (mut c, broker) = open(Script { silent: true, server_keep_alive: Some(1), ..Script::default() }).await;
        connected(&mut c).await;
        send(&mut c, 1..=3);
        let reason = closed(&mut c).await;
        assert!(matches!(reason.kind, CloseKind::Silence(d) if d == Duration::from_millis(6_500)), "{reason}");
        assert!(broker.seen(0).pings >= 2, "it was pinged");
    });
}

#[test]
fn a_broker_that_answers_pings_and_nothing_else_is_given_up() {
    run(async {
        let broker = ScriptedBroker::start(|n| Script {
            acks: Acks::Never,
            server_keep_alive: Some(1),
            suback: (n == 1).then(Vec::new),
            receive_max: Some(100),
            ..Script::default()
        });
        let o = options(broker.port);
        let mut publisher = Connection::open(&o).unwrap();
        connected(&mut publisher).await;
        send(&mut publisher, 1..=3);
        let mut subscriber = Connection::open(&o).unwrap();
        connected(&mut subscriber).await;
        subscriber.subscribe(vec![Subscription::new("a")]).unwrap();
        let (first, second) = tokio::join!(closed(&mut publisher), closed(&mut subscriber));
        assert!(matches!(first.kind, CloseKind::NoAck(_)), "{first}");
        assert!(matches!(second.kind, CloseKind::NoSuback(_)), "{second}");
        assert!(broker.seen(0).pings >= 2 && broker.seen(1).pings >= 2);
    });
}

#[test]
fn a_peer_that_stops_reading_is_given_up_although_the_flush_hangs() {
    run(async {
        let broker = ScriptedBroker::start(|_| Script {
            stop_reading_after: Some(1),
            server_keep_alive: Some(1),
            ..Script::default()
        });
        let mut o = options(broker.port);
        o.slowest_link = 100 << 20;
        let mut c = Connection::open(&o).unwrap();
        connected(&mut c).await;
        send(&mut c, 1..=1);
        assert_eq!(next(&mut c).await, TransportEvent::Acked { token: 1, code: 0 });
        for token in 2..=10 {
            c.publish(publish(token, "a", &vec![0; 2 << 20])).unwrap();
        }
        let (acked, kind) = acked_until_closed(&mut c).await;
        assert_eq!(acked, []);
        assert!(matches!(kind, CloseKind::Silence(_)), "{kind:?}");
    });
}

#[test]
fn a_slow_link_that_makes_progress_is_not_taken_for_dead() {
    run(async {
        // 2 KiB at most every 50 ms: a publish of 400 KiB takes 10 s or more, beyond the 6.5 s of an idle link.
        let broker = ScriptedBroker::start(|_| Script {
            read_slowly: Some(Duration::from_millis(50)),
            server_keep_alive: Some(1),
            ..Script::default()
        });
        let mut o = options(broker.port);
        o.slowest_link = 20_000;
        let mut c = Connection::open(&o).unwrap();
        connected(&mut c).await;
        let started = clock::now().mono;
        c.publish(publish(1, "a", &vec![0; 400 << 10])).unwrap();
        let ended = tokio::time::timeout(LONG * 4, async {
            loop {
                match c.next().await {
                    TransportEvent::Progress => {}
                    event => break event,
                }
            }
        });
        assert_eq!(ended.await.unwrap(), TransportEvent::Acked { token: 1, code: 0 });
        let took = clock::now().mono - started;
        assert!(took > Duration::from_millis(6_500), "the link was not slow: {took:?}");
    });
}

#[test]
fn one_ack_that_never_comes_is_noticed_when_its_packet_id_comes_round() {
    run(async {
        let (mut c, broker) = open(Script { forget_ack_of: Some(2), receive_max: Some(6), ..Script::default() }).await;
        connected(&mut c).await;
        let (mut token, mut acked) = (1, Vec::new());
        let kind = loop {
            while c.free() > 0 {
                send(&mut c, token..=token);
                token += 1;
            }
            match next(&mut c).await {
                TransportEvent::Acked { token, .. } => acked.push(token),
                TransportEvent::Closed(reason) => break reason.kind,
                _ => {}
            }
        };
        assert!(matches!(kind, CloseKind::AckOutOfOrder(_)), "{kind:?}");
        assert!(!acked.contains(&2));
        let seen = broker.seen(0);
        assert_eq!(acked.len(), seen.acked.len());
        assert!(!seen.id_misused);
    });
}

#[test]
fn a_server_keep_alive_of_zero_does_not_ping_in_a_loop() {
    run(async {
        let (mut c, broker) = open(Script { server_keep_alive: Some(0), ..Script::default() }).await;
        assert_eq!(connected(&mut c).await.keep_alive, Duration::from_secs(60));
        for token in 1..=50 {
            send(&mut c, token..=token);
            assert_eq!(next(&mut c).await, TransportEvent::Acked { token, code: 0 });
        }
        assert!(broker.seen(0).pings <= 1, "{} pings", broker.seen(0).pings);
    });
}

#[test]
fn a_broker_that_cannot_do_qos_1_is_unsuitable() {
    run(async {
        let (mut c, _broker) = open(Script { max_qos: Some(0), ..Script::default() }).await;
        assert!(matches!(closed(&mut c).await.kind, CloseKind::Unsuitable(_)));
    });
}

#[test]
fn answers_that_are_not_mqtt_5_are_a_protocol_fault() {
    run(async {
        for (raw, part) in [
            ([b"HTTP/1.1 400 Bad Request\r\n".as_slice(), &[b'x'; 100]].concat(), "protocol"),
            (vec![0xd0, 0x00], "its first packet was not CONNACK but PINGRESP"),
            // 256 MB announced.
            (vec![0x30, 0xff, 0xff, 0xff, 0x7f], "although we announced 65536 at most"),
            (vec![0x20, 0x03, 0x00, 0x55, 0x00], "protocol"),
        ] {
            let (mut c, _broker) = open(Script { instead_of_connack: Some(raw), ..Script::default() }).await;
            let reason = closed(&mut c).await;
            assert!(reason.to_string().contains(part), "{reason}");
        }
    });
}

#[test]
fn hostile_packets_after_the_connack_close_and_settle_nothing() {
    run(async {
        for raw in [
            vec![0x40, 0x02, 0x00, 0x01],                         // PUBACK of nothing
            vec![0x40, 0x02, 0xff, 0xff],                         // far outside
            vec![0x50, 0x02, 0x00, 0x01],                         // PUBREC
            vec![0x70, 0x02, 0x00, 0x01],                         // PUBCOMP
            vec![0x90, 0x04, 0x00, 0x01, 0x00, 0x00],             // SUBACK of nothing
            vec![0xe0, 0x00],                                     // empty DISCONNECT
            vec![0x10, 0x00],                                     // CONNECT
            vec![0xf0, 0x00],                                     // AUTH
            vec![0x34, 0x06, 0x00, 0x01, b'a', 0x00, 0x01, 0x00], // PUBLISH QoS 2
            vec![0x36, 0x06, 0x00, 0x01, b'a', 0x00, 0x01, 0x00], // PUBLISH QoS 3
            vec![0x32, 0x06, 0x00, 0x01, b'a', 0x00, 0x00, 0x00], // packet id 0
            vec![0x30, 0x03, 0x00, 0x00, 0x00],                   // empty topic, no alias
            vec![0x30, 0xff, 0xff, 0xff, 0xff, 0x7f],             // length of five bytes
        ] {
            let script = Script { after_connack: raw.clone(), acks: Acks::Never, ..Script::default() };
            let (mut c, _broker) = open(script).await;
            let (acked, kind) = acked_until_closed(&mut c).await;
            assert_eq!(acked, [], "{raw:02x?}");
            assert!(
                matches!(
                    kind,
                    CloseKind::Protocol(_) | CloseKind::UnsolicitedAck(_) | CloseKind::IncomingTooLarge { .. }
                ),
                "{raw:02x?}: {kind:?}"
            );
        }
    });
}

#[test]
fn a_refused_publish_does_not_wedge_the_one_that_waits_for_its_packet_id() {
    run(async {
        // Three ids: 1 is held, 2 and 3 go by, then 1 is next and comes back with a refusal.
        let codes = vec![("refused".into(), PubAckReason::QuotaExceeded)];
        let script = Script { receive_max: Some(3), codes, hold_first_until: Some(3), ..Script::default() };
        let (mut c, broker) = open(script).await;
        connected(&mut c).await;
        c.publish(publish(1, "refused", b"1")).unwrap();
        let mut acked = Vec::new();
        for token in 2..=6 {
            c.publish(publish(token, "fine", &[token as u8])).unwrap();
            while c.free() == 0 {
                match next(&mut c).await {
                    TransportEvent::Acked { token, code } => acked.push((token, code)),
                    other => panic!("{other:?}"),
                }
            }
        }
        while acked.len() < 6 {
            match next(&mut c).await {
                TransportEvent::Acked { token, code } => acked.push((token, code)),
                other => panic!("{other:?}"),
            }
        }
        acked.sort_unstable();
        assert_eq!(acked, [(1, 0x97), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
        assert!(!broker.seen(0).id_misused);
    });
}

#[test]
fn a_subscribe_waits_for_the_packet_id_that_a_publish_holds() {
    run(async {
        let script = Script { receive_max: Some(3), hold_first_until: Some(3), ..Script::default() };
        let (mut c, broker) = open(script).await;
        connected(&mut c).await;
        send(&mut c, 1..=1);
        for token in 2..=3 {
            send(&mut c, token..=token);
            assert_eq!(next(&mut c).await, TransportEvent::Acked { token, code: 0 });
        }
        c.subscribe(vec![Subscription::new("a")]).unwrap();
        assert_eq!(next(&mut c).await, TransportEvent::Acked { token: 1, code: 0 });
        assert!(matches!(next(&mut c).await, TransportEvent::Subscribed(_)));
        assert!(!broker.seen(0).id_misused);
    });
}

#[test]
fn suback_codes_are_told_and_ids_of_subscribe_and_publish_never_meet() {
    run(async {
        let suback = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce), SubscribeReasonCode::NotAuthorized];
        let script =
            Script { receive_max: Some(4), suback: Some(suback), acks: Acks::Reversed(3), ..Script::default() };
        let (mut c, broker) = open(script).await;
        c.subscribe(vec![Subscription::new("a/#"), Subscription::shared("g", "b/#")]).unwrap();
        connected(&mut c).await;
        send(&mut c, 1..=3);
        c.subscribe(vec![Subscription::new("a/#"), Subscription::new("c")]).unwrap();
        let (mut codes, mut acked) = (Vec::new(), 0);
        while codes.len() < 2 || acked < 3 {
            match next(&mut c).await {
                TransportEvent::Subscribed(o) => codes.push(o),
                TransportEvent::Acked { .. } => acked += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((codes[0][0].code, codes[0][1].code), (1, 0x87));
        assert!(codes[0][0].granted() && !codes[0][1].granted());
        let seen = broker.seen(0);
        assert_eq!(seen.subscribed, ["a/#", "$share/g/b/#", "a/#", "c"]);
        assert!(!seen.id_misused);
        assert_eq!(c.subscribe(vec![Subscription::new("a#")]), Err(RequestRefused::Filter("a#".into())));
        assert_eq!(c.subscribe(vec![]), Err(RequestRefused::NoFilter));
    });
}

#[test]
fn a_message_is_acknowledged_only_when_the_caller_says_so() {
    run(async {
        let deliver = (1..=40).map(|id| incoming("v1/p/e/h", id, vec![id as u8])).collect();
        let broker = ScriptedBroker::start(move |_| Script { deliver: Vec::clone(&deliver), ..Script::default() });
        let mut o = options(broker.port);
        o.receive_max = 4;
        o.session = Session::kept(3600);
        let mut c = Connection::open(&o).unwrap();
        c.subscribe(vec![Subscription::new("v1/#")]).unwrap();
        connected(&mut c).await;
        assert!(matches!(next(&mut c).await, TransportEvent::Subscribed(_)));
        let mut tokens = Vec::new();
        for id in 1..=4 {
            let TransportEvent::Received(got) = next(&mut c).await else { panic!("no message") };
            assert_eq!(got.payload, [id]);
            tokens.push(got.ack.unwrap());
        }
        assert_eq!(broker.seen(0).client_acked, [0u16; 0], "nothing was acknowledged by itself");
        let seen = broker.seen(0);
        assert!(!seen.clean_start && seen.session_expiry == Some(3600));
        for id in 5..=40 {
            let token = tokens.remove(0);
            c.ack(token).unwrap();
            c.ack(token).unwrap();
            let TransportEvent::Received(got) = next(&mut c).await else { panic!("no message") };
            assert_eq!(got.payload, [id]);
            tokens.push(got.ack.unwrap());
        }
        let seen = broker.wait(0, |s| s.client_acked.len() == 36).await;
        assert_eq!(seen.client_acked, (1..=36).collect::<Vec<u16>>());
        // A token of this connection means nothing on another.
        let mut other = Connection::open(&o).unwrap();
        assert_eq!(other.ack(tokens[0]), Err(RequestRefused::OtherConnection));
    });
}

#[test]
fn a_broker_that_exceeds_what_we_announced_is_cut_off() {
    run(async {
        let flood: Vec<_> = (1..=200).map(|id| incoming("a", id, vec![0])).collect();
        let same: Vec<_> = (0..2).map(|_| incoming("a", 1, vec![0])).collect();
        let huge = vec![incoming("a", 1, vec![0; 70_000])];
        for (deliver, part) in [(flood, "Receive Maximum"), (same, "packet id 1 twice"), (huge, "announced 65536")] {
            let (mut c, _broker) = open(Script { deliver, overrun: true, ..Script::default() }).await;
            c.subscribe(vec![Subscription::new("a")]).unwrap();
            let reason = closed(&mut c).await;
            assert!(reason.to_string().contains(part), "{reason}");
        }
    });
}

#[test]
fn poison_messages_do_not_stop_the_ones_behind_them() {
    run(async {
        let mut unreadable = incoming("a", 1, vec![1]);
        unreadable.topic = vec![0xff, 0xfe].into();
        // A broker that keeps to MQTT withholds the large one, because we announced our limit.
        let deliver = vec![unreadable, incoming("a", 2, vec![0; 70_000]), incoming("a", 3, b"behind".to_vec())];
        let (mut c, broker) = open(Script { deliver, ..Script::default() }).await;
        c.subscribe(vec![Subscription::new("a")]).unwrap();
        connected(&mut c).await;
        assert!(matches!(next(&mut c).await, TransportEvent::Subscribed(_)));
        assert!(matches!(next(&mut c).await, TransportEvent::Discarded { count: 1, why: "topic is not UTF-8" }));
        let TransportEvent::Received(got) = next(&mut c).await else { panic!("nothing behind the poison") };
        assert_eq!(got.payload, b"behind");
        assert_eq!(broker.wait(0, |s| !s.client_acked.is_empty()).await.client_acked, [1]);
    });
}

#[test]
fn a_flood_of_qos_0_is_bounded_and_counted() {
    run(async {
        let mut deliver: Vec<_> = (0..2000).map(|i: u32| incoming("a", 0, i.to_be_bytes().to_vec())).collect();
        deliver.push(incoming("a", 1, b"last".to_vec()));
        let (mut c, broker) = open(Script { deliver, overrun: true, ..Script::default() }).await;
        c.subscribe(vec![Subscription::new("a")]).unwrap();
        connected(&mut c).await;
        // The caller is busy elsewhere while the broker floods, and the connection is still served.
        broker.wait(0, |s| !s.subscribed.is_empty()).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (mut received, mut discarded, mut last) = (0, 0, false);
        while received + discarded < 2000 || !last {
            match next(&mut c).await {
                TransportEvent::Received(got) => match got.ack {
                    None => received += 1,
                    Some(token) => {
                        last = true;
                        c.ack(token).unwrap();
                    }
                },
                TransportEvent::Discarded { count, .. } => discarded += count,
                TransportEvent::Subscribed(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(discarded > 0, "all {received} were kept");
        assert_eq!(broker.wait(0, |s| !s.client_acked.is_empty()).await.client_acked, [1]);
    });
}

/// As a hub whose disk hangs: it takes nothing from the connection, and the broker has sent all that it may.
#[test]
fn pings_go_out_however_long_the_caller_takes_nothing() {
    run(async {
        let mut deliver: Vec<_> = (0..200).map(|_| incoming("a", 0, vec![0])).collect();
        deliver.extend((1..=16).map(|id| incoming("a", id, vec![1])));
        let script = Script { deliver, overrun: true, server_keep_alive: Some(1), ..Script::default() };
        let (mut c, broker) = open(script).await;
        connected(&mut c).await;
        c.subscribe(vec![Subscription::new("a")]).unwrap();
        send(&mut c, 1..=10);
        broker.wait(0, |s| s.acked.len() == 10).await;
        let before = broker.seen(0).pings;
        broker.wait(0, |s| s.pings >= before + 3).await;
        let (mut received, mut acked) = (0, 0);
        while received < 16 || acked < 10 {
            match next(&mut c).await {
                TransportEvent::Received(got) => received += usize::from(got.ack.is_some()),
                TransportEvent::Acked { .. } => acked += 1,
                TransportEvent::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    });
}

#[test]
fn next_can_be_cancelled_at_any_moment_without_losing_an_event() {
    run(async {
        let (mut c, broker) = open(Script::default()).await;
        let (mut token, mut acked) = (1u64, Vec::new());
        while acked.len() < 300 {
            while c.free() > 0 && token <= 300 {
                send(&mut c, token..=token);
                token += 1;
            }
            // Polled once and dropped, again and again.
            tokio::select! {
                biased;
                event = c.next() => if let TransportEvent::Acked { token, .. } = event { acked.push(token) },
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(acked, (1..=300).collect::<Vec<_>>());
        assert_eq!(broker.seen(0).publishes.len(), 300);
    });
}

#[test]
fn dropping_a_connection_closes_its_socket_without_disconnect() {
    run(async {
        let (mut c, broker) = open(Script::default()).await;
        connected(&mut c).await;
        drop(c);
        let seen = broker.wait(0, |s| s.ended).await;
        assert!(!seen.disconnect);
    });
}

#[test]
fn a_clean_disconnect_flushes_first() {
    run(async {
        let broker = ScriptedBroker::start(|_| Script::default());
        let mut o = options(broker.port);
        o.will = Some(Will { topic: "v1/p/e/status".into(), payload: b"{}".to_vec(), retain: true });
        let mut c = Connection::open(&o).unwrap();
        connected(&mut c).await;
        send(&mut c, 1..=8);
        let farewell = c.disconnect(LONG).await;
        assert_eq!(farewell.reason.kind, CloseKind::Stopped);
        let seen = broker.wait(0, |s| s.ended).await;
        assert!(seen.disconnect && seen.has_will);
        assert_eq!(seen.publishes.len(), 8);
        assert!(farewell.acked.iter().all(|(token, code)| (1..=8).contains(token) && *code == 0));
    });
}

#[test]
fn a_disconnect_that_cannot_be_sent_ends_in_time() {
    run(async {
        let broker = ScriptedBroker::start(|_| Script { stop_reading_after: Some(1), ..Script::default() });
        let mut c = Connection::open(&options(broker.port)).unwrap();
        connected(&mut c).await;
        send(&mut c, 1..=1);
        assert!(matches!(next(&mut c).await, TransportEvent::Acked { .. }));
        for token in 2..=10 {
            c.publish(publish(token, "a", &vec![0; 2 << 20])).unwrap();
        }
        let farewell = c.disconnect(Duration::from_millis(300)).await;
        assert!(matches!(farewell.reason.kind, CloseKind::Lost(_)), "{farewell:?}");
        // And while connecting there is nothing to say goodbye to.
        let broker = ScriptedBroker::start(|_| Script { mute: true, ..Script::default() });
        let c = Connection::open(&options(broker.port)).unwrap();
        assert_eq!(c.disconnect(LONG).await.reason.kind, CloseKind::Stopped);
    });
}
