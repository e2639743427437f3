//! Sockets that are files, for the status and for `put`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub use super::dial::{dial, is_served};
pub use super::permit::permit;
pub use std::os::unix::net::{UnixListener as Bound, UnixStream as Connection};
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// Whether there can be one at all.
pub const SUPPORTED: bool = true;

/// On any thread; [`listen`] makes it the runtime's.
pub fn bind(path: &Path) -> io::Result<Bound> {
    let bound = Bound::bind(path)?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Inside a runtime.
pub fn listen(bound: Bound) -> io::Result<Listener> {
    Listener::from_std(bound)
}

/// Which file this is, whatever its name.
pub fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn is_socket(meta: &Metadata) -> bool {
    meta.file_type().is_socket()
}
