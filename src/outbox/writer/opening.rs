//! From an outbox directory, usable or not, to the thread that works on it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::handle::{Handle, Shared};
use super::{EVENTS, Event, REOPEN_MIN, Witness, Writer};
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
        let writer = Writer {
            shared: Arc::clone(&shared),
            events,
            window,
            witness,
            reopen_at: clock::now().mono + REOPEN_MIN,
            reopen_wait: REOPEN_MIN,
            maintained: clock::now().mono,
            not_before: Duration::ZERO,
            reloads: Vec::new(),
            broken: self.outbox.as_ref().is_none_or(Outbox::is_broken),
            redrawing: false,
            opening: self,
        };
        let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || writer.run())?;
        Ok((Handle { shared, window, thread: Some(thread) }, receiver))
    }
}
