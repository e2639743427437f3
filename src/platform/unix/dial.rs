//! Connecting to a Unix socket without waiting: behind a full queue of one that nobody serves, connect(2) never returns.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// `WouldBlock` when somebody has the socket open and its queue is full.
#[cfg(target_os = "linux")]
pub fn dial(path: &Path) -> io::Result<UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(not(target_os = "linux"))]
pub fn dial(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(path)
}

/// Whether somebody living has it open, however busy or frozen. An error where that cannot be seen (no right to it, no file
/// descriptor left): it may be so.
pub fn is_served(path: &Path) -> io::Result<bool> {
    match dial(path) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Ok(true),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_a_living_owner_and_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(!is_served(&path).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut held = Vec::new();
        let error = loop {
            match dial(&path) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 100_000);
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(is_served(&path).unwrap());
        drop((held, listener));
        assert!(!is_served(&path).unwrap());
    }

    #[test]
    fn what_cannot_be_seen_is_not_taken_for_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("datagrams");
        let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(is_served(&path).is_err());
        assert!(is_served(&dir.path().join("n".repeat(200))).is_err(), "no socket can have that name");
    }
}
