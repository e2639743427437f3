//! The port to the file system: everything the outbox asks of a disk, and the real one.
//!
//! Owns no policy. Names, order of operations and what an error means are the callers'. A simulated disk in
//! the tests implements the same trait and drops, tears and refuses what a real one may.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use crate::platform::files;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Length in bytes, holes included.
    pub len: u64,
    /// Bytes really taken on the disk.
    pub blocks: u64,
    pub is_dir: bool,
}

/// What the outbox needs of a file system. `sync_dir` makes creations, renames and unlinks in that directory
/// durable; `StorageBackend::sync_data` makes a file's contents and length durable. Nothing else is assumed.
pub trait Disk: Send + Sync {
    /// Creates the directory and its parents (mode 0700); an existing one is fine.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Holds the directory for this process until the guard is dropped; `WouldBlock` when another has it.
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>>;
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// A new, empty file to read and write; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;
    /// An existing file; without `write` it is never changed.
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>>;
    /// Atomically replaces what `to` named.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Gives back all blocks of the file.
    fn truncate(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes taken on the disk by a file or a directory itself.
    fn blocks(&self, path: &Path) -> io::Result<u64>;
    /// Bytes an unprivileged writer can still use on that file system.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDisk;

impl Disk for FileDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        files::make_private_dir(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(files::lock_dir(dir)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                len: meta.len(),
                blocks: files::allocated(&meta),
                is_dir: meta.is_dir(),
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(FileBacking { file: files::private(&mut options).open(path)?, path: path.to_owned() }))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        Ok(Box::new(FileBacking { file, path: path.to_owned() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn truncate(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(0)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        files::sync_dir(dir)
    }

    fn blocks(&self, path: &Path) -> io::Result<u64> {
        Ok(files::allocated(&fs::metadata(path)?))
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        Ok(files::statvfs(dir)?.bytes_available())
    }
}

/// A plain file under redb. It takes no lock, so that an inspection can read beside a running agent: the
/// directory's lock is what keeps a second writer out.
#[derive(Debug)]
struct FileBacking {
    file: File,
    /// For the debug log only.
    #[expect(dead_code, reason = "named in Debug output")]
    path: PathBuf,
}

impl StorageBackend for FileBacking {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        files::read_exact_at(&self.file, out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        files::write_all_at(&self.file, data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_is_removed_and_one_with_a_file_is_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("epoch");
        FileDisk.make_dir(&dir).unwrap();
        drop(FileDisk.create(&dir.join("file")).unwrap());
        assert!(FileDisk.remove_dir(&dir).is_err());
        assert!(dir.join("file").exists());
        FileDisk.unlink(&dir.join("file")).unwrap();
        FileDisk.remove_dir(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_free_is_that_of_the_directory_s_file_system() {
        let root = tempfile::tempdir().unwrap();
        assert!(FileDisk.free(root.path()).unwrap() > 4096, "at least a block, or this could not be built");
        assert!(FileDisk.free(&root.path().join("none")).is_err());
    }
}
