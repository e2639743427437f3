//! The broker's TLS: clients must show a certificate of the demo's authority, and are known by its common name.
//!
//! Decrypted bytes go to the embedded broker by loopback. The broker lets in only connections that are registered in
//! [`Guests`] under their local port before they are made, so nobody can go round the TLS.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::certificates::Authority;
use crate::uplink::transport::tls::inspect;

const CONNECTIONS: usize = 32;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When no connection can be taken, out of file descriptors say, before the next attempt.
pub(super) const BREATH: Duration = Duration::from_millis(100);

/// Who is behind which of the broker's connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<HashMap<SocketAddr, String>>>);

impl Guests {
    pub fn name(&self, from: SocketAddr) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&from).cloned()
    }

    fn enter(&self, from: SocketAddr, name: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(from, name);
    }

    fn leave(&self, from: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&from);
    }
}

/// Listens on a free port and hands on to the broker at `to`. Returns where.
pub(super) async fn start(authority: &Authority, guests: Guests, to: SocketAddr) -> anyhow::Result<SocketAddr> {
    let acceptor = TlsAcceptor::from(Arc::new(config(authority).context("cannot set up the broker's TLS")?));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen on 127.0.0.1")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok((client, _)) = listener.accept().await else {
                sleep(BREATH).await;
                continue;
            };
            let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
            let (acceptor, guests) = (acceptor.clone(), guests.clone());
            tokio::spawn(async move {
                serve(client, acceptor, guests, to).await.ok();
                drop(slot);
            });
        }
    });
    Ok(address)
}

/// The provider is named: with several in one program there is no default.
fn config(authority: &Authority) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.ca)?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let files = authority.server()?;
    let chain = vec![CertificateDer::from_pem_file(&files.certificate)?];
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_client_cert_verifier(clients).with_single_cert(chain, key)?)
}

async fn serve(client: TcpStream, acceptor: TlsAcceptor, guests: Guests, to: SocketAddr) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut tls = timeout(HANDSHAKE, acceptor.accept(client)).await??;
    let name = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(common_name);
    let name = name.context("a client certificate without a common name")?;
    let socket = TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let from = socket.local_addr()?;
    guests.enter(from, name);
    let relayed = async { copy_bidirectional(&mut tls, &mut socket.connect(to).await?).await }.await;
    guests.leave(from);
    relayed?;
    Ok(())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    inspect(certificate, Path::new("the client's certificate")).ok()?.common_name
}
