//! One segment: a redb file named by its first seq, written by the process that created it and by no other,
//! then only read.
//!
//! [`Active`] creates and appends. [`Sealed`] reads, without ever changing the file: by the values' own checksums where
//! these prove every seq, else by a tree of which redb has verified every page, and when that is not sound either, what
//! the checksums do prove.
//! Owns no names beyond its own file, no ranges, no policy.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::fault::{Fault, guarded};
use super::names::{self, SegmentName};
use super::overlay::{Backing, Overlay};
use super::raw::{Raw, Unproven};
use super::value::{self, Burn, Times};
use crate::ranges::RangeSet;
use crate::wire::Chunk;

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const BURNS: TableDefinition<u64, &[u8]> = TableDefinition::new("burns");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const META_SEGMENT: &str = "segment";

/// What a segment says of itself and its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub format: u32,
    pub epoch: u64,
    pub first: u64,
    /// The epoch before this one in the same directory.
    pub prev: Option<u64>,
    /// Wall clock when the epoch was minted, milliseconds since 1970.
    pub created: i64,
    /// Of the hardware that the epoch was minted on.
    pub fingerprint: String,
}

/// Values of one commit: key (first seq) and bytes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub chunks: Vec<(u64, Vec<u8>)>,
    pub burns: Vec<(u64, Vec<u8>)>,
}

impl Batch {
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().chain(&self.burns).map(|(_, v)| v.len() as u64).sum()
    }
}

/// The segment being appended to.
pub(super) struct Active {
    db: Option<Database>,
    path: PathBuf,
}

impl Active {
    /// Creates the segment so that it appears complete or not at all: temporary name, commit, rename, directory
    /// synced. `copied` are values to start with (a small predecessor being replaced).
    pub(super) fn create(
        disk: &dyn Disk,
        dir: &Path,
        meta: &Meta,
        copied: &Batch,
        cache: usize,
    ) -> Result<Self, Fault> {
        let name = SegmentName { first: meta.first, last: None, corrupt: false };
        let (temp, path) = (dir.join(names::TEMP), dir.join(name.file_name()));
        let file = disk.create(&temp)?;
        let made = Self::fill(file, meta, copied, cache);
        let made = made.and_then(|db| {
            disk.rename(&temp, &path)?;
            disk.sync_dir(dir)?;
            Ok(db)
        });
        match made {
            Ok(db) => Ok(Self { db: Some(db), path }),
            Err(fault) => {
                // Best effort: a left-over is removed at the next open, and counts until then.
                drop(disk.unlink(&temp));
                Err(fault)
            }
        }
    }

    fn fill(file: Box<dyn StorageBackend>, meta: &Meta, copied: &Batch, cache: usize) -> Result<Database, Fault> {
        let described = serde_json::to_vec(meta).map_err(|e| Fault::Damaged(e.to_string()))?;
        guarded(move || {
            let db = Builder::new().set_cache_size(cache).create_with_backend(Backing(file))?;
            write(&db, copied, Some((META_SEGMENT, &described)))?;
            Ok(db)
        })
    }

    /// One durable commit. After any error this handle is of no more use, and neither is the file for writing:
    /// what it then holds beyond the last commit is void.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), Fault> {
        let db = self.db.as_ref().ok_or_else(|| Fault::Io("segment already closed".into()))?;
        guarded(|| write(db, batch, None))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, query: &Query) -> Result<Vec<Item>, Fault> {
        let db = self.db.as_ref().ok_or_else(|| Fault::Io("segment already closed".into()))?;
        guarded(|| read_tree(db, query))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // redb commits once more when it closes, which may fail or, on a damaged file, panic. Either leaves a
        // file that is read through the overlay: nothing is lost by ignoring it.
        let db = self.db.take();
        drop(guarded(move || {
            drop(db);
            Ok(())
        }));
    }
}

fn write(db: &Database, batch: &Batch, meta: Option<(&str, &[u8])>) -> Result<(), redb::Error> {
    let mut txn = db.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        let mut records = txn.open_table(RECORDS)?;
        for (key, value) in &batch.chunks {
            records.insert(key, value.as_slice())?;
        }
    }
    if !batch.burns.is_empty() || meta.is_some() {
        let mut burns = txn.open_table(BURNS)?;
        for (key, value) in &batch.burns {
            burns.insert(key, value.as_slice())?;
        }
        let mut table = txn.open_table(META)?;
        if let Some((key, value)) = meta {
            table.insert(key, value)?;
        }
    }
    Ok(txn.commit()?)
}

/// Which values to read: those holding seqs of `from..=to`, until `max_bytes` of maps are exceeded
/// (at least one chunk is always read).
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub max_bytes: usize,
}

/// What a read met, in seq order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Chunk(Chunk, Times),
    Burn(Burn),
}

impl Item {
    pub(super) fn first(&self) -> u64 {
        match self {
            Self::Chunk(chunk, _) => chunk.first,
            Self::Burn(burn) => burn.first,
        }
    }

    pub(super) fn last(&self) -> u64 {
        match self {
            Self::Chunk(chunk, _) => chunk.last(),
            Self::Burn(burn) => burn.last(),
        }
    }
}

fn read_tree(db: &impl ReadableDatabase, query: &Query) -> Result<Vec<Item>, redb::Error> {
    let txn = db.begin_read()?;
    let mut items = Vec::new();
    let records = txn.open_table(RECORDS)?;
    let start = records.range(..=query.from)?.next_back().transpose()?.map_or(query.from, |(key, _)| key.value());
    let mut bytes = 0;
    for entry in records.range(start..=query.to)? {
        let (key, value) = entry?;
        let chunk = value::decode_chunk(value.value(), query.epoch).filter(|(c, ..)| c.first == key.value());
        let (chunk, times, _) = chunk.ok_or_else(|| damaged(key.value()))?;
        if chunk.last() < query.from {
            continue;
        }
        bytes += chunk.maps.len();
        if bytes > query.max_bytes && !items.is_empty() {
            break;
        }
        items.push(Item::Chunk(chunk, times));
    }
    let end = items.last().map_or(query.to, Item::last);
    let burns = txn.open_table(BURNS)?;
    let start = burns.range(..=query.from)?.next_back().transpose()?.map_or(query.from, |(key, _)| key.value());
    for entry in burns.range(start..=end)? {
        let (key, value) = entry?;
        let burn = value::decode_burn(value.value(), query.epoch).filter(|b| b.first == key.value());
        let burn = burn.ok_or_else(|| damaged(key.value()))?;
        if burn.last() >= query.from {
            items.push(Item::Burn(burn));
        }
    }
    items.sort_by_key(Item::first);
    Ok(items)
}

fn damaged(key: u64) -> redb::Error {
    redb::Error::Corrupted(format!("the value at seq {key} does not match its checksum"))
}

/// A segment that is only read.
pub(super) enum Sealed {
    /// redb verified every page of it when it was opened.
    Tree(Option<Database>),
    /// By what the checksums prove: all of it, or what is left of a file whose tree is not to be trusted.
    Raw(Raw),
}

impl Sealed {
    /// Opens the tree and has redb verify it; the file is not changed.
    pub(super) fn open(disk: &dyn Disk, path: &Path, cache: usize) -> Result<Self, Fault> {
        let overlay = Overlay::new(disk.open(path, false)?)?;
        if overlay.len()? == 0 {
            return Err(Fault::Damaged("the file is empty".into()));
        }
        let db = guarded(move || {
            let mut builder = Builder::new();
            builder.set_cache_size(cache).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(overlay)?)
        })?;
        Ok(Self::Tree(Some(db)))
    }

    /// Without the tree when the checksums prove every one of `seqs`: one pass over the file instead of several.
    pub(super) fn open_proven(
        disk: &dyn Disk,
        path: &Path,
        cache: usize,
        epoch: u64,
        seqs: RangeInclusive<u64>,
    ) -> Result<Self, Fault> {
        match Unproven::new(disk.open(path, false)?, epoch, seqs).and_then(Unproven::prove) {
            Ok(Some(raw)) => Ok(Self::Raw(raw)),
            // A part that the disk refuses to read may be one that the tree does not need.
            Ok(None) | Err(_) => Self::open(disk, path, cache),
        }
    }

    /// Reads the whole file once and notes what its checksums prove.
    pub(super) fn open_raw(disk: &dyn Disk, path: &Path, epoch: u64, first: u64) -> Result<Self, Fault> {
        Ok(Self::Raw(Raw::remains(disk.open(path, false)?, epoch, first)?))
    }

    pub(super) fn meta(&self) -> Result<Meta, Fault> {
        let Self::Tree(Some(db)) = self else { return Err(Fault::Damaged("no sound tree".into())) };
        let described = guarded(|| {
            let table = db.begin_read()?.open_table(META)?;
            Ok(table.get(META_SEGMENT)?.map(|v| v.value().to_vec()))
        })?;
        let described = described.ok_or_else(|| Fault::Damaged("it does not say what it is".into()))?;
        serde_json::from_slice(&described).map_err(|e| Fault::Damaged(e.to_string()))
    }

    /// The seq after the last one it holds; `None` when it is empty.
    pub(super) fn end(&self, epoch: u64) -> Result<Option<u64>, Fault> {
        match self {
            Self::Tree(Some(db)) => guarded(|| {
                let txn = db.begin_read()?;
                let (records, burns) = (txn.open_table(RECORDS)?, txn.open_table(BURNS)?);
                let mut end = None;
                if let Some((key, value)) = records.last()? {
                    let last = value::decode_chunk(value.value(), epoch).ok_or_else(|| damaged(key.value()))?;
                    end = Some(last.0.last() + 1);
                }
                if let Some((key, value)) = burns.last()? {
                    let last = value::decode_burn(value.value(), epoch).ok_or_else(|| damaged(key.value()))?;
                    end = end.max(Some(last.last() + 1));
                }
                Ok(end)
            }),
            Self::Tree(None) => Ok(None),
            Self::Raw(raw) => Ok(raw.end()),
        }
    }

    pub(super) fn read(&mut self, query: &Query) -> Result<Vec<Item>, Fault> {
        match self {
            Self::Tree(Some(db)) => guarded(|| read_tree(db, query)),
            Self::Tree(None) => Ok(Vec::new()),
            Self::Raw(raw) => raw.read(query),
        }
    }

    /// Burns only, without reading the records.
    pub(super) fn burns(&self, epoch: u64) -> Result<Vec<Burn>, Fault> {
        match self {
            Self::Tree(Some(db)) => guarded(|| {
                let table = db.begin_read()?.open_table(BURNS)?;
                let mut burns = Vec::new();
                for entry in table.iter()? {
                    let (key, value) = entry?;
                    burns.push(value::decode_burn(value.value(), epoch).ok_or_else(|| damaged(key.value()))?);
                }
                Ok(burns)
            }),
            Self::Tree(None) => Ok(Vec::new()),
            Self::Raw(raw) => Ok(raw.burns().to_vec()),
        }
    }

    /// The seqs of records that their checksums prove; of a sound tree, nothing is looked up.
    pub(super) fn proven(&self) -> RangeSet {
        match self {
            Self::Tree(_) => RangeSet::new(),
            Self::Raw(raw) => raw.proven(),
        }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        if let Self::Tree(db) = self {
            let db = db.take();
            drop(guarded(move || {
                drop(db);
                Ok(())
            }));
        }
    }
}
