//! One commit in the making: the rows that it changes, and the bounds of what is remembered of a host.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, Durability, ReadTransaction};

use super::account::{Account, AccountRow, MAX_RANGES};
use super::file::{EPOCHS, FACT_POSITION, FACTS, HOSTS, LEDGER, LedgerError, encode, failed};
use super::guard::guarded;
use super::host::HostRow;
use super::{Forgot, Key, Ledger};

/// Epochs remembered for each host; the one heard least recently makes room.
pub const MAX_EPOCHS: usize = 64;

/// A commit in the making. Dropped, it leaves nothing behind.
pub struct Draft<'a> {
    ledger: &'a mut Ledger,
    accounts: BTreeMap<Key, Account>,
    hosts: BTreeMap<String, HostRow>,
    removed: BTreeSet<Key>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(ledger: &'a mut Ledger) -> Self {
        Self { ledger, accounts: BTreeMap::new(), hosts: BTreeMap::new(), removed: BTreeSet::new() }
    }

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
