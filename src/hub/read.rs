//! One MQTT message taken apart and checked: topic, size, form, and that the payload speaks of the topic's host.
//!
//! The topic is what the broker's ACL grants; the payload is what the sender claims. Where they differ the message is
//! bad and nothing of it is used. Pure; never panics; a bad message costs an error, not the next message.

use crate::wire::{
    DecodeError, DecodeLimits, Envelope, Lane, ParsedTopic, Reply, Status, StatusMessage, TopicError, TopicKind,
    decode_envelope, decode_event, decode_payload, decode_status,
};

/// What a subscriber of hosts can receive.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Records and losses. `proof`: it came by the live lane while we listened (not retained), so what follows it
    /// will reach us.
    Data {
        envelope: Envelope,
        collector: Option<String>,
        proof: bool,
    },
    /// A copy of a record that also comes as data.
    Event(Envelope),
    Online(Box<Status>),
    Offline {
        site: String,
        host: String,
        session: String,
    },
    /// The answer to a command of this hub.
    Reply {
        host: String,
        hub: String,
        reply: Reply,
    },
}

/// A message that is not used, and whose it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Site and host of the topic, where it has them.
    pub source: Option<(String, String)>,
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Topic(#[from] TopicError),
    #[error("the topic is under the prefix {0:?}, not under ours")]
    Prefix(String),
    #[error("{0}")]
    Payload(#[from] DecodeError),
    #[error("the status's {0} is {1} bytes long, at most {2} are sensible")]
    Long(&'static str, usize, usize),
    #[error("the payload says host {host:?} of site {site:?}, the topic does not: identity not trusted")]
    Identity { site: String, host: String },
}

/// Reads a message. `Ok(None)`: well formed and none of a subscriber's business.
pub fn read(
    prefix: &str,
    topic: &str,
    payload: &[u8],
    retain: bool,
    limits: &DecodeLimits,
) -> Result<Option<Message>, Bad> {
    let parsed = topic.parse::<ParsedTopic>().map_err(|e| Bad { source: None, reason: e.to_string() })?;
    let ParsedTopic::Host { prefix: found, site, host, kind } = parsed else { return Ok(None) };
    let result = if found == prefix {
        read_kind(kind, (&site, &host), payload, retain, limits)
    } else {
        Err(ReadError::Prefix(found))
    };
    result.map_err(|e| Bad { source: Some((site, host)), reason: e.to_string() })
}

fn read_kind(
    kind: TopicKind,
    source: (&str, &str),
    payload: &[u8],
    retain: bool,
    limits: &DecodeLimits,
) -> Result<Option<Message>, ReadError> {
    let (collector, live) = match kind {
        TopicKind::Live(collector) => (Some(collector), true),
        TopicKind::History => (None, false),
        TopicKind::Event => {
            let envelope = decode_event(payload)?;
            same(source, (&envelope.site, &envelope.host))?;
            return Ok(Some(Message::Event(envelope)));
        }
        TopicKind::Status => return read_status(source, payload).map(Some),
        TopicKind::Reply(hub) => {
            let (host, reply) = (source.1.to_owned(), decode_payload(payload)?);
            return Ok(Some(Message::Reply { host, hub, reply }));
        }
        TopicKind::Meta | TopicKind::Cmd | TopicKind::Ack(_) => return Ok(None),
    };
    let envelope = decode_envelope(payload, limits)?;
    same(source, (&envelope.site, &envelope.host))?;
    let proof = live && !retain && envelope.lane == Lane::Live;
    Ok(Some(Message::Data { envelope, collector, proof }))
}

/// What is kept of a status is kept per host, so its length is bounded here.
fn short(what: &'static str, text: &str, max: usize) -> Result<(), ReadError> {
    if text.len() > max { Err(ReadError::Long(what, text.len(), max)) } else { Ok(()) }
}

fn read_status((site, host): (&str, &str), payload: &[u8]) -> Result<Message, ReadError> {
    let message = decode_status(payload)?;
    let session = match &message {
        StatusMessage::Online(status) => &status.session,
        StatusMessage::Offline(offline) => &offline.session,
    };
    short("session", session, 128)?;
    match message {
        StatusMessage::Online(status) => {
            same((site, host), (&status.site, &status.host))?;
            short("level", &status.level, 32)?;
            short("version", &status.version, 128)?;
            Ok(Message::Online(status))
        }
        // The will names no host: the broker published it, to the topic that the host's connection had set.
        StatusMessage::Offline(offline) => {
            Ok(Message::Offline { site: site.to_owned(), host: host.to_owned(), session: offline.session })
        }
    }
}

fn same(topic: (&str, &str), payload: (&str, &str)) -> Result<(), ReadError> {
    if topic == payload {
        return Ok(());
    }
    let (site, host) = payload;
    Err(ReadError::Identity { site: site.to_owned(), host: host.to_owned() })
}
