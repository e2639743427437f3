//! A program pinned by its SHA-256: its bytes are copied into memory that nobody can write any more, hashed there,
//! and run from there. What was hashed is what runs, whatever happens to the file meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use super::trust;

/// A program beyond that is not held in memory.
const MAX_PROGRAM: u64 = 64 << 20;

/// The copy. It is inherited by the program: an interpreter opens its script by this descriptor.
pub(super) struct Pinned {
    copy: OwnedFd,
}

#[derive(Debug)]
pub(super) enum Unpinned {
    /// The file is another one; its own hash.
    Other(String),
    TooLarge,
    /// The file cannot be read.
    Unread(io::Error),
    /// This kernel or its settings do not run programs from memory.
    NoMemory(io::Error),
}

impl Pinned {
    /// Copies the file and compares it with `sha256`, in lower-case hexadecimal.
    pub fn new(program: &Path, sha256: &str) -> Result<Self, Unpinned> {
        let file = trust::open(program).map_err(Unpinned::Unread)?;
        let copy = memory().map_err(|error| Unpinned::NoMemory(error.into()))?;
        let mut to = File::from(copy);
        let hash = hash_while_copying(file.take(MAX_PROGRAM + 1), &mut to)?;
        if hash != sha256 {
            return Err(Unpinned::Other(hash));
        }
        let copy = OwnedFd::from(to);
        seal(&copy).map_err(|error| Unpinned::NoMemory(error.into()))?;
        Ok(Self { copy })
    }

    /// What to run instead of the file. Relative to the process itself, so it is the program's own after `exec` too.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.copy.as_raw_fd()))
    }
}

fn memory() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    match memfd_create("holdover-script", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 it is executable without asking.
        Err(Errno::INVAL) => memfd_create("holdover-script", flags),
        done => done,
    }
}

fn seal(copy: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_add_seals(copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    fcntl_setfd(copy.as_fd(), FdFlags::empty())
}

fn hash_while_copying(mut from: impl Read, to: &mut File) -> Result<String, Unpinned> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0u8; 64 << 10];
    let mut total = 0u64;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Unpinned::Unread(error)),
        };
        total += n as u64;
        if total > MAX_PROGRAM {
            return Err(Unpinned::TooLarge);
        }
        context.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(Unpinned::NoMemory)?;
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256_and_the_copy_can_no_more_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script");
        std::fs::write(&file, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pinned = Pinned::new(&file, known).unwrap_or_else(|why| panic!("{why:?}"));
        std::fs::write(&file, "evil").unwrap();
        assert_eq!(std::fs::read_to_string(pinned.path()).unwrap(), "abc");
        assert!(std::fs::write(pinned.path(), "x").is_err(), "sealed");
        match Pinned::new(&file, known) {
            Err(Unpinned::Other(hash)) => assert_eq!(hash.len(), 64),
            other => panic!("{:?}", other.err()),
        }
        assert!(matches!(Pinned::new(&dir.path().join("none"), known), Err(Unpinned::Unread(_))));
        assert!(matches!(
            hash_while_copying(io::repeat(1), &mut tempfile::tempfile().unwrap()),
            Err(Unpinned::TooLarge)
        ));
    }
}
