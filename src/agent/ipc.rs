//! The local status socket: whoever connects gets one JSON document and the end of the stream.
//!
//! It lives in the outbox directory and only its owner may connect. It never reads from its peers; a peer that does
//! not read in time is dropped, and beyond a few at once they wait in the kernel's queue.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

use super::peers::Peers;
use crate::platform::local::{self, Listener, Stream};

/// File name of the socket within the outbox directory.
pub const SOCKET: &str = "agent.sock";
/// How long a peer may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Answers being written at once.
const READERS: usize = 8;
/// The largest answer a client accepts.
const MAX_ANSWER: u64 = 4 << 20;

#[derive(Debug)]
pub struct StatusSocket {
    readers: Peers,
    path: PathBuf,
}

/// A peer that waits for its answer, and its place among the readers.
#[derive(Debug)]
pub struct Reader {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

impl StatusSocket {
    /// Binds the socket, in place of one that a dead agent left. One that a living agent answers on is left alone:
    /// without the outbox's lock (its directory could not be used) nothing else keeps two agents apart.
    pub fn bind(outbox_dir: &Path) -> io::Result<Self> {
        let path = outbox_dir.join(SOCKET);
        if local::is_served(&path) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent answers on it"));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = Listener::bind(&path)?;
        local::permit(&path, None, 0o600)?;
        Ok(Self { readers: Peers::new(listener, READERS, "status socket"), path })
    }

    /// The next peer, once there is a place for it. Cancel-safe.
    pub async fn accept(&self) -> Reader {
        let (stream, place) = self.readers.next().await;
        Reader { stream, _place: place }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the status socket was already gone");
        }
    }
}

/// Writes the answer in the background, for at most [`PATIENCE`].
pub fn answer(mut reader: Reader, document: String) {
    tokio::spawn(async move {
        let write = async {
            reader.stream.write_all(document.as_bytes()).await?;
            reader.stream.shutdown().await
        };
        match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a status reader went away"),
            Err(_) => tracing::debug!("a status reader did not read within 2 s"),
        }
    });
}

/// Asks the agent that runs on this outbox. `NotFound` or `ConnectionRefused` mean that none does, `TimedOut` that
/// one is there and does not answer.
pub fn ask(outbox_dir: &Path) -> io::Result<String> {
    use std::io::Read;
    // Its queue of peers is full, or it does not write.
    let silent = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        _ => error,
    };
    let stream = local::dial(&outbox_dir.join(SOCKET)).map_err(silent)?;
    // Others may be served first.
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    let mut document = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut document).map_err(silent)?;
    Ok(document)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn only_the_owner_may_connect() {
        let dir = tempfile::tempdir().unwrap();
        let _guard = runtime();
        let _entered = _guard.enter();
        let _socket = StatusSocket::bind(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let _entered = runtime.enter();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        let _living = StatusSocket::bind(dir.path()).unwrap();
        assert_eq!(StatusSocket::bind(dir.path()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn readers_that_do_not_read_are_few_and_hold_nobody_up_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let _entered = runtime.enter();
        let socket = StatusSocket::bind(dir.path()).unwrap();
        let connect = || std::os::unix::net::UnixStream::connect(dir.path().join(SOCKET)).unwrap();
        let _peers: Vec<_> = (0..=READERS).map(|_| connect()).collect();
        runtime.block_on(async {
            let mut places = Vec::new();
            for _ in 0..READERS {
                places.push(socket.accept().await);
            }
            let more = tokio::time::timeout(Duration::from_millis(50), socket.accept());
            assert!(more.await.is_err(), "one more than {READERS} was accepted");
            places.pop();
            socket.accept().await;
        });
    }

    #[test]
    fn an_agent_that_hangs_is_told_from_one_that_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        assert_eq!(ask(dir.path()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Frozen, with a full queue.
        let mut peers = Vec::new();
        while let Ok(peer) = local::dial(&dir.path().join(SOCKET)) {
            peers.push(peer);
        }
        assert_eq!(ask(dir.path()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop((peers, listener));
        assert_eq!(ask(dir.path()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
