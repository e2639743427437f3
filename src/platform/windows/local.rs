//! Sockets that are files are not used here: each attempt to make or open one is told as unsupported. The types have no
//! values, so that nothing that needs one can run.

use std::fs::Metadata;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::unsupported;

/// Whether there can be one at all.
pub const SUPPORTED: bool = false;

fn no_sockets() -> io::Error {
    unsupported("the agent has no local socket there, for status and put")
}

#[derive(Debug)]
pub enum Bound {}

#[derive(Debug)]
pub enum Listener {}

#[derive(Debug)]
pub enum Stream {}

#[derive(Debug)]
pub enum Connection {}

pub fn bind(_: &Path) -> io::Result<Bound> {
    Err(no_sockets())
}

pub fn listen(bound: Bound) -> io::Result<Listener> {
    match bound {}
}

impl Listener {
    #[expect(clippy::unused_async, reason = "as tokio's")]
    pub async fn accept(&self) -> io::Result<(Stream, ())> {
        match *self {}
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl Connection {
    pub fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match *self {}
    }

    pub fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        match *self {}
    }

    pub fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        match *self {}
    }
}

impl Read for Connection {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for Connection {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}

pub fn permit(_: &Path, _: Option<u32>, _: u32) -> io::Result<()> {
    Err(no_sockets())
}

pub fn identity(_: &Path) -> io::Result<(u64, u64)> {
    Err(no_sockets())
}

pub fn dial(_: &Path) -> io::Result<Connection> {
    Err(no_sockets())
}

pub fn is_served(_: &Path) -> io::Result<bool> {
    Ok(false)
}

pub fn is_root() -> bool {
    false
}

pub fn is_socket(_: &Metadata) -> bool {
    false
}
