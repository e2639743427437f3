//! The connection that comes back: connects, subscribes, and after a loss waits and tries again.
//!
//! Owns which failures are worth another attempt: until the first success, a refusal that will not change by itself
//! ends the program; after it, everything is tried again, with certificates read anew (`files.rs`). Never reads a payload.

mod backoff;
mod files;
mod options;
mod presence;

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use self::backoff::Backoff;
use self::files::Files;
use self::options::connect_options;
pub use self::options::{Keeps, LinkError, LinkOptions};
use crate::uplink::transport::tls::Loaded;
use crate::uplink::transport::{
    AckToken, CloseKind, CloseReason, Connection, Limits, Publish, PublishRefused, RETAIN_NOT_SUPPORTED, Received,
    Session, SubscribeOutcome, Subscription, TlsFailure, TransportEvent, suback_name,
};

/// Whoever is thrown off by another of the same client id is so again within about a back-off.
const FIGHT: Duration = Duration::from_secs(120);
/// DISCONNECT: another client has connected under our client id.
const SESSION_TAKEN_OVER: u8 = 0x8e;

#[derive(Debug)]
pub(in crate::hub) struct Link {
    state: State,
    files: Files,
    backoff: Backoff,
    /// Names each connection's session, with the number of the attempt.
    seed: u64,
    attempts: u64,
    /// Connections that came to be.
    pub connections: u64,
    /// Since then every filter that we need is granted.
    pub listening: bool,
    /// Ever, on any connection.
    pub ever_listened: bool,
    sweep: Sweep,
    /// Connections in a row that were made at once and lost.
    losses: u32,
    /// Whether the broker keeps retained messages, as it last said.
    retains: bool,
}

/// An older session of our client id, left by one that was killed, would bring messages from before. A clean start on
/// the connection we keep would do, but mosquitto 2.0 does not save such a session when it restarts. So only when
/// the broker has one, a connection of its own ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sweep {
    NotYet,
    Now,
    Done,
}

#[derive(Debug)]
enum State {
    Down { until: Instant },
    Up { connection: Box<Connection>, since: Option<Instant> },
}

#[derive(Debug)]
pub(in crate::hub) enum LinkEvent {
    /// `resumed`: the broker has kept what was sent meanwhile.
    Connected {
        resumed: bool,
    },
    /// Every needed filter is granted; `missing` are those we can do without.
    Listening {
        missing: Vec<String>,
    },
    Message(Received),
    /// The broker's answer to one publish.
    Acked {
        token: u64,
        code: u8,
    },
    Discarded {
        count: u64,
        why: &'static str,
    },
    /// Lost or not made; tried again after `wait`.
    Down {
        why: String,
        wait: Duration,
    },
    /// Not to be tried again.
    Failed(LinkError),
}

impl Link {
    pub fn new(seed: u64) -> Self {
        Self {
            state: State::Down { until: Instant::now() },
            files: Files::new(),
            backoff: Backoff::new(seed),
            seed,
            attempts: 0,
            connections: 0,
            listening: false,
            ever_listened: false,
            sweep: Sweep::NotYet,
            losses: 0,
            retains: true,
        }
    }

    /// The next thing that happened. Cancel-safe.
    pub async fn next(&mut self, options: &LinkOptions) -> LinkEvent {
        loop {
            let event = match &mut self.state {
                State::Down { until } => {
                    sleep_until(*until).await;
                    if let Keeps::Always(_) = options.keeps {
                        self.sweep = Sweep::Done;
                    }
                    let read = self.files.read(options).await;
                    match read.and_then(|loaded| self.open(options, loaded)) {
                        Ok(connection) => {
                            self.state = State::Up { connection: Box::new(connection), since: None };
                            continue;
                        }
                        Err(why) => return self.down(why),
                    }
                }
                State::Up { connection, .. } => connection.next().await,
            };
            if let Some(event) = self.translate(event) {
                return event;
            }
        }
    }

    pub fn ack(&mut self, token: AckToken) {
        if let State::Up { connection, .. } = &mut self.state
            && let Err(refused) = connection.ack(token)
        {
            // Of an older connection, or this one is about to end: the broker sends the message again.
            tracing::debug!("not acknowledged: {refused}");
        }
    }

    /// Hands over one QoS 1 publish, not retained where the broker keeps none; answered by [`LinkEvent::Acked`] unless the connection is lost first.
    pub fn publish(&mut self, publish: Publish) -> Result<(), PublishRefused> {
        let publish = Publish { retain: publish.retain && self.retains, ..publish };
        let State::Up { connection, .. } = &mut self.state else { return Err(PublishRefused::NotConnected) };
        connection.publish(publish)
    }

    /// Publishes that may be handed over now.
    pub fn free(&self) -> usize {
        match &self.state {
            State::Up { connection, .. } => connection.free(),
            State::Down { .. } => 0,
        }
    }

    /// Publishes handed over and not answered.
    pub fn in_flight(&self) -> usize {
        match &self.state {
            State::Up { connection, .. } => connection.in_flight(),
            State::Down { .. } => 0,
        }
    }

    /// The name of the present connection in what we say about ourselves.
    pub fn session(&self) -> String {
        presence::session(self.seed, self.attempts)
    }

    /// Says goodbye. A session that is kept for this run only is ended, or the broker would queue for it until it
    /// expires; that takes a second connection, since the library's DISCONNECT carries no expiry.
    pub async fn disconnect(self, options: &LinkOptions, wait: Duration) {
        let Self { state, mut files, .. } = self;
        let State::Up { connection, since: Some(_) } = state else { return };
        connection.disconnect(wait).await;
        if let Keeps::Always(_) = options.keeps {
            return;
        }
        let Ok(Ok(loaded)) = timeout(wait, files.read(options)).await else { return };
        let mut connect = connect_options(options, loaded);
        connect.session = Session::CLEAN;
        connect.connect_timeout = wait;
        let Ok(mut connection) = Connection::open(&connect) else { return };
        if let TransportEvent::Connected(_) = connection.next().await {
            connection.disconnect(wait).await;
        }
    }

    fn open(&mut self, options: &LinkOptions, loaded: Option<Loaded>) -> Result<Connection, LinkError> {
        if !self.ever_listened {
            // What is odd about them is said once.
            loaded.iter().flat_map(|loaded| &loaded.warnings).for_each(|warning| tracing::warn!("{warning}"));
        }
        let mut connect = connect_options(options, loaded);
        self.attempts += 1;
        connect.will = options.presence.as_ref().map(|topic| presence::will(topic, self.session(), self.retains));
        let refused = |e: &dyn std::fmt::Display| LinkError::Config(e.to_string());
        if self.sweep == Sweep::Now {
            connect.session = Session::CLEAN;
            return Connection::open(&connect).map_err(|e| refused(&e));
        }
        connect.session = match options.keeps {
            Keeps::ThisRun(seconds) | Keeps::Always(seconds) => Session::kept(seconds),
        };
        let mut connection = Connection::open(&connect).map_err(|e| refused(&e))?;
        for filters in [&options.needed, &options.wanted] {
            let subscriptions = filters.iter().map(Subscription::new).collect();
            connection.subscribe(subscriptions).map_err(|e| refused(&e))?;
        }
        Ok(connection)
    }

    fn translate(&mut self, event: TransportEvent) -> Option<LinkEvent> {
        match event {
            TransportEvent::Connected(Limits { session_present, retain_available, .. }) => {
                self.retains = retain_available;
                if self.sweeps(session_present) {
                    self.state = State::Down { until: Instant::now() };
                    return None;
                }
                self.connections += 1;
                if let State::Up { since, .. } = &mut self.state {
                    *since = Some(Instant::now());
                }
                Some(LinkEvent::Connected { resumed: session_present })
            }
            TransportEvent::Subscribed(outcomes) => self.subscribed(&outcomes),
            TransportEvent::Received(received) => Some(LinkEvent::Message(received)),
            TransportEvent::Discarded { count, why } => Some(LinkEvent::Discarded { count, why }),
            TransportEvent::Closed(reason) => Some(self.closed(&reason)),
            TransportEvent::Acked { token, code } => Some(LinkEvent::Acked { token, code }),
            TransportEvent::Progress => None,
        }
    }

    /// Whether this connection is to be dropped: it met an older session, or it has just ended one.
    fn sweeps(&mut self, session_present: bool) -> bool {
        let next = match (self.sweep, session_present) {
            (Sweep::NotYet, true) => Sweep::Now,
            _ => Sweep::Done,
        };
        let drops = self.sweep == Sweep::Now || next == Sweep::Now;
        self.sweep = next;
        drops
    }

    fn subscribed(&mut self, outcomes: &[SubscribeOutcome]) -> Option<LinkEvent> {
        let refused: Vec<String> = outcomes
            .iter()
            .filter(|outcome| !outcome.granted())
            .map(|o| format!("{} ({})", o.filter, suback_name(o.code)))
            .collect();
        // The answers come in the order of the questions: first what we need.
        if !self.listening {
            if !refused.is_empty() {
                let why = format!("the broker refused the subscription to {}; check its ACL", refused.join(", "));
                return Some(self.down(LinkError::Refused(why)));
            }
            self.listening = true;
            self.ever_listened = true;
            return None;
        }
        Some(LinkEvent::Listening { missing: refused })
    }

    fn closed(&mut self, reason: &CloseReason) -> LinkEvent {
        let text = reason.to_string();
        if let CloseKind::ConnectRefused { code: RETAIN_NOT_SUPPORTED } = reason.kind {
            self.retains = false;
        }
        if let CloseKind::Disconnected { code: SESSION_TAKEN_OVER, .. } = reason.kind {
            // Our own older connections are gone, so it is somebody else; coming back would throw that one off.
            return self.fail(LinkError::Refused(format!(
                "{text}; give each subscriber a client id (or certificate) of its own"
            )));
        }
        self.down(match permanent(&reason.kind) {
            Some(Permanent::Refused) => LinkError::Refused(text),
            Some(Permanent::Config) => LinkError::Config(text),
            None => LinkError::Unavailable(text),
        })
    }

    /// Plans the next attempt, or gives up on what will not change by itself.
    fn down(&mut self, why: LinkError) -> LinkEvent {
        let now = Instant::now();
        let held = match &self.state {
            State::Up { since: Some(since), .. } => now.saturating_duration_since(*since),
            _ => Duration::ZERO,
        };
        self.listening = false;
        if !self.ever_listened && !matches!(why, LinkError::Unavailable(_)) {
            return self.fail(why);
        }
        // Two under one client id throw each other off; not every broker says so.
        self.losses = if held.is_zero() || held > FIGHT { 0 } else { self.losses + 1 };
        let hint =
            if self.losses >= 3 { "; does another subscriber use the same client id or certificate?" } else { "" };
        let wait = self.backoff.next(held);
        self.state = State::Down { until: now + wait };
        LinkEvent::Down { why: format!("{why}{hint}"), wait }
    }

    /// Stays down for whoever asks again; nobody should.
    fn fail(&mut self, why: LinkError) -> LinkEvent {
        self.listening = false;
        self.state = State::Down { until: Instant::now() + Duration::from_secs(3600) };
        LinkEvent::Failed(why)
    }
}

enum Permanent {
    Refused,
    Config,
}

/// Failures that another attempt will not mend.
fn permanent(kind: &CloseKind) -> Option<Permanent> {
    match kind {
        CloseKind::Tls(TlsFailure::ClientCertificateMissing | TlsFailure::ClientCertificateRefused(_)) => {
            Some(Permanent::Refused)
        }
        CloseKind::Tls(TlsFailure::Handshake(_)) => None,
        CloseKind::Tls(_) | CloseKind::Unsuitable(_) => Some(Permanent::Config),
        // Bad user name or password, not authorized, banned, bad authentication method.
        CloseKind::ConnectRefused { code: 0x86 | 0x87 | 0x8a | 0x8c } => Some(Permanent::Refused),
        // Protocol version, client id.
        CloseKind::ConnectRefused { code: 0x01 | 0x02 | 0x84 | 0x85 } => Some(Permanent::Config),
        _ => None,
    }
}
