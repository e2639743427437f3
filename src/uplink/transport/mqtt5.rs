//! [`Connection`]: one MQTT 5 connection, from the first DNS question to the last byte.
//!
//! Owns the window and the accounting on the caller's side of two bounded channels; the other side is the driver
//! task. Nothing here blocks: what does not fit is refused with a typed error. Never reconnects, never retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, LastWill};
use rumqttc::v5::{AsyncClient, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::driver::{Command, Driver, Rules};
use super::inbox::{Discards, RECEIVE_SLACK};
use super::{
    AckToken, CloseKind, CloseReason, ConnectError, ConnectOptions, Limits, Publish, PublishRefused, RequestRefused,
    Subscription, TransportEvent, valid_filter, valid_topic,
};

/// Upper bound of the window and of the receive maximum: each costs memory in proportion.
const MAX_IN_FLIGHT: u16 = 1024;
/// SUBSCRIBEs that may wait for their turn.
const MAX_SUBSCRIBES: usize = 8;
/// QoS 0 messages that may wait for the caller.
const QOS0_WAITING: usize = 64;
/// Connected, Closed, Discarded, Progress, Subscribed.
const OTHER_EVENTS: usize = 8 + MAX_SUBSCRIBES;

/// One MQTT connection. Dropping it ends its task and closes its socket without DISCONNECT, so the will is published.
#[derive(Debug)]
pub struct Connection {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<TransportEvent>,
    task: JoinHandle<()>,
    id: u64,
    address: Arc<str>,
    limits: Option<Limits>,
    in_flight: usize,
    subscribing: usize,
    stopping: bool,
    closed: Option<CloseReason>,
    discards: Arc<Discards>,
}

/// How a [`Connection::disconnect`] went.
#[derive(Clone, Debug, PartialEq)]
pub struct Farewell {
    /// [`CloseKind::Stopped`] when the DISCONNECT was sent and the broker will not publish the will.
    pub reason: CloseReason,
    /// Tokens and codes acknowledged in the meantime.
    pub acked: Vec<(u64, u8)>,
}

impl Connection {
    /// Starts to connect; the outcome is the first event of [`Self::next`]. Call it inside a tokio runtime.
    pub fn open(options: &ConnectOptions) -> Result<Self, ConnectError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        check(options)?;
        let (window, receive_max) = (usize::from(options.window), usize::from(options.receive_max));
        // Each message may be acknowledged while nothing is sent.
        let requests = window + receive_max * RECEIVE_SLACK + OTHER_EVENTS;
        let (client, event_loop) = AsyncClient::new(mqtt_options(options)?, requests);
        let (commands, commands_rx) = mpsc::channel(requests);
        // With all that a broker within our limits can make of events this much is left: reading, and with it the pings,
        // stops for none but one beyond them, however long the caller takes no event.
        let least_room = window + OTHER_EVENTS;
        let reserved_events = window + receive_max + OTHER_EVENTS + least_room;
        let (events_tx, events) = mpsc::channel(reserved_events + QOS0_WAITING);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let address: Arc<str> = options.url.address().into();
        let rules = Rules {
            url: options.url.clone(),
            address: address.clone(),
            connection: id,
            keep_alive: options.keep_alive,
            connect_timeout: options.connect_timeout,
            window,
            packet_ids: packet_ids(options.window),
            receive_max,
            slowest_link: options.slowest_link.max(1).into(),
            reserved_events,
            least_room,
        };
        let discards = Arc::new(Discards::default());
        let driver = Driver::new(rules, client, commands_rx, events_tx, discards.clone());
        let task = tokio::spawn(driver.run(event_loop));
        Ok(Self {
            commands,
            events,
            task,
            id,
            address,
            limits: None,
            in_flight: 0,
            subscribing: 0,
            stopping: false,
            closed: None,
            discards,
        })
    }

    /// The next thing that happened. Cancel-safe: an event is taken only when it is returned.
    pub async fn next(&mut self) -> TransportEvent {
        if let Some(reason) = &self.closed {
            return TransportEvent::Closed(reason.clone());
        }
        if let Some(report) = self.discards.take() {
            return report;
        }
        let event = match self.events.recv().await {
            Some(TransportEvent::Progress) => self.discards.take().unwrap_or(TransportEvent::Progress),
            Some(event) => event,
            // The driver always ends with Closed, unless it panicked: rumqttc resolves the name once more, and tokio panics
            // where the system gives it no thread for that.
            None => {
                let why = (&mut self.task).await.err().map_or_else(|| "its task ended".to_owned(), |e| e.to_string());
                TransportEvent::Closed(CloseKind::Lost(format!("internal error: {why}")).at(&self.address))
            }
        };
        match &event {
            TransportEvent::Connected(limits) => self.limits = Some(limits.clone()),
            TransportEvent::Acked { .. } => self.in_flight = self.in_flight.saturating_sub(1),
            TransportEvent::Subscribed(_) => self.subscribing = self.subscribing.saturating_sub(1),
            TransportEvent::Closed(reason) => self.closed = Some(reason.clone()),
            _ => {}
        }
        event
    }

    /// Hands over one QoS 1 publish. Never waits. `Closed` may come before the event of that name: go on with
    /// [`Self::next`], which has the acknowledgements that came before it. At most [`Limits::window`] may be unacknowledged.
    pub fn publish(&mut self, publish: Publish) -> Result<(), PublishRefused> {
        if self.closed.is_some() || self.stopping {
            return Err(PublishRefused::Closed);
        }
        let limits = self.limits.as_ref().ok_or(PublishRefused::NotConnected)?;
        if self.in_flight >= limits.window {
            return Err(PublishRefused::WindowFull(limits.window));
        }
        if let Some(bad) = [Some(&publish.topic), publish.response_topic.as_ref()]
            .into_iter()
            .flatten()
            .find(|topic| !valid_topic(topic))
        {
            return Err(PublishRefused::Topic(bad.clone()));
        }
        if publish.retain && !limits.retain_available {
            return Err(PublishRefused::Retain(publish.topic));
        }
        let size = publish.packet_size();
        if size > limits.max_packet as usize {
            return Err(PublishRefused::TooLarge { topic: publish.topic, size, max: limits.max_packet });
        }
        self.commands.try_send(Command::Publish(publish)).map_err(|_| PublishRefused::Closed)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Subscribes at QoS 1, also before the connection is up. Answered by one [`TransportEvent::Subscribed`].
    /// Goes out when no publish is in flight (a packet id must not mean two things), publishes wait behind it.
    pub fn subscribe(&mut self, subscriptions: Vec<Subscription>) -> Result<(), RequestRefused> {
        if self.closed.is_some() || self.stopping {
            return Err(RequestRefused::Closed);
        }
        if let Some(bad) = subscriptions.iter().find(|s| !valid_filter(&s.filter)) {
            return Err(RequestRefused::Filter(bad.filter.clone()));
        }
        if subscriptions.is_empty() {
            return Err(RequestRefused::NoFilter);
        }
        if self.subscribing >= MAX_SUBSCRIBES {
            return Err(RequestRefused::Busy);
        }
        self.commands.try_send(Command::Subscribe(subscriptions)).map_err(|_| RequestRefused::Closed)?;
        self.subscribing += 1;
        Ok(())
    }

    /// Sends the PUBACK of a received message: call it when the message is safe. A second call does nothing.
    /// Acknowledge in the order of arrival, as MQTT asks.
    pub fn ack(&mut self, token: AckToken) -> Result<(), RequestRefused> {
        if token.connection != self.id {
            return Err(RequestRefused::OtherConnection);
        }
        if self.closed.is_some() {
            return Err(RequestRefused::Closed);
        }
        self.commands.try_send(Command::Ack(token.pkid)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => RequestRefused::Busy,
            mpsc::error::TrySendError::Closed(_) => RequestRefused::Closed,
        })
    }

    /// Publishes handed over and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Publishes that may still be handed over now.
    pub fn free(&self) -> usize {
        self.limits.as_ref().map_or(0, |l| l.window.saturating_sub(self.in_flight))
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Flushes what was handed over, sends DISCONNECT (0x00, the broker drops the will) and waits for the broker to
    /// hang up; after `wait` it just hangs up. Does not wait for acknowledgements: do that with [`Self::next`] first.
    pub async fn disconnect(mut self, wait: Duration) -> Farewell {
        let deadline = Instant::now() + wait;
        let mut acked = Vec::new();
        self.stopping = true;
        if self.closed.is_none() && self.commands.try_send(Command::Disconnect).is_err() {
            return Farewell { reason: self.gave_up(), acked };
        }
        loop {
            match tokio::time::timeout_at(deadline, self.next()).await {
                Ok(TransportEvent::Acked { token, code }) => acked.push((token, code)),
                Ok(TransportEvent::Closed(reason)) => return Farewell { reason, acked },
                Ok(_) => {}
                Err(_) => return Farewell { reason: self.gave_up(), acked },
            }
        }
    }

    fn gave_up(&self) -> CloseReason {
        CloseKind::Lost("DISCONNECT could not be sent in time".into()).at(&self.address)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check(options: &ConnectOptions) -> Result<(), ConnectError> {
    if options.client_id.is_empty() {
        return Err(ConnectError::NoClientId);
    }
    if options.keep_alive < Duration::from_secs(5) || options.keep_alive > Duration::from_secs(65_535) {
        return Err(ConnectError::KeepAlive(options.keep_alive));
    }
    for (what, given) in [("window", options.window), ("receive_max", options.receive_max)] {
        if !(1..=MAX_IN_FLIGHT).contains(&given) {
            return Err(ConnectError::Bound { what, given: given.into(), max: MAX_IN_FLIGHT.into() });
        }
    }
    match &options.will {
        Some(will) if !valid_topic(&will.topic) => Err(ConnectError::WillTopic(will.topic.clone())),
        // The length of a will is 16 bits on the wire, and the codec does not check.
        Some(will) if will.payload.len() > 65_535 => {
            Err(ConnectError::Bound { what: "the will's length", given: will.payload.len(), max: 65_535 })
        }
        _ => Ok(()),
    }
}

/// Packet ids are drawn from 1..=this: the more there are, the later one is used again.
fn packet_ids(window: u16) -> u16 {
    window.saturating_mul(4).max(32)
}

fn mqtt_options(options: &ConnectOptions) -> Result<MqttOptions, ConnectError> {
    let mut mqtt = MqttOptions::new(&options.client_id, options.url.host(), options.url.port());
    if options.url.tls() {
        let config = options.tls.clone().ok_or_else(|| ConnectError::NoTls(options.url.clone()))?;
        mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
    }
    let mut network = mqtt.network_options();
    network.set_tcp_nodelay(true);
    mqtt.set_network_options(network);
    mqtt.set_keep_alive(options.keep_alive);
    // The driver's own deadline comes first; this one only has to be no shorter.
    mqtt.set_connection_timeout(options.connect_timeout.as_secs() + 2);
    mqtt.set_clean_start(options.session.clean_start);
    mqtt.set_manual_acks(true);
    // Left out, rumqttc allocates 14 MB of slots.
    mqtt.set_outgoing_inflight_upper_limit(packet_ids(options.window));
    let mut properties = ConnectProperties::new();
    properties.receive_maximum = Some(options.receive_max);
    properties.max_packet_size = Some(options.max_incoming_packet);
    properties.session_expiry_interval = (options.session.expiry_s > 0).then_some(options.session.expiry_s);
    mqtt.set_connect_properties(properties);
    if let Some(credentials) = &options.credentials {
        mqtt.set_credentials(&credentials.username, &credentials.password);
    }
    if let Some(will) = &options.will {
        mqtt.set_last_will(LastWill::new(&will.topic, will.payload.clone(), QoS::AtLeastOnce, will.retain, None));
    }
    Ok(mqtt)
}
