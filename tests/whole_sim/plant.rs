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
}

impl Fault {
    pub fn in_uplink(self) -> Option<plant::Fault> {
        if let Self::Uplink(fault) = self { Some(fault) } else { None }
    }

    /// The disk as the outbox sees it.
    pub fn disk(self, disk: &SimDisk) -> Arc<dyn Disk> {
        if self == Self::SegmentEdge { Arc::new(EndsEarly(disk.clone())) } else { Arc::new(disk.clone()) }
    }

    pub fn swallows(self, event: &Event) -> bool {
        self == Self::DroppedLoss && matches!(event, Event::Lost(_))
    }
}

struct EndsEarly(SimDisk);

/// `{first}-{last}.seg` with the seq before `last`.
fn early(name: &str) -> Option<String> {
    let (first, last) = name.strip_suffix(".seg")?.split_once('-')?;
    let (from, to): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (to > from).then(|| format!("{first}-{:020}.seg", to - 1))
}

impl Disk for EndsEarly {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = to.file_name().and_then(|name| early(&name.to_string_lossy()));
        let early = name.map_or_else(|| to.to_owned(), |name| to.with_file_name(name));
        self.0.rename(from, &early)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.make_dir(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        self.0.lock(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        self.0.create(path)
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>> {
        self.0.open(&self.real(path), write)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(&self.real(path))
    }
    fn truncate(&self, path: &Path) -> io::Result<()> {
        self.0.truncate(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn blocks(&self, path: &Path) -> io::Result<u64> {
        self.0.blocks(&self.real(path))
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.0.free(dir)
    }
}

impl EndsEarly {
    /// Where the file is that the outbox knows by its right name.
    fn real(&self, path: &Path) -> std::path::PathBuf {
        let name = path.file_name().and_then(|name| early(&name.to_string_lossy()));
        let early = name.map(|name| path.with_file_name(name));
        early.filter(|early| self.0.blocks(early).is_ok()).unwrap_or_else(|| path.to_owned())
    }
}
