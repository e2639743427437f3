//! What `ingest` is asked for, and how it can end. Checked by the command line; nothing is opened or read here.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::commit::CommitError;
use crate::hub::lasting::is_lasting;
use crate::hub::ledger::LedgerError;
use crate::hub::link::{LinkError, LinkOptions};
use crate::hub::sinks::{SinkError, SinkKind, SinkOptions};

#[derive(Clone)]
pub struct Options {
    pub link: LinkOptions,
    pub prefix: String,
    /// Our names in topics.
    pub hub: String,
    pub worker: String,
    /// Of the ledger and the socket.
    pub dir: PathBuf,
    pub sink: &'static SinkKind,
    pub sink_options: SinkOptions,
    /// Messages are committed together when the first has waited this long.
    pub window: Duration,
    /// When the house is kept: cron with seconds, in UTC.
    pub housekeeping: String,
    /// Epochs that are complete and silent for so long are forgotten.
    pub forget_after: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    #[error("{0}")]
    Sink(#[from] SinkError),
    #[error("cannot use the directory {path}: {source}")]
    Dir { path: PathBuf, source: io::Error },
    /// At a start; trying again does not mend it.
    #[error(
        "cannot begin: {0}; check that --dir is the right path, and that the hub's user may write to it and to all in it"
    )]
    Unusable(Box<IngestError>),
    #[error("{0}")]
    Internal(String),
}

impl IngestError {
    /// Whether the disk is the reason, and may be as it should be later.
    pub(super) fn may_pass(&self) -> bool {
        self.of_a_file().is_some_and(|source| !is_lasting(source))
    }

    /// Whether the disk is as it should be, and what it was asked for is wrong.
    pub(super) fn is_lasting(&self) -> bool {
        self.of_a_file().is_some_and(is_lasting)
    }

    fn of_a_file(&self) -> Option<&io::Error> {
        match self {
            Self::Sink(SinkError { source, .. })
            | Self::Ledger(LedgerError::Io { source, .. })
            | Self::Dir { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<CommitError> for IngestError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Sink(error) => error.into(),
            CommitError::Ledger(error) => error.into(),
        }
    }
}
