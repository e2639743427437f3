//! The door for applications: a Unix socket on which whoever may open it hands over a batch of records and is answered
//! when they are durable.
//!
//! Batches are read here and stored by the loop, which keeps the order of everything. Bounded are connections (others
//! wait in the kernel's queue), the bytes and the time of a batch, records per second, and the memory of what waits for
//! its commit; what does not fit is refused, and its maker still has it. Nothing of it can become a loss on the way in.

mod pace;
mod tally;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::peers::{Peer, Peers};
use super::socket::Place;
use crate::clock;
use crate::config;
use crate::outbox::writer::{Reply, Returned, Stored};
use crate::platform::local::Stream;
use crate::put::{self, Answer, Batch, Kind, Trouble};
use crate::record::Point;
use pace::Pace;
pub use tally::Tally;

/// Batches read, waited for or answered at once.
const CONNECTIONS: usize = 8;
/// Who has connected begins within that: a place is not for who has nothing to say.
const BEGIN: Duration = Duration::from_secs(1);
/// A batch comes whole within that, and its answer is taken within that.
const PATIENCE: Duration = Duration::from_secs(5);
/// A commit takes that long at most, as far as its maker is concerned.
const COMMIT: Duration = Duration::from_secs(30);

/// A batch for the loop to store.
#[derive(Debug)]
pub struct Request {
    /// Of its own, as [`crate::outbox::writer::Handle::put`] wants it.
    pub collector: Arc<str>,
    pub points: Vec<Point>,
    pub reply: Reply,
}

/// Open as long as it lives, if it can be.
#[derive(Debug)]
pub struct Door {
    peers: Peers,
    requests: mpsc::Receiver<Request>,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    pace: Mutex<Pace>,
    tally: Mutex<Tally>,
}

impl Door {
    /// Inside a runtime.
    pub fn open(config: &config::Put) -> Self {
        let place = Place { path: config.socket.clone(), gid: config.gid, mode: config.mode, public: true };
        let (sender, requests) = mpsc::channel(CONNECTIONS);
        let (pace, tally) = (Mutex::new(Pace::new(config.records_per_s)), Mutex::default());
        let shared = Arc::new(Shared { requests: sender, pace, tally });
        let served = Arc::clone(&shared);
        let greet = move |peer| drop(tokio::spawn(serve(peer, Arc::clone(&served))));
        Self { peers: Peers::open(place, CONNECTIONS, "socket of put", greet), requests, shared }
    }

    /// Why nobody can put anything, as long as that is so.
    pub fn problem(&self) -> Option<String> {
        self.peers.problem().map(|why| format!("no application can put records: {why}"))
    }

    /// Its directory can be used now.
    pub fn try_now(&self) {
        self.peers.try_now();
    }

    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next batch. Cancel-safe.
    pub async fn next(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Door {
    /// Nobody has seen what waits here: it is not stored, and never will be.
    fn drop(&mut self) {
        self.requests.close();
        while let Ok(Request { reply, .. }) = self.requests.try_recv() {
            // Whoever asked may have gone away.
            drop(reply.send(Err(Returned::Stopping)));
        }
    }
}

/// One batch and its answer.
async fn serve(peer: Peer, shared: Arc<Shared>) {
    let Peer { mut stream, place } = peer;
    let answer = match receive(&mut stream).await {
        // It has asked for nothing: so somebody looks whether the agent is there.
        Ok(bytes) if bytes.is_empty() => return,
        Ok(bytes) => match put::read(&bytes, &clock::now()) {
            Ok(batch) => store(batch, &shared).await,
            Err(trouble) => failed(trouble),
        },
        Err(Broken::Late(trouble)) => failed(trouble),
        Err(Broken::Off(error)) => return tracing::debug!(%error, "a connection of put broke"),
    };
    shared.tally.lock().unwrap_or_else(PoisonError::into_inner).count(&answer);
    let mut document = serde_json::to_vec(&answer).expect("an answer is plain data");
    document.push(b'\n');
    let write = async {
        stream.write_all(&document).await?;
        stream.shutdown().await
    };
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "who put records went away before the answer"),
        Err(_) => tracing::debug!("who put records did not read the answer within 5 s"),
    }
    drop(place);
}

/// Why a batch did not come.
enum Broken {
    /// Its maker is told.
    Late(Trouble),
    Off(io::Error),
}

/// The bytes of a batch; one too many when it is too large, none when its maker went away without any.
async fn receive(stream: &mut Stream) -> Result<Vec<u8>, Broken> {
    let max = put::MAX_HEADER + 1 + put::MAX_BATCH + 1;
    let (mut bytes, mut limited) = (Vec::with_capacity(4 << 10), stream.take(max as u64));
    within(BEGIN, limited.read_buf(&mut bytes), "nothing came within 1 s of connecting").await?;
    let late = "the batch did not come whole, up to the end of the stream, within 5 s";
    within(PATIENCE, limited.read_to_end(&mut bytes), late).await?;
    Ok(bytes)
}

async fn within(time: Duration, read: impl Future<Output = io::Result<usize>>, late: &str) -> Result<usize, Broken> {
    match tokio::time::timeout(time, read).await {
        Ok(read) => read.map_err(Broken::Off),
        Err(_) => Err(Broken::Late(Trouble::new(Kind::Busy, late))),
    }
}

async fn store(batch: Batch, shared: &Shared) -> Answer {
    let Batch { collector, points, refused } = batch;
    if points.is_empty() {
        return Answer { refused, ..Answer::default() };
    }
    let stored = hand_over(collector, points, shared).await;
    match stored {
        Ok(Stored { epoch, seqs }) => Answer {
            stored: seqs.iter().map(|range| range.end() - range.start() + 1).sum(),
            epoch: Some(epoch),
            seqs: seqs.iter().map(|range| (*range.start(), *range.end())).collect(),
            refused,
            error: None,
        },
        Err(trouble) => Answer { refused, ..failed(trouble) },
    }
}

async fn hand_over(collector: String, points: Vec<Point>, shared: &Shared) -> Result<Stored, Trouble> {
    let wait = {
        let mut pace = shared.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.take(points.len(), clock::now().mono)
    };
    let busy = "more records a second than put.records_per_s allows; try again in a while";
    tokio::time::sleep(wait.ok_or_else(|| Trouble::new(Kind::Busy, busy))?).await;
    let (reply, answer) = oneshot::channel();
    let gone = || Trouble::new(Kind::Unknown, "the agent is stopping, and what became of these records is not known");
    let request = Request { collector: collector.into(), points, reply };
    shared.requests.send(request).await.map_err(|_| Trouble::from(Returned::Stopping))?;
    match tokio::time::timeout(COMMIT, answer).await {
        Ok(Ok(Ok(stored))) => Ok(stored),
        Ok(Ok(Err(returned))) => Err(Trouble::from(returned)),
        Ok(Err(_)) => Err(gone()),
        Err(_) => Err(Trouble::new(Kind::Unknown, "no commit within 30 s: they may be stored yet")),
    }
}

impl From<Returned> for Trouble {
    fn from(returned: Returned) -> Self {
        let kind = match returned {
            Returned::Busy | Returned::Stopping => Kind::Busy,
            Returned::Unwritable(_) | Returned::Full => Kind::Unwritable,
            Returned::Oversize => Kind::Oversize,
            Returned::Refused(_) => Kind::Invalid,
        };
        Self::new(kind, returned.to_string())
    }
}

fn failed(trouble: Trouble) -> Answer {
    Answer { error: Some(trouble), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    fn config(socket: std::path::PathBuf) -> config::Put {
        config::Put { enabled: true, socket, gid: None, mode: 0o600, records_per_s: 1000 }
    }

    #[test]
    fn what_the_loop_has_not_seen_when_it_stops_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path().join("put.sock"));
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let door = Door::open(&config);
            let mut stream = UnixStream::connect(&config.socket).await.unwrap();
            stream.write_all(b"{\"put\":1,\"collector\":\"app\"}\na n=1i\n").await.unwrap();
            stream.shutdown().await.unwrap();
            while door.requests.is_empty() {
                tokio::task::yield_now().await;
            }
            drop(door);
            let mut answer = Vec::new();
            tokio::time::timeout(COMMIT, stream.read_to_end(&mut answer)).await.expect("in time").unwrap();
            let answer: Answer = serde_json::from_slice(&answer).unwrap();
            assert_eq!((answer.error.map(|trouble| trouble.kind), answer.stored), (Some(Kind::Busy), 0));
        });
    }
}
