//! A backlog of 1 GB in a real outbox on the disk: filled once, handed to every section that wants one.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use holdover::clock::{self, Now};
use holdover::outbox::{FileDisk, Options, Outbox};
use holdover::record::Run;

use crate::host::{Host, SET};
use crate::scratch;

/// Bytes on the disk of the backlog.
const BYTES: u64 = 1_000_000_000;
const BYTES_SHORT: u64 = 24_000_000;
/// Records in one commit.
const COMMIT: usize = 2_000;
/// Real passes that the records are made from, again and again with later times.
const PASSES: usize = 30;

#[derive(Clone)]
pub struct Filled {
    pub dir: PathBuf,
    /// On the disk.
    pub bytes: u64,
    /// All of them are held, none is settled.
    pub records: u64,
    pub segments: usize,
    pub seconds: f64,
}

/// How this outbox has to be opened: room for all of it, everything else as by default.
pub fn options(dir: &Path) -> Options {
    Options { max_bytes: 2 << 30, ..Options::new(dir) }
}

/// The outbox of this run, closed. The first call fills it; what callers do to it, the next ones find.
pub fn outbox(short: bool) -> Result<Filled, Box<dyn Error>> {
    static FILLED: Mutex<Option<Filled>> = Mutex::new(None);
    let mut filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(filled) = &*filled {
        return Ok(filled.clone());
    }
    let bytes = if short { BYTES_SHORT } else { BYTES };
    eprintln!("  filling an outbox with {} MB", bytes / 1_000_000);
    Ok(filled.insert(fill(scratch::dir("backlog")?, bytes)?).clone())
}

fn fill(dir: PathBuf, bytes: u64) -> Result<Filled, Box<dyn Error>> {
    let began = Instant::now();
    let (mut outbox, _) = Outbox::open(Arc::new(FileDisk), options(&dir), clock::now())?;
    let mut samples = Samples::take(PASSES)?;
    loop {
        let (runs, now) = samples.next(COMMIT);
        outbox.append(&runs, now)?;
        let stats = outbox.stats();
        if stats.disk_bytes >= bytes {
            let Some(why) = outbox.take_problems().pop() else {
                let (records, segments, disk) = (stats.pending, stats.segments, stats.disk_bytes);
                outbox.close(now);
                let seconds = began.elapsed().as_secs_f64();
                return Ok(Filled { dir, bytes: disk, records, segments, seconds });
            };
            return Err(why.into());
        }
    }
}

/// Records of this host without end: real passes, repeated with times one second apart.
pub struct Samples {
    passes: Vec<Vec<Run>>,
    taken: usize,
    now: Now,
}

impl Samples {
    pub fn take(passes: usize) -> Result<Self, Box<dyn Error>> {
        let mut host = Host::of(&SET)?;
        host.pass();
        Ok(Self { passes: (0..passes).map(|_| host.pass()).collect(), taken: 0, now: clock::now() })
    }

    /// The runs of the next second.
    pub fn second(&mut self) -> Vec<Run> {
        let mut runs = self.passes[self.taken % self.passes.len()].clone();
        self.taken += 1;
        self.now.wall_ms += 1000;
        self.now.boot += std::time::Duration::from_secs(1);
        for point in runs.iter_mut().flat_map(|run| &mut run.points) {
            (point.ts, point.mono) = (self.now.wall_ms, self.now.boot_ms());
        }
        runs
    }

    /// Runs of exactly so many records, and the time of the last of them.
    pub fn next(&mut self, records: usize) -> (Vec<Run>, Now) {
        let mut runs: Vec<Run> = Vec::new();
        let mut left = records;
        while left > 0 {
            for mut run in self.second() {
                run.points.truncate(left);
                left -= run.points.len();
                if !run.points.is_empty() {
                    runs.push(run);
                }
            }
        }
        (runs, self.now)
    }
}
