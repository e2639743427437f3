//! Looking into an outbox: beside a running agent, and into a damaged one.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use redb::StorageBackend;

use super::crash::path_of;
use super::crash_disk::SimDisk;
use super::*;

fn live() -> (SimDisk, Outbox) {
    let disk = SimDisk::new();
    let options = Options { max_bytes: 4 << 20, segment_bytes: Some(96 << 10), ..Options::new("/outbox") };
    let (mut outbox, opened) = Outbox::open(Arc::new(disk.clone()), options, at(0)).unwrap();
    for _ in 0..40 {
        outbox.append(&[run(3, 600)], at(0)).unwrap();
    }
    outbox.settle(opened.epoch, &RangeSet::from_iter([1..=60]));
    outbox.owe(5, LossReason::Memory, Times { t0: 1, t1: 2 });
    outbox.append(&[run(1, 1)], at(0)).unwrap();
    outbox.save(at(1)).unwrap();
    (disk, outbox)
}

#[test]
fn a_live_outbox_is_listed_verified_and_exported_undisturbed() {
    let (disk, mut outbox) = live();
    let root = Path::new("/outbox");
    let operations = disk.world().operations;
    let view = inspect::view(&disk, root).unwrap();
    let verified = inspect::verify(&disk, root).unwrap();
    let mut lines = Vec::new();
    let notes = inspect::export(&disk, root, &mut lines).unwrap();
    assert_eq!(disk.world().operations, operations, "nothing was changed");
    assert!(view.epochs[0].adds_up);
    assert_eq!((view.epochs[0].next, view.epochs[0].settled, view.epochs[0].held), (127, 60, 61));
    assert_eq!(view.epochs[0].lost["memory"], 5);
    let (losses, _) = inspect::losses(&disk, root).unwrap();
    let told: Vec<_> = losses.iter().map(|l| (l.from, l.to, l.count, l.reason.as_str(), l.t0, l.settled)).collect();
    assert_eq!(told, [(121, Some(125), 5, "memory", 1, false)]);
    assert_eq!(view.segments.last().unwrap().kind, "active");
    assert!(view.segments.len() > 2);
    assert_eq!((verified.records, verified.problems), (121, vec![]));
    assert_eq!(notes, Vec::<String>::new());
    let lines = String::from_utf8(lines).unwrap();
    let records: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(records.len(), 121);
    assert_eq!(records[0]["seq"], 1);
    assert_eq!(records[0]["boot"], "boot-1");
    assert_eq!(outbox.append(&[run(1, 1)], at(2)).unwrap().next_seq, 128, "the agent goes on");
}

#[test]
fn verify_names_the_damaged_file() {
    let (disk, outbox) = live();
    drop(outbox);
    let victim = path_of(&disk, |name| name.ends_with(".seg") && name.contains('-')).unwrap();
    disk.world().edit(&victim, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 5000].fill(7);
    });
    let verified = inspect::verify(&disk, Path::new("/outbox")).unwrap();
    assert!(verified.problems.iter().any(|p| p.contains(&victim.display().to_string())), "{:?}", verified.problems);
}

#[test]
fn what_is_foreign_and_what_is_not_saved_is_noted() {
    let (disk, outbox) = live();
    drop(outbox);
    let root = Path::new("/outbox");
    assert_eq!(inspect::view(&disk, root).unwrap().notes, [""; 0]);
    disk.unlink(&root.join(names::STATE)).unwrap();
    let foreign = path_of(&disk, |name| name.ends_with(".seg")).unwrap().with_file_name("notes.txt");
    drop(disk.create(&foreign).unwrap());
    let expected = ["/notes.txt is not ours", "no saved state: all that is stored counts as held"];
    let notes = inspect::view(&disk, root).unwrap().notes;
    assert!(notes.len() == 2 && notes.iter().zip(expected).all(|(note, end)| note.ends_with(end)), "{notes:?}");
}

/// A disk on which files change while they are looked into: the first so many openings find one as it was in the middle
/// of a commit.
struct Busy {
    disk: SimDisk,
    left: AtomicU32,
}

impl Disk for Busy {
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>> {
        let half = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        self.disk.open(if half { Path::new("/half") } else { path }, write)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn blocks(&self, path: &Path) -> io::Result<u64> {
        self.disk.blocks(path)
    }
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Send>> {
        refused()
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn StorageBackend>> {
        refused()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }
    fn unlink(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn truncate(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
    fn free(&self, _: &Path) -> io::Result<u64> {
        refused()
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

#[test]
fn what_changes_while_it_is_read_is_read_again_and_then_named() {
    let (disk, outbox) = live();
    drop(disk.create(Path::new("/half")).unwrap());
    drop(outbox);
    let root = Path::new("/outbox");
    // Without a state the only file opened is the segment being appended to.
    disk.unlink(&root.join(names::STATE)).unwrap();
    let expected = inspect::view(&disk, root).unwrap();
    for (left, named) in [(1, false), (2, false), (3, true)] {
        let view = inspect::view(&Busy { disk: disk.clone(), left: AtomicU32::new(left) }, root).unwrap();
        assert_eq!(view.notes.len(), expected.notes.len() + usize::from(named), "{left}: {:?}", view.notes);
        assert_eq!(view.epochs[0].next == expected.epochs[0].next, !named, "{left}: {view:?}");
    }
}

#[test]
fn no_outbox_is_a_clear_error() {
    let error = inspect::view(&SimDisk::new(), Path::new("/nowhere")).err().unwrap();
    assert_eq!(error.to_string(), "there is no outbox in /nowhere");
}

#[test]
fn the_host_id_is_kept_and_a_malformed_one_is_refused() {
    let disk = SimDisk::new();
    let dir = Path::new("/outbox");
    assert_eq!(read_host_id(&disk, dir).unwrap(), None);
    store_host_id(&disk, dir, "edge-01").unwrap();
    assert_eq!(read_host_id(&disk, dir).unwrap().as_deref(), Some("edge-01"));
    assert!(store_host_id(&disk, dir, "no spaces").is_err());
    disk.world().edit(&dir.join("host-id"), |bytes| *bytes = b"a/b\n".to_vec());
    assert!(read_host_id(&disk, dir).err().unwrap().to_string().contains("/outbox/host-id"));
}
