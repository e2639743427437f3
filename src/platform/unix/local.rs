//! Sockets that are files, for the status and for `put`.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

pub use std::os::unix::net::UnixStream as Connection;
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// Who may open it: `group` and `mode`.
pub fn permit(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    if let Some(gid) = group {
        std::os::unix::fs::chown(path, None, Some(gid))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn is_socket(meta: &Metadata) -> bool {
    meta.file_type().is_socket()
}
