//! What a commit costs: the outbox as its writer thread uses it, beside a plain file that gets the same bytes.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use holdover::clock;
use holdover::outbox::{Disk, Entry, FileDisk, Options, Outbox};
use redb::StorageBackend;

use crate::figure::{Figure, Outcome, Section};
use crate::fill::Samples;
use crate::median::median;
use crate::scratch;

pub const SECTION: Section = Section {
    name: "append",
    about: "durable appends of real records, against append + fdatasync of a plain file with the same bytes",
    run,
};

/// Records a commit, and commits in one round.
const SIZES: [(usize, usize); 4] = [(1, 150), (10, 120), (100, 60), (1000, 20)];
const ROUNDS: usize = 15;

fn run(short: bool) -> Outcome {
    let rounds = if short { 3 } else { ROUNDS };
    let mut bench = Bench::new()?;
    let mut figures = Vec::new();
    for (records, commits) in SIZES {
        let commits = if short { commits.div_ceil(10) } else { commits };
        let rounds: Result<Vec<_>, _> = (0..rounds).map(|_| bench.round(records, commits)).collect();
        figures.extend(of_size(records, &rounds?));
    }
    Ok(figures)
}

fn of_size(records: usize, rounds: &[Round]) -> [Figure; 3] {
    let all = |of: fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let (ours, plain) = (all(|r| r.outbox.rate), all(|r| r.plain));
    let (written, syncs) = (all(|r| r.outbox.written), all(|r| r.outbox.syncs));
    let checked = all(|r| r.outbox.wchar);
    [
        Figure::new(format!("{records} a commit: rate, outbox / plain file"), all(|r| r.outbox.rate / r.plain), "")
            .note("median of interleaved rounds; encoding is in the outbox's time only"),
        Figure::new(format!("{records} a commit: outbox"), ours, "records/s")
            .note(format!("plain file {plain:.0}; {syncs:.2} fdatasync a commit")),
        Figure::new(format!("{records} a commit: bytes written / payload bytes"), written, "")
            .note(format!("counted below the outbox; the kernel's count of write calls says {checked:.2}")),
    ]
}

struct Round {
    outbox: Appends,
    /// Records per second.
    plain: f64,
}

struct Appends {
    rate: f64,
    /// Per byte of the records.
    written: f64,
    wchar: f64,
    /// Per commit.
    syncs: f64,
}

struct Bench {
    samples: Samples,
    disk: Arc<CountingDisk>,
    outbox: Outbox,
    plain: File,
}

impl Bench {
    fn new() -> Result<Self, Box<dyn Error>> {
        let dir = scratch::dir("append")?;
        eprintln!("  on {}, {}", dir.display(), scratch::file_system(&dir));
        let disk = Arc::new(CountingDisk::default());
        let (outbox, _) =
            Outbox::open(Arc::clone(&disk) as Arc<dyn Disk>, Options::new(dir.join("outbox")), clock::now())?;
        let plain = File::options().append(true).create(true).open(dir.join("plain"))?;
        Ok(Self { samples: Samples::take(30)?, disk, outbox, plain })
    }

    fn round(&mut self, records: usize, commits: usize) -> Result<Round, Box<dyn Error>> {
        let batches: Vec<_> = (0..commits).map(|_| self.samples.next(records).0).collect();
        let mut payloads: Vec<Vec<u8>> = Vec::with_capacity(commits);
        let (before, wchar) = (self.disk.counts(), written_chars()?);
        let began = Instant::now();
        for runs in &batches {
            let appended = self.outbox.append(runs, clock::now())?;
            let maps = appended.runs.iter().flat_map(|(_, chunks)| chunks).flat_map(|chunk| chunk.maps.iter());
            payloads.push(maps.copied().collect());
        }
        let ours = began.elapsed().as_secs_f64();
        let (after, wchar) = (self.disk.counts(), written_chars()? - wchar);
        let payload: usize = payloads.iter().map(Vec::len).sum();
        let began = Instant::now();
        for payload in &payloads {
            self.plain.write_all(payload)?;
            self.plain.sync_data()?;
        }
        let plain = began.elapsed().as_secs_f64();
        let total = (records * commits) as f64;
        let outbox = Appends {
            rate: total / ours,
            written: (after.0 - before.0) as f64 / payload as f64,
            wchar: wchar as f64 / payload as f64,
            syncs: (after.1 - before.1) as f64 / commits as f64,
        };
        Ok(Round { outbox, plain: total / plain })
    }
}

/// Bytes that this process has handed to write calls of any kind.
fn written_chars() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.ok_or("/proc/self/io has no wchar")?.parse()?)
}

/// The real disk; counts what is written to files and how often they are synced.
#[derive(Default)]
struct CountingDisk {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl CountingDisk {
    /// Bytes and syncs so far.
    fn counts(&self) -> (u64, u64) {
        (self.counts.bytes.load(Ordering::Relaxed), self.counts.syncs.load(Ordering::Relaxed))
    }

    fn counted(&self, file: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        Box::new(CountingFile { file, counts: Arc::clone(&self.counts) })
    }
}

impl Disk for CountingDisk {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        FileDisk.make_dir(dir)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        FileDisk.remove_dir(dir)
    }
    fn lock(&self, dir: &Path) -> io::Result<Box<dyn Send>> {
        FileDisk.lock(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        FileDisk.list(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        FileDisk.create(path).map(|file| self.counted(file))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Box<dyn StorageBackend>> {
        FileDisk.open(path, write).map(|file| self.counted(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FileDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        FileDisk.unlink(path)
    }
    fn truncate(&self, path: &Path) -> io::Result<()> {
        FileDisk.truncate(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FileDisk.sync_dir(dir)
    }
    fn blocks(&self, path: &Path) -> io::Result<u64> {
        FileDisk.blocks(path)
    }
    fn free(&self, dir: &Path) -> io::Result<u64> {
        FileDisk.free(dir)
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Box<dyn StorageBackend>,
    counts: Arc<Counts>,
}

impl StorageBackend for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counts.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.file.write(offset, data)
    }
}
