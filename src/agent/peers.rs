//! Who connects to a local socket: a few at once, the others wait in the kernel's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::platform::local::{Listener, Stream};

/// After a failure to accept (no file descriptors left), the next attempt.
const AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Peers {
    listener: Listener,
    places: Arc<Semaphore>,
    /// The last attempt to accept failed, and that was said.
    failing: AtomicBool,
    /// The socket, for the log.
    of: &'static str,
}

impl Peers {
    pub fn new(listener: Listener, at_once: usize, of: &'static str) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(at_once)), failing: AtomicBool::new(false), of }
    }

    /// The next peer and its place, once there is one. Does not fail: what keeps it from accepting is said once until it
    /// accepts again. Cancel-safe.
    pub async fn next(&self) -> (Stream, OwnedSemaphorePermit) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.failing.store(false, Ordering::Relaxed);
                    return (stream, place);
                }
                Err(error) => {
                    if !self.failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "the {} accepts no connections; it tries again every 5 s", self.of);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
