//! A disk that behaves as badly as a real one may: what was not synced is lost, reordered or torn at a crash, by
//! file contents and by directory entry; it fills up; and its n-th operation fails.
//!
//! A crash image is made from what is durable plus an arbitrary part of what is not. A failed sync loses what it
//! should have written for good, while reads still show it (as Linux does).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

// Of whoever includes this: the outbox's own tests, and the simulation of everything.
use super::{Disk, Entry};

const PAGE: u64 = 4096;
const SECTOR: usize = 512;

/// xorshift64*: repeatable randomness.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Pages that take space.
    pages: BTreeSet<u64>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLen(len) => bytes.resize(*len as usize, 0),
        Change::Write(at, data) => {
            let end = *at as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at as usize..end].copy_from_slice(data);
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        match &change {
            Change::SetLen(len) => drop(self.pages.split_off(&len.div_ceil(PAGE))),
            Change::Write(at, data) => self.pages.extend(at / PAGE..(at + data.len() as u64).div_ceil(PAGE)),
        }
        self.unsynced.push(change);
    }

    fn crashed(&self, rng: &mut Rng) -> Self {
        let mut bytes = self.durable.clone();
        let keep = rng.below(4);
        for change in &self.unsynced {
            match (keep, change) {
                (0, _) => {}
                (1, change) => apply(&mut bytes, change),
                (_, Change::SetLen(_)) if rng.one_in(2) => apply(&mut bytes, change),
                (_, Change::SetLen(_)) => {}
                (2, change) if rng.one_in(2) => apply(&mut bytes, change),
                (2, _) => {}
                (_, Change::Write(at, data)) => {
                    for (i, sector) in data.chunks(SECTOR).enumerate() {
                        if rng.one_in(2) {
                            apply(&mut bytes, &Change::Write(at + (i * SECTOR) as u64, sector.to_vec()));
                        }
                    }
                }
            }
        }
        let pages = (0..(bytes.len() as u64).div_ceil(PAGE)).filter(|p| self.pages.contains(p)).collect();
        Self { live: bytes.clone(), durable: bytes, unsynced: Vec::new(), pages }
    }
}

#[derive(Clone, Debug)]
enum DirChange {
    Link(String, Node),
    Unlink(String),
    Rename(String, String, Node),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir,
}

#[derive(Clone, Debug, Default)]
struct Dir {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    unsynced: Vec<DirChange>,
}

fn apply_dir(entries: &mut BTreeMap<String, Node>, change: &DirChange) {
    match change {
        DirChange::Link(name, node) => drop(entries.insert(name.clone(), *node)),
        DirChange::Unlink(name) => drop(entries.remove(name)),
        DirChange::Rename(from, to, node) => {
            entries.remove(from);
            entries.insert(to.clone(), *node);
        }
    }
}

impl Dir {
    fn change(&mut self, change: DirChange) {
        apply_dir(&mut self.live, &change);
        self.unsynced.push(change);
    }

    fn crashed(&self, rng: &mut Rng) -> Self {
        let mut entries = self.durable.clone();
        let any = rng.one_in(2);
        let prefix = rng.below(self.unsynced.len() as u64 + 1) as usize;
        for (i, change) in self.unsynced.iter().enumerate() {
            if if any { rng.one_in(2) } else { i < prefix } {
                apply_dir(&mut entries, change);
            }
        }
        Self { live: entries.clone(), durable: entries, unsynced: Vec::new() }
    }
}

/// Which operation fails, counted from now.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub after: u64,
    /// How many operations fail from there on.
    pub times: u64,
    pub kind: io::ErrorKind,
}

type Hook = Arc<dyn Fn(&World) + Send + Sync>;

#[derive(Clone, Default)]
pub struct World {
    files: BTreeMap<u64, File>,
    dirs: BTreeMap<PathBuf, Dir>,
    next_file: u64,
    locked: BTreeSet<PathBuf>,
    /// Bytes; `None` is endless.
    pub capacity: Option<u64>,
    pub failure: Option<Failure>,
    /// Reads fail.
    pub unreadable: bool,
    /// The negative control: a disk that says it synced and did not.
    pub ignores_sync: bool,
    /// Called before each sync takes effect.
    hook: Option<Hook>,
    pub syncs: u64,
    /// Bytes read.
    pub read: u64,
    pub operations: u64,
}

impl World {
    /// What a power cut now may leave behind.
    pub fn crash(&self, rng: &mut Rng) -> SimDisk {
        let files = self.files.iter().map(|(id, file)| (*id, file.crashed(rng))).collect();
        let dirs: BTreeMap<_, _> = self.dirs.iter().map(|(path, dir)| (path.clone(), dir.crashed(rng))).collect();
        let mut world = Self { files, dirs, next_file: self.next_file, capacity: self.capacity, ..Self::default() };
        world.restore_removed();
        world.drop_unreachable();
        SimDisk(Arc::new(Mutex::new(world)))
    }

    /// What a process that is killed now leaves behind: everything written, nothing closed.
    pub fn killed(&self) -> SimDisk {
        let copy = Self { locked: BTreeSet::new(), hook: None, failure: None, ..self.clone() };
        SimDisk(Arc::new(Mutex::new(copy)))
    }

    /// Directories whose removal was not durable: they were empty.
    fn restore_removed(&mut self) {
        let named = |(path, dir): (&PathBuf, &Dir)| {
            let inside = dir.live.iter().filter(|(_, node)| **node == Node::Dir);
            inside.map(|(name, _)| path.join(name)).collect::<Vec<_>>()
        };
        let named: Vec<PathBuf> = self.dirs.iter().flat_map(named).collect();
        for path in named {
            self.dirs.entry(path).or_default();
        }
    }

    fn drop_unreachable(&mut self) {
        let reachable = |dirs: &BTreeMap<PathBuf, Dir>, path: &Path| {
            path.parent().filter(|p| dirs.contains_key(*p)).is_none_or(|parent| {
                let name = path.file_name().expect("a path with a name").to_string_lossy().into_owned();
                dirs[parent].live.contains_key(&name)
            })
        };
        let gone: Vec<PathBuf> = self.dirs.keys().filter(|p| !reachable(&self.dirs, p)).cloned().collect();
        for path in gone {
            self.dirs.remove(&path);
        }
        let linked: BTreeSet<u64> = self.linked();
        self.files.retain(|id, _| linked.contains(id));
    }

    fn linked(&self) -> BTreeSet<u64> {
        let nodes = self.dirs.values().flat_map(|dir| dir.live.values());
        nodes.filter_map(|node| if let Node::File(id) = node { Some(*id) } else { None }).collect()
    }

    pub fn used(&self) -> u64 {
        let linked = self.linked();
        self.files.iter().filter(|(id, _)| linked.contains(id)).map(|(_, f)| f.pages.len() as u64 * PAGE).sum()
    }

    /// One operation that changes something.
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if let Some(failure) = &mut self.failure {
            if failure.after > 0 {
                failure.after -= 1;
            } else if failure.times > 0 {
                failure.times -= 1;
                return Err(failure.kind.into());
            }
        }
        Ok(())
    }

    fn before_sync(&mut self) {
        self.syncs += 1;
        if let Some(hook) = self.hook.clone() {
            hook(self);
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        self.dirs.get_mut(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file_at(&mut self, path: &Path) -> io::Result<u64> {
        let (parent, name) = split(path);
        match self.dir(&parent)?.live.get(&name) {
            Some(Node::File(id)) => Ok(*id),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The bytes of a file, to damage or replace them as the world outside may.
    pub fn edit(&mut self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let id = self.file_at(path).expect("the file is there");
        let file = self.files.get_mut(&id).expect("a linked or open file is kept");
        edit(&mut file.live);
        file.durable = file.live.clone();
        file.unsynced.clear();
    }
}

fn split(path: &Path) -> (PathBuf, String) {
    (
        path.parent().expect("a path with a parent").to_owned(),
        path.file_name().expect("a path with a name").to_string_lossy().into_owned(),
    )
}

#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    pub fn new() -> Self {
        let disk = Self::default();
        disk.world().dirs.insert(PathBuf::from("/"), Dir::default());
        disk
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nobody panics while it is held")
    }

    pub fn on_sync(&self, hook: impl Fn(&World) + Send + Sync + 'static) {
        self.world().hook = Some(Arc::new(hook));
    }

    pub fn fail(&self, after: u64, times: u64, kind: io::ErrorKind) {
        self.world().failure = Some(Failure { after, times, kind });
    }

    pub fn killed(&self) -> Self {
        self.world().killed()
    }
}

struct Lock(Arc<Mutex<World>>, PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        if let Ok(mut world) = self.0.lock() {
            world.locked.remove(&self.1);
        }
    }
}

impl Disk for SimDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        if world.dirs.contains_key(dir) {
            return Ok(());
        }
        world.operation()?;
        let (parent, name) = split(dir);
        world.dir(&parent)?.change(DirChange::Link(name, Node::Dir));
        world.dirs.insert(dir.to_owned(), Dir::default());
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        if !world.dir(dir)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = split(dir);
        world.dir(&parent)?.change(DirChange::Unlink(name));
        world.dirs.remove(dir);
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        if !self.world().locked.insert(dir.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(Arc::clone(&self.0), dir.to_owned())))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut world = self.world();
        let entries = world.dir(dir)?.live.clone();
        let entry = |(name, node): (String, Node)| match node {
            Node::Dir => Entry { name, len: 0, blocks: 0, is_dir: true },
            Node::File(id) => {
                let file = &world.files[&id];
                Entry { name, len: file.live.len() as u64, blocks: file.pages.len() as u64 * PAGE, is_dir: false }
            }
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let mut world = self.world();
        world.operation()?;
        let id = match world.file_at(path) {
            Ok(id) => {
                world.files.get_mut(&id).expect("a linked or open file is kept").change(Change::SetLen(0));
                id
            }
            Err(_) => {
                let (parent, name) = split(path);
                let id = world.next_file;
                world.dir(&parent)?.change(DirChange::Link(name, Node::File(id)));
                world.next_file += 1;
                world.files.insert(id, File::default());
                id
            }
        };
        Ok(Box::new(Handle(Arc::clone(&self.0), id)))
    }

    fn open(&self, path: &Path, _write: bool) -> io::Result<Box<dyn StorageBackend>> {
        let id = self.world().file_at(path)?;
        Ok(Box::new(Handle(Arc::clone(&self.0), id)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        let id = world.file_at(from)?;
        let ((parent, from), (to_parent, to)) = (split(from), split(to));
        assert_eq!(parent, to_parent, "renames stay within a directory");
        world.dir(&parent)?.change(DirChange::Rename(from, to, Node::File(id)));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        world.file_at(path)?;
        let (parent, name) = split(path);
        world.dir(&parent)?.change(DirChange::Unlink(name));
        Ok(())
    }

    fn truncate(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        let id = world.file_at(path)?;
        world.files.get_mut(&id).expect("a linked or open file is kept").change(Change::SetLen(0));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        world.before_sync();
        if !world.ignores_sync {
            let dir = world.dir(dir)?;
            dir.durable = dir.live.clone();
            dir.unsynced.clear();
        }
        Ok(())
    }

    fn blocks(&self, path: &Path) -> io::Result<u64> {
        let mut world = self.world();
        if world.dirs.contains_key(path) {
            return Ok(0);
        }
        let id = world.file_at(path)?;
        Ok(world.files[&id].pages.len() as u64 * PAGE)
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        let world = self.world();
        Ok(world.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used())))
    }
}

struct Handle(Arc<Mutex<World>>, u64);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "simulated file {}", self.1)
    }
}

impl Handle {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nobody panics while it is held")
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.world().files[&self.1].live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut world = self.world();
        world.read += out.len() as u64;
        if world.unreadable {
            return Err(io::Error::other("simulated read error"));
        }
        let bytes = &world.files[&self.1].live;
        let bytes = bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        world.files.get_mut(&self.1).expect("a linked or open file is kept").change(Change::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world();
        let outcome = world.operation();
        world.before_sync();
        let ignored = world.ignores_sync;
        let file = world.files.get_mut(&self.1).expect("a linked or open file is kept");
        if outcome.is_ok() && !ignored {
            file.durable = file.live.clone();
        }
        if !ignored {
            file.unsynced.clear();
        }
        outcome
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        world.operation()?;
        let pages = offset / PAGE..(offset + data.len() as u64).div_ceil(PAGE);
        let new = pages.filter(|page| !world.files[&self.1].pages.contains(page)).count() as u64;
        if world.capacity.is_some_and(|capacity| world.used() + new * PAGE > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world
            .files
            .get_mut(&self.1)
            .expect("a linked or open file is kept")
            .change(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
