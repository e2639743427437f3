//! The crash-safe store between collecting and sending: a log of segments, not a queue.
//!
//! What holds here, and is tested by name (see `tests.rs` and `tests/outbox_*.rs`):
//! 1. A record whose append returned Ok is in a synced file until it is settled or a loss names it.
//! 2. A seq is never used twice for what anyone outside has seen: the next seq is the end of the newest segment,
//!    seqs without a record are burned durably, and an epoch whose end is in doubt is never continued.
//! 3. A segment is written only by the process that created it, and no more after a failed commit. What lies in it
//!    at or beyond its successor's first seq is void. So nothing half-written can ever be taken for a record.
//! 4. A segment is unlinked only when the state file durably knows what became of all its seqs; before that
//!    it is renamed, and the name is the knowledge. Renaming and truncating need no free space.
//! 5. A value is handed out only if its own checksum, which covers epoch and seqs, proves it.
//! 6. Every seq below next is in exactly one of settled, lost, quarantined, held.
//! 7. Losing the state file costs duplicates and declared losses, never a silent gap.
//!
//! Synchronous; no runtime, no clock (time is an argument), no thread but [`writer`]'s.

mod ahead;
mod append;
mod disk;
mod epoch;
mod fault;
mod found;
mod host_id;
pub mod inspect;
mod ledger;
mod load;
mod losses;
mod names;
mod next;
mod open;
mod overlay;
mod plan;
pub mod quarantine;
mod raw;
mod redraw;
mod retain;
mod segment;
mod state;
mod store;
mod stretch;
mod taken;
mod value;
pub mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use disk::{Disk, Entry, FileDisk};
pub use host_id::{HostIdError, read_host_id, store_host_id};
pub use store::Outbox;
pub use value::Times;

use serde::Serialize;

use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss, LossReason};

/// What gives way when the outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropPolicy {
    #[default]
    DropOldest,
    DropNewest,
}

/// How an outbox is kept. `..Options::new(dir)` gives the defaults.
#[derive(Clone)]
pub struct Options {
    pub dir: PathBuf,
    /// Upper bound of the bytes that everything in the directory takes on the disk.
    pub max_bytes: u64,
    /// Records older than this are given up; `None` keeps them until space is needed.
    pub max_age: Option<Duration>,
    pub drop: DropPolicy,
    /// Of the hardware; another one than the epoch was minted on means a cloned disk, and a new epoch. Empty: unknown.
    pub fingerprint: String,
    /// Bytes on disk after which a segment is followed by the next; `None` derives it from `max_bytes`.
    pub segment_bytes: Option<u64>,
    /// Of all redb page caches together.
    pub cache_bytes: usize,
    /// How long settled ranges may wait for a save: a crash costs that much of the stream again, as duplicates, and each
    /// save costs the disk as much as a commit.
    pub save_every: Duration,
    /// A random epoch id, 1 ..= 2^53 - 1.
    pub new_epoch: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_bytes: 256 << 20,
            max_age: None,
            drop: DropPolicy::default(),
            fingerprint: String::new(),
            segment_bytes: None,
            cache_bytes: 1 << 20,
            save_every: Duration::from_secs(300),
            new_epoch: Arc::new(random_epoch),
        }
    }

    /// Bytes on disk at which a segment is full.
    pub fn segment_target(&self) -> u64 {
        self.segment_bytes.unwrap_or_else(|| (self.max_bytes / 32).clamp(1 << 20, 8 << 20).min(self.max_bytes / 4))
    }
}

fn random_epoch() -> u64 {
    use ring::rand::SecureRandom;
    let mut bytes = [0; 8];
    // Without randomness from the kernel there is no TLS either; an address differs at least from run to run.
    if ring::rand::SystemRandom::new().fill(&mut bytes).is_err() {
        let here = std::ptr::from_ref(&bytes) as u64;
        bytes = (here ^ u64::from(std::process::id()).rotate_left(32)).to_le_bytes();
    }
    (u64::from_le_bytes(bytes) & ((1 << 53) - 1)).max(1)
}

/// Why there is no outbox.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the outbox directory {dir} is in use by another agent: stop it, or give this one a directory of its own")]
    Locked { dir: PathBuf },
    /// May pass: try again later, keep runs in memory meanwhile.
    #[error("the outbox directory {dir} cannot be used: {why}; check that it exists, its owner and its mode")]
    Unavailable { dir: PathBuf, why: String },
}

/// One epoch as found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochView {
    pub epoch: u64,
    /// The epoch before it in this directory.
    pub prev: Option<u64>,
    /// Wall clock when it was minted, milliseconds since 1970.
    pub created: i64,
    /// Every seq below was drawn.
    pub next: u64,
    /// Held and not settled.
    pub pending: RangeSet,
    /// Seqs at or beyond `next` may have been drawn that nothing here knows of; it is not continued.
    pub in_doubt: bool,
}

/// What was found at the start.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// Oldest first; the last one is appended to.
    pub epochs: Vec<EpochView>,
    pub epoch: u64,
    pub next_seq: u64,
    /// Not yet confirmed by the other side.
    pub losses: Vec<Loss>,
    /// What is wrong, one line each, for log and status.
    pub problems: Vec<String>,
    /// The later of the wall clock at the last save, right or wrong, and when a time service last vouched for it,
    /// milliseconds since 1970; 0 when never saved.
    pub last_wall_ms: i64,
    /// Kept by an earlier run, see [`Outbox::set_note`].
    pub notes: BTreeMap<String, String>,
}

/// The outcome of one append.
#[derive(Clone, Debug, Default)]
pub struct Appended {
    /// Collector and its chunks, in the order of the runs.
    pub runs: Vec<(Arc<str>, Vec<Chunk>)>,
    pub losses: Vec<Loss>,
    pub next_seq: u64,
    /// Points not stored because the outbox is full and keeps what it has (`drop-newest`): burned, declared with a
    /// later append, but for those that their makers keep.
    pub refused: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The runs are still the caller's. `attempted`: some of their bytes may be in the file, and a start before the next
    /// append that succeeds may find them whole.
    #[error("the outbox cannot be written: {why}; trying again in {} s", retry_in.as_secs())]
    Unavailable { why: String, retry_in: Duration, attempted: bool },
}

impl AppendError {
    fn attempted(self) -> Self {
        let Self::Unavailable { why, retry_in, .. } = self;
        Self::Unavailable { why, retry_in, attempted: true }
    }
}

/// The outcome of one load.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// In seq order, of one clock context; the first may begin before the range.
    pub chunks: Vec<Chunk>,
    /// Found missing or damaged on the way; also in [`Outbox::losses`].
    pub losses: Vec<Loss>,
    /// The disk refused: nothing is known about the range, ask again later.
    pub failed: Option<String>,
}

/// How every seq of one epoch is accounted for; the four add up to `next - 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub epoch: u64,
    pub next: u64,
    pub settled: u64,
    pub lost: BTreeMap<LossReason, u64>,
    pub quarantined: u64,
    pub held: RangeSet,
}

impl Identity {
    /// Whether every seq is accounted for once.
    pub fn holds(&self) -> bool {
        self.settled + self.lost.values().sum::<u64>() + self.quarantined + self.held.len() + 1 == self.next
    }
}

/// Figures for status and log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub epoch: u64,
    pub next_seq: u64,
    /// Of everything in the directory.
    pub disk_bytes: u64,
    pub max_bytes: u64,
    pub segments: usize,
    /// Records held and not settled, over all epochs.
    pub pending: u64,
    /// Wall clock of the oldest of them, milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// Records known to be settled.
    pub settled: u64,
    /// Records declared lost.
    pub lost: u64,
    pub quarantined: u64,
    /// Losses not yet confirmed.
    pub losses: usize,
    /// Durable commits of records since the process started.
    pub commits: u64,
    /// Points lost in memory that wait for a seq.
    pub owed: u64,
    /// Why nothing can be written at present.
    pub broken: Option<String>,
}

/// Everything from the first seq to the last, for [`RangeSet::remove`] and the like.
fn from(first: u64) -> RangeInclusive<u64> {
    first..=u64::MAX
}
