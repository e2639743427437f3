//! What `tail` is asked for, and how it can end. Checked by the command line; nothing is opened or read here.

use std::time::Duration;

use crate::hub::filter::Filter;
use crate::hub::link::{LinkError, LinkOptions};
use crate::hub::summary::Summary;

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// One JSON object a line; `summary`: the last is the summary.
    Lines { summary: bool },
    /// A table that is redrawn in place.
    Table { color: bool },
}

#[derive(Clone, Debug)]
pub struct Options {
    pub link: LinkOptions,
    pub prefix: String,
    /// Whether we are the only receiver: gaps can be judged.
    pub alone: bool,
    pub filter: Filter,
    pub show: Show,
    /// Ends after so many records were shown.
    pub count: Option<u64>,
    /// Ends after this long.
    pub duration: Option<Duration>,
    /// Then goes on for up to this long while a gap is open.
    pub linger: Duration,
    /// Gives up when the first connection takes longer.
    pub connect_within: Option<Duration>,
}

/// Why nothing could be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("cannot write to standard output: {0}")]
    Output(String),
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Report {
    pub summary: Summary,
    /// Whoever read our output has gone: nobody waits for a summary.
    pub reader_gone: bool,
}
