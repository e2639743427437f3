//! A local socket and who connects to it: a few at once, the others wait in the kernel's queue.
//!
//! It is there as long as it can be: one that cannot be made is tried again, one whose file was removed is made anew.
//! Where its folder is may hang, so the file is looked after on other threads; only the first attempt is the caller's.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::socket::{Place, Socket, SocketFile};
use crate::aside;
use crate::platform::local::{self, Bound, Listener, Stream};

/// After a failure to accept (no file descriptors left), the next attempt.
const ACCEPT_AGAIN: Duration = Duration::from_secs(5);
/// Between looks whether the file is still there.
const LOOK: Duration = Duration::from_secs(30);
/// Between attempts to make the socket.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Who has connected, and the place taken until this is dropped.
#[derive(Debug)]
pub struct Peer {
    pub stream: Stream,
    pub place: OwnedSemaphorePermit,
}

/// The socket goes when this is dropped.
#[derive(Debug)]
pub struct Peers {
    keeping: JoinHandle<()>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why there is no socket.
    problem: Mutex<Option<String>>,
    /// It is worth another attempt.
    again: Notify,
}

/// What is kept, and how.
struct Keeper<G> {
    place: Place,
    places: Arc<Semaphore>,
    /// The socket, for the log.
    of: &'static str,
    look: Duration,
    greet: G,
    state: Arc<State>,
}

impl Peers {
    /// Inside a runtime, where `greet` is called with each peer; it does not wait. `of` names the socket in the log.
    pub fn open(place: Place, at_once: usize, of: &'static str, greet: impl FnMut(Peer) + Send + 'static) -> Self {
        Self::open_looking(place, at_once, of, LOOK, greet)
    }

    fn open_looking(
        place: Place,
        at_once: usize,
        of: &'static str,
        look: Duration,
        greet: impl FnMut(Peer) + Send + 'static,
    ) -> Self {
        let first = Socket::bind(&place);
        let state = Arc::new(State::default());
        if let Err(error) = &first {
            state.say(&place, error);
        }
        let places = Arc::new(Semaphore::new(at_once));
        let keeper = Keeper { place, places, of, look, greet, state: Arc::clone(&state) };
        Self { keeping: tokio::spawn(keeper.keep(first)), state }
    }

    /// Why there is no socket, as long as there is none.
    pub fn problem(&self) -> Option<String> {
        self.state.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something has changed: another attempt may do.
    pub fn try_now(&self) {
        self.state.again.notify_one();
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl State {
    fn say(&self, place: &Place, error: &io::Error) {
        let then = if local::SUPPORTED { "; it is tried again" } else { "" };
        let line = format!("the socket {} was not made: {error}{then}", place.path.display());
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    fn made(&self) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<G: FnMut(Peer)> Keeper<G> {
    async fn keep(mut self, first: io::Result<(Socket, Bound)>) {
        let (mut made, mut wait) = (first, AGAIN_MIN);
        loop {
            match made.and_then(|(socket, bound)| Ok((socket, local::listen(bound)?))) {
                Ok((socket, listener)) => {
                    self.state.made();
                    wait = AGAIN_MIN;
                    self.meet(&socket, &listener).await;
                    tracing::warn!(
                        "the file of the {} is gone, it is made anew: {}",
                        self.of,
                        self.place.path.display()
                    );
                }
                Err(error) => {
                    self.state.say(&self.place, &error);
                    if !local::SUPPORTED {
                        return;
                    }
                    // Whichever is first.
                    tokio::time::timeout(wait, self.state.again.notified()).await.ok();
                    wait = (wait * 2).min(AGAIN_MAX);
                }
            }
            let place = self.place.clone();
            let attempt = aside::run("socket", move || Socket::bind(&place)).await;
            made = attempt.unwrap_or_else(|lost| Err(io::Error::other(lost)));
        }
    }

    /// Lets peers in until the file is gone.
    async fn meet(&mut self, socket: &Socket, listener: &Listener) {
        let mut gone = pin!(gone(socket.file(), self.look));
        loop {
            let next = next(listener, &self.places, self.of);
            tokio::select! {
                peer = next => (self.greet)(peer),
                () = &mut gone => return,
            }
        }
    }
}

async fn gone(file: SocketFile, look: Duration) {
    loop {
        tokio::time::sleep(look).await;
        let file = file.clone();
        // A look for which there is no thread is made up for by the next.
        if aside::run("socket-look", move || file.is_gone()).await == Ok(true) {
            return;
        }
    }
}

/// The next peer and its place, once there is one. Does not fail: what keeps it from accepting is said once until it
/// accepts again. Cancel-safe.
async fn next(listener: &Listener, places: &Arc<Semaphore>, of: &str) -> Peer {
    let mut failing = false;
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => return Peer { stream, place },
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the {of} accepts no connections; it tries again every 5 s");
                }
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn place(path: &Path) -> Place {
        Place { path: path.to_owned(), gid: None, mode: 0o600, public: false }
    }

    fn open(path: &Path) -> (Peers, mpsc::Receiver<Peer>) {
        let (sender, met) = mpsc::channel(8);
        let greet = move |peer| drop(sender.try_send(peer));
        (Peers::open_looking(place(path), 8, "socket", Duration::from_millis(5), greet), met)
    }

    /// The runtime's one thread must not wait for the peer.
    async fn is_met(path: &Path, met: &mut mpsc::Receiver<Peer>) {
        let connecting = async {
            while tokio::net::UnixStream::connect(path).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("it is there");
        tokio::time::timeout(PATIENCE, met.recv()).await.expect("in time").expect("open");
    }

    fn block_on(work: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    }

    #[test]
    fn a_socket_that_could_not_be_made_is_made_as_soon_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later/put.sock");
        block_on(async {
            let (peers, mut met) = open(&path);
            let problem = peers.problem().unwrap();
            assert!(problem.contains("later/put.sock was not made: No such file"), "{problem}");
            std::fs::create_dir(dir.path().join("later")).unwrap();
            peers.try_now();
            is_met(&path, &mut met).await;
            assert_eq!(peers.problem(), None);
            drop(peers);
            assert!(tokio::time::timeout(PATIENCE, met.recv()).await.expect("it goes").is_none());
            assert!(!path.exists());
        });
    }

    #[test]
    fn one_whose_file_was_removed_or_replaced_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("put.sock");
        block_on(async {
            let (peers, mut met) = open(&path);
            for _ in 0..3 {
                is_met(&path, &mut met).await;
                std::fs::remove_file(&path).unwrap();
            }
            is_met(&path, &mut met).await;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "precious").unwrap();
            let told = async {
                while peers.problem().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, told).await.expect("it is noticed");
            assert!(peers.problem().unwrap().contains("left alone"));
            std::fs::remove_file(&path).unwrap();
            is_met(&path, &mut met).await;
        });
    }
}
