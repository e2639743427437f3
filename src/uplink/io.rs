//! What goes into the state machine and what comes out of it, and how it is set up.
//!
//! Plain data. The agent's loop translates transport and outbox events to [`Input`]s and carries out
//! [`Action`]s; nothing here knows a socket, a file or a thread.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::anchors::Anchors;
use super::backoff::Reconnect;
use super::commands::Ticket;
use super::level::{HubMemory, Level};
use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss, Topic, TopicScheme};

/// What the broker granted at CONNACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Receive Maximum: unacknowledged QoS 1 publishes it takes at once; 65,535 when it named none.
    pub receive_max: u16,
    /// Maximum Packet Size in bytes; `u32::MAX` when it named none.
    pub max_packet: u32,
    /// The keep-alive in force; zero means none, and with it no watchdog on silence.
    pub keep_alive: Duration,
    /// Whether it stores retained messages.
    pub retain_available: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_max: u16::MAX,
            max_packet: u32::MAX,
            keep_alive: Duration::from_secs(60),
            retain_available: true,
        }
    }
}

/// Why there is no connection any more. The text is one line for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It never came about: name not found, refused, TLS, CONNACK with an error.
    Connect(String),
    /// It never came about, because the broker keeps no retained messages and the will was to be one.
    NoRetain(String),
    /// The broker sent DISCONNECT with this reason code.
    Server { code: u8, text: String },
    /// It was there and broke, perhaps for what was sent: end of stream, reset, protocol error, PUBACKs
    /// withheld while pings were answered.
    Lost(String),
    /// It was there and ended for a reason that says nothing about what was sent: silence, the subscribe
    /// side, our own doing.
    Other(String),
}

/// Everything that can happen to the uplink.
#[derive(Clone, Debug)]
pub enum Input {
    /// One run was committed; its chunks, in seq order.
    Appended {
        collector: Arc<str>,
        chunks: Vec<Chunk>,
    },
    /// After [`Action::BeginEpoch`]: what was not delivered of the epoch before, stored anew; its old seqs come as
    /// [`Input::Lost`].
    Redrawn(Vec<Chunk>),
    /// The answer to [`Action::Load`]: whole chunks of one clock context that touch `range`, in seq order,
    /// beginning with the one that holds (or else follows) its start. What was found corrupt comes as
    /// [`Input::Lost`], best before this.
    Loaded {
        epoch: u64,
        range: RangeInclusive<u64>,
        chunks: Vec<Chunk>,
    },
    /// The outbox could not take the [`Action::Load`] now.
    LoadRefused,
    /// Losses that the outbox declared.
    Lost(Vec<Loss>),
    /// The outbox, which could not be used at the start, has been opened: what was found in it.
    Opened {
        epochs: Vec<EpochView>,
        losses: Vec<Loss>,
        hub: HubMemory,
    },
    /// Beside [`Input::Opened`]: what it has kept.
    Anchors(Anchors),
    Connected(Limits),
    /// Anything arrived from or was written to the peer: the link lives, however slowly.
    Progress,
    /// The PUBACK of exactly this publish. A publish that the transport itself refuses for its size is
    /// reported with [`super::reasons::PACKET_TOO_LARGE`].
    Acked {
        token: u64,
        code: u8,
    },
    /// The connection, or the attempt at one, is over. Acks that were read before it come first.
    Closed(CloseReason),
    /// The answer to [`Action::Subscribe`]: each filter with its code.
    Subscribed(Vec<(String, u8)>),
    /// A message on what was subscribed to.
    Received(Message),
    /// The answer to [`Action::Run`]: what was done, or why not.
    Ran {
        ticket: Ticket,
        outcome: Result<String, String>,
    },
    /// Another [`Settings::meta`].
    Meta(Vec<u8>),
    /// What other parts of the agent find wrong, one line each; replaces the former list.
    Problems(Vec<String>),
    /// The agent is beyond its own limits: history goes no faster than [`Pace::default`] while it is.
    Ease(bool),
    /// Finish: no more data than what waits to go live, wait for what is in flight, say goodbye.
    Stop,
}

/// An incoming message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// The broker had kept it: it may be of any age.
    pub retained: bool,
    pub response_topic: Option<String>,
    pub correlation: Option<Vec<u8>>,
}

/// The last will of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    pub topic: Topic,
    pub payload: Vec<u8>,
    pub retain: bool,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warn,
    Error,
}

/// Everything that the loop does on the uplink's behalf.
#[derive(Clone, Debug)]
pub enum Action {
    /// Open a connection to the URL of this index, answered by `Connected` or `Closed`.
    Connect { url: usize, session: String, will: Will },
    /// Subscribe to these filters at QoS 1, before what is published after this; answered by `Subscribed`.
    Subscribe(Vec<String>),
    /// Publish at QoS 1; `token` comes back with the PUBACK.
    Publish {
        token: u64,
        topic: Topic,
        payload: Vec<u8>,
        retain: bool,
        content_type: &'static str,
        /// Of the command that this answers.
        correlation: Option<Vec<u8>>,
    },
    /// Read chunks, at most `max_bytes` of maps but at least one; answered by `Loaded` or `LoadRefused`.
    Load { epoch: u64, range: RangeInclusive<u64>, max_bytes: usize },
    /// These seqs are delivered.
    Settle { epoch: u64, seqs: RangeSet },
    /// These losses are delivered. Losses may have been merged on the way: every unsettled loss within one of these is meant.
    SettleLosses(Vec<Loss>),
    /// No broker will take this stored value: set it aside.
    Quarantine { epoch: u64, seqs: RangeInclusive<u64>, reason: String },
    /// Keep this note, durably: [`HubMemory::NOTE`] or [`Anchors::NOTE`].
    Note { key: &'static str, value: String },
    /// The present epoch must not be continued: mint another, and store anew what was not delivered of this one.
    BeginEpoch,
    /// Run a configured collector now; answered by `Ran`.
    Run { collector: String, ticket: Ticket },
    /// End the connection, with an MQTT DISCONNECT when `clean`, else by dropping it. No further event of
    /// this connection may be reported, `Closed` included.
    Disconnect { clean: bool },
    /// Already rate-limited.
    Log { severity: Severity, text: String },
}

/// The format of data payloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Msgpack,
    Json,
}

/// What history payloads go through beside; a build without feature `zstd` sends them plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Zstd,
}

/// What a PUBACK "no matching subscribers" (0x10) means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unheard {
    /// Nobody has it: keep it and probe.
    #[default]
    Hold,
    /// The broker's rules consume without a subscription: delivered.
    Settle,
}

/// How fast history may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub bytes_per_s: u32,
    pub batches_per_s: u32,
}

impl Default for Pace {
    /// Within every hosted broker's quota (AWS: 512 KiB/s and 100 publishes/s a connection).
    fn default() -> Self {
        Self { bytes_per_s: 480_000, batches_per_s: 8 }
    }
}

impl Pace {
    /// The configured pace, or the default where that is slower and the uplink is to be eased.
    pub(super) fn eased(configured: Option<Self>, eased: bool) -> Option<Self> {
        if !eased {
            return configured;
        }
        let (pace, most) = (configured.unwrap_or_default(), Self::default());
        Some(Self {
            bytes_per_s: pace.bytes_per_s.min(most.bytes_per_s),
            batches_per_s: pace.batches_per_s.min(most.batches_per_s),
        })
    }
}

/// The uplink's settings; [`Settings::new`] has the defaults of everything but identity.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: String,
    pub site: String,
    /// Boot id of the running kernel.
    pub boot: Arc<str>,
    /// Of this program.
    pub version: String,
    pub topics: TopicScheme,
    /// Brokers, tried in turn; here only for their number and the log.
    pub urls: Vec<String>,
    /// The `meta` document as published; empty: none.
    pub meta: Vec<u8>,
    pub encoding: Encoding,
    pub compression: Compression,
    pub unheard: Unheard,
    pub level: Level,
    /// What the outbox remembers of hubs.
    pub hub: HubMemory,
    /// What the outbox remembers of the clocks of earlier boots.
    pub anchors: Anchors,
    /// `None`: history goes as fast as the window lets it.
    pub pace: Option<Pace>,
    /// Unacknowledged publishes at most, whatever the broker would take; at least 1.
    pub window: usize,
    /// Unacknowledged bytes at most; at least 32 KiB, so that one stored value always fits.
    pub in_flight_bytes: usize,
    /// Packets at most, whatever the broker would take.
    pub max_packet: usize,
    /// Between connection attempts.
    pub reconnect: Reconnect,
    /// How long `Stop` waits for what is in flight.
    pub stop_grace: Duration,
}

impl Settings {
    pub fn new(host: &str, site: &str, boot: Arc<str>, topics: TopicScheme) -> Self {
        Self {
            host: host.to_owned(),
            site: site.to_owned(),
            boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            topics,
            urls: Vec::new(),
            meta: Vec::new(),
            encoding: Encoding::default(),
            compression: Compression::default(),
            unheard: Unheard::default(),
            level: Level::default(),
            hub: HubMemory::default(),
            anchors: Anchors::default(),
            pace: Some(Pace::default()),
            window: 10,
            in_flight_bytes: 64 << 10,
            max_packet: 64 << 10,
            stop_grace: Duration::from_secs(3),
            reconnect: Reconnect::default(),
        }
    }
}

/// What the outbox recovered of one epoch.
#[derive(Clone, Debug)]
pub struct EpochView {
    pub epoch: u64,
    /// Stored and not settled.
    pub pending: RangeSet,
    /// The next seq to be drawn in it.
    pub next_seq: u64,
    /// Later ones may have been drawn that nobody here knows of.
    pub in_doubt: bool,
}
