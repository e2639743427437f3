//! The lazy state: what may be some minutes old without harm, in one small redb file.
//!
//! Losing it costs duplicates and conservative losses, never records: segments and their names are the truth.
//! It is opened, kept open and replaced here; what it means is decided by the callers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition};
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::fault::{Fault, guarded};
use super::ledger::Ledger;
use super::names;
use super::overlay::{Backing, Overlay};
use crate::ranges::RangeSet;
use crate::wire::{Loss, LossReason};

const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
const KEY: &str = "state";
/// Of redb's page cache for this file.
const CACHE: usize = 64 * 1024;

type Ranges = Vec<(u64, u64)>;

/// Everything saved, as it is stored (MessagePack behind a checksum).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Wall clock at the save, milliseconds since 1970.
    pub wall_ms: i64,
    /// Wall clock when a time service last vouched for it, milliseconds since 1970; 0 when never.
    #[serde(default)]
    pub vouched_ms: i64,
    pub epochs: Vec<EpochState>,
    pub losses: Vec<Loss>,
    /// Small facts of the agent that must survive a restart.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct EpochState {
    pub epoch: u64,
    pub ordinal: u32,
    pub prev: Option<u64>,
    pub created: i64,
    /// Every seq below this was drawn when the state was saved.
    pub next: u64,
    pub settled: Ranges,
    pub lost: Vec<(LossReason, Ranges)>,
    pub quarantined: Ranges,
}

impl EpochState {
    pub(super) fn ledger(&self) -> Ledger {
        let set = |ranges: &Ranges| ranges.iter().filter(|(a, _)| *a > 0).map(|(a, b)| *a..=*b).collect::<RangeSet>();
        let lost = self.lost.iter().map(|(reason, ranges)| (*reason, set(ranges))).collect();
        Ledger::new(set(&self.settled), lost, set(&self.quarantined))
    }

    pub(super) fn set_ledger(&mut self, ledger: &Ledger) {
        let ranges = |set: &RangeSet| set.iter().map(|r| (*r.start(), *r.end())).collect::<Ranges>();
        self.settled = ranges(ledger.settled());
        self.lost = ledger.lost().iter().map(|(reason, set)| (*reason, ranges(set))).collect();
        self.quarantined = ranges(ledger.quarantined());
    }
}

/// What was found where the state should be.
pub(super) enum Loaded {
    Nothing,
    State(Box<State>),
    /// Damaged: set it aside.
    Unreadable(String),
}

/// Reads the state without changing or holding the file.
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Loaded, Fault> {
    let path = dir.join(names::STATE);
    if !disk.list(dir)?.iter().any(|entry| entry.name == names::STATE) {
        return Ok(Loaded::Nothing);
    }
    match read(disk, &path) {
        Ok(state) => Ok(Loaded::State(Box::new(state))),
        Err(Fault::Damaged(why)) => Ok(Loaded::Unreadable(why)),
        Err(fault) => Err(fault),
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<State, Fault> {
    let overlay = Overlay::new(disk.open(path, false)?)?;
    if redb::StorageBackend::len(&overlay)? == 0 {
        return Err(Fault::Damaged("the file is empty".into()));
    }
    let bytes = guarded(move || {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let db = builder.create_with_backend(overlay)?;
        let table = db.begin_read()?.open_table(TABLE)?;
        Ok(table.get(KEY)?.map(|v| v.value().to_vec()))
    })?;
    decode(&bytes.ok_or_else(|| Fault::Damaged("it holds no state".into()))?)
}

fn decode(bytes: &[u8]) -> Result<State, Fault> {
    let (crc, body) = bytes.split_at_checked(4).ok_or_else(|| Fault::Damaged("the state is cut short".into()))?;
    if crc != crc32fast::hash(body).to_le_bytes() {
        return Err(Fault::Damaged("the state does not match its checksum".into()));
    }
    rmp_serde::from_slice(body).map_err(|e| Fault::Damaged(e.to_string()))
}

fn encode(state: &State) -> Result<Vec<u8>, Fault> {
    let body = rmp_serde::to_vec_named(state).map_err(|e| Fault::Damaged(e.to_string()))?;
    let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
    bytes.extend(body);
    Ok(bytes)
}

/// The state file, open for saving.
pub(super) struct StateFile {
    dir: PathBuf,
    db: Option<Database>,
}

impl StateFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), db: None }
    }

    /// One durable commit. After an error the file is opened anew at the next save.
    pub(super) fn save(&mut self, disk: &dyn Disk, state: &State) -> Result<(), Fault> {
        let bytes = encode(state)?;
        let saved = match self.db.take() {
            Some(db) => Ok(db),
            None => self.open(disk, &bytes),
        };
        let saved = saved.and_then(|db| guarded(|| put(&db, &bytes)).map(|()| db));
        self.db = Some(saved?);
        Ok(())
    }

    /// Opens the existing file, or creates one so that it appears complete or not at all.
    fn open(&self, disk: &dyn Disk, first: &[u8]) -> Result<Database, Fault> {
        let existing = disk.list(&self.dir)?.into_iter().any(|entry| entry.name == names::STATE);
        match self.open_at(disk, first, existing) {
            // Damaged while we ran (what a failed sync leaves behind): all of it is in memory, so it is replaced.
            Err(Fault::Damaged(_)) if existing => self.open_at(disk, first, false),
            opened => opened,
        }
    }

    fn open_at(&self, disk: &dyn Disk, first: &[u8], existing: bool) -> Result<Database, Fault> {
        let path = self.dir.join(names::STATE);
        let at = if existing { path.clone() } else { self.dir.join(names::TEMP) };
        let file = if existing { disk.open(&at, true)? } else { disk.create(&at)? };
        let db = guarded(move || {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE).set_check_integrity_on_open(existing);
            Ok(builder.create_with_backend(Backing(file))?)
        })?;
        if !existing {
            guarded(|| put(&db, first))?;
            disk.rename(&at, &path)?;
            disk.sync_dir(&self.dir)?;
        }
        Ok(db)
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let db = self.db.take();
        drop(guarded(move || {
            drop(db);
            Ok(())
        }));
    }
}

fn put(db: &Database, bytes: &[u8]) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    txn.open_table(TABLE)?.insert(KEY, bytes)?;
    Ok(txn.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_back_as_written() {
        let mut ledger = Ledger::default();
        ledger.settle(&RangeSet::from_iter([1..=9]));
        ledger.lose(20..=30, LossReason::Age);
        ledger.quarantine(12..=12);
        let mut epoch =
            EpochState { epoch: 7, ordinal: 2, prev: Some(6), created: 1, next: 40, ..EpochState::default() };
        epoch.set_ledger(&ledger);
        assert_eq!(epoch.ledger(), ledger);
        let loss = Loss { epoch: 7, from: 20, to: None, count: 0, reason: LossReason::Corrupt, t0: 0, t1: 0 };
        let notes = BTreeMap::from([("level".to_owned(), "hub".to_owned())]);
        let state = State { wall_ms: 5, vouched_ms: 4, epochs: vec![epoch], losses: vec![loss], notes };
        let bytes = encode(&state).unwrap();
        assert_eq!(decode(&bytes), Ok(state));
        let mut flipped = bytes;
        flipped[9] ^= 4;
        assert!(matches!(decode(&flipped), Err(Fault::Damaged(_))));
    }
}
