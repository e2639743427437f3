//! The loop's end of the writer: an inbox in which everything is bounded or merges.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Edit, Event};
use crate::outbox::losses::MAX_LOSSES;
use crate::outbox::value::Times;
use crate::ranges::RangeSet;
use crate::record::{Point, Run, Value};
use crate::wire::Loss;

/// Runs waiting in memory, in estimated bytes.
const MAX_WAITING: usize = 1 << 20;
/// Beyond that nothing is taken that its maker can keep: the rest is for the collectors, who cannot.
const MAX_KEPT_ELSEWHERE: usize = MAX_WAITING / 2;
const MAX_LOADS: usize = 8;
const MAX_QUARANTINES: usize = 64;

#[derive(Default)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    pub(super) wake: Condvar,
}

/// What the loop asked for and the thread has not taken. Every part is bounded, or merges.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) runs: VecDeque<Waiting>,
    /// Estimated, of `runs` and of those being committed.
    pub(super) bytes: usize,
    /// When the oldest of `runs` came (monotonic).
    pub(super) since: Option<Duration>,
    /// `since` is new to the thread.
    fresh: bool,
    /// No further run is expected within the window.
    pub(super) complete: bool,
    /// Points that did not fit.
    pub(super) overflow: u64,
    pub(super) overflow_times: Times,
    pub(super) settled: BTreeMap<u64, RangeSet>,
    pub(super) told: Vec<Loss>,
    pub(super) loads: VecDeque<Load>,
    pub(super) quarantines: VecDeque<(u64, RangeInclusive<u64>, String)>,
    pub(super) notes: BTreeMap<String, String>,
    /// Of no run. As many as there are words in a note, at each opening.
    pub(super) edits: Vec<Edit>,
    pub(super) new_epoch: bool,
    pub(super) flush: bool,
    /// Flushes asked for so far.
    pub(super) flushes: u64,
    pub(super) stop: bool,
    /// Why nothing can be stored at present.
    pub(super) unwritable: Option<String>,
}

/// A run that waits for its commit.
pub(super) struct Waiting {
    pub(super) run: Run,
    /// Estimated bytes.
    pub(super) size: usize,
    /// Who waits for it, and keeps what is not stored.
    pub(super) reply: Option<Reply>,
    /// A commit of it failed: its bytes may be in the file. Nobody can be told that it is not stored.
    pub(super) attempted: bool,
    /// Of a note, when it is stored.
    pub(super) edit: Option<Edit>,
}

impl Waiting {
    /// Its maker has it, and may be told so.
    pub(super) fn can_be_returned(&self) -> bool {
        self.reply.is_some() && !self.attempted
    }

    /// Its maker was told that nothing is known of it, and has stopped waiting.
    pub(super) fn is_given_up(&self) -> bool {
        self.attempted && self.reply.as_ref().is_some_and(Reply::is_closed)
    }
}

/// Told once, after the commit; dropped untold, nothing is known.
pub type Reply = oneshot::Sender<Result<Stored, Returned>>;

/// What a commit has made of a run: its seqs, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub epoch: u64,
    pub seqs: Vec<RangeInclusive<u64>>,
}

/// Why a run was not stored: it is still its maker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Returned {
    #[error("too much waits for its commit already: the disk is slow; try again")]
    Busy,
    #[error("the agent is stopping; try again when it runs")]
    Stopping,
    #[error("the outbox cannot be written: {0}; try again when 'holdover status' shows no problem")]
    Unwritable(String),
    #[error(
        "the outbox is full, and nothing in it may or can make way (outbox.drop, outbox.max_bytes); try again when it has \
         drained"
    )]
    Full,
    #[error("the records are too large to be stored together; send fewer at a time")]
    Oversize,
    #[error("{0}")]
    Refused(String),
}

pub(super) struct Load {
    pub(super) epoch: u64,
    pub(super) range: RangeInclusive<u64>,
    pub(super) max_bytes: usize,
    /// Not before (monotonic).
    pub(super) at: Duration,
}

impl Inbox {
    fn wait(&mut self, waiting: Waiting, now: Duration) {
        self.runs.push_back(waiting);
        if self.since.is_none() {
            self.since = Some(now);
            self.fresh = true;
        }
    }

    /// Whether the thread has to know that runs wait, or now that no further one is expected: once each.
    fn is_news(&mut self, complete: bool) -> bool {
        let news = std::mem::take(&mut self.fresh) || complete && !self.complete;
        self.complete |= complete;
        news
    }
}

impl Shared {
    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // A panic while it was held leaves nothing half-done that matters: the other side is dead.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loop's end. Nothing here blocks.
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) window: Duration,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Hands a run over at `now` (monotonic); the thread learns of it by [`Handle::commit`]. When memory is full the run is counted as a
    /// `memory` loss, which gets its seqs with the next commit. Returns whether it was taken.
    pub fn append(&self, run: Run, now: Duration) -> bool {
        self.append_noting(run, None, now)
    }

    /// The same, and when the run is stored the note is edited; [`Event::Noted`] tells of one that was taken.
    pub fn append_noting(&self, run: Run, edit: Option<Edit>, now: Duration) -> bool {
        let size = estimate(&run);
        let mut inbox = self.shared.inbox();
        if inbox.bytes + size > MAX_WAITING {
            inbox.overflow += run.points.len() as u64;
            for point in &run.points {
                inbox.overflow_times = inbox.overflow_times.join(Times { t0: point.ts, t1: point.ts });
            }
            return false;
        }
        inbox.bytes += size;
        inbox.wait(Waiting { run, size, reply: None, attempted: false, edit }, now);
        true
    }

    /// The same for a run whose maker keeps it until `reply` says that it is stored, and is told when it cannot be:
    /// it is never a loss, and leaves half of the memory to the collectors. One that a disk failed to commit waits until
    /// it is stored after all, since a restart may find it until then; it is let go when nobody waits for it any more. `run.collector` is an `Arc` of its own.
    /// Returns whether it was taken.
    pub fn put(&self, run: Run, reply: Reply, now: Duration) -> bool {
        let size = estimate(&run);
        let mut inbox = self.shared.inbox();
        let refused = match &inbox.unwritable {
            Some(why) => Some(Returned::Unwritable(why.clone())),
            None if size > MAX_KEPT_ELSEWHERE => Some(Returned::Oversize),
            None => (inbox.bytes + size > MAX_KEPT_ELSEWHERE).then_some(Returned::Busy),
        };
        let taken = refused.is_none();
        match refused {
            // Whoever asked may have gone away.
            Some(why) => drop(reply.send(Err(why))),
            None => {
                inbox.bytes += size;
                inbox.wait(Waiting { run, size, reply: Some(reply), attempted: false, edit: None }, now);
            }
        }
        taken
    }

    /// Has the runs that were handed over committed: when the window of the oldest is over, or at once if no other
    /// run is expected before that. `next` is when one is (monotonic). At most two wake-ups a commit, mostly one.
    pub fn commit(&self, next: Option<Duration>) {
        let mut inbox = self.shared.inbox();
        let Some(since) = inbox.since else { return };
        let complete = next.is_none_or(|next| next > since + self.window);
        let news = inbox.is_news(complete);
        drop(inbox);
        if news {
            self.shared.wake.notify_one();
        }
    }

    /// Asks for records, see [`Outbox::load`]; the answer is an [`Event::Loaded`]. False when 8 are waiting already.
    pub fn load(&self, epoch: u64, range: RangeInclusive<u64>, max_bytes: usize) -> bool {
        let mut inbox = self.shared.inbox();
        if inbox.loads.len() >= MAX_LOADS {
            return false;
        }
        inbox.loads.push_back(Load { epoch, range, max_bytes, at: Duration::ZERO });
        drop(inbox);
        self.shared.wake.notify_one();
        true
    }

    /// See [`Outbox::settle`]. Waits for the thread's next turn: settling is never urgent.
    pub fn settle(&self, epoch: u64, seqs: RangeSet) {
        self.shared.inbox().settled.entry(epoch).or_default().union(&seqs);
    }

    /// See [`Outbox::settle_losses`].
    pub fn settle_losses(&self, losses: Vec<Loss>) {
        let mut inbox = self.shared.inbox();
        // Beyond that a confirmation is dropped, which costs telling the loss again.
        let room = MAX_LOSSES.saturating_sub(inbox.told.len());
        inbox.told.extend(losses.into_iter().take(room));
    }

    /// See [`Outbox::quarantine`]; the loss comes as [`Event::Lost`]. Dropped when 64 are waiting: the
    /// uplink will meet the same record again.
    pub fn quarantine(&self, epoch: u64, seqs: RangeInclusive<u64>, reason: impl Into<String>) {
        let mut inbox = self.shared.inbox();
        if inbox.quarantines.len() < MAX_QUARANTINES {
            inbox.quarantines.push_back((epoch, seqs, reason.into()));
        }
        drop(inbox);
        self.shared.wake.notify_one();
    }

    /// See [`Outbox::set_note`].
    pub fn set_note(&self, key: &str, value: &str) {
        self.shared.inbox().notes.insert(key.to_owned(), value.to_owned());
    }

    /// Edits a note, with no run.
    pub fn edit_note(&self, edit: Edit) {
        self.shared.inbox().edits.push(edit);
    }

    /// See [`Outbox::begin_epoch`].
    pub fn begin_epoch(&self) {
        self.shared.inbox().new_epoch = true;
        self.flush();
    }

    /// Commits what waits, and saves the state, now. Returns its number: [`Event::Flushed`] with that or a higher one is
    /// its end.
    pub fn flush(&self) -> u64 {
        let mut inbox = self.shared.inbox();
        inbox.flush = true;
        inbox.flushes += 1;
        let number = inbox.flushes;
        drop(inbox);
        self.shared.wake.notify_one();
        number
    }

    /// Commits what waits, saves, closes and ends the thread. Takes the events so that the thread never waits for
    /// a reader. Returns whether it ended within the time; if not, it goes on by itself, and whatever it had not
    /// committed was never reported as appended.
    pub async fn shutdown(mut self, mut events: mpsc::Receiver<Event>, within: Duration) -> bool {
        self.stop();
        let drained = async { while events.recv().await.is_some() {} };
        let ended = tokio::time::timeout(within, drained).await.is_ok();
        match self.thread.take() {
            // The channel closes when the thread's work is done: joining takes no time then.
            Some(thread) if ended => thread.join().is_ok(),
            _ => false,
        }
    }

    fn stop(&self) {
        self.shared.inbox().stop = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Bytes a run takes in memory, roughly: enough for a bound.
fn estimate(run: &Run) -> usize {
    let point = |point: &Point| {
        let tags: usize = point.tags.iter().map(|(k, v)| k.len() + v.len() + 64).sum();
        let field = |value: &Value| if let Value::Str(text) = value { text.len() } else { 0 };
        let fields: usize = point.fields.iter().map(|(k, v)| k.len() + field(v) + 64).sum();
        160 + point.name.len() + tags + fields + point.error.as_ref().map_or(0, |e| e.message.len())
    };
    96 + run.points.iter().map(point).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ClockContext, ErrorKind, Fields, RunError, Tags};

    fn run(tags: usize, fields: usize, error: usize) -> Run {
        let text = |len: usize| "x".repeat(len);
        let tag = (tags > 0).then(|| ("tag".into(), text(tags).into()));
        let field = (fields > 0).then(|| ("field".into(), Value::Str(text(fields))));
        let point = Point {
            ts: 1,
            mono: 1,
            name: "system.cpu".into(),
            tags: Tags::from_iter(tag),
            fields: Fields::from_iter(field),
            error: (error > 0).then(|| RunError::new(ErrorKind::Other, text(error))),
        };
        let context = ClockContext { boot: "boot-1".into(), synced: true };
        Run { collector: "cpu".into(), context, points: vec![point] }
    }

    #[test]
    fn every_text_of_a_run_counts_for_what_it_takes_in_memory() {
        let empty = estimate(&run(0, 0, 0));
        for (tags, fields, error) in [(5000, 0, 0), (0, 5000, 0), (0, 0, 5000), (5000, 5000, 5000)] {
            let texts = tags + fields + error;
            let size = estimate(&run(tags, fields, error));
            assert!((empty + texts..empty + texts + 200).contains(&size), "{tags} {fields} {error}: {size} bytes");
        }
    }

    #[test]
    fn the_thread_is_woken_for_the_first_run_and_for_the_last_and_not_in_between() {
        let mut inbox = Inbox::default();
        for expected in [[true, false, true, false], [true, false, true, false]] {
            let waiting = Waiting { run: run(0, 0, 0), size: 1, reply: None, attempted: false, edit: None };
            inbox.wait(waiting, Duration::ZERO);
            assert_eq!([false, false, true, true].map(|complete| inbox.is_news(complete)), expected);
            // Taken, as by the thread.
            (inbox.since, inbox.complete) = (None, false);
        }
    }
}
