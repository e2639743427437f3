//! The hub's memory, in one redb file: what is committed, declared and corrected for each host and epoch, and where the
//! sink stood at the same moment.
//!
//! One [`Draft`] is one commit: the rows it changed and the sink's position become durable together or not at all.
//! After an error the file is opened anew and believed; nothing cached outlives it. Bounded: epochs for each host,
//! ranges for each epoch, and the cache; the number of hosts is the broker's to bound (a certificate each).

mod account;
mod clocks;
mod guard;
mod host;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::account::{Account, MAX_RANGES};
use self::account::{AccountRow, LastHeard};
pub use self::clocks::Times;
use self::guard::{Guarded, guarded};
pub use self::host::{HostRow, Told};
pub use self::view::View;
use crate::platform::files::lock_dir;

/// File name within the hub's directory.
pub const LEDGER: &str = "ledger.redb";
const TEMP: &str = "ledger.tmp";
const FORMAT: u64 = 1;
/// Of redb's page cache.
const CACHE: usize = 8 << 20;
/// Epochs remembered for each host; the one heard least recently makes room.
pub const MAX_EPOCHS: usize = 64;
/// Ranges and accounts held in memory between commits.
const CACHED_RANGES: usize = 200_000;
const CACHED_ACCOUNTS: usize = 20_000;
/// Hosts of which it is known between commits when their epochs were heard.
const CACHED_HEARD: usize = 1000;

const HOSTS: TableDefinition<&str, &[u8]> = TableDefinition::new("hosts");
const EPOCHS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("epochs");
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");
const FACT_FORMAT: &str = "format";
const FACT_POSITION: &str = "position";

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

type Key = (String, u64);

/// Opens the file, or begins one, complete or not at all.
pub type Opener = Box<dyn Fn() -> Result<Database, LedgerError> + Send>;

pub struct Ledger {
    dir: PathBuf,
    opener: Opener,
    db: Option<Guarded>,
    position: Option<String>,
    accounts: BTreeMap<Key, Account>,
    hosts: BTreeMap<String, HostRow>,
    cached_ranges: usize,
    /// When each epoch was heard last, of hosts that have brought new ones.
    heard: BTreeMap<String, BTreeMap<u64, i64>>,
    forgot: BTreeMap<(String, Forgot), u64>,
}

/// What a bound made the ledger forget of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forgot {
    Epoch,
    Ranges,
}

impl Forgot {
    pub fn text(self) -> &'static str {
        match self {
            Self::Epoch => "more epochs than the ledger keeps: the one heard least recently is forgotten",
            Self::Ranges => "more ranges than the ledger keeps: the smallest are forgotten, and may be stored twice",
        }
    }
}

impl Ledger {
    /// Opens the ledger in `dir`, or begins one that appears complete or not at all.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let here = dir.to_owned();
        Self::kept_by(dir, Box::new(move || open_or_create(&here)))
    }

    /// The same on a file that is opened otherwise; see [`begin_file`]. `dir` is for messages.
    pub fn kept_by(dir: &Path, opener: Opener) -> Result<Self, LedgerError> {
        let mut ledger = Self {
            dir: dir.to_owned(),
            opener,
            db: None,
            position: None,
            accounts: BTreeMap::new(),
            hosts: BTreeMap::new(),
            cached_ranges: 0,
            heard: BTreeMap::new(),
            forgot: BTreeMap::new(),
        };
        ledger.reopen()?;
        Ok(ledger)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn reopen(&mut self) -> Result<(), LedgerError> {
        self.forget_cache();
        let path = self.dir.join(LEDGER);
        let db = Guarded::new(guarded(&path, || (self.opener)())?);
        let facts = read(&db, &path, |txn| {
            let table = txn.open_table(FACTS)?;
            let text =
                |key| Ok::<_, redb::Error>(table.get(key)?.map(|v| String::from_utf8_lossy(v.value()).into_owned()));
            Ok((text(FACT_FORMAT)?, text(FACT_POSITION)?))
        })?;
        check_format(&path, facts.0.as_deref())?;
        self.position = facts.1;
        self.db = Some(db);
        Ok(())
    }

    fn forget_cache(&mut self) {
        self.accounts.clear();
        self.hosts.clear();
        self.heard.clear();
        self.cached_ranges = 0;
    }

    /// What the bounds made the last draft forget, with one epoch of each host.
    pub fn take_forgotten(&mut self) -> BTreeMap<(String, Forgot), u64> {
        std::mem::take(&mut self.forgot)
    }

    /// Where the sink stood at the last commit; `None` before the first.
    pub fn position(&mut self) -> Result<Option<&str>, LedgerError> {
        self.ready()?;
        Ok(self.position.as_deref())
    }

    fn ready(&mut self) -> Result<(), LedgerError> {
        if self.db.is_none() { self.reopen() } else { Ok(()) }
    }

    /// Begins a commit.
    pub fn draft(&mut self) -> Result<Draft<'_>, LedgerError> {
        self.ready()?;
        if self.cached_ranges > CACHED_RANGES || self.accounts.len() > CACHED_ACCOUNTS {
            self.forget_cache();
        }
        self.forgot.clear();
        Ok(Draft { ledger: self, accounts: BTreeMap::new(), hosts: BTreeMap::new(), removed: BTreeSet::new() })
    }

    /// Everything, as of the last commit.
    pub fn view(&mut self) -> Result<View, LedgerError> {
        self.ready()?;
        let path = self.dir.join(LEDGER);
        let Some(db) = &self.db else { return Err(LedgerError::Absent(self.dir.clone())) };
        let txn = guarded(&path, || db.begin_read().map_err(|e| failed(&path, redb::Error::from(e))))?;
        Ok(View::of(path, txn))
    }

    /// When each stored epoch of a host was heard last; read from its rows once, which may be large.
    fn heard(&mut self, host: &str) -> Result<&BTreeMap<u64, i64>, LedgerError> {
        if !self.heard.contains_key(host) {
            let path = self.dir.join(LEDGER);
            let Some(db) = &self.db else { return Err(LedgerError::Absent(self.dir.clone())) };
            let known = read(db, &path, |txn| {
                let mut known = BTreeMap::new();
                for row in txn.open_table(EPOCHS)?.range((host, 0)..=(host, u64::MAX))? {
                    let (key, value) = row?;
                    known.insert(key.value().1, decode::<LastHeard>(&path, value.value()).map_or(0, |row| row.last_ms));
                }
                Ok(known)
            });
            if known.is_err() {
                self.db = None;
            }
            let known = known?;
            if self.heard.len() >= CACHED_HEARD {
                self.heard.clear();
            }
            self.heard.insert(host.to_owned(), known);
        }
        Ok(self.heard.entry(host.to_owned()).or_default())
    }

    fn row<T: DeserializeOwned>(
        &mut self,
        get: impl FnOnce(&ReadTransaction) -> Result<Option<Vec<u8>>, redb::Error>,
    ) -> Result<Option<T>, LedgerError> {
        let path = self.dir.join(LEDGER);
        let Some(db) = &self.db else { return Err(LedgerError::Absent(self.dir.clone())) };
        let bytes = read(db, &path, get);
        if bytes.is_err() {
            self.db = None;
        }
        Ok(bytes?.and_then(|bytes| decode(&path, &bytes)))
    }
}

/// A commit in the making. Dropped, it leaves nothing behind.
pub struct Draft<'a> {
    ledger: &'a mut Ledger,
    accounts: BTreeMap<Key, Account>,
    hosts: BTreeMap<String, HostRow>,
    removed: BTreeSet<Key>,
}

impl Draft<'_> {
    /// The account of an epoch, to be changed.
    pub fn account(&mut self, host: &str, epoch: u64) -> Result<&mut Account, LedgerError> {
        let key = (host.to_owned(), epoch);
        if !self.accounts.contains_key(&key) {
            let known = self.peek(host, epoch)?;
            if known.is_none() {
                self.make_room(host)?;
            }
            self.removed.remove(&key);
            self.accounts.insert(key.clone(), known.unwrap_or_default());
        }
        Ok(self.accounts.entry(key).or_default())
    }

    /// The account of an epoch as it stands, if there is one.
    pub fn peek(&mut self, host: &str, epoch: u64) -> Result<Option<Account>, LedgerError> {
        let key = (host.to_owned(), epoch);
        if self.removed.contains(&key) {
            return Ok(None);
        }
        if let Some(account) = self.accounts.get(&key).or_else(|| self.ledger.accounts.get(&key)) {
            return Ok(Some(account.clone()));
        }
        let row: Option<AccountRow> =
            self.ledger.row(|txn| Ok(txn.open_table(EPOCHS)?.get((host, epoch))?.map(|v| v.value().to_vec())))?;
        let account = row.map(Account::from);
        if let Some(account) = &account {
            self.ledger.cached_ranges += account.range_count();
            self.ledger.accounts.insert(key, account.clone());
        }
        Ok(account)
    }

    pub fn host(&mut self, host: &str) -> Result<&mut HostRow, LedgerError> {
        if !self.hosts.contains_key(host) {
            let row = match self.ledger.hosts.get(host) {
                Some(row) => row.clone(),
                None => {
                    let stored =
                        |txn: &ReadTransaction| Ok(txn.open_table(HOSTS)?.get(host)?.map(|v| v.value().to_vec()));
                    self.ledger.row(stored)?.unwrap_or_default()
                }
            };
            self.hosts.insert(host.to_owned(), row);
        }
        Ok(self.hosts.entry(host.to_owned()).or_default())
    }

    /// The same of one that was heard of before; a question makes no row.
    pub fn known_host(&mut self, host: &str) -> Result<Option<&mut HostRow>, LedgerError> {
        let asked_only = !self.hosts.contains_key(host);
        if self.host(host)?.first_ms == 0 && asked_only {
            self.hosts.remove(host);
        }
        Ok(self.hosts.get_mut(host))
    }

    /// Forgets an epoch.
    pub fn remove(&mut self, host: &str, epoch: u64) {
        let key = (host.to_owned(), epoch);
        self.accounts.remove(&key);
        self.removed.insert(key);
    }

    /// Forgets an epoch when the host has no place for one more.
    fn make_room(&mut self, host: &str) -> Result<(), LedgerError> {
        let of_host = (host.to_owned(), 0)..=(host.to_owned(), u64::MAX);
        let mut known = self.ledger.heard(host)?.clone();
        known.retain(|epoch, _| !self.removed.contains(&(host.to_owned(), *epoch)));
        known.extend(self.accounts.range(of_host).map(|((_, epoch), account)| (*epoch, account.last_ms)));
        if known.len() >= MAX_EPOCHS
            && let Some((oldest, _)) = known.into_iter().min_by_key(|(epoch, heard)| (*heard, *epoch))
        {
            self.ledger.forgot.insert((host.to_owned(), Forgot::Epoch), oldest);
            self.remove(host, oldest);
        }
        Ok(())
    }

    /// Makes all of it durable, with the sink's position. Returns the accounts as committed.
    pub fn commit(mut self, position: &str) -> Result<BTreeMap<Key, Account>, LedgerError> {
        for ((host, epoch), account) in &mut self.accounts {
            if account.hold_to(MAX_RANGES) {
                self.ledger.forgot.insert((host.clone(), Forgot::Ranges), *epoch);
            }
        }
        let path = self.ledger.dir.join(LEDGER);
        let Some(db) = self.ledger.db.take() else { return Err(LedgerError::Absent(self.ledger.dir.clone())) };
        // What a failed commit has left is known only once the file is read again.
        guarded(&path, || self.write(&db, position).map_err(|e| failed(&path, e)))?;
        self.ledger.db = Some(db);
        self.ledger.position = Some(position.to_owned());
        for key in &self.removed {
            self.ledger.accounts.remove(key);
            self.ledger.heard.get_mut(&key.0).map(|heard| heard.remove(&key.1));
        }
        for (key, account) in &self.accounts {
            self.ledger.heard.get_mut(&key.0).map(|heard| heard.insert(key.1, account.last_ms));
            self.ledger.cached_ranges += account.range_count();
            self.ledger.accounts.insert(key.clone(), account.clone());
        }
        self.ledger.hosts.extend(std::mem::take(&mut self.hosts));
        Ok(std::mem::take(&mut self.accounts))
    }

    fn write(&self, db: &Database, position: &str) -> Result<(), redb::Error> {
        let mut txn = db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        {
            let mut hosts = txn.open_table(HOSTS)?;
            for (host, row) in &self.hosts {
                hosts.insert(host.as_str(), encode(row).as_slice())?;
            }
            let mut epochs = txn.open_table(EPOCHS)?;
            for (host, epoch) in &self.removed {
                epochs.remove((host.as_str(), *epoch))?;
            }
            for ((host, epoch), account) in &self.accounts {
                epochs.insert((host.as_str(), *epoch), encode(&AccountRow::from(account)).as_slice())?;
            }
            txn.open_table(FACTS)?.insert(FACT_POSITION, position.as_bytes())?;
        }
        Ok(txn.commit()?)
    }
}

/// An error is not an absence: a new ledger would take the place of the one that cannot be seen at present.
fn open_or_create(dir: &Path) -> Result<Database, LedgerError> {
    let path = dir.join(LEDGER);
    let unseen = |source| LedgerError::Io { path: path.clone(), source };
    if path.try_exists().map_err(unseen)? { open_file(&path) } else { create(dir) }
}

fn open_file(path: &Path) -> Result<Database, LedgerError> {
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

fn check_format(path: &Path, format: Option<&str>) -> Result<(), LedgerError> {
    match format.and_then(|f| f.parse().ok()) {
        Some(FORMAT) => Ok(()),
        Some(newer) => Err(LedgerError::Newer(path.to_owned(), newer)),
        None => Err(LedgerError::Damaged { path: path.to_owned(), why: "it does not say its format".to_owned() }),
    }
}

fn read<T>(
    db: &Database,
    path: &Path,
    read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
) -> Result<T, LedgerError> {
    let read = || db.begin_read().map_err(redb::Error::from).and_then(|txn| read(&txn));
    guarded(path, || read().map_err(|e| failed(path, e)))
}

fn unopened(path: &Path, error: DatabaseError) -> LedgerError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerError::InUse(path.to_owned()),
        other => failed(path, other.into()),
    }
}

fn failed(path: &Path, error: redb::Error) -> LedgerError {
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
fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(row).expect("rows are maps with text keys");
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// A row that does not match its checksum is as good as none: what it knew may be stored twice, and is asked for again.
fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Option<T> {
    #[cfg(test)]
    tests::DECODED.with(|count| count.set(count.get() + 1));
    let (crc, body) = bytes.split_at_checked(4)?;
    let row = (crc == crc32fast::hash(body).to_le_bytes()).then(|| rmp_serde::from_slice(body).ok()).flatten();
    if row.is_none() {
        tracing::error!(path = %path.display(), "a row of the ledger is damaged and is forgotten: what it knew may be stored twice");
    }
    row
}

#[cfg(test)]
mod tests;
