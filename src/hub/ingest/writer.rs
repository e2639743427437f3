//! The thread that commits: every commit is two fsyncs, and a slow disk must not cost the connection its pings.
//!
//! Owns ledger and sink. A batch that cannot be committed (the disk is full) is kept and tried again with back-off for
//! as long as it takes: the broker is not acknowledged meanwhile, so nothing is lost and no more than the broker may
//! send unacknowledged waits in memory. Questions are answered in between.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::commit::{CommitError, Committed, commit};
use super::housekeeping::keep_house;
use crate::clock;
use crate::hub::accounts::Question;
use crate::hub::ledger::{Ledger, LedgerError};
use crate::hub::sinks::{Sink, SinkError};

/// Jobs that may wait: one batch, and questions.
const WAITING: usize = 16;
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(15);

enum Job {
    Commit(Batch),
    Answer(Question, oneshot::Sender<String>),
    KeepHouse(PathBuf, Duration),
}

#[derive(Debug)]
pub(super) enum Outcome {
    Committed(Committed),
    /// Not yet; tried again after this wait.
    Stalled {
        why: String,
        wait: Duration,
    },
}

pub(super) struct Writer {
    jobs: SyncSender<Job>,
    pub outcomes: mpsc::Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(ledger: Ledger, sink: Box<dyn Sink>) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(WAITING);
        let (done, outcomes) = mpsc::channel(WAITING);
        let mut work = Work { ledger, sink, done };
        let thread = std::thread::Builder::new().name("hub-writer".to_owned()).spawn(move || work.run(&queue))?;
        Ok(Self { jobs, outcomes, thread: Some(thread) })
    }

    /// Hands over a batch; answered by an [`Outcome::Committed`], some time. One at a time. Given back when too many
    /// questions wait.
    pub fn commit(&self, batch: Batch) -> Result<(), Batch> {
        self.jobs.try_send(Job::Commit(batch)).map_err(|refused| match refused {
            TrySendError::Full(Job::Commit(batch)) | TrySendError::Disconnected(Job::Commit(batch)) => batch,
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Batch::default(),
        })
    }

    /// Dropped when too many wait: whoever asked hears that nobody answers.
    pub fn answer(&self, question: Question, to: oneshot::Sender<String>) {
        self.jobs.try_send(Job::Answer(question, to)).ok();
    }

    /// The nightly work; left out when too many jobs wait.
    pub fn keep_house(&self, dir: &Path, forget_after: Duration) {
        if self.jobs.try_send(Job::KeepHouse(dir.to_owned(), forget_after)).is_err() {
            tracing::warn!("too busy for the nightly audit");
        }
    }

    /// Ends the thread, which takes one attempt; a batch that is not committed by then comes again. False when the disk
    /// keeps it longer than `patience`: what it is at is left to it, as at a kill.
    pub async fn end(self, patience: Duration) -> bool {
        let Self { jobs, mut outcomes, thread } = self;
        drop(jobs);
        // Its end of the channel goes last, behind the ledger.
        let ended = async { while outcomes.recv().await.is_some() {} };
        let in_time = tokio::time::timeout(patience, ended).await.is_ok();
        thread.filter(|_| in_time).map(JoinHandle::join);
        in_time
    }
}

struct Work {
    ledger: Ledger,
    sink: Box<dyn Sink>,
    done: mpsc::Sender<Outcome>,
}

impl Work {
    fn run(&mut self, queue: &Receiver<Job>) {
        while let Ok(job) = queue.recv() {
            match job {
                Job::Commit(batch) => {
                    if self.commit(&batch, queue).is_none() {
                        return;
                    }
                }
                other => self.beside(other),
            }
        }
    }

    /// What is not a commit.
    fn beside(&mut self, job: Job) {
        match job {
            // Whoever asked may be gone.
            Job::Answer(question, to) => drop(to.send(question.answer(&mut self.ledger, clock::now()))),
            Job::KeepHouse(dir, forget_after) => {
                if let Err(error) = keep_house(&mut self.ledger, &dir, forget_after, clock::now()) {
                    tracing::error!("housekeeping failed: {error}");
                }
            }
            Job::Commit(_) => {}
        }
    }

    /// Until it is done; `None` when nobody waits for it any more.
    fn commit(&mut self, batch: &Batch, queue: &Receiver<Job>) -> Option<()> {
        let mut wait = FIRST_WAIT;
        loop {
            match commit(batch, &mut self.ledger, self.sink.as_mut(), clock::now()) {
                Ok(committed) => return self.done.blocking_send(Outcome::Committed(committed)).ok(),
                Err(error) => self.done.blocking_send(Outcome::Stalled { why: describe(&error), wait }).ok()?,
            }
            self.answer_for(wait, queue)?;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Answers questions for so long.
    fn answer_for(&mut self, wait: Duration, queue: &Receiver<Job>) -> Option<()> {
        let end = clock::now().mono + wait;
        loop {
            match queue.recv_timeout(end.saturating_sub(clock::now().mono)) {
                // There is one batch at a time.
                Ok(job) => self.beside(job),
                Err(RecvTimeoutError::Timeout) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

fn describe(error: &CommitError) -> String {
    let full = match error {
        CommitError::Sink(SinkError { source, .. }) | CommitError::Ledger(LedgerError::Io { source, .. }) => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        CommitError::Ledger(_) => false,
    };
    let advice = if full { "; the disk is full: free some space" } else { "" };
    format!("{error}{advice}; nothing is acknowledged to the broker until it can be stored, and nothing is lost here")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Now;
    use crate::hub::sinks::{Begun, Correction, Stored};

    /// Says that it begins, and hangs until it is let go.
    struct Hung {
        begins: SyncSender<()>,
        word: Mutex<Receiver<()>>,
    }

    impl Sink for Hung {
        fn begin(&mut self, _: Option<&str>, _: Now) -> Result<Begun, SinkError> {
            self.begins.send(()).ok();
            self.word.lock().unwrap().recv().ok();
            Ok(Begun::Ready)
        }
        fn write(&mut self, _: &Stored<'_>) -> Result<(), SinkError> {
            Ok(())
        }
        fn correct(&mut self, _: &Correction<'_>) -> Result<(), SinkError> {
            Ok(())
        }
        fn flush(&mut self) -> Result<String, SinkError> {
            Ok("0".to_owned())
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_hold_the_end_up() {
        let dir = tempfile::tempdir().unwrap();
        let ((begins, begun), (word, hung)) = (sync_channel(1), sync_channel(1));
        let sink = Hung { begins, word: Mutex::new(hung) };
        let writer = Writer::start(Ledger::open(dir.path()).unwrap(), Box::new(sink)).unwrap();
        writer.commit(Batch::default()).unwrap();
        begun.recv().unwrap();
        assert!(!writer.end(Duration::from_millis(50)).await);
        drop(word);
    }

    #[tokio::test]
    async fn a_disk_that_answers_is_let_go_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let ((begins, _begun), (word, hung)) = (sync_channel(1), sync_channel(1));
        let sink = Hung { begins, word: Mutex::new(hung) };
        let writer = Writer::start(Ledger::open(dir.path()).unwrap(), Box::new(sink)).unwrap();
        writer.commit(Batch::default()).unwrap();
        drop(word);
        assert!(writer.end(Duration::from_secs(60)).await);
        assert!(Ledger::open(dir.path()).is_ok(), "the ledger is closed");
    }
}
