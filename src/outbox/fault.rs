//! What can go wrong below the outbox, in three kinds that are treated differently, and the guard around redb.

use std::io;

use crate::caught::caught;

/// Why an operation on a file failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// No space left: some may be made, or come back.
    #[error("no space left on the disk: {0}")]
    Full(String),
    /// The disk refused: try again later on a new handle.
    #[error("{0}")]
    Io(String),
    /// The bytes are not what was written: trying again does not help.
    #[error("damaged: {0}")]
    Damaged(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            // redb's words for "not a database"; a read beyond the end is a truncated file.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen => Self::Io(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Runs redb code on bytes that the world can have changed. redb may panic on a damaged file (its documentation
/// says so of `open`); a damaged file must cost its records, not the agent. The closure's state is dropped with
/// the failed handle, so nothing half-changed is seen afterwards.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    match caught(work) {
        Ok(result) => result.map_err(Fault::from),
        Err(why) => Err(Fault::Damaged(format!("redb gave up on it: {why}"))),
    }
}
