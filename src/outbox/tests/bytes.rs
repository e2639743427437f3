//! Bytes of a file on their way: read ahead, written above a file that stays as it is, and read a block at a time.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use crate::outbox::ahead::Ahead;
use crate::outbox::overlay::{Backing, Overlay};
use crate::outbox::stretch::{Blocks, Stretch};
use crate::outbox::value::{Lying, Times};

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// Offset and length of each.
    reads: Vec<(u64, usize)>,
    closed: bool,
}

/// A file in memory that says what was done to it.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<File>>);

impl Memory {
    fn of(len: usize) -> Self {
        let bytes = (0..len).map(|i| (i % 251) as u8).collect();
        Self(Arc::new(Mutex::new(File { bytes, ..File::default() })))
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap()
    }

    fn take_reads(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.file().reads)
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file().bytes.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut file = self.file();
        file.reads.push((offset, out.len()));
        let from = offset as usize;
        out.copy_from_slice(file.bytes.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn close(&self) -> io::Result<()> {
        self.file().closed = true;
        Ok(())
    }
}

const KIB: u64 = 1024;

#[test]
fn what_lies_behind_is_there_without_another_read_up_to_the_last_byte() {
    let len = 200 * KIB;
    let file = Memory::of(len as usize);
    let mut ahead = Ahead::default();
    // Offset and length, whether it is for this, and what is read of the file for it.
    for (offset, wanted, served, read) in [
        (0, 100, true, Some((0, 64 << 10))),
        (60 * KIB, 4 << 10, true, None),
        (60 * KIB, (4 << 10) + 1, true, Some((60 * KIB, 64 << 10))),
        (70 * KIB, 32 << 10, true, None),
        (70 * KIB, (32 << 10) + 1, false, None),
        (len - 100, 100, true, Some((len - 100, 100))),
        (len - 100, 101, false, None),
        (len + 10, 10, false, None),
        (u64::MAX, 10, false, None),
    ] {
        let bytes = ahead.bytes(&file, len, offset, wanted).map(<[u8]>::to_vec);
        let there = file.file().bytes.get(offset as usize..).unwrap_or_default().to_vec();
        assert_eq!(bytes, served.then(|| there[..wanted].to_vec()), "{wanted} at {offset}");
        assert_eq!(file.take_reads(), Vec::from_iter(read), "{wanted} at {offset}");
    }
}

#[test]
fn what_is_written_above_a_file_is_read_as_if_it_were_changed_and_it_is_not() {
    const PAGE: usize = 4096;
    let file = Memory::of(5 * PAGE + 100);
    let before = file.file().bytes.clone();
    let overlay = Overlay::new(Box::new(file.clone())).unwrap();
    let mut expected = before.clone();
    overlay.set_len(12 * PAGE as u64).unwrap();
    expected.resize(12 * PAGE, 0);
    let writes = [(0, 10), (PAGE - 6, 20), (2 * PAGE + 5, 9000), (5 * PAGE + 90, 30), (8 * PAGE, PAGE), (2 * PAGE, 7)];
    for (at, len) in writes.into_iter().chain([(12 * PAGE - 10, 10)]) {
        let data: Vec<u8> = (0..len).map(|i| (at + i * 3) as u8).collect();
        overlay.write(at as u64, &data).unwrap();
        expected[at..at + len].copy_from_slice(&data);
    }
    for at in (0..expected.len()).step_by(487) {
        for len in [1, 600, PAGE, 3 * PAGE, 11 * PAGE] {
            let mut read = vec![0; len];
            let there = expected.get(at..at + len);
            assert_eq!(overlay.read(at as u64, &mut read).is_ok(), there.is_some(), "{len} at {at}");
            assert!(there.is_none_or(|there| *there == read), "{len} at {at}");
        }
    }
    assert_eq!(file.file().bytes, before);
}

#[test]
fn a_boxed_file_is_closed_with_its_box() {
    let file = Memory::of(0);
    Backing(Box::new(file.clone())).close().unwrap();
    assert!(file.file().closed);
}

#[test]
fn stretches_that_lie_close_behind_each_other_are_read_at_once_up_to_a_block() {
    // Offset and length of each; and how much of the file is read for the first one.
    for (lying, read) in [
        (vec![(100, 1000), (1100 + 4096, 500)], 1000 + 4096 + 500),
        (vec![(100, 1000), (1100 + 4097, 500)], 1000),
        (vec![(1100, 1000), (100, 500)], 1000),
        (vec![(40_000, 15_000), (56_000, 15_000), (72_000, 768)], 32 << 10),
        (vec![(40_000, 15_000), (56_000, 15_000), (72_000, 769)], 31_000),
    ] {
        let mut stretches = Vec::new();
        for (seq, (offset, len)) in (1..).zip(&lying) {
            let times = Times::default();
            let chunk = Lying { epoch: 1, first: seq, count: 1, times, len: *len, synced: true, boot: "", maps: &[] };
            Stretch::note(&mut stretches, 1, &chunk, *offset);
        }
        let file = Memory::of(100_000);
        let mut blocks = Blocks::new(Box::new(file.clone())).unwrap();
        assert_eq!(blocks.stretch(&stretches).unwrap().len(), lying[0].1, "{lying:?}");
        assert_eq!(file.take_reads(), [(lying[0].0, read)], "{lying:?}");
    }
}
