//! The socket on which a running hub answers `hosts`, `gaps` and `resend`: one line of JSON in, one document out.
//!
//! It lives in the hub's directory and only its owner may connect. A peer that neither asks nor reads in time is
//! dropped, and beyond a few at once they wait in the kernel's queue.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::aside;
use crate::hub::accounts::Question;
use crate::platform::local;

/// File name of the socket within the hub's directory.
pub const SOCKET: &str = "hub.sock";
const PATIENCE: Duration = Duration::from_secs(10);
const PEERS: usize = 8;
const MAX_REQUEST: u64 = 4 << 10;
const MAX_ANSWER: u64 = 64 << 20;
const ACCEPT_AGAIN: Duration = Duration::from_secs(5);

/// What may be asked of a running hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Request {
    Question(Question),
    Resend(ResendRequest),
}

/// Seqs that the host is to send again, or to declare lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResendRequest {
    pub resend: String,
    /// The one heard last, if not given.
    pub epoch: Option<u64>,
    pub from: u64,
    pub to: u64,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub request: Request,
    pub answer: oneshot::Sender<String>,
}

/// Made, and not served yet.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    listener: StdListener,
}

/// Makes the socket in place of one that a dead hub left: the ledger's lock keeps two living ones apart. May block.
pub(super) fn bind(dir: &Path) -> io::Result<Bound> {
    let path = dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&path)?;
    local::permit(&path, None, 0o600)?;
    listener.set_nonblocking(true)?;
    Ok(Bound { path, listener })
}

/// Listens until it is ended, or the runtime is.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Socket {
    pub fn serve(bound: Bound, asked: mpsc::Sender<Asked>) -> io::Result<Self> {
        let Bound { path, listener } = bound;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { path, task: tokio::spawn(serve(listener, asked)) })
    }

    /// Takes its name away, unless the disk does not answer: whoever asks a socket that nobody serves is told so.
    pub async fn end(self, patience: Duration) {
        self.task.abort();
        // Gone already when the directory is.
        let removed = aside::run("hub-socket", move || drop(std::fs::remove_file(&self.path)));
        tokio::time::timeout(patience, removed).await.ok();
    }
}

async fn serve(listener: UnixListener, asked: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(PEERS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(PATIENCE, converse(stream, asked)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => tracing::debug!(%error, "whoever asked went away"),
                        Err(_) => tracing::debug!("whoever asked did not go on within 10 s"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket did not accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::io::BufReader::new(reading.take(MAX_REQUEST)).read_line(&mut line).await?;
    let document = match serde_json::from_str(&line) {
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            asked.send(Asked { request, answer }).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            answered.await.unwrap_or_else(|_| error("the hub is too busy to answer; try again"))
        }
        Err(e) => error(&format!("not a request: {e}")),
    };
    writing.write_all(document.as_bytes()).await?;
    writing.shutdown().await
}

pub(super) fn error(text: &str) -> String {
    serde_json::json!({"error": text}).to_string()
}

/// Asks the hub that runs in `dir`. `NotFound` or `ConnectionRefused` mean that none does.
pub fn ask(dir: &Path, request: &Request) -> io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(dir.join(SOCKET))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut document = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_to_string(&mut document)?;
    Ok(document)
}
