//! The outbox on its own thread: commits are fsyncs, and a slow one must not cost the loop a keep-alive.
//!
//! The loop's side is a [`Handle`] that never blocks and never queues without bound: what cannot be held in memory
//! is counted and becomes a declared loss. The other direction is a bounded channel of [`Event`]s. The two cannot
//! block each other: the loop never waits for the thread, and the thread gives up waiting for the loop when told
//! to stop. If the thread dies, the channel closes. What the thread does when is [`work`]'s, which knows no clock.

mod edit;
mod handle;
mod opening;
mod work;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

pub use edit::Edit;
use handle::Shared;
pub use handle::{Handle, Reply, Returned, Stored};
pub use opening::{Opening, open};
use work::Work;
pub use work::Writer;

use super::{Opened, Stats};
use crate::clock;
use crate::wire::{Chunk, Loss};

/// Events that the loop has not taken yet.
const EVENTS: usize = 16;
/// The thread looks so often whether the loop took an event.
const EVENT_WAIT: Duration = Duration::from_millis(20);

/// Called for each chunk right after its commit, before anyone is told.
pub type Witness = Box<dyn FnMut(&Chunk) + Send>;

/// What the thread tells the loop, in order.
#[derive(Debug)]
pub enum Event {
    /// One run was committed.
    Appended { collector: Arc<str>, chunks: Vec<Chunk>, next_seq: u64 },
    /// Of an epoch that was given up, under new seqs; their old ones are declared after this.
    Redrawn(Vec<Chunk>),
    /// The answer to one [`Handle::load`]; losses found on the way came before.
    Loaded { epoch: u64, range: RangeInclusive<u64>, chunks: Vec<Chunk> },
    /// Newly declared.
    Lost(Vec<Loss>),
    /// Something is wrong; one line.
    Problem(String),
    /// One run was not committed and never will be: its maker has it, or it is a loss.
    Unstored,
    /// A run of [`Handle::append_noting`] is stored and its note edited; or it was refused, and the note is as it was. One
    /// for each, in order.
    Noted { stored: bool },
    /// Records can be stored again.
    Recovered,
    /// Every 10 s.
    Stats(Stats),
    /// What was handed over before the [`Handle::flush`] of this number is committed, and told; or the disk refused it.
    Flushed(u64),
    /// The directory could not be used at the start, and now can: what was found in it.
    Opened(Box<Opened>),
}

/// The thread.
fn run(mut writer: Writer) {
    loop {
        let work = next_work(&mut writer);
        let ending = work.stop;
        writer.turn(work, clock::now);
        if ending {
            break;
        }
    }
    writer.close(clock::now());
}

/// Waits until something is due.
fn next_work(writer: &mut Writer) -> Work {
    let shared = Arc::clone(writer.shared());
    let mut inbox = shared.inbox();
    loop {
        let now = clock::now().mono;
        let wake = match writer.due(&mut inbox, now) {
            Ok(work) => return work,
            Err(wake) => wake,
        };
        inbox = match shared.wake.wait_timeout(inbox, wake - now) {
            Ok((inbox, _)) => inbox,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Waits for the loop to make room, but not once it wants to stop: everything told is durable anyway.
fn send(events: &mpsc::Sender<Event>, shared: &Shared, mut event: Event) {
    loop {
        match events.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(back)) => event = back,
        }
        let inbox = shared.inbox();
        if inbox.stop {
            return;
        }
        drop(shared.wake.wait_timeout(inbox, EVENT_WAIT));
    }
}
