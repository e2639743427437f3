//! Faults between the shipped parts: each must be caught by the oracle, for the right reason. None is in the code itself.

use std::io;
use std::path::Path;
use std::sync::Arc;

use holdover::outbox::writer::Event;
use holdover::outbox::{Disk, Entry};
use redb::StorageBackend;

use super::crash_disk::SimDisk;
use crate::uplink_sim::plant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Between the world and the uplink.
    Uplink(plant::Fault),
    /// After a crash the outbox finds itself as it was some commits ago.
    SeqReuse,
    /// What the outbox declares lost does not reach the uplink.
    DroppedLoss,
    /// A sealed segment is said to end one seq early.
    SegmentEdge,
    /// The hub acknowledges what it has not committed.
    HubAcksEarly,
    /// The disk says it synced and did not.
    NoFsync,
    /// The directory entry that says what became of a dropped segment is not made.
    MarkerLost,
    /// Files seem to take half of the space that they take.
    BlocksUnseen,
    /// The outbox brings more than it was asked for.
    GreedyLoads,
    /// A commit that is not reported.
    Unwitnessed,
    /// A seq that is settled and held.
    BookedTwice,
    /// A run that was missed is not said to be.
    MissedUnsaid,
    /// What a run measured does not get to the outbox.
    RunSwallowed,
    /// The note that a hub has acknowledged this host is lost.
    NoteLost,
    /// A byte is changed between the broker and the hub.
    Garbled,
    /// The hub's sink keeps what the ledger does not vouch for.
    SinkKeepsTail,
    /// The hub's sink does not keep what it flushed.
    SinkForgets,
    /// The hub's disk says it synced and did not, of its ledger and of its files.
    HubNoFsync,
}

impl Fault {
    pub fn in_uplink(self) -> Option<plant::Fault> {
        if let Self::Uplink(fault) = self { Some(fault) } else { None }
    }

    /// The disk as the outbox sees it.
    pub fn disk(self, disk: &SimDisk) -> Arc<dyn Disk> {
        Arc::new(Crooked { disk: disk.clone(), fault: self })
    }

    pub fn swallows(self, event: &Event) -> bool {
        self == Self::DroppedLoss && matches!(event, Event::Lost(_))
    }
}

/// A disk between which and the outbox something is wrong.
struct Crooked {
    disk: SimDisk,
    fault: Fault,
}

/// `{first}-{last}.seg` with the seq before `last`.
fn early(name: &str) -> Option<String> {
    let (first, last) = name.strip_suffix(".seg")?.split_once('-')?;
    let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (to > from).then(|| format!("{first}-{:020}.seg", to - 1))
}

impl Disk for Crooked {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match self.fault {
            Fault::SegmentEdge => {
                self.disk.rename(from, &early(&name).map_or_else(|| to.to_owned(), |name| to.with_file_name(name)))
            }
            Fault::MarkerLost if name.contains(".lost-") => self.disk.unlink(from),
            _ => self.disk.rename(from, to),
        }
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.make_dir(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        self.disk.lock(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = self.disk.list(dir)?;
        entries.iter_mut().for_each(|entry| entry.blocks = self.seen(entry.blocks));
        Ok(entries)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        self.disk.create(path)
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>> {
        self.disk.open(&self.real(path), write)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(&self.real(path))
    }
    fn truncate(&self, path: &Path) -> io::Result<()> {
        self.disk.truncate(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn blocks(&self, path: &Path) -> io::Result<u64> {
        self.disk.blocks(&self.real(path)).map(|blocks| self.seen(blocks))
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free(dir)
    }
}

impl Crooked {
    fn seen(&self, blocks: u64) -> u64 {
        if self.fault == Fault::BlocksUnseen { blocks / 2 } else { blocks }
    }

    /// Where the file is that the outbox knows by its right name.
    fn real(&self, path: &Path) -> std::path::PathBuf {
        if self.fault != Fault::SegmentEdge {
            return path.to_owned();
        }
        let name = path.file_name().and_then(|name| early(&name.to_string_lossy()));
        let early = name.map(|name| path.with_file_name(name));
        early.filter(|early| self.disk.blocks(early).is_ok()).unwrap_or_else(|| path.to_owned())
    }
}
