//! The outbox on its own thread: commits are fsyncs, and a slow one must not cost the loop a keep-alive.
//!
//! The loop's side is a [`Handle`] that never blocks and never queues without bound: what cannot be held in memory
//! is counted and becomes a declared loss. The other direction is a bounded channel of [`Event`]s. The two cannot
//! block each other: the loop never waits for the thread, and the thread gives up waiting for the loop when told
//! to stop. If the thread dies, the channel closes. What the thread does when is [`work`]'s, which knows no clock.

mod handle;
mod work;

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

pub use handle::Handle;
use handle::Shared;
pub use work::Writer;
use work::{Tell, Work};

use super::{Disk, OpenError, Opened, Options, Outbox, Stats};
use crate::clock::{self, Now};
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
    /// Records can be stored again.
    Recovered,
    /// Every 10 s.
    Stats(Stats),
    /// The directory could not be used at the start, and now can: what was found in it.
    Opened(Box<Opened>),
}

/// An outbox about to get its thread.
pub struct Opening {
    disk: Arc<dyn Disk>,
    options: Options,
    outbox: Option<Outbox>,
    found: Opened,
    stats: Stats,
}

/// Opens the store. Only a directory in use by another agent is an error: one that cannot be used now is tried again
/// by the thread, while runs wait in memory, and [`Opening::found`] says what is wrong.
pub fn open(disk: Arc<dyn Disk>, options: Options, now: Now) -> Result<Opening, OpenError> {
    match Outbox::open(Arc::clone(&disk), options.clone(), now) {
        Ok((mut outbox, found)) => {
            let stats = outbox.stats();
            Ok(Opening { disk, options, outbox: Some(outbox), found, stats })
        }
        Err(error @ OpenError::Unavailable { .. }) => {
            let found = Opened { problems: vec![error.to_string()], ..Opened::default() };
            let stats = Stats { broken: Some(error.to_string()), ..Stats::default() };
            Ok(Opening { disk, options, outbox: None, found, stats })
        }
        Err(error @ OpenError::Locked { .. }) => Err(error),
    }
}

impl Opening {
    /// What was found at the start; empty but for the problem when the directory could not be used.
    pub fn found(&self) -> &Opened {
        &self.found
    }

    /// Figures at the start.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// A note stored by an earlier run, see [`Outbox::note`].
    pub fn note(&self, key: &str) -> Option<&str> {
        self.outbox.as_ref().and_then(|outbox| outbox.note(key))
    }

    /// Starts the thread. Runs appended within `window` of each other share a commit, see [`Handle::commit`].
    pub fn spawn(self, window: Duration, witness: Option<Witness>) -> io::Result<(Handle, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Arc::new(Shared::default());
        let inbox = Arc::clone(&shared);
        let tell: Tell = Box::new(move |event| send(&events, &inbox, event));
        let writer = Writer::new(self, Arc::clone(&shared), window, clock::now().mono, tell).witnessed_by(witness);
        let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || run(writer))?;
        Ok((Handle { shared, window, thread: Some(thread) }, receiver))
    }

    /// The same work without the thread: whoever has a clock of his own calls [`Writer::step`] when it is due.
    pub fn stepped(self, window: Duration, now: Duration, tell: Tell) -> (Handle, Writer) {
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(self, Arc::clone(&shared), window, now, tell);
        (Handle { shared, window, thread: None }, writer)
    }
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
