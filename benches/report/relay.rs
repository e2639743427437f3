//! A TCP relay that hands every byte on after a fixed time: a round trip without a kernel that can delay packets.
//!
//! It delays, it does not slow: any number of bytes may be under way. TCP itself runs over the loopback on both sides,
//! so what is measured is the windows of MQTT and of the agent, not TCP's slow start.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Reads under way in one direction.
const UNDER_WAY: usize = 4096;

/// Listens on a port of the loopback, which is returned; ends with the process.
pub fn start(target: u16, round_trip: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A connection that cannot be relayed is one that ends: its client says so.
            relay(client, target, round_trip / 2).ok();
        }
    });
    Ok(port)
}

fn relay(client: TcpStream, target: u16, one_way: Duration) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        to.set_nodelay(true)?;
        let (sender, receiver) = sync_channel(UNDER_WAY);
        thread::spawn(move || take_in(from, &sender, one_way));
        thread::spawn(move || hand_on(to, &receiver));
    }
    Ok(())
}

fn take_in(mut from: TcpStream, queue: &SyncSender<(Instant, Vec<u8>)>, one_way: Duration) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if queue.send((Instant::now() + one_way, bytes[..n].to_vec())).is_err() {
            return;
        }
    }
}

fn hand_on(mut to: TcpStream, queue: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = queue.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
