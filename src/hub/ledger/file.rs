//! The file of the ledger: its tables, how it is opened or begun, what its errors mean, and how a row is written and checked.

use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::guarded;
use crate::platform::files::lock_dir;

/// File name within the hub's directory.
pub const LEDGER: &str = "ledger.redb";
pub(super) const TEMP: &str = "ledger.tmp";
const FORMAT: u64 = 1;
/// Of redb's page cache.
const CACHE: usize = 8 << 20;

pub(super) const HOSTS: TableDefinition<&str, &[u8]> = TableDefinition::new("hosts");
pub(super) const EPOCHS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("epochs");
pub(super) const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");
pub(super) const FACT_FORMAT: &str = "format";
pub(super) const FACT_POSITION: &str = "position";

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger {0} is in use by another holdover-hub; give each worker a directory of its own")]
    InUse(PathBuf),
    #[error("the ledger {0} was written by a newer holdover-hub (format {1}); upgrade this one")]
    Newer(PathBuf, u64),
    #[error(
        "the ledger {path} cannot be read: {why}; move it away, or put an older copy in its place: the hub then reads from \
         the record files beside it what they hold"
    )]
    Damaged { path: PathBuf, why: String },
    #[error("there is no ledger in {0}; has `holdover-hub ingest` run with this --dir?")]
    Absent(PathBuf),
    #[error("the ledger {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// An error is not an absence: a new ledger would take the place of the one that cannot be seen at present.
pub(super) fn open_or_create(dir: &Path) -> Result<Database, LedgerError> {
    let path = dir.join(LEDGER);
    let unseen = |source| LedgerError::Io { path: path.clone(), source };
    if path.try_exists().map_err(unseen)? { open_file(&path) } else { create(dir) }
}

pub(super) fn open_file(path: &Path) -> Result<Database, LedgerError> {
    builder().open(path).map_err(|e| unopened(path, e))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// One at a time begins in a directory: two would take each other's file away, and one of them write to a file without a
/// name. From then on the lock is the ledger's own.
fn create(dir: &Path) -> Result<Database, LedgerError> {
    let path = dir.join(LEDGER);
    let _lock = match lock_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(LedgerError::InUse(path)),
        // Where there are no such locks the ledger's own keeps nobody away either.
        lock => lock.ok(),
    };
    let exists = path.try_exists().map_err(|source| LedgerError::Io { path: path.clone(), source })?;
    if exists { open_file(&path) } else { begin(dir) }
}

/// Complete or not at all. Whoever calls is alone in `dir`.
fn begin(dir: &Path) -> Result<Database, LedgerError> {
    let (temp, path) = (dir.join(TEMP), dir.join(LEDGER));
    let io = |source| LedgerError::Io { path: path.clone(), source };
    match std::fs::remove_file(&temp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    let db = builder().create(&temp).map_err(|e| unopened(&path, e))?;
    begin_file(&db).map_err(|e| failed(&path, e))?;
    std::fs::rename(&temp, &path).map_err(io)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(db)
}

/// Makes an empty ledger of an empty file.
pub fn begin_file(db: &Database) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.open_table(HOSTS)?;
    txn.open_table(EPOCHS)?;
    txn.open_table(FACTS)?.insert(FACT_FORMAT, FORMAT.to_string().as_bytes())?;
    Ok(txn.commit()?)
}

pub(super) fn check_format(path: &Path, format: Option<&str>) -> Result<(), LedgerError> {
    match format.and_then(|f| f.parse().ok()) {
        Some(FORMAT) => Ok(()),
        Some(newer) => Err(LedgerError::Newer(path.to_owned(), newer)),
        None => Err(LedgerError::Damaged { path: path.to_owned(), why: "it does not say its format".to_owned() }),
    }
}

pub(super) fn read<T>(
    db: &Database,
    path: &Path,
    read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
) -> Result<T, LedgerError> {
    let read = || db.begin_read().map_err(redb::Error::from).and_then(|txn| read(&txn));
    guarded(path, || read().map_err(|e| failed(path, e)))
}

pub(super) fn unopened(path: &Path, error: DatabaseError) -> LedgerError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerError::InUse(path.to_owned()),
        other => failed(path, other.into()),
    }
}

pub(super) fn failed(path: &Path, error: redb::Error) -> LedgerError {
    let path = path.to_owned();
    match error {
        // redb's words for "not a database"; a read beyond the end is a file cut short.
        redb::Error::Io(source)
            if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            LedgerError::Damaged { path, why: source.to_string() }
        }
        redb::Error::Io(source) => LedgerError::Io { path, source },
        redb::Error::PreviousIo => LedgerError::Io { path, source: io::Error::other(error) },
        other => LedgerError::Damaged { path, why: other.to_string() },
    }
}

/// MessagePack behind a checksum.
pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(row).expect("rows are maps with text keys");
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// A row that does not match its checksum is as good as none: what it knew may be stored twice, and is asked for again.
pub(super) fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Option<T> {
    #[cfg(test)]
    super::tests::DECODED.with(|count| count.set(count.get() + 1));
    let (crc, body) = bytes.split_at_checked(4)?;
    let row = (crc == crc32fast::hash(body).to_le_bytes()).then(|| rmp_serde::from_slice(body).ok()).flatten();
    if row.is_none() {
        tracing::error!(path = %path.display(), "a row of the ledger is damaged and is forgotten: what it knew may be stored twice");
    }
    row
}
