//! The seam between the uplink (or the hub) and MQTT: one [`Connection`] is one MQTT 5 connection, used once.
//!
//! Owns the vocabulary both sides share: options, limits, publishes, events. rumqttc is inside and nobody
//! outside this directory names it. Never keeps a message beyond its connection: the outbox is the only
//! queue, so after [`TransportEvent::Closed`] whatever was not acknowledged is simply not acknowledged.

mod binder;
mod close;
mod codes;
mod driver;
mod inbox;
mod limits;
mod mqtt5;
pub mod tls;
pub mod url;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use close::{CloseKind, CloseReason, TlsFailure};
pub use codes::{connack_name, disconnect_name, puback_name, suback_name};
pub use mqtt5::Connection;
pub use url::{BrokerUrl, UrlError};

/// What one connection attempt needs. [`ConnectOptions::new`] gives the defaults of a publisher.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    pub url: BrokerUrl,
    pub client_id: String,
    /// From [`tls::load`], built anew for every attempt. Must be there for `mqtts`, is unused for `mqtt`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub credentials: Option<Credentials>,
    pub will: Option<Will>,
    /// At least 5 s.
    pub keep_alive: Duration,
    /// Covers DNS, TCP, TLS and CONNACK together.
    pub connect_timeout: Duration,
    /// Publishes in flight at most, 1..=1024; the broker's Receive Maximum may lower it (see [`Limits::window`]).
    pub window: u16,
    /// Bytes of the largest packet we accept; announced, so that the broker withholds what is larger.
    pub max_incoming_packet: u32,
    /// QoS 1 messages received and not yet acknowledged at most, 1..=1024; announced.
    pub receive_max: u16,
    pub session: Session,
    /// Bytes a second of the slowest link that counts as alive: what is under way lengthens the watchdog's patience.
    pub slowest_link: u32,
}

impl ConnectOptions {
    /// A publisher: clean session, keep-alive 60 s, 20 s to connect, 10 in flight, 64 KiB packets.
    pub fn new(url: BrokerUrl, client_id: impl Into<String>) -> Self {
        Self {
            url,
            client_id: client_id.into(),
            tls: None,
            credentials: None,
            will: None,
            keep_alive: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(20),
            window: 10,
            max_incoming_packet: 64 * 1024,
            receive_max: 16,
            session: Session::CLEAN,
            slowest_link: 1024,
        }
    }
}

/// What the broker keeps for this client id between connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub clean_start: bool,
    /// Seconds; 0 ends the session with the connection.
    pub expiry_s: u32,
}

impl Session {
    /// Nothing is kept: right for publishing, where the outbox is the memory.
    pub const CLEAN: Session = Session { clean_start: true, expiry_s: 0 };

    /// Subscriptions and undelivered messages are kept for `expiry_s` seconds after the connection is lost.
    pub const fn kept(expiry_s: u32) -> Self {
        Session { clean_start: false, expiry_s }
    }
}

/// User name and password; never shown by `Debug`.
#[derive(Clone)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Published by the broker, QoS 1, when the connection ends without a DISCONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    /// A broker that keeps no retained messages refuses the connection for it: [`RETAIN_NOT_SUPPORTED`].
    pub retain: bool,
}

/// CONNACK: the will was to be retained.
pub const RETAIN_NOT_SUPPORTED: u8 = 0x9a;

/// A QoS 1 publish. `token` is the caller's: it comes back in [`TransportEvent::Acked`], once or never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub token: u64,
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// MQTT content type, a hint for readers.
    pub content_type: Option<&'static str>,
    /// Where an answer is asked for.
    pub response_topic: Option<String>,
    /// Given back to whoever asked with it.
    pub correlation: Option<Vec<u8>>,
}

/// What the broker said in its CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Publishes that may be in flight: [`ConnectOptions::window`], or less when the broker's Receive Maximum asks for
    /// it (then one below that maximum, but at least 1: acknowledgements and DISCONNECT must never wait for a PUBACK).
    pub window: usize,
    /// The broker's Receive Maximum (65,535 when it named none).
    pub receive_max: u16,
    /// Largest packet the broker takes, in bytes; MQTT's own limit (256 MiB) when it named none. [`packet_size`] measures.
    pub max_packet: u32,
    /// The keep-alive in force: the broker's, if it named one above 0.
    pub keep_alive: Duration,
    pub retain_available: bool,
    pub shared_subscriptions: bool,
    /// The broker has kept our session (only with [`Session::kept`]).
    pub session_present: bool,
    /// Set when the broker chose the client id.
    pub assigned_client_id: Option<String>,
}

/// What happened on the connection. Bounded: nothing here can pile up beyond the window, the receive maximum
/// and a fixed number of QoS 0 messages.
#[derive(Clone, Debug, PartialEq)]
pub enum TransportEvent {
    /// First event of a connection that came to be.
    Connected(Limits),
    /// The broker's PUBACK of *this* publish: MQTT reason code; below 0x80 it was accepted (see [`puback_name`]).
    Acked {
        token: u64,
        code: u8,
    },
    /// Answer to one [`Connection::subscribe`], filters in their order.
    Subscribed(Vec<SubscribeOutcome>),
    Received(Received),
    /// Messages that were dropped here, with the reason: QoS 0 ones over the bound, topics that are not UTF-8.
    Discarded {
        count: u64,
        why: &'static str,
    },
    /// The peer is alive or the socket moved data: not silence. At most one a second.
    Progress,
    /// Last event. After it every call is refused and `next` repeats it.
    Closed(CloseReason),
}

/// An incoming message.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    /// Redelivered: was sent before on this session.
    pub dup: bool,
    pub content_type: Option<String>,
    /// Where the sender wants an answer, and what it is to carry.
    pub response_topic: Option<String>,
    pub correlation: Option<Vec<u8>>,
    /// For [`Connection::ack`] once the message is safe; `None` for QoS 0. Not acknowledged messages count
    /// against [`ConnectOptions::receive_max`] and are sent again when a kept session is resumed.
    pub ack: Option<AckToken>,
}

/// Acknowledges one received message, on the connection it came by and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckToken {
    connection: u64,
    pkid: u16,
}

/// A subscription at QoS 1. `filter` may be shared: `$share/{group}/{filter}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub filter: String,
    /// The broker does not send our own publishes back. Not allowed on shared subscriptions.
    pub no_local: bool,
}

impl Subscription {
    pub fn new(filter: impl Into<String>) -> Self {
        Self { filter: filter.into(), no_local: false }
    }

    /// `$share/{group}/{filter}`: the broker hands each message to one member of the group.
    pub fn shared(group: &str, filter: &str) -> Self {
        Self::new(format!("$share/{group}/{filter}"))
    }
}

/// SUBACK code of one filter: 0..=2 is the granted QoS, 0x80 and above a refusal (see [`suback_name`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOutcome {
    pub filter: String,
    pub code: u8,
}

impl SubscribeOutcome {
    pub fn granted(&self) -> bool {
        self.code < 0x80
    }
}

/// The options cannot make a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} needs a TLS configuration; load one with the CA and the client certificate")]
    NoTls(BrokerUrl),
    #[error("the MQTT client id is empty; set the host id")]
    NoClientId,
    #[error("keep_alive is {0:?}; the shortest allowed is 5 s")]
    KeepAlive(Duration),
    #[error("the will's topic {0:?} is not a topic name: no wildcards, no NUL, 1..=65535 bytes")]
    WillTopic(String),
    #[error("{what} is {given}; it must be in 1..={max}")]
    Bound { what: &'static str, given: usize, max: usize },
}

/// A publish was not taken; nothing was sent and the token will not come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishRefused {
    #[error("not connected yet: wait for the broker's CONNACK")]
    NotConnected,
    #[error("the connection is closed")]
    Closed,
    #[error("{0} publishes are in flight, which is all that the window allows")]
    WindowFull(usize),
    #[error("the packet for {topic} would be {size} bytes, the broker takes at most {max}")]
    TooLarge { topic: String, size: usize, max: u32 },
    #[error("{0:?} is not a topic name: no wildcards, no NUL, 1..=65535 bytes")]
    Topic(String),
    #[error("the broker keeps no retained messages, {0} would lose its meaning")]
    Retain(String),
}

/// A subscribe or an acknowledgement was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    #[error("the connection is closed")]
    Closed,
    #[error("too many requests wait already; wait for their answers")]
    Busy,
    #[error("{0:?} is not a topic filter")]
    Filter(String),
    #[error("no filter given")]
    NoFilter,
    #[error("the message came by another connection; the broker will send it again")]
    OtherConnection,
}

/// Bytes of the largest packet that MQTT can frame.
pub(crate) const LARGEST_PACKET: u32 = 268_435_460;

impl Publish {
    /// Bytes of its packet on the wire, for [`Limits::max_packet`].
    pub fn packet_size(&self) -> usize {
        let answer = self.response_topic.as_ref().map_or(0, |topic| 3 + topic.len());
        let correlation = self.correlation.as_ref().map_or(0, |c| 3 + c.len());
        let properties = content_type_bytes(self.content_type) + answer + correlation;
        packet_bytes(self.topic.len(), self.payload.len(), properties)
    }
}

/// Bytes of the PUBLISH packet on the wire of a publish that neither asks nor answers.
pub fn packet_size(topic_len: usize, payload_len: usize, content_type: Option<&str>) -> usize {
    packet_bytes(topic_len, payload_len, content_type_bytes(content_type))
}

fn content_type_bytes(content_type: Option<&str>) -> usize {
    content_type.map_or(0, |c| 3 + c.len())
}

fn packet_bytes(topic_len: usize, payload_len: usize, properties: usize) -> usize {
    let remaining = 2 + topic_len + 2 + varint_len(properties) + properties + payload_len;
    1 + varint_len(remaining) + remaining
}

/// Length of MQTT's variable byte integer.
const fn varint_len(n: usize) -> usize {
    match n {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// A topic name that may be published to.
pub(crate) fn valid_topic(topic: &str) -> bool {
    (1..=65_535).contains(&topic.len()) && !topic.contains(['+', '#', '\0'])
}

/// A topic filter, shared or not.
pub(crate) fn valid_filter(filter: &str) -> bool {
    let plain = match filter.strip_prefix("$share/") {
        None => filter,
        Some(rest) => match rest.split_once('/') {
            Some((group, plain)) if !group.is_empty() && !group.contains(['+', '#']) => plain,
            _ => return false,
        },
    };
    if plain.is_empty() || filter.len() > 65_535 || plain.contains('\0') {
        return false;
    }
    let levels: Vec<&str> = plain.split('/').collect();
    levels.iter().enumerate().all(|(i, level)| match *level {
        "#" => i + 1 == levels.len(),
        "+" => true,
        other => !other.contains(['+', '#']),
    })
}

#[cfg(test)]
mod tests;
