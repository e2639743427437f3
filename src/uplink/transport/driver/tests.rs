use rumqttc::Outgoing;
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::v5::PubAck;

use super::*;

/// A driver that is online, with the far ends of its channels.
fn online() -> (Driver, EventLoop, mpsc::Sender<Command>, mpsc::Receiver<TransportEvent>) {
    let (client, event_loop) = AsyncClient::new(MqttOptions::new("edge-01", "127.0.0.1", 1), 16);
    let (commands, commands_rx) = mpsc::channel(16);
    let (events_tx, events) = mpsc::channel(16);
    let rules = Rules {
        url: BrokerUrl::parse("mqtts://127.0.0.1", false).unwrap(),
        address: "127.0.0.1:8883".into(),
        connection: 1,
        keep_alive: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(20),
        window: 4,
        packet_ids: 32,
        receive_max: 4,
        slowest_link: 1024,
        reserved_events: 8,
        least_room: 8,
    };
    let mut driver = Driver::new(rules, client, commands_rx, events_tx, Arc::default());
    driver.phase = Phase::Online;
    driver.binder.draws_from(2);
    (driver, event_loop, commands, events)
}

fn hand_over(driver: &mut Driver, token: u64) {
    let publish = Publish { token, topic: "a".into(), payload: vec![0; 2041], ..Publish::default() };
    driver.hand_over(publish).unwrap();
}

fn puback(id: u16) -> Event {
    Event::Incoming(Incoming::PubAck(PubAck::new(id, None)))
}

#[test]
fn an_ack_that_precedes_the_flush_of_its_publish_settles_nothing() {
    let (mut driver, _event_loop, _commands, mut events) = online();
    hand_over(&mut driver, 11);
    driver.on_event(Event::Outgoing(Outgoing::Publish(1))).unwrap();
    driver.unflushed.clear();
    hand_over(&mut driver, 12);
    driver.on_event(Event::Outgoing(Outgoing::AwaitAck(1))).unwrap();
    // One batch: the ack of 11, then 12 goes into the buffer under the same id, then the ack again.
    driver.on_event(puback(1)).unwrap();
    driver.on_event(Event::Outgoing(Outgoing::Publish(1))).unwrap();
    assert_eq!(driver.on_event(puback(1)), Err(CloseKind::UnsolicitedAck(1)));
    assert_eq!(events.try_recv(), Ok(TransportEvent::Acked { token: 11, code: 0 }));
    assert!(events.try_recv().is_err());
}

#[test]
fn what_is_drained_counts_up_to_the_first_thing_that_does_not_fit() {
    let (mut driver, _event_loop, _commands, mut events) = online();
    hand_over(&mut driver, 11);
    hand_over(&mut driver, 12);
    driver.on_event(Event::Outgoing(Outgoing::Publish(1))).unwrap();
    driver.on_event(Event::Outgoing(Outgoing::Publish(2))).unwrap();
    driver.unflushed.clear();
    driver.drain(&mut VecDeque::from([puback(1), puback(1), puback(2)]));
    assert_eq!(events.try_recv(), Ok(TransportEvent::Acked { token: 11, code: 0 }));
    assert!(events.try_recv().is_err(), "behind a false ack nothing is believed");
}

#[test]
fn patience_grows_with_what_is_under_way() {
    let (mut driver, _event_loop, _commands, _events) = online();
    assert_eq!(driver.patience(), Duration::from_secs(95));
    hand_over(&mut driver, 11);
    assert_eq!(driver.patience(), Duration::from_secs(97), "2 KiB at 1 KiB/s");
}
