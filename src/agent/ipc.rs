//! The local status socket: whoever connects gets one JSON document and the end of the stream.
//!
//! It lives in the outbox directory and only its owner may connect. It never reads from its peers; a peer that does
//! not read in time is dropped, and beyond a few at once they wait in the kernel's queue.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::peers::{Peer, Peers};
use super::socket::Place;
use crate::platform::local;

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
    peers: Peers,
    /// Each has a place: there are never more than fit.
    waiting: mpsc::Receiver<Peer>,
}

impl StatusSocket {
    /// Inside a runtime. It takes the place of one that a dead agent left. One that a living agent answers on is left
    /// alone: without the outbox's lock (its directory could not be used) nothing else keeps two agents apart.
    pub fn open(outbox_dir: &Path) -> Self {
        let place = Place { path: outbox_dir.join(SOCKET), gid: None, mode: 0o600, public: false };
        let (sender, waiting) = mpsc::channel(READERS);
        let peers = Peers::open(place, READERS, "status socket", move |peer| drop(sender.try_send(peer)));
        Self { peers, waiting }
    }

    /// Why there is none, as long as there could be one.
    pub fn problem(&self) -> Option<String> {
        let problem = self.peers.problem().filter(|_| local::SUPPORTED);
        problem.map(|why| format!("'holdover status' cannot ask this agent: {why}"))
    }

    /// Its directory can be used now.
    pub fn try_now(&self) {
        self.peers.try_now();
    }

    /// The next peer, once there is a place for it. Cancel-safe.
    pub async fn accept(&mut self) -> Peer {
        match self.waiting.recv().await {
            Some(peer) => peer,
            None => std::future::pending().await,
        }
    }
}

/// Writes the answer in the background, for at most [`PATIENCE`].
pub fn answer(peer: Peer, document: String) {
    let Peer { mut stream, place } = peer;
    tokio::spawn(async move {
        let write = async {
            stream.write_all(document.as_bytes()).await?;
            stream.shutdown().await
        };
        match tokio::time::timeout(PATIENCE, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a status reader went away"),
            Err(_) => tracing::debug!("a status reader did not read within 2 s"),
        }
        drop(place);
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
        let runtime = runtime();
        let _entered = runtime.enter();
        let socket = StatusSocket::open(dir.path());
        let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, socket.problem()), (0o600, None));
    }

    #[test]
    fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let _entered = runtime.enter();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        let living = StatusSocket::open(dir.path());
        assert_eq!(living.problem(), None);
        let problem = StatusSocket::open(dir.path()).problem().unwrap();
        assert!(problem.contains("another agent answers on it; it is tried again"), "{problem}");
    }

    #[test]
    fn readers_that_do_not_read_are_few_and_hold_nobody_up_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        runtime.block_on(async {
            let mut socket = StatusSocket::open(dir.path());
            let connect = || std::os::unix::net::UnixStream::connect(dir.path().join(SOCKET)).unwrap();
            let _peers: Vec<_> = (0..=READERS).map(|_| connect()).collect();
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
