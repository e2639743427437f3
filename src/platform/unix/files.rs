//! Files, directories and file systems.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::platform::FsStat;

pub fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(out, offset)
}

pub fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(out, offset)
}

pub fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    file.write_all_at(data, offset)
}

/// Bytes really taken on the disk.
pub fn allocated(meta: &Metadata) -> u64 {
    meta.blocks() * 512
}

/// Permission bits, where the system has them.
pub fn mode(meta: &Metadata) -> Option<u32> {
    Some(meta.mode() & 0o7777)
}

/// A directory and its parents, for the own user alone; an existing one is fine.
pub fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What it creates is the own user's alone.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Holds the directory for this process until the guard is dropped; `WouldBlock` when another has it.
pub fn lock_dir(dir: &Path) -> io::Result<File> {
    // On the directory itself: needs no write permission, leaves no file, ends with the process.
    let handle = File::open(dir)?;
    rustix::fs::flock(&handle, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(handle)
}

/// Makes creations, renames and unlinks in the directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub fn statvfs(path: &Path) -> io::Result<FsStat> {
    let s = rustix::fs::statvfs(path)?;
    Ok(FsStat {
        block_size: if s.f_frsize > 0 { s.f_frsize } else { s.f_bsize },
        blocks: s.f_blocks,
        blocks_free: s.f_bfree,
        blocks_available: s.f_bavail,
        inodes: s.f_files,
        inodes_free: s.f_ffree,
    })
}

/// A path as the kernel writes it in its lists.
pub fn path(bytes: &[u8]) -> Cow<'_, Path> {
    Cow::Borrowed(Path::new(OsStr::from_bytes(bytes)))
}

/// Whether the kernel vouches that the file is as it was when this was last asked, or read for the first time. It
/// does so of `mountinfo`, for which `poll` tells a change as urgent; a file on a disk always takes writes.
pub fn is_unchanged(file: &File) -> bool {
    let mut asked = [PollFd::new(file, PollFlags::IN | PollFlags::OUT | PollFlags::PRI)];
    poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents() == PollFlags::IN
}
