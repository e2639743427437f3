//! The cable between agents and broker: a TCP relay on loopback that can be cut and joined again.
//!
//! Cut, it drops every connection and hangs up on new ones at once. It sees TLS only and changes nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::front::BREATH;

/// Connections at once; the demo's three agents need three.
const CONNECTIONS: usize = 32;

#[derive(Debug)]
pub(super) struct Gate {
    pub port: u16,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Listens on a free port and relays to `to`; open at first.
    pub async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (open, opened) = watch::channel(true);
        tokio::spawn(accept(listener, to, opened));
        Ok(Self { port, open })
    }

    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn join(&self) {
        self.open.send_replace(true);
    }
}

/// Ends with the [`Gate`].
async fn accept(listener: TcpListener, to: SocketAddr, mut open: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = open.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((client, _)) = accepted else {
            sleep(BREATH).await;
            continue;
        };
        if !*open.borrow() {
            continue;
        }
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let mut open = open.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = relay(client, to) => (),
                _ = open.wait_for(|open| !open) => (),
            }
            drop(slot);
        });
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr) {
    let Ok(mut broker) = TcpStream::connect(to).await else { return };
    client.set_nodelay(true).ok();
    broker.set_nodelay(true).ok();
    // Either side may hang up at any time; both see it.
    copy_bidirectional(&mut client, &mut broker).await.ok();
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_cut_ends_connections_and_refuses_new_ones_until_it_is_joined() {
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        let gate = Gate::start(to).await.unwrap();
        let mut first = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port)).await.unwrap();
        assert_eq!(round_trip(&mut first).await, Some(7));
        gate.cut();
        assert_eq!(round_trip(&mut first).await, None);
        let mut second = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port)).await.unwrap();
        assert_eq!(round_trip(&mut second).await, None);
        gate.join();
        let mut third = TcpStream::connect((Ipv4Addr::LOCALHOST, gate.port)).await.unwrap();
        assert_eq!(round_trip(&mut third).await, Some(7));
    }

    async fn round_trip(stream: &mut TcpStream) -> Option<u8> {
        stream.write_u8(7).await.ok()?;
        stream.read_u8().await.ok()
    }
}
