//! Sockets that are files, for the status and for `put`.

use std::fs::{Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::Path;

pub use super::dial::{dial, is_served};
pub use std::os::unix::net::UnixStream as Connection;
pub use tokio::net::{UnixListener as Listener, UnixStream as Stream};

/// Who may open it: `group` and `mode`. A service that may not change owners has its group made its own one: nothing is
/// to be changed then.
pub fn permit(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    permit_group(path, group)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

fn permit_group(path: &Path, group: Option<u32>) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?.gid();
    if let Some(gid) = group.filter(|gid| *gid != found) {
        lchown(path, None, Some(gid)).map_err(|error| {
            let message = format!("its group cannot be set: {error}; under systemd see docs/put.md, 'To enable it'");
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_fits_already_is_not_set_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o6770)).unwrap();
        // Setting an owner or group clears the bits of set-id programs, whoever does it.
        permit_group(&path, Some(found.gid())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o6770);
    }
}
