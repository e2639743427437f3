//! The hub's memory, in one redb file: what is committed, declared and corrected for each host and epoch, and where the
//! sink stood at the same moment.
//!
//! One [`Draft`] is one commit: the rows it changed and the sink's position become durable together or not at all.
//! After an error the file is opened anew and believed; nothing cached outlives it. Bounded: epochs for each host,
//! ranges for each epoch, and the cache; the number of hosts is the broker's to bound (a certificate each).

mod account;
mod clocks;
mod draft;
mod file;
mod guard;
mod host;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableDatabase};
use serde::de::DeserializeOwned;

use self::account::LastHeard;
pub use self::account::{Account, MAX_RANGES};
pub use self::clocks::Times;
pub use self::draft::{Draft, MAX_EPOCHS};
use self::file::{EPOCHS, FACT_FORMAT, FACT_POSITION, FACTS, check_format, decode, failed, open_or_create, read};
pub use self::file::{LEDGER, LedgerError, begin_file};
use self::guard::{Guarded, guarded};
pub use self::host::{HostRow, Told};
pub use self::view::View;

/// Ranges and accounts held in memory between commits.
const CACHED_RANGES: usize = 200_000;
const CACHED_ACCOUNTS: usize = 20_000;
/// Hosts of which it is known between commits when their epochs were heard.
const CACHED_HEARD: usize = 1000;

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
        Ok(Draft::of(self))
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

#[cfg(test)]
mod tests;
