//! A TCP proxy that breaks connections: cut after so many bytes, answers held back, nobody there.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes towards the broker that the next connection may pass before it ends; 0 means any number.
    cut_next_after: AtomicU64,
    /// Connections ended so.
    cuts: AtomicU64,
    /// What the broker answers stays in the proxy.
    mute: AtomicBool,
    /// Connections are closed as soon as they come.
    closed: AtomicBool,
    /// Raised to end every present connection.
    generation: AtomicU64,
    connections: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Passes everything to 127.0.0.1:`target` until told otherwise.
    pub fn start(target: u16) -> Proxy {
        let port = super::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if its.ended.load(Ordering::Relaxed) {
                    return;
                }
                if let (Ok(client), false) = (client, its.closed.load(Ordering::Relaxed)) {
                    its.connections.fetch_add(1, Ordering::Relaxed);
                    if let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                        couple(client, broker, &its);
                    }
                }
            }
        });
        Proxy { port, shared }
    }

    /// The next connection ends after `bytes` towards the broker, those after it live.
    pub fn cut_next_after(&self, bytes: u64) {
        self.shared.cut_next_after.store(bytes, Ordering::Relaxed);
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Holds back what the broker says: publishes arrive, their PUBACKs do not.
    pub fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::Relaxed);
    }

    pub fn refuse(&self, refuse: bool) {
        self.shared.closed.store(refuse, Ordering::Relaxed);
    }

    /// Ends every present connection.
    pub fn drop_connections(&self) {
        self.shared.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.drop_connections();
        // Wakes the listener so that it sees the end.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

fn couple(client: TcpStream, broker: TcpStream, shared: &Arc<Shared>) {
    client.set_nodelay(true).ok();
    broker.set_nodelay(true).ok();
    let (Ok(client2), Ok(broker2)) = (client.try_clone(), broker.try_clone()) else { return };
    let (up, down) = (Arc::clone(shared), Arc::clone(shared));
    let limit = shared.cut_next_after.swap(0, Ordering::Relaxed);
    std::thread::spawn(move || pass(client, broker, &up, Direction::Up { limit }));
    std::thread::spawn(move || pass(broker2, client2, &down, Direction::Down));
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    /// To the broker, at most so many bytes; 0 means any number.
    Up {
        limit: u64,
    },
    Down,
}

fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared, direction: Direction) {
    let generation = shared.generation.load(Ordering::Relaxed);
    let alive = || shared.generation.load(Ordering::Relaxed) == generation;
    let mut left = match direction {
        Direction::Up { limit } if limit > 0 => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let mut buffer = [0; 4096];
    // So that a change of mind is noticed on a silent connection.
    from.set_read_timeout(Some(Duration::from_millis(20))).ok();
    while alive() {
        let size = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        // What was read in the moment of muting stays here too.
        while direction == Direction::Down && shared.mute.load(Ordering::Relaxed) && alive() {
            super::pass_time(Duration::from_millis(5));
        }
        let allowed = size.min(left);
        if !alive() || to.write_all(&buffer[..allowed]).is_err() {
            break;
        }
        left = left.saturating_sub(if left == usize::MAX { 0 } else { allowed });
        if left == 0 {
            shared.cuts.fetch_add(1, Ordering::Relaxed);
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
