//! From an outbox directory, usable or not, to the thread that works on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handle::{Handle, Shared};
use super::work::{Tell, Writer};
use super::{EVENTS, Event, Witness, run, send};
use crate::clock::{self, Now};
use crate::outbox::{Disk, OpenError, Opened, Options, Outbox, Stats};

/// An outbox about to get its thread.
pub struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) outbox: Option<Outbox>,
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
