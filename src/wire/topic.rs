//! Topics are a type: built and parsed here, never formatted elsewhere.
//!
//! `[prefix/]v1/{site}/{host}/...`, levels from `[A-Za-z0-9_-]` (dots break NATS and RabbitMQ), at most 3 prefix
//! levels (AWS allows 7 slashes), at most 200 bytes for the longest leaf. First levels starting with `_` are reserved.

use std::fmt;

/// A checked topic name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(String);

impl Topic {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("level {0:?} must be one or more letters, digits, '_' and '-'")]
    Level(String),
    #[error("name {0:?} is {1} bytes long, at most {MAX_NAME} are allowed")]
    LongName(String, usize),
    #[error("{0:?} is reserved here: choose a name that is not \"v1\" and does not start with '_'")]
    Reserved(String),
    #[error("a prefix may have at most 3 levels, this one has {0}")]
    PrefixDepth(usize),
    #[error("topic {0:?} is {1} bytes long, at most 200 are allowed: shorten the prefix, the site or the host id")]
    TooLong(String, usize),
    #[error("{0:?} is no topic of this format ([prefix/]v1/site/host/...)")]
    Foreign(String),
}

/// Longest topic name, in bytes (AWS IoT stops at 256).
pub const MAX_TOPIC: usize = 200;
/// Longest name of a collector, hub or worker, in bytes: what a scheme keeps room for.
pub const MAX_NAME: usize = 64;
const MAX_PREFIX_LEVELS: usize = 3;
const VERSION_LEVEL: &str = "v1";
const HUBS_LEVEL: &str = "_hubs";
/// The longest leaf that a host's base must leave room for.
const LONGEST_LEAF: usize = "/reply/".len() + MAX_NAME;

/// Whether `level` may stand between two slashes.
pub(super) fn check_level(level: &str) -> Result<(), TopicError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if level.is_empty() || !level.bytes().all(allowed) {
        return Err(TopicError::Level(level.to_owned()));
    }
    Ok(())
}

/// Whether `name` can name a collector, a hub or a worker: a level of at most [`MAX_NAME`] bytes.
///
/// ```
/// use holdover::wire::check_name;
/// assert!(check_name("backup_age").is_ok());
/// assert!(check_name("backup.age").is_err());
/// assert!(check_name(&"x".repeat(65)).is_err());
/// ```
pub fn check_name(name: &str) -> Result<(), TopicError> {
    check_level(name)?;
    if name.len() > MAX_NAME {
        return Err(TopicError::LongName(name.to_owned(), name.len()));
    }
    Ok(())
}

fn check_first_level(level: &str) -> Result<(), TopicError> {
    if level.starts_with('_') || level == VERSION_LEVEL {
        return Err(TopicError::Reserved(level.to_owned()));
    }
    Ok(())
}

fn check_prefix(prefix: &str) -> Result<(), TopicError> {
    if prefix.is_empty() {
        return Ok(());
    }
    let levels: Vec<_> = prefix.split('/').collect();
    if levels.len() > MAX_PREFIX_LEVELS {
        return Err(TopicError::PrefixDepth(levels.len()));
    }
    check_first_level(levels[0])?;
    for level in levels {
        check_level(level)?;
        // The parser takes the first `v1` for the version.
        if level == VERSION_LEVEL {
            return Err(TopicError::Reserved(level.to_owned()));
        }
    }
    Ok(())
}

/// `[prefix/]v1`
fn root(prefix: &str) -> String {
    if prefix.is_empty() { VERSION_LEVEL.to_owned() } else { format!("{prefix}/{VERSION_LEVEL}") }
}

/// A name as it can stand in a topic, whatever it was: names are checked where they enter (see [`check_name`]),
/// and building a topic must not fail for one that was not.
fn leaf(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name: String = name.chars().take(MAX_NAME).map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

/// Builds one host's topics.
///
/// ```
/// use holdover::wire::TopicScheme;
/// let topics = TopicScheme::new("acme/prod", "plant-a", "edge-01")?;
/// assert_eq!(topics.live("cpu").as_str(), "acme/prod/v1/plant-a/edge-01/m/cpu");
/// assert_eq!(topics.status().as_str(), "acme/prod/v1/plant-a/edge-01/status");
/// assert_eq!(TopicScheme::new("", "plant-a", "edge-01")?.history().as_str(), "v1/plant-a/edge-01/h");
/// assert!(TopicScheme::new("", "plant.a", "edge-01").is_err());
/// # Ok::<(), holdover::wire::TopicError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicScheme {
    /// `[prefix/]v1`
    root: String,
    /// `[prefix/]v1/{site}/{host}`
    base: String,
}

impl TopicScheme {
    /// Errors when a level is not `[A-Za-z0-9_-]+`, when prefix or site start with `_`, when the prefix holds a level `v1` or
    /// more than 3 levels, or when the longest topic, with a name of [`MAX_NAME`] bytes, would exceed [`MAX_TOPIC`] bytes.
    pub fn new(prefix: &str, site: &str, host: &str) -> Result<Self, TopicError> {
        check_prefix(prefix)?;
        check_level(site)?;
        check_level(host)?;
        if site.starts_with('_') {
            return Err(TopicError::Reserved(site.to_owned()));
        }
        let root = root(prefix);
        let base = format!("{root}/{site}/{host}");
        if base.len() + LONGEST_LEAF > MAX_TOPIC {
            let len = base.len() + LONGEST_LEAF;
            return Err(TopicError::TooLong(format!("{base}/reply/..."), len));
        }
        Ok(Self { root, base })
    }

    fn under(&self, leaf: &str) -> Topic {
        Topic(format!("{}/{leaf}", self.base))
    }

    /// `m/{collector}`. A name that [`check_name`] would refuse is bent into one that it takes.
    pub fn live(&self, collector: &str) -> Topic {
        self.under(&format!("m/{}", leaf(collector)))
    }

    /// `h`: history and losses.
    pub fn history(&self) -> Topic {
        self.under("h")
    }

    pub fn status(&self) -> Topic {
        self.under("status")
    }

    pub fn meta(&self) -> Topic {
        self.under("meta")
    }

    pub fn event(&self) -> Topic {
        self.under("event")
    }

    /// To the host.
    pub fn cmd(&self) -> Topic {
        self.under("cmd")
    }

    /// `ack/{hub}`: to the host, retained.
    pub fn ack(&self, hub: &str) -> Topic {
        self.under(&format!("ack/{}", leaf(hub)))
    }

    /// `reply/{hub}`: the response topic a hub names in its commands.
    pub fn reply(&self, hub: &str) -> Topic {
        self.under(&format!("reply/{}", leaf(hub)))
    }

    /// The response topic of a command, when it is one that this host may write: `reply/{hub}` of its own.
    ///
    /// ```
    /// # use holdover::wire::TopicScheme;
    /// let topics = TopicScheme::new("", "plant-a", "edge-01")?;
    /// assert!(topics.own_reply("v1/plant-a/edge-01/reply/hub-1").is_some());
    /// assert!(topics.own_reply("v1/plant-a/edge-02/reply/hub-1").is_none());
    /// # Ok::<(), holdover::wire::TopicError>(())
    /// ```
    pub fn own_reply(&self, response_topic: &str) -> Option<Topic> {
        let hub = response_topic.strip_prefix(&self.base)?.strip_prefix("/reply/")?;
        check_name(hub).ok()?;
        Some(Topic(response_topic.to_owned()))
    }

    /// What the host subscribes to: its commands, its acknowledgements, and the hubs' states.
    ///
    /// ```
    /// # use holdover::wire::TopicScheme;
    /// let filters = TopicScheme::new("", "plant-a", "edge-01")?.subscriptions();
    /// assert_eq!(filters, ["v1/plant-a/edge-01/cmd", "v1/plant-a/edge-01/ack/+", "v1/_hubs/+/+/state"]);
    /// # Ok::<(), holdover::wire::TopicError>(())
    /// ```
    pub fn subscriptions(&self) -> [String; 3] {
        [format!("{}/cmd", self.base), format!("{}/ack/+", self.base), format!("{}/{HUBS_LEVEL}/+/+/state", self.root)]
    }
}

/// Builds what a hub subscribes to and its workers' own topics.
///
/// ```
/// use holdover::wire::HubTopics;
/// let topics = HubTopics::new("acme")?;
/// assert_eq!(topics.data_filters(None)?, ["acme/v1/+/+/m/+", "acme/v1/+/+/h"]);
/// assert_eq!(topics.data_filters(Some("store"))?[1], "$share/store/acme/v1/+/+/h");
/// assert_eq!(topics.worker_state("hub-1", "w0")?.as_str(), "acme/v1/_hubs/hub-1/w0/state");
/// # Ok::<(), holdover::wire::TopicError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubTopics {
    root: String,
}

impl HubTopics {
    pub fn new(prefix: &str) -> Result<Self, TopicError> {
        check_prefix(prefix)?;
        Ok(Self { root: root(prefix) })
    }

    /// Live data and history of every host, shared among the workers of `group` if given.
    pub fn data_filters(&self, group: Option<&str>) -> Result<[String; 2], TopicError> {
        group.map_or(Ok(()), check_name)?;
        let share = group.map_or_else(String::new, |group| format!("$share/{group}/"));
        Ok(["m/+", "h"].map(|leaf| format!("{share}{}/+/+/{leaf}", self.root)))
    }

    /// Status, meta and events of every host. Never shared: each hub needs them all.
    pub fn host_filters(&self) -> [String; 3] {
        ["status", "meta", "event"].map(|leaf| format!("{}/+/+/{leaf}", self.root))
    }

    /// The replies to the commands of `hub`.
    pub fn reply_filter(&self, hub: &str) -> Result<String, TopicError> {
        check_name(hub)?;
        Ok(format!("{}/+/+/reply/{hub}", self.root))
    }

    /// Every hub worker's state.
    pub fn worker_filter(&self) -> String {
        format!("{}/{HUBS_LEVEL}/+/+/state", self.root)
    }

    /// `[prefix/]v1/_hubs/{hub}/{worker}/state`
    pub fn worker_state(&self, hub: &str, worker: &str) -> Result<Topic, TopicError> {
        check_name(hub)?;
        check_name(worker)?;
        let topic = format!("{}/{HUBS_LEVEL}/{hub}/{worker}/state", self.root);
        if topic.len() > MAX_TOPIC {
            let len = topic.len();
            return Err(TopicError::TooLong(topic, len));
        }
        Ok(Topic(topic))
    }
}

/// What a topic is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// Of this collector.
    Live(String),
    History,
    Status,
    Meta,
    Event,
    Cmd,
    /// From this hub.
    Ack(String),
    /// To this hub.
    Reply(String),
}

/// A topic taken apart. Says where a message came by, not who sent it: compare host and site with the payload's.
///
/// ```
/// use holdover::wire::{ParsedTopic, TopicKind};
/// let ParsedTopic::Host { prefix, site, host, kind } = "acme/v1/plant-a/edge-01/m/cpu".parse()? else { unreachable!() };
/// assert_eq!((prefix.as_str(), site.as_str(), host.as_str()), ("acme", "plant-a", "edge-01"));
/// assert_eq!(kind, TopicKind::Live("cpu".to_owned()));
/// assert!("plant-a/edge-01/m/cpu".parse::<ParsedTopic>().is_err());
/// # Ok::<(), holdover::wire::TopicError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParsedTopic {
    Host { prefix: String, site: String, host: String, kind: TopicKind },
    HubState { prefix: String, hub: String, worker: String },
}

impl std::str::FromStr for ParsedTopic {
    type Err = TopicError;

    fn from_str(topic: &str) -> Result<Self, TopicError> {
        if topic.len() > MAX_TOPIC {
            return Err(TopicError::TooLong(topic.chars().take(40).collect(), topic.len()));
        }
        let foreign = || TopicError::Foreign(topic.to_owned());
        let levels: Vec<_> = topic.split('/').collect();
        let version = levels.iter().position(|l| *l == VERSION_LEVEL).ok_or_else(foreign)?;
        let prefix = levels[..version].join("/");
        check_prefix(&prefix)?;
        levels.iter().try_for_each(|level| check_level(level))?;
        if let [HUBS_LEVEL, hub, worker, "state"] = &levels[version + 1..] {
            check_name(hub)?;
            check_name(worker)?;
            return Ok(Self::HubState { prefix, hub: (*hub).to_owned(), worker: (*worker).to_owned() });
        }
        let [site, host, leaf @ ..] = &levels[version + 1..] else { return Err(foreign()) };
        let kind = parse_leaf(leaf)?.ok_or_else(foreign)?;
        // Also refuses what could not have been built: a reserved site, a base too long.
        TopicScheme::new(&prefix, site, host)?;
        Ok(Self::Host { prefix, site: (*site).to_owned(), host: (*host).to_owned(), kind })
    }
}

fn parse_leaf(leaf: &[&str]) -> Result<Option<TopicKind>, TopicError> {
    let kind = match leaf {
        ["h"] => TopicKind::History,
        ["status"] => TopicKind::Status,
        ["meta"] => TopicKind::Meta,
        ["event"] => TopicKind::Event,
        ["cmd"] => TopicKind::Cmd,
        ["m", name] => TopicKind::Live((*name).to_owned()),
        ["ack", name] => TopicKind::Ack((*name).to_owned()),
        ["reply", name] => TopicKind::Reply((*name).to_owned()),
        _ => return Ok(None),
    };
    if let [_, name] = leaf {
        check_name(name)?;
    }
    Ok(Some(kind))
}

#[cfg(test)]
mod tests;
