//! The kernel's own listing of sockets is Linux's.

use std::io;

use super::tcp::States;

pub fn count() -> io::Result<States> {
    Err(io::ErrorKind::Unsupported.into())
}
