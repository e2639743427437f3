//! The socket's file: who may open it, and what it may take the place of.

use std::io;
use std::path::{Path, PathBuf};

use crate::config;
use crate::platform::local::{self, Connection, Listener};

/// Removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// It gets its name when its owner, group and mode are right: nobody opens it before.
    pub fn bind(config: &config::Put) -> io::Result<(Self, Listener)> {
        let path = config.socket.clone();
        if Connection::connect(&path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on it"));
        }
        give_way(&path)?;
        let fresh = path.with_extension("new");
        give_way(&fresh)?;
        let listener = Listener::bind(&fresh)?;
        let named = local::permit(&fresh, config.gid, config.mode).and_then(|()| std::fs::rename(&fresh, &path));
        if let Err(error) = named {
            give_way(&fresh)?;
            return Err(error);
        }
        Ok((Self { path }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket of put was already gone");
        }
    }
}

/// Removes a socket that a dead agent left; anything else is left alone.
fn give_way(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if local::is_socket(&found) => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else, which is left alone")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
}
