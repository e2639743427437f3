//! How to connect, and how that can end. Checked by the command line; nothing is opened or read here.

use std::time::Duration;

use crate::uplink::transport::tls::{Loaded, TlsFiles};
use crate::uplink::transport::{BrokerUrl, ConnectOptions, Credentials};
use crate::wire::{DecodeLimits, Topic};

/// Seconds for which the broker keeps our subscriptions and messages when the connection is lost.
const SESSION_KEPT_S: u32 = 300;
/// Messages received and not yet acknowledged, at most: each may be as large as a message may be.
const RECEIVE_MAX: u16 = 32;
/// Topic and properties of the largest message.
const PACKET_OVERHEAD: u32 = 1024;

/// How to connect and to what to subscribe. Checked by the command line; certificates are read at each attempt.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    pub url: BrokerUrl,
    /// Not used for clear text.
    pub tls: TlsFiles,
    pub credentials: Option<Credentials>,
    pub client_id: String,
    /// Filters without which nothing can be told.
    pub needed: Vec<String>,
    /// Filters that the broker may refuse.
    pub wanted: Vec<String>,
    pub keeps: Keeps,
    /// Messages received and not yet acknowledged, at most.
    pub receive_max: u16,
    /// Bytes of the largest packet we accept.
    pub max_packet: u32,
    /// Publishes in flight at most.
    pub window: u16,
    /// Where the broker says that we are gone, when we are.
    pub presence: Option<Topic>,
}

impl LinkOptions {
    /// Of a subscriber that only looks; it subscribes to nothing yet.
    pub fn looking(url: BrokerUrl, tls: TlsFiles, client_id: String) -> Self {
        Self {
            url,
            tls,
            credentials: None,
            client_id,
            needed: Vec::new(),
            wanted: Vec::new(),
            keeps: Keeps::ThisRun(SESSION_KEPT_S),
            receive_max: RECEIVE_MAX,
            max_packet: DecodeLimits::default().max_bytes as u32 + PACKET_OVERHEAD,
            window: 1,
            presence: None,
        }
    }
}

/// For how many seconds the broker keeps our subscriptions and messages when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// While we run: what it has kept from before us is not for us, and it is told when we end.
    ThisRun(u32),
    /// Across our own restarts.
    Always(u32),
}

/// Why no connection came to be, or none will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Config(String),
}

/// `loaded`: nothing for clear text.
pub(super) fn connect_options(options: &LinkOptions, loaded: Option<Loaded>) -> ConnectOptions {
    let mut connect = ConnectOptions::new(options.url.clone(), options.client_id.clone());
    connect.tls = loaded.map(|loaded| loaded.config);
    connect.credentials.clone_from(&options.credentials);
    connect.keep_alive = Duration::from_secs(30);
    connect.window = options.window;
    connect.receive_max = options.receive_max;
    connect.max_incoming_packet = options.max_packet;
    connect
}
