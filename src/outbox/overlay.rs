//! A redb backend over a file that is never changed: what redb writes (a repair, its closing commit) stays in
//! memory, page by page. So a segment that a crash left open can be read, and checked, as it is.
//!
//! Also the small adapter that hands a boxed backend to redb.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::ahead::Ahead;

const PAGE: u64 = 4096;

/// A boxed backend as redb wants it.
#[derive(Debug)]
pub(super) struct Backing(pub Box<dyn StorageBackend>);

impl StorageBackend for Backing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
}

#[derive(Debug)]
struct Written {
    len: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
    ahead: Ahead,
}

/// The file below, and the pages written above it. Memory: the pages that redb's recovery rewrites, a few dozen KiB.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Box<dyn StorageBackend>,
    file_len: u64,
    written: Mutex<Written>,
}

impl Overlay {
    pub(super) fn new(file: Box<dyn StorageBackend>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            file_len: len,
            written: Mutex::new(Written { len, pages: BTreeMap::new(), ahead: Ahead::default() }),
        })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the file, zeros beyond its end.
    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.file_len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (file, beyond) = out.split_at_mut(there);
        beyond.fill(0);
        if file.is_empty() { Ok(()) } else { self.file.read(offset, file) }
    }
}

impl Overlay {
    /// As [`Self::read_file`], by way of what was read ahead: redb asks for page after page.
    fn read_through(&self, written: &mut Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match written.ahead.bytes(&*self.file, self.file_len, offset, out.len()) {
            Some(bytes) => out.copy_from_slice(bytes),
            // Too much at once, beyond the end, or refused: what is not needed now may be what cannot be read.
            None => self.read_file(offset, out)?,
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut written = self.written();
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= written.len);
        let end = end.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "read beyond the end"))?;
        self.read_through(&mut written, offset, out)?;
        for (&page, bytes) in written.pages.range(offset / PAGE * PAGE..end) {
            let (from, to) = (page.max(offset), (page + PAGE).min(end));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - page) as usize..(to - page) as usize]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        written.pages.split_off(&len.next_multiple_of(PAGE));
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let page = at / PAGE * PAGE;
            let skip = (at - page) as usize;
            let take = (PAGE as usize - skip).min(data.len() - done);
            let bytes = match written.pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(vacant) => {
                    let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                    self.read_file(page, &mut bytes)?;
                    vacant.insert(bytes)
                }
            };
            bytes[skip..skip + take].copy_from_slice(&data[done..done + take]);
            done += take;
        }
        Ok(())
    }
}
