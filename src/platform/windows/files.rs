//! Files, directories and file systems. Who may read what is created is inherited from the folder above.

use std::borrow::Cow;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::windows::fs::FileExt;
use std::path::Path;

use crate::platform::FsStat;

/// A directory cannot be locked here; this file in it stands for it. Known to the outbox as its own.
const LOCK: &str = "agent.lock";

pub fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(out, offset)
}

pub fn read_exact_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        match file.seek_read(out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub fn write_all_at(file: &File, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        match file.seek_write(data, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                data = &data[n..];
                offset += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Our files have no holes: NTFS gives them blocks for their whole length.
pub fn allocated(meta: &Metadata) -> u64 {
    meta.len()
}

pub fn mode(_: &Metadata) -> Option<u32> {
    None
}

pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

pub fn lock_dir(dir: &Path) -> io::Result<File> {
    let handle = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK))?;
    match handle.try_lock() {
        Ok(()) => Ok(handle),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// There is no documented call for it: NTFS keeps a journal of its names, and writes it in its own time.
pub fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

pub fn statvfs(path: &Path) -> io::Result<FsStat> {
    let s = fs4::statvfs(path)?;
    Ok(FsStat {
        block_size: 1,
        blocks: s.total_space(),
        blocks_free: s.free_space(),
        blocks_available: s.available_space(),
        inodes: 0,
        inodes_free: 0,
    })
}

pub fn path(bytes: &[u8]) -> Cow<'_, Path> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(Path::new(text)),
        Cow::Owned(text) => Cow::Owned(text.into()),
    }
}

pub fn is_unchanged(_: &File) -> bool {
    false
}
