//! Counts what a client sends: a relay between it and the broker that passes every byte on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::free_port;

pub struct Meter {
    pub port: u16,
    up: Arc<AtomicU64>,
}

impl Meter {
    /// Listens until this program ends.
    pub fn before(broker: u16) -> std::io::Result<Self> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let up = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&up);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) {
                    couple(&client, &broker, &counter);
                }
            }
        });
        Ok(Self { port, up })
    }

    /// Bytes towards the broker so far, those of TLS included, those of TCP and IP not.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }
}

fn couple(client: &TcpStream, broker: &TcpStream, up: &Arc<AtomicU64>) {
    let pass = |from: &TcpStream, to: &TcpStream, counter: Arc<AtomicU64>| {
        if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
            to.set_nodelay(true).ok();
            thread::spawn(move || pass(from, to, &counter));
        }
    };
    pass(client, broker, Arc::clone(up));
    pass(broker, client, Arc::default());
}

fn pass(mut from: TcpStream, mut to: TcpStream, counter: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(size as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    // Either end may have done so already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
