//! The host as collectors see it: a directory that holds /proc and /sys, and `statvfs`.
//!
//! Every read of a built-in collector goes through here, so that a container can look at its host (`/host`) and a
//! test at a recorded one. Files that are read again and again stay open ([`ProcFile`]).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::platform::FsStat;
use crate::platform::files;
use crate::record::{ErrorKind, RunError};

/// No file that a collector reads is larger; one that is, is refused rather than held in memory.
const MAX_FILE: usize = 4 << 20;
/// Far more than any directory that a collector looks into.
const MAX_ENTRIES: usize = 4096;
/// First size of a buffer to read into.
const FIRST_READ: usize = 4096;

/// Asks for the figures of the file system mounted at a path; may hang when a server behind it is away.
pub type StatFs = Arc<dyn Fn(&Path) -> io::Result<FsStat> + Send + Sync>;

/// Where the host's files are.
#[derive(Clone)]
pub struct HostRoot {
    root: Arc<Path>,
    own: Arc<Path>,
    statfs: StatFs,
}

impl Default for HostRoot {
    fn default() -> Self {
        Self::new("/")
    }
}

impl fmt::Debug for HostRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostRoot").field(&self.root).finish()
    }
}

impl HostRoot {
    /// The host whose root directory is mounted at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into().into(), own: Path::new("/proc/self").into(), statfs: Arc::new(files::statvfs) }
    }

    /// As [`HostRoot::new`], with everything taken from below `root`, this process and `statvfs` included: a recording.
    pub fn recorded(root: impl Into<PathBuf>, statfs: StatFs) -> Self {
        let root: Arc<Path> = root.into().into();
        Self { own: root.join("proc/self").into(), root, statfs }
    }

    /// Whether this is the machine that we run on, seen directly: then the kernel itself may be asked, too.
    pub fn is_live(&self) -> bool {
        *self.root == *Path::new("/")
    }

    /// `rel` (as `proc/stat`) on the host.
    pub fn path(&self, rel: &str) -> PathBuf {
        self.root.join(rel.trim_start_matches('/'))
    }

    /// A file of this process, as `stat`.
    pub fn own(&self, rel: &str) -> PathBuf {
        self.own.join(rel)
    }

    /// The process whose name spaces (mounts, network) are the host's: ourselves, or init when we look from a container.
    pub fn namespace(&self, rel: &str) -> String {
        let of = if self.is_live() || !self.path("proc/1").exists() { "self" } else { "1" };
        format!("proc/{of}/{rel}")
    }

    /// Figures of the file system mounted at a path as the host names it. May hang: see `filesystems`.
    pub fn statfs(&self, mountpoint: &Path) -> io::Result<FsStat> {
        (self.statfs)(&self.mounted(mountpoint))
    }

    /// As [`HostRoot::statfs`], to be called by a thread that may hang.
    pub fn statfs_later(&self, mountpoint: &Path) -> impl FnOnce() -> io::Result<FsStat> + Send + 'static {
        let (statfs, path) = (Arc::clone(&self.statfs), self.mounted(mountpoint));
        move || statfs(&path)
    }

    fn mounted(&self, mountpoint: &Path) -> PathBuf {
        self.root.join(mountpoint.strip_prefix("/").unwrap_or(mountpoint))
    }

    /// A small file, read whole.
    pub fn read(&self, rel: &str) -> Result<Vec<u8>, RunError> {
        read_limited(&self.path(rel)).map_err(|e| unreadable(rel, &e))
    }

    /// The names in a directory, sorted; none when it cannot be read, and at most [`MAX_ENTRIES`] of them.
    pub fn entries(&self, rel: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(rel)) else { return Vec::new() };
        let names = entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The first line of a small file, trimmed; `None` when it is missing, empty or not text.
    pub fn line(&self, rel: &str) -> Option<String> {
        let bytes = self.read(rel).ok()?;
        let line = bytes.split(|&b| b == b'\n').next()?.trim_ascii();
        let text = std::str::from_utf8(line).ok()?;
        (!text.is_empty()).then(|| text.to_owned())
    }
}

pub(super) fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    // Room from the start: files of the kernel do not tell their size, and one without is felt for in small steps.
    let mut bytes = Vec::with_capacity(FIRST_READ);
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Why a file of the host could not be read, typed.
pub(super) fn unreadable(rel: &str, error: &io::Error) -> RunError {
    let (kind, hint) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::Unsupported, "this kernel or container does not provide it"),
        io::ErrorKind::PermissionDenied => (ErrorKind::Permission, "run the agent as a user who may read it"),
        io::ErrorKind::FileTooLarge => (ErrorKind::Output, "it is larger than any file of its kind"),
        _ => (ErrorKind::Unsupported, "the kernel refused to give it"),
    };
    RunError::new(kind, format!("cannot read /{}: {error}; {hint}", rel.trim_start_matches('/')))
}

/// A file of the host that every run reads: opened once, read with `pread` into one buffer that is kept.
#[derive(Debug)]
pub struct ProcFile {
    rel: String,
    open: Option<(Arc<Path>, File)>,
    buffer: Vec<u8>,
}

impl ProcFile {
    pub fn new(rel: impl Into<String>) -> Self {
        Self { rel: rel.into(), open: None, buffer: Vec::new() }
    }

    pub fn rel(&self) -> &str {
        &self.rel
    }

    /// The whole file as it is now.
    pub fn read(&mut self, host: &HostRoot) -> Result<&[u8], RunError> {
        let len = self.refresh(host).map_err(|e| unreadable(&self.rel, &e))?;
        Ok(&self.buffer[..len])
    }

    /// Whether the kernel vouches that it is as it was, see [`files::is_unchanged`].
    pub fn is_unchanged(&self, host: &HostRoot) -> bool {
        let held = self.open.as_ref().filter(|(root, _)| *root == host.root);
        held.is_some_and(|(_, file)| files::is_unchanged(file))
    }

    fn refresh(&mut self, host: &HostRoot) -> io::Result<usize> {
        let held = self.open.take().filter(|(root, _)| *root == host.root).map(|(_, file)| file);
        let reused = held.is_some();
        let mut file = match held {
            Some(file) => file,
            None => File::open(host.path(&self.rel))?,
        };
        let mut read = read_all(&file, &mut self.buffer);
        if read.is_err() && reused {
            // A held file of a device that went away and came back answers ENODEV for ever.
            file = File::open(host.path(&self.rel))?;
            read = read_all(&file, &mut self.buffer);
        }
        let len = read?;
        self.open = Some((Arc::clone(&host.root), file));
        Ok(len)
    }
}

fn read_all(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut len = 0;
    loop {
        if len == buffer.len() {
            buffer.resize((len * 2).max(FIRST_READ), 0);
        }
        match files::read_at(file, &mut buffer[len..], len as u64) {
            Ok(0) => return Ok(len),
            Ok(n) if len + n > MAX_FILE => return Err(io::ErrorKind::FileTooLarge.into()),
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_shows_what_is_in_it_now_whatever_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot::new(dir.path());
        let mut file = ProcFile::new("proc.txt");
        for len in [10, 0, 5000, 100_000, 3] {
            std::fs::write(dir.path().join("proc.txt"), vec![b'x'; len]).unwrap();
            assert_eq!(file.read(&host).unwrap().len(), len);
        }
    }

    #[test]
    fn the_kernel_vouches_for_mountinfo_and_for_no_file_on_a_disk() {
        let host = HostRoot::default();
        let mut mounts = ProcFile::new("proc/self/mountinfo");
        assert!(!mounts.is_unchanged(&host), "before it was read");
        mounts.read(&host).unwrap();
        // Another test's process may mount in this very moment, but not each time.
        assert!((0..10).any(|_| mounts.is_unchanged(&host)));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mountinfo"), "x").unwrap();
        let (host, mut file) = (HostRoot::new(dir.path()), ProcFile::new("mountinfo"));
        file.read(&host).unwrap();
        assert!(!file.is_unchanged(&host));
    }

    #[test]
    fn missing_and_oversized_files_are_typed_errors() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostRoot::new(dir.path());
        let error = ProcFile::new("proc/none").read(&host).map(<[u8]>::len).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("/proc/none"), "{}", error.message);
        std::fs::write(dir.path().join("big"), vec![b'x'; MAX_FILE + 1]).unwrap();
        assert_eq!(host.read("big").unwrap_err().kind, ErrorKind::Output);
        assert_eq!(ProcFile::new("big").read(&host).map(<[u8]>::len).unwrap_err().kind, ErrorKind::Output);
    }

    #[test]
    fn why_a_file_cannot_be_read_is_typed() {
        for (error, kind) in [
            (io::ErrorKind::NotFound, ErrorKind::Unsupported),
            (io::ErrorKind::PermissionDenied, ErrorKind::Permission),
            (io::ErrorKind::FileTooLarge, ErrorKind::Output),
            (io::ErrorKind::Other, ErrorKind::Unsupported),
        ] {
            let error = unreadable("proc/x", &error.into());
            assert_eq!(error.kind, kind);
            assert!(error.message.starts_with("cannot read /proc/x: "), "{}", error.message);
        }
    }
}
