//! The delivering side of the loop: carries out what the uplink's state machine asks for, and tells it what happened.
//!
//! Owns the one connection there may be. Decides nothing: when to connect, what to publish and what is settled is
//! the state machine's word. Certificates are read anew for every connection, on another thread: a disk that hangs
//! must not stop the collecting.

use std::time::Duration;

use super::relay::{self, Passed};
use crate::aside::{self, Aside, Lost};
use crate::clock::{self, Now};
use crate::config::Secret;
use crate::outbox::writer::Handle;
use crate::uplink::transport::tls::{self, TlsFiles, VerificationTime};
use crate::uplink::transport::{
    self, BrokerUrl, CloseKind, ConnectOptions, Connection, Credentials, Publish, PublishRefused, RETAIN_NOT_SUPPORTED,
    Received, Subscription, TransportEvent,
};
use crate::uplink::{Action, CloseReason, Input, Limits, Message, Severity, Ticket, Uplink, Will, reasons};

/// How long a DISCONNECT may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// How to reach the brokers.
#[derive(Clone, Debug)]
pub struct Broker {
    pub urls: Vec<BrokerUrl>,
    pub client_id: String,
    pub tls: TlsFiles,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub keep_alive: Duration,
    pub connect_timeout: Duration,
    /// Publishes in flight at most.
    pub window: u16,
    /// Last wall clock known to have been reached, milliseconds since 1970: a floor for certificate verification.
    pub saved_wall_ms: Option<i64>,
}

/// Counters since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub connections: u64,
    pub publishes: u64,
    pub bytes_sent: u64,
}

/// What the network, or what is needed to reach it, had to say.
pub enum Happening {
    Prepared(Prepared),
    Transport(TransportEvent),
}

/// The settings of one connection attempt, or why there are none.
type Prepared = Result<Result<Attempt, String>, Lost>;

pub struct Attempt {
    options: ConnectOptions,
    certificate_ends: Option<i64>,
}

/// Certificates being read.
struct Preparing {
    task: Aside<Result<Attempt, String>>,
    /// The attempt was given up meanwhile.
    abandoned: bool,
}

pub struct Delivery {
    uplink: Uplink,
    preparing: Option<Preparing>,
    connection: Option<Connection>,
    broker: Broker,
    traffic: Traffic,
    /// Where we are connected, and the last reason why we were not.
    address: Option<String>,
    last_close: Option<String>,
    /// Seconds since 1970 at which the client certificate ends.
    certificate_ends: Option<i64>,
    /// Asked for by a hub and not started yet; at most one a second.
    runs: Vec<(String, Ticket)>,
}

impl Broker {
    /// The saved time may have been ahead: a clock that a time service vouches for needs no floor, and overrules it.
    fn verification_time(&self) -> VerificationTime {
        VerificationTime::new(self.saved_wall_ms.filter(|_| !clock::synced()))
    }

    /// Blocks: reads files.
    fn attempt(&self, url: usize, will: &Will) -> Result<Attempt, String> {
        let url = self.urls.get(url).ok_or("no broker URL is configured")?.clone();
        let loaded = match url.tls() {
            true => Some(
                tls::load(&self.tls, self.verification_time())
                    .map_err(|error| format!("{}: {error}", url.address()))?,
            ),
            false => None,
        };
        let certificate_ends = loaded.as_ref().and_then(|l| l.identity.as_ref()).map(|i| i.not_after);
        let options = ConnectOptions {
            tls: loaded.map(|l| l.config),
            credentials: credentials(self),
            will: Some(transport::Will {
                topic: will.topic.to_string(),
                payload: will.payload.clone(),
                retain: will.retain,
            }),
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            window: self.window,
            ..ConnectOptions::new(url, self.client_id.clone())
        };
        Ok(Attempt { options, certificate_ends })
    }
}

impl Delivery {
    pub fn new(uplink: Uplink, broker: Broker) -> Self {
        Self {
            uplink,
            preparing: None,
            connection: None,
            broker,
            traffic: Traffic::default(),
            address: None,
            last_close: None,
            certificate_ends: None,
            runs: Vec::new(),
        }
    }

    pub fn uplink(&self) -> &Uplink {
        &self.uplink
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    pub fn last_close(&self) -> Option<&str> {
        self.last_close.as_deref()
    }

    pub fn certificate_ends(&self) -> Option<i64> {
        self.certificate_ends
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.uplink.next_wake()
    }

    pub fn handle(&mut self, input: Input, now: Now) {
        self.uplink.handle(input, now);
    }

    /// The next event of the connection or of its preparation; waits for ever when there is none. Cancel-safe.
    pub async fn next(&mut self) -> Happening {
        if let Some(preparing) = &mut self.preparing {
            let prepared = (&mut preparing.task).await;
            let abandoned = preparing.abandoned;
            self.preparing = None;
            if !abandoned {
                return Happening::Prepared(prepared);
            }
        }
        match &mut self.connection {
            Some(connection) => Happening::Transport(connection.next().await),
            None => std::future::pending().await,
        }
    }

    /// Takes it in.
    pub fn happened(&mut self, happening: Happening, now: Now) {
        match happening {
            Happening::Prepared(prepared) => self.prepared(prepared, now),
            Happening::Transport(event) => self.transported(event, now),
        }
    }

    fn transported(&mut self, event: TransportEvent, now: Now) {
        let input = match event {
            TransportEvent::Connected(limits) => {
                self.traffic.connections += 1;
                self.address = self.connection.as_ref().map(|c| c.address().to_owned());
                Input::Connected(Limits {
                    // What the transport will take, which is a little less than what the broker granted.
                    receive_max: u16::try_from(limits.window).unwrap_or(u16::MAX),
                    max_packet: limits.max_packet,
                    keep_alive: limits.keep_alive,
                    retain_available: limits.retain_available,
                })
            }
            TransportEvent::Acked { token, code } => Input::Acked { token, code },
            TransportEvent::Closed(reason) => Input::Closed(self.closed(&reason)),
            TransportEvent::Progress => Input::Progress,
            TransportEvent::Subscribed(outcomes) => {
                Input::Subscribed(outcomes.into_iter().map(|o| (o.filter, o.code)).collect())
            }
            TransportEvent::Received(received) => return self.received(received, now),
            TransportEvent::Discarded { count, why } => {
                tracing::warn!(count, why, "incoming messages were dropped");
                return;
            }
        };
        self.uplink.handle(input, now);
    }

    /// Taken in, and only then acknowledged. What is lost with a crash in between, the broker or the hub repeats.
    fn received(&mut self, received: Received, now: Now) {
        let Received { topic, payload, retain, response_topic, correlation, ack, .. } = received;
        let message = Message { topic, payload, retained: retain, response_topic, correlation };
        self.uplink.handle(Input::Received(message), now);
        if let (Some(connection), Some(token)) = (&mut self.connection, ack)
            && let Err(refused) = connection.ack(token)
        {
            tracing::debug!(%refused, "a message was not acknowledged; the broker will send it again");
        }
    }

    /// Commands to run a collector, each to be answered with [`Input::Ran`].
    pub fn take_runs(&mut self) -> Vec<(String, Ticket)> {
        std::mem::take(&mut self.runs)
    }

    /// Carries out everything that the state machine wants now.
    pub async fn act(&mut self, now: Now, outbox: &mut Handle) {
        while let Some(action) = self.uplink.poll(now) {
            let action = match relay::to_outbox(action, outbox) {
                Passed::On => continue,
                Passed::Back(input) => {
                    self.uplink.handle(input, now);
                    continue;
                }
                Passed::Other(action) => action,
            };
            match action {
                Action::Connect { url, session: _, will } => self.connect(url, &will, now),
                Action::Subscribe(filters) => self.subscribe(filters, now),
                Action::Publish { token, topic, payload, retain, content_type, correlation } => {
                    let (topic, content_type) = (topic.to_string(), Some(content_type));
                    let publish =
                        Publish { token, topic, payload, retain, content_type, correlation, response_topic: None };
                    self.publish(publish, now);
                }
                Action::Run { collector, ticket } => self.runs.push((collector, ticket)),
                Action::Disconnect { clean } => self.disconnect(clean, now).await,
                Action::Log { severity, text } => log(severity, &text),
                // The outbox has it.
                Action::Load { .. }
                | Action::Settle { .. }
                | Action::SettleLosses(_)
                | Action::Quarantine { .. }
                | Action::Note { .. }
                | Action::BeginEpoch => {}
            }
        }
    }

    /// Reads the certificates, on another thread; the connection is opened when that is done.
    fn connect(&mut self, url: usize, will: &Will, now: Now) {
        if self.preparing.is_some() {
            return self.not_connected("the certificate files cannot be read: their disk does not answer".into(), now);
        }
        let (broker, will) = (self.broker.clone(), will.clone());
        let task = aside::run("certificates", move || broker.attempt(url, &will));
        self.preparing = Some(Preparing { task, abandoned: false });
    }

    fn prepared(&mut self, prepared: Prepared, now: Now) {
        let opened = prepared.unwrap_or_else(|error| Err(format!("the certificates were not read: {error}"))).and_then(
            |Attempt { options, certificate_ends }| {
                self.certificate_ends = certificate_ends;
                Connection::open(&options).map_err(|error| format!("{}: {error}", options.url.address()))
            },
        );
        match opened {
            Ok(connection) => self.connection = Some(connection),
            Err(text) => self.not_connected(text, now),
        }
    }

    fn not_connected(&mut self, text: String, now: Now) {
        self.last_close = Some(text.clone());
        self.uplink.handle(Input::Closed(CloseReason::Connect(text)), now);
    }

    fn subscribe(&mut self, filters: Vec<String>, now: Now) {
        let Some(connection) = &mut self.connection else { return };
        if let Err(refused) = connection.subscribe(filters.into_iter().map(Subscription::new).collect()) {
            let text = format!("{}: a subscription was refused: {refused}", connection.address());
            self.drop_connection(&text);
            self.uplink.handle(Input::Closed(CloseReason::Other(text)), now);
        }
    }

    fn publish(&mut self, publish: Publish, now: Now) {
        let Some(connection) = &mut self.connection else { return };
        let (token, size) = (publish.token, publish.payload.len() as u64);
        match connection.publish(publish) {
            Ok(()) => {
                self.traffic.publishes += 1;
                self.traffic.bytes_sent += size;
            }
            Err(PublishRefused::TooLarge { .. }) => {
                self.uplink.handle(Input::Acked { token, code: reasons::PACKET_TOO_LARGE }, now);
            }
            // The window or the connection is not what the state machine believes it to be: begin anew.
            Err(refused) => {
                let text = format!("{}: a publish was refused: {refused}", connection.address());
                self.drop_connection(&text);
                self.uplink.handle(Input::Closed(CloseReason::Other(text)), now);
            }
        }
    }

    async fn disconnect(&mut self, clean: bool, now: Now) {
        if let Some(preparing) = &mut self.preparing {
            preparing.abandoned = true;
        }
        let Some(connection) = self.connection.take() else { return };
        self.address = None;
        if !clean {
            return;
        }
        let farewell = connection.disconnect(FAREWELL).await;
        for (token, code) in farewell.acked {
            self.uplink.handle(Input::Acked { token, code }, now);
        }
        if farewell.reason.kind != CloseKind::Stopped {
            tracing::warn!(reason = %farewell.reason, "the broker was not told goodbye; it will publish the will");
        }
    }

    fn closed(&mut self, reason: &transport::CloseReason) -> CloseReason {
        let text = reason.to_string();
        let was_connected = self.address.is_some();
        self.drop_connection(&text);
        match &reason.kind {
            CloseKind::ConnectRefused { code: RETAIN_NOT_SUPPORTED } => CloseReason::NoRetain(text),
            CloseKind::Disconnected { code, .. } => CloseReason::Server { code: *code, text },
            // What says nothing about the message in flight must not count as evidence against it.
            CloseKind::Silence(_)
            | CloseKind::AckOutOfOrder(_)
            | CloseKind::NoSuback(_)
            | CloseKind::UnsolicitedAck(_)
            | CloseKind::IncomingTooLarge { .. }
            | CloseKind::Stopped
                if was_connected =>
            {
                CloseReason::Other(text)
            }
            _ if was_connected => CloseReason::Lost(text),
            _ => CloseReason::Connect(text),
        }
    }

    fn drop_connection(&mut self, text: &str) {
        self.last_close = Some(text.to_owned());
        self.address = None;
        self.connection = None;
    }
}

fn credentials(broker: &Broker) -> Option<Credentials> {
    let password = broker.password.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default();
    broker.username.clone().map(|username| Credentials { username, password })
}

fn log(severity: Severity, text: &str) {
    match severity {
        Severity::Info => tracing::info!("{text}"),
        Severity::Warn => tracing::warn!("{text}"),
        Severity::Error => tracing::error!("{text}"),
    }
}

#[cfg(test)]
mod tests;
