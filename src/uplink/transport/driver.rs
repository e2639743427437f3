//! The task that polls rumqttc's event loop for one connection, and the judgement of its silence.
//!
//! Owns: which token a packet id stands for (through the binder), the watchdog, the order of SUBSCRIBE and
//! PUBLISH. A poll of the event loop is never timed out and then continued: when a
//! deadline passes the event loop is dropped with its socket. On every way out the events that rumqttc has read
//! and not yet returned are drained, because there are real PUBACKs among them. Never reconnects.

mod heard;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{self, Filter, PublishProperties};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, Incoming};
use tokio::sync::mpsc;

use super::binder::{Binder, Sent};
use super::inbox::{Discards, Inbox};
use super::{BrokerUrl, CloseKind, Publish, Subscription, TransportEvent};
use crate::clock;

/// A packet id that is not given back for this long will not be: reconnect.
const STUCK_ID: Duration = Duration::from_secs(5);
/// How long the broker may take to hang up after our DISCONNECT.
const HANG_UP_WITHIN: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Command {
    /// With the topic on which an answer is asked for.
    Publish(Publish),
    Subscribe(Vec<Subscription>),
    Ack(u16),
    Disconnect,
}

/// What the driver must know of the options.
#[derive(Debug)]
pub(super) struct Rules {
    pub url: BrokerUrl,
    pub address: Arc<str>,
    pub connection: u64,
    pub keep_alive: Duration,
    pub connect_timeout: Duration,
    pub window: usize,
    /// rumqttc's upper limit in flight, from which it draws packet ids.
    pub packet_ids: u16,
    pub receive_max: usize,
    /// A link that moves this many bytes a second is slow, not dead.
    pub slowest_link: u64,
    /// Places in the event channel that QoS 0 messages must leave free; everything else is bounded by these.
    pub reserved_events: usize,
    /// Places that must be free in it before more is read: only a broker above our Receive Maximum takes them.
    pub least_room: usize,
}

enum Queued {
    Publish(Publish),
    Subscribe(Vec<Subscription>),
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Connecting,
    Online,
    /// DISCONNECT is flushed, since then.
    Leaving(Duration),
}

pub(super) struct Driver {
    rules: Rules,
    client: AsyncClient,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<TransportEvent>,
    phase: Phase,
    binder: Binder,
    /// Not yet handed to rumqttc, in order; bounded by the window and the number of SUBSCRIBEs allowed.
    queue: VecDeque<Queued>,
    /// The next packet id is taken by a publish that the broker has passed over, since then.
    passed_over: Option<Duration>,
    /// The SUBSCRIBE on the wire, and since when.
    subscribing: Option<(Vec<Subscription>, Duration)>,
    inbox: Inbox,
    /// Publishes that left in the present batch of events, before any flush: nobody can have acknowledged them.
    unflushed: Vec<u16>,
    stopping: bool,
    disconnect_sent: bool,
    started: Duration,
    last_heard: Duration,
    last_progress: Duration,
}

impl Driver {
    pub fn new(
        rules: Rules,
        client: AsyncClient,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<TransportEvent>,
        discards: Arc<Discards>,
    ) -> Self {
        let now = clock::now().mono;
        let inbox = Inbox::new(rules.connection, rules.receive_max, discards);
        Self {
            rules,
            client,
            commands,
            events,
            phase: Phase::Connecting,
            binder: Binder::default(),
            queue: VecDeque::new(),
            passed_over: None,
            subscribing: None,
            inbox,
            unflushed: Vec::new(),
            stopping: false,
            disconnect_sent: false,
            started: now,
            last_heard: now,
            last_progress: now,
        }
    }

    /// Runs the connection to its end; the last event is always `Closed`.
    pub async fn run(mut self, mut event_loop: EventLoop) {
        let kind = match self.resolve().await {
            Err(kind) => kind,
            Ok(()) => self.exchange(&mut event_loop).await,
        };
        // The socket is closed before anybody hears of it.
        drop(event_loop);
        let closed = TransportEvent::Closed(kind.at(&self.rules.address));
        // Fails only when the Connection is gone, and then nobody wants to know.
        self.events.send(closed).await.ok();
    }

    /// Asks DNS once before rumqttc does, to tell its failures and delays from those of the network.
    async fn resolve(&self) -> Result<(), CloseKind> {
        let url = &self.rules.url;
        if url.is_ip() {
            return Ok(());
        }
        let after = self.rules.connect_timeout;
        match tokio::time::timeout(after, found(url.host().to_owned(), url.port())).await {
            Err(_) => Err(CloseKind::ConnectTimeout { after, dns: true }),
            Ok(Err(why)) => Err(CloseKind::Dns(why)),
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(CloseKind::Dns("the name has no address".into())),
        }
    }

    async fn exchange(&mut self, event_loop: &mut EventLoop) -> CloseKind {
        loop {
            if let Err(kind) = self.wait_for_room().await {
                self.drain(&mut event_loop.state.events);
                return kind;
            }
            let polled = self.poll_once(event_loop).await;
            // rumqttc gives up on a PINGRESP that is late behind a slow upload; our watchdog judges instead.
            event_loop.state.await_pingresp = false;
            let event = match polled {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => {
                    self.drain(&mut event_loop.state.events);
                    return self.classify(error);
                }
                Err(kind) => {
                    self.drain(&mut event_loop.state.events);
                    return kind;
                }
            };
            let handled = match event {
                Event::Incoming(Incoming::ConnAck(connack)) => self.on_connack(&connack, event_loop),
                event => self.on_event(event),
            };
            // An error here means that ids and tokens no longer fit: what is left in the buffer proves nothing.
            if let Err(kind) = handled.and_then(|()| self.pump()) {
                return kind;
            }
            if event_loop.state.events.is_empty() {
                self.unflushed.clear();
            }
        }
    }

    /// Reads nothing while the caller is behind and the broker has sent more than it may: what else it has waits in its
    /// socket instead of in our memory. No ping goes out meanwhile; one within our limits never brings this about.
    async fn wait_for_room(&mut self) -> Result<(), CloseKind> {
        if self.events.capacity() >= self.rules.least_room {
            return Ok(());
        }
        let events = self.events.clone();
        loop {
            let (deadline, verdict) = self.deadline();
            let left = deadline.saturating_sub(clock::now().mono);
            tokio::select! {
                room = events.reserve_many(self.rules.least_room) => {
                    self.last_heard = clock::now().mono;
                    return room.map(drop).map_err(|_| CloseKind::Stopped);
                }
                command = self.commands.recv() => match command {
                    None => return Err(CloseKind::Stopped),
                    Some(command) => self.on_command(command)?,
                },
                () = tokio::time::sleep(left) => return Err(verdict),
            }
        }
    }

    /// One poll, while commands are taken in and the clock is watched. `Err` abandons the event loop.
    async fn poll_once(&mut self, event_loop: &mut EventLoop) -> Result<Result<Event, ConnectionError>, CloseKind> {
        let mut poll = pin!(event_loop.poll());
        loop {
            let (deadline, verdict) = self.deadline();
            let left = deadline.saturating_sub(clock::now().mono);
            tokio::select! {
                polled = &mut poll => return Ok(polled),
                command = self.commands.recv() => match command {
                    None => return Err(CloseKind::Stopped),
                    Some(command) => self.on_command(command)?,
                },
                () = tokio::time::sleep(left) => return Err(verdict),
            }
        }
    }

    /// When to give up if nothing happens until then, and what to call it.
    fn deadline(&self) -> (Duration, CloseKind) {
        match self.phase {
            Phase::Connecting => {
                let after = self.rules.connect_timeout;
                return (self.started + after, CloseKind::ConnectTimeout { after, dns: false });
            }
            Phase::Leaving(since) => return (since + HANG_UP_WITHIN, CloseKind::Stopped),
            Phase::Online => {}
        }
        let patience = self.patience();
        let mut first = (self.last_heard + patience, CloseKind::Silence(patience));
        let mut earlier = |at: Duration, kind: CloseKind| {
            if at < first.0 {
                first = (at, kind);
            }
        };
        if let Some(oldest) = self.binder.oldest() {
            earlier(oldest + patience, CloseKind::NoAck(patience));
        }
        if let Some(since) = self.passed_over.or(self.binder.stuck_since()) {
            earlier(since + STUCK_ID, CloseKind::AckOutOfOrder(STUCK_ID));
        }
        if let Some((_, since)) = &self.subscribing {
            earlier(*since + patience, CloseKind::NoSuback(patience));
        }
        first
    }

    /// A ping goes out every keep-alive, so a live peer is heard of within one and a half; more by the time that the
    /// slowest link needs for what is under way, because pings and answers queue behind it.
    fn patience(&self) -> Duration {
        let under_way = Duration::from_secs(self.binder.bytes() as u64 / self.rules.slowest_link);
        self.rules.keep_alive * 3 / 2 + Duration::from_secs(5) + under_way
    }

    fn on_command(&mut self, command: Command) -> Result<(), CloseKind> {
        match command {
            Command::Publish(publish) => self.queue.push_back(Queued::Publish(publish)),
            Command::Subscribe(filters) => self.queue.push_back(Queued::Subscribe(filters)),
            Command::Ack(id) => return self.acknowledge(id),
            Command::Disconnect if self.phase == Phase::Connecting => return Err(CloseKind::Stopped),
            Command::Disconnect => self.stopping = true,
        }
        self.pump()
    }

    /// Hands to rumqttc what may go now.
    fn pump(&mut self) -> Result<(), CloseKind> {
        if self.phase != Phase::Online {
            return Ok(());
        }
        while self.subscribing.is_none() {
            match self.queue.pop_front() {
                None => break,
                Some(Queued::Publish(publish)) if !self.binder.next_is_free() => {
                    self.passed_over.get_or_insert_with(|| clock::now().mono);
                    self.queue.push_front(Queued::Publish(publish));
                    break;
                }
                Some(Queued::Publish(publish)) => {
                    self.passed_over = None;
                    self.hand_over(publish)?;
                }
                // rumqttc draws the id of a SUBSCRIBE from the same small circle without looking whether a publish
                // holds it: so one is sent only when none does, and publishes wait for its SUBACK.
                Some(Queued::Subscribe(filters)) if self.binder.len() > 0 => {
                    self.queue.push_front(Queued::Subscribe(filters));
                    break;
                }
                Some(Queued::Subscribe(filters)) => self.send_subscribe(filters)?,
            }
        }
        if self.stopping && self.queue.is_empty() && !self.disconnect_sent {
            self.disconnect_sent = true;
            self.client.try_disconnect().map_err(|_| request_refused())?;
        }
        Ok(())
    }

    fn hand_over(&mut self, publish: Publish) -> Result<(), CloseKind> {
        let bytes = publish.packet_size();
        self.binder.handed_over(Sent { token: publish.token, bytes, since: clock::now().mono });
        let Publish { topic, retain, payload, content_type, response_topic, correlation, .. } = publish;
        let plain = content_type.is_none() && response_topic.is_none() && correlation.is_none();
        let (content_type, correlation_data) = (content_type.map(Into::into), correlation.map(Into::into));
        let properties = PublishProperties { content_type, response_topic, correlation_data, ..Default::default() };
        let sent = match plain {
            true => self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload),
            false => self.client.try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties),
        };
        sent.map_err(|_| request_refused())
    }

    fn send_subscribe(&mut self, subscriptions: Vec<Subscription>) -> Result<(), CloseKind> {
        let filters: Vec<Filter> = subscriptions
            .iter()
            .map(|s| Filter { nolocal: s.no_local, ..Filter::new(&s.filter, QoS::AtLeastOnce) })
            .collect();
        self.subscribing = Some((subscriptions, clock::now().mono));
        self.client.try_subscribe_many(filters).map_err(|_| request_refused())
    }

    fn acknowledge(&mut self, id: u16) -> Result<(), CloseKind> {
        if !self.inbox.acknowledged(id) {
            return Ok(());
        }
        let received = v5::Publish { pkid: id, qos: QoS::AtLeastOnce, ..Default::default() };
        self.client.try_ack(&received).map_err(|_| request_refused())
    }

    fn classify(&self, error: ConnectionError) -> CloseKind {
        match self.phase {
            Phase::Connecting => CloseKind::while_connecting(error, self.rules.url.tls()),
            Phase::Online => CloseKind::while_online(error),
            // The broker hangs up after our DISCONNECT, as it should.
            Phase::Leaving(_) => CloseKind::Stopped,
        }
    }

    fn progress(&mut self, now: Duration) {
        if now.saturating_sub(self.last_progress) < PROGRESS_EVERY {
            return;
        }
        // Only a hint, so it never takes a place that something else needs.
        if self.events.capacity() > self.rules.reserved_events && self.events.try_send(TransportEvent::Progress).is_ok()
        {
            self.last_progress = now;
        }
    }

    /// There is always room: publishes are bounded by the window, messages by the receive maximum, the rest is few.
    fn emit(&mut self, event: TransportEvent) -> Result<(), CloseKind> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CloseKind::Stopped),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(CloseKind::Protocol("it sent more than the limits of the connection allow".into()))
            }
        }
    }
}

/// Whether a name has an address. tokio panics where the system gives it no thread: in a task of its own that is an answer.
async fn found(host: String, port: u16) -> Result<bool, String> {
    let lookup = async move { tokio::net::lookup_host((host, port)).await.map(|mut all| all.next().is_some()) };
    match tokio::spawn(lookup).await {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(error) => Err(format!("it was not looked up: {error}")),
    }
}

/// rumqttc's request queue holds all that a broker which keeps to the limits can make us hand over.
fn request_refused() -> CloseKind {
    CloseKind::Protocol("it made us answer more than the limits of the connection allow".into())
}

#[cfg(test)]
mod tests;
