//! A stretch of a file that nobody changes, read at once because what is asked for next lies behind what was asked for.

use redb::StorageBackend;

/// Read at a time; each read would be a system call.
const AHEAD: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    at: u64,
}

impl Ahead {
    /// `len` bytes at `offset` of a file of `file_len` bytes. `None` when they are too many for this, reach beyond
    /// the end, or when the file refuses.
    pub(super) fn bytes(&mut self, file: &dyn StorageBackend, file_len: u64, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64)?;
        if len > AHEAD / 2 || end > file_len {
            return None;
        }
        if offset < self.at || end > self.at + self.bytes.len() as u64 {
            let there = usize::try_from(file_len - offset).unwrap_or(usize::MAX).min(AHEAD);
            // Empty while it is being filled: a failed read leaves nothing behind.
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(there, 0);
            file.read(offset, &mut bytes).ok()?;
            (self.bytes, self.at) = (bytes, offset);
        }
        let from = (offset - self.at) as usize;
        self.bytes.get(from..from + len)
    }
}
