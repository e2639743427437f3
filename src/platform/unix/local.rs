//! Sockets that are files, for the status and for `put`.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub use super::dial::{dial, is_served};
pub use super::permit::permit;
pub use std::os::unix::net::UnixStream as Connection;
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

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
