//! redb on a file that may be damaged: it panics over some damage, when it opens, reads, writes and closes. That is
//! [`LedgerError::Damaged`], and the hub goes on to say what is to be done.

use std::ops::Deref;
use std::path::Path;

use redb::Database;

use super::LedgerError;
use crate::caught::caught;

pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    caught(work).unwrap_or_else(|why| {
        Err(LedgerError::Damaged { path: path.to_owned(), why: format!("redb gave up on it ({why})") })
    })
}

/// An open file, closed under guard.
pub(super) struct Guarded(Option<Database>);

impl Guarded {
    pub fn new(db: Database) -> Self {
        Self(Some(db))
    }
}

impl Deref for Guarded {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let db = self.0.take();
        // Nothing is lost: what was committed is in the file.
        caught(move || drop(db)).ok();
    }
}
