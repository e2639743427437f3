//! The socket's file: who may open it, and what it may take the place of.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::collect::exec::distrusted;
use crate::{config, dial};

/// Removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode: another one may have its name by now.
    file: (u64, u64),
}

impl Socket {
    /// It gets its name when its owner, group and mode are right: nobody opens it before.
    pub fn bind(config: &config::Put) -> io::Result<(Self, UnixListener)> {
        let path = config.socket.clone();
        refuse_unsafe(&path)?;
        if dial::is_served(&path) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on it"));
        }
        give_way(&path)?;
        let fresh = path.with_extension("new");
        give_way(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        let named = permit(&fresh, config).and_then(|()| std::fs::rename(&fresh, &path));
        match named.and_then(|()| identity(&path)) {
            Ok(file) => Ok((Self { path, file }, listener)),
            Err(error) => {
                give_way(&fresh)?;
                Err(error)
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file != self.file) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket of put was already gone");
        }
    }
}

fn permit(path: &Path, config: &config::Put) -> io::Result<()> {
    permit_group(path, config.gid)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(config.mode))
}

fn permit_group(path: &Path, gid: Option<u32>) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    // A service that may not change owners has its group made its own one: nothing is to be changed then.
    if let Some(gid) = gid.filter(|gid| *gid != found.gid()) {
        std::os::unix::fs::lchown(path, None, Some(gid)).map_err(|error| {
            let message = format!("its group cannot be set: {error}; under systemd see docs/put.md, 'To enable it'");
            io::Error::new(error.kind(), message)
        })?;
    }
    Ok(())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// As root, not where others could put a link in the socket's place before its mode is set.
fn refuse_unsafe(path: &Path) -> io::Result<()> {
    let folder = std::path::absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
    match rustix::process::geteuid().is_root().then(|| distrusted(&folder, None)).flatten() {
        Some(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("not in a folder of others: {why}"))),
        None => Ok(()),
    }
}

/// Removes a socket that a dead agent left; anything else is left alone.
fn give_way(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else, which is left alone")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, mode: u32, gid: Option<u32>) -> config::Put {
        config::Put { enabled: true, socket: path.to_owned(), gid, mode, records_per_s: 10 }
    }

    #[test]
    fn it_has_its_mode_replaces_a_dead_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let path = dir.path().join("put.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let own = rustix::process::getgid().as_raw();
        let living = Socket::bind(&config(&path, 0o660, Some(own))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let second = Socket::bind(&config(&path, 0o600, None)).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(Socket::bind(&config(&path, 0o600, None)).unwrap_err().to_string().contains("left alone"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_has_taken_its_name_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let path = dir.path().join("put.sock");
        let socket = Socket::bind(&config(&path, 0o600, None)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn root_makes_none_where_others_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let bound = Socket::bind(&config(&dir.path().join("put.sock"), 0o600, None));
        if rustix::process::geteuid().is_root() {
            let error = bound.unwrap_err().to_string();
            assert!(error.contains("folder of others") && error.contains("chmod go-w"), "{error}");
        } else {
            assert!(bound.is_ok());
        }
    }

    #[test]
    fn a_group_that_fits_already_is_not_set_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o6770)).unwrap();
        // Setting an owner or group clears the bits of set-id programs, whoever does it.
        permit_group(&path, Some(found.gid())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o6770);
    }
}
