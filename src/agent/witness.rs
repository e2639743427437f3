//! The witness: a debugging aid that lets a test outside this program know what was committed.
//!
//! With `HOLDOVER_WITNESS=PATH` set, one line per committed record is appended to PATH right after its commit:
//! `<epoch> <seq> <hex of the record's MessagePack map>`. It runs on the outbox writer's thread, before the
//! commit is announced to anyone, so whatever is ever published has been witnessed.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use crate::wire::Chunk;

/// The environment variable that names the file or pipe.
pub const VARIABLE: &str = "HOLDOVER_WITNESS";

#[derive(Debug)]
pub struct Witness {
    file: File,
}

impl Witness {
    pub fn open(path: &OsStr) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create(true).open(path)? })
    }

    /// One write per chunk, so that a kill tears at most the last line.
    pub fn observe(&mut self, chunk: &Chunk) {
        let mut lines = String::with_capacity(chunk.maps.len() * 2 + 64);
        for (seq, map) in chunk.records() {
            write!(lines, "{} {seq} ", chunk.epoch).expect("writing to a String does not fail");
            for byte in map {
                write!(lines, "{byte:02x}").expect("writing to a String does not fail");
            }
            lines.push('\n');
        }
        if let Err(error) = self.file.write_all(lines.as_bytes()) {
            tracing::error!(%error, seq = chunk.first, "the witness cannot be written; the records themselves are safe");
        }
    }
}
