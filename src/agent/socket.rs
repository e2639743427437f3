//! The file of a local socket: who may open it, and what it may take the place of.

use std::io;
use std::path::{Path, PathBuf};

use crate::collect::exec::distrusted;
use crate::platform::local::{self, Bound};

/// Under which it may be made before it gets its own.
const NAMES: usize = 10;

/// Where a socket is to be, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    pub gid: Option<u32>,
    pub mode: u32,
    /// Of use to other users: as root, not where one of them could put something else in its place.
    pub public: bool,
}

/// Its file is removed when it is dropped.
#[derive(Debug)]
pub struct Socket(SocketFile);

#[derive(Clone, Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another one may have its name by now.
    id: (u64, u64),
}

impl Socket {
    /// It gets its name when its owner, group and mode are right: nobody opens it before. Blocks; on any thread.
    pub fn bind(place: &Place) -> io::Result<(Self, Bound)> {
        let path = place.path.clone();
        if place.public {
            refuse_unsafe(&path)?;
        }
        give_way(&path)?;
        let (fresh, bound) = bind_beside(&path)?;
        let named = local::permit(&fresh, place.gid, place.mode).and_then(|()| std::fs::rename(&fresh, &path));
        match named.and_then(|()| local::identity(&path)) {
            Ok(id) => Ok((Self(SocketFile { path, id }), bound)),
            Err(error) => {
                // What is left in the way is passed over, and removed by the next attempt.
                if socket_is_at(&fresh).is_ok_and(|there| there) {
                    drop(std::fs::remove_file(&fresh));
                }
                Err(error)
            }
        }
    }

    pub fn file(&self) -> SocketFile {
        self.0.clone()
    }
}

impl SocketFile {
    /// Whether it is no longer there, or another's; not as long as that cannot be seen. Blocks; on any thread.
    pub fn is_gone(&self) -> bool {
        match local::identity(&self.path) {
            Ok(id) => id != self.id,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let SocketFile { path, id } = &self.0;
        if local::identity(path).ok() != Some(*id) {
            return;
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::debug!(%error, path = %path.display(), "a socket was not removed");
        }
    }
}

/// As root, not where others could put a link in the socket's place before its mode is set.
fn refuse_unsafe(path: &Path) -> io::Result<()> {
    let folder = std::path::absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default();
    match local::is_root().then(|| distrusted(&folder, None)).flatten() {
        Some(why) => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("not in a folder of others: {why}"))),
        None => Ok(()),
    }
}

/// Under a name that is free: one of a few, so that what a kill left under them is found again, and removed here.
fn bind_beside(path: &Path) -> io::Result<(PathBuf, Bound)> {
    let suffixes = std::iter::once("new".to_owned()).chain((1..NAMES).map(|n| format!("n{n:02}")));
    let names: Vec<PathBuf> = suffixes.map(|suffix| path.with_extension(suffix)).filter(|name| name != path).collect();
    // What is not a dead socket stays, and is in nobody's way.
    names.iter().for_each(|name| drop(give_way(name)));
    for name in names {
        match local::bind(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|bound| (name, bound)),
        }
    }
    let why = format!("all names beside it are taken, from {} on", path.with_extension("new").display());
    Err(io::Error::new(io::ErrorKind::AddrInUse, why))
}

/// Removes a socket that a dead agent left. Anything else is left alone, and so is one of which it cannot be seen whether
/// somebody living has it open.
fn give_way(path: &Path) -> io::Result<()> {
    if !socket_is_at(path)? {
        return Ok(());
    }
    match local::is_served(path) {
        Ok(true) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on it")),
        Ok(false) => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(error) => {
            let why = format!(
                "there is a socket, and whether an agent answers on it cannot be seen: {error}; it is left alone, remove it \
                 if none does"
            );
            Err(io::Error::new(error.kind(), why))
        }
    }
}

/// An error where there is something else.
fn socket_is_at(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if local::is_socket(&found) => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else, which is left alone")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place(path: &Path, mode: u32, gid: Option<u32>) -> Place {
        Place { path: path.to_owned(), gid, mode, public: true }
    }

    #[test]
    fn it_has_its_mode_replaces_a_dead_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("put.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let own = rustix::process::getgid().as_raw();
        let living = Socket::bind(&place(&path, 0o660, Some(own))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let second = Socket::bind(&place(&path, 0o600, None)).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(living);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(Socket::bind(&place(&path, 0o600, None)).unwrap_err().to_string().contains("left alone"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    /// A socket that no stream can connect to, and one that only root may open: who has them open is not known.
    #[test]
    fn one_that_may_be_a_living_ones_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, closed) = (dir.path().join("put.sock"), dir.path().join("closed.sock"));
        let _unknown = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let _living = std::os::unix::net::UnixListener::bind(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
        for path in [path, closed] {
            let before = local::identity(&path).unwrap();
            let error = Socket::bind(&place(&path, 0o600, None)).unwrap_err();
            let why = if error.kind() == io::ErrorKind::AddrInUse { "answers on it" } else { "cannot be seen" };
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(local::identity(&path).unwrap(), before);
        }
    }

    #[test]
    fn what_a_kill_left_half_made_is_removed_and_a_name_that_is_taken_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("put.new"), "precious").unwrap();
        let _living = std::os::unix::net::UnixListener::bind(at("put.n01")).unwrap();
        for dead in ["put.n02", "put.n09"] {
            drop(std::os::unix::net::UnixListener::bind(at(dead)).unwrap());
        }
        let socket = Socket::bind(&place(&at("put.sock"), 0o600, None)).unwrap();
        let own = Socket::bind(&place(&at("x.new"), 0o600, None)).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["put.n01", "put.new", "put.sock", "x.new"]);
        assert!(local::dial(&at("put.sock")).is_ok() && local::dial(&at("x.new")).is_ok());
        drop((socket, own));
        (0..NAMES).for_each(|n| std::fs::write(at(&format!("put.n{n:02}")), "").unwrap_or(()));
        let error = Socket::bind(&place(&at("put.sock"), 0o600, None)).unwrap_err();
        assert!(error.to_string().contains("all names beside it are taken"), "{error}");
    }

    #[test]
    fn what_has_taken_its_name_meanwhile_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("put.sock");
        let socket = Socket::bind(&place(&path, 0o600, None)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn root_makes_none_where_others_may_write() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let bound = Socket::bind(&place(&dir.path().join("put.sock"), 0o600, None));
        if local::is_root() {
            let error = bound.unwrap_err().to_string();
            assert!(error.contains("folder of others") && error.contains("chmod go-w"), "{error}");
        } else {
            assert!(bound.is_ok());
        }
    }
}
