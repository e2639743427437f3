//! The ledger as it stands at one moment, to be read while the hub goes on, or when none runs.

use std::path::{Path, PathBuf};

use redb::{DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable};

use super::account::{Account, AccountRow};
use super::file::{
    EPOCHS, FACT_FORMAT, FACTS, HOSTS, LEDGER, LedgerError, check_format, decode, failed, open_file, unopened,
};
use super::guard::{Guarded, guarded};
use super::host::HostRow;

/// The ledger at one moment.
pub struct View {
    path: PathBuf,
    txn: ReadTransaction,
    /// Closed with it, when the view opened it.
    _db: Option<Held>,
}

#[expect(dead_code, reason = "held open, never looked at")]
enum Held {
    ReadOnly(ReadOnlyDatabase),
    Repaired(Guarded),
}

impl View {
    pub(super) fn of(path: PathBuf, txn: ReadTransaction) -> Self {
        Self { path, txn, _db: None }
    }

    /// Reads the ledger of a hub that is not running.
    pub fn open(dir: &Path) -> Result<Self, LedgerError> {
        let path = dir.join(LEDGER);
        if !path.exists() {
            return Err(LedgerError::Absent(dir.to_owned()));
        }
        let unread = |e: redb::TransactionError| failed(&path, e.into());
        let (txn, db) = guarded(&path, || match ReadOnlyDatabase::open(&path) {
            Ok(db) => Ok((db.begin_read().map_err(unread)?, Held::ReadOnly(db))),
            // It was not closed in good order, and is repaired by being opened.
            Err(DatabaseError::RepairAborted) => {
                let db = Guarded::new(open_file(&path)?);
                Ok((db.begin_read().map_err(unread)?, Held::Repaired(db)))
            }
            Err(error) => Err(unopened(&path, error)),
        })?;
        let view = Self { path, txn, _db: Some(db) };
        let format = view.rows(|txn| Ok(txn.open_table(FACTS)?.get(FACT_FORMAT)?.map(|v| v.value().to_vec())))?;
        check_format(&view.path, format.as_deref().and_then(|f| std::str::from_utf8(f).ok()))?;
        Ok(view)
    }

    fn rows<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, LedgerError> {
        guarded(&self.path, || read(&self.txn).map_err(|e| failed(&self.path, e)))
    }

    /// Each host with its epochs, by name.
    pub fn each(&self, mut visit: impl FnMut(&str, &HostRow, &[(u64, Account)])) -> Result<(), LedgerError> {
        self.rows(|txn| {
            let (hosts, epochs) = (txn.open_table(HOSTS)?, txn.open_table(EPOCHS)?);
            for row in hosts.iter()? {
                let (name, row) = row?;
                let Some(host) = decode::<HostRow>(&self.path, row.value()) else { continue };
                let mut accounts = Vec::new();
                for row in epochs.range((name.value(), 0)..=(name.value(), u64::MAX))? {
                    let (key, value) = row?;
                    let account = decode::<AccountRow>(&self.path, value.value()).map(Account::from);
                    accounts.extend(account.map(|account| (key.value().1, account)));
                }
                visit(name.value(), &host, &accounts);
            }
            Ok(())
        })
    }
}
