//! The writer's work, without thread and clock: what is taken from the inbox when, in which order it is carried out, and
//! what is tried again. The thread calls it with real time, the simulation with its own.

mod commit;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::handle::{Inbox, Load, Shared, Waiting};
use super::{Edit, Event, Opening, Witness};
use crate::clock::Now;
use crate::outbox::value::Times;
use crate::outbox::{Loaded, Outbox};
use crate::ranges::RangeSet;
use crate::wire::{Chunk, Loss, LossReason};

/// A commit takes about so many bytes of runs at most; more wait for the next one.
const MAX_COMMIT: usize = 128 * 1024;
/// Between looks at ages, quota and the lazy save; shorter while nothing can be written.
const MAINTAIN: Duration = Duration::from_secs(10);
const MAINTAIN_BROKEN: Duration = Duration::from_secs(1);
/// Between attempts to open a directory that could not be used.
const REOPEN_MIN: Duration = Duration::from_secs(1);
const REOPEN_MAX: Duration = Duration::from_secs(60);
/// A load that the disk refused is tried again after this.
const RELOAD: Duration = Duration::from_secs(1);

/// Whom events are told, in order.
pub type Tell = Box<dyn FnMut(Event) + Send>;

/// An outbox, and what there is to do with it.
pub struct Writer {
    shared: Arc<Shared>,
    tell: Tell,
    window: Duration,
    witness: Option<Witness>,
    opening: Opening,
    reopen_at: Duration,
    reopen_wait: Duration,
    maintained: Duration,
    /// The outbox said it cannot be written before.
    not_before: Duration,
    reloads: Vec<Load>,
    broken: bool,
    /// Records of an epoch that was given up are still to be stored anew.
    redrawing: bool,
}

/// One turn's work, taken out of the inbox.
#[derive(Default)]
pub(super) struct Work {
    runs: Vec<Waiting>,
    overflow: u64,
    overflow_times: Times,
    settled: BTreeMap<u64, RangeSet>,
    told: Vec<Loss>,
    loads: Vec<Load>,
    quarantines: VecDeque<(u64, RangeInclusive<u64>, String)>,
    notes: BTreeMap<String, String>,
    edits: Vec<Edit>,
    new_epoch: bool,
    flush: bool,
    flushes: u64,
    pub(super) stop: bool,
}

impl Writer {
    pub(super) fn new(opening: Opening, shared: Arc<Shared>, window: Duration, now: Duration, tell: Tell) -> Self {
        Self {
            shared,
            tell,
            window,
            witness: None,
            reopen_at: now + REOPEN_MIN,
            reopen_wait: REOPEN_MIN,
            maintained: now,
            not_before: Duration::ZERO,
            reloads: Vec::new(),
            broken: opening.outbox.as_ref().is_none_or(Outbox::is_broken),
            redrawing: false,
            opening,
        }
    }

    pub fn witnessed_by(mut self, witness: Option<Witness>) -> Self {
        self.witness = witness;
        self
    }

    /// The store, once it is open.
    pub fn outbox(&self) -> Option<&Outbox> {
        self.opening.outbox.as_ref()
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Carries out everything that is due. Returns when to come back (monotonic) unless the handle is
    /// used before; after the handle is gone, close it.
    pub fn step(&mut self, now: Now) -> Duration {
        loop {
            let shared = Arc::clone(&self.shared);
            let due = self.due(&mut shared.inbox(), now.mono);
            match due {
                Ok(work) => {
                    let ending = work.stop;
                    self.turn(work, || now);
                    if ending {
                        return now.mono;
                    }
                }
                Err(wake) => return wake,
            }
        }
    }

    /// What there is to do now, or when there will be something if nothing comes before.
    pub(super) fn due(&mut self, inbox: &mut Inbox, now: Duration) -> Result<Work, Duration> {
        let commit = inbox.since.filter(|_| !inbox.runs.is_empty()).map(|since| {
            let now_or_later = if inbox.complete || inbox.bytes >= MAX_COMMIT { now } else { since + self.window };
            now_or_later.max(self.not_before)
        });
        let urgent =
            !inbox.loads.is_empty() || !inbox.quarantines.is_empty() || inbox.flush || inbox.stop || self.redrawing;
        let every = if self.broken { MAINTAIN_BROKEN } else { MAINTAIN };
        let reload = self.reloads.iter().map(|load| load.at).min();
        let wakes = [Some(self.maintained + every), commit, reload];
        let wake = wakes.into_iter().flatten().min().unwrap_or(now);
        if !urgent && wake > now {
            return Err(wake);
        }
        let committing = commit.is_some_and(|at| at <= now) || inbox.flush || inbox.stop;
        Ok(self.take(inbox, committing, now))
    }

    /// `now`: a reading, made anew after what may have taken long.
    pub(super) fn turn(&mut self, work: Work, now: impl Fn() -> Now) {
        let (always, flushes) = (work.flush || work.stop, work.flushes);
        let begun = now();
        self.reopen(begun);
        self.carry_out(work, begun);
        self.maintain(now(), always);
        if always {
            (self.tell)(Event::Flushed(flushes));
        }
    }

    /// Saves what the state does not know yet.
    pub fn close(&mut self, now: Now) {
        if let Some(outbox) = self.opening.outbox.take() {
            outbox.close(now);
        }
    }

    fn take(&mut self, inbox: &mut Inbox, committing: bool, now: Duration) -> Work {
        let mut work = Work {
            overflow: std::mem::take(&mut inbox.overflow),
            overflow_times: std::mem::take(&mut inbox.overflow_times),
            settled: std::mem::take(&mut inbox.settled),
            told: std::mem::take(&mut inbox.told),
            loads: inbox.loads.drain(..).collect(),
            quarantines: std::mem::take(&mut inbox.quarantines),
            notes: std::mem::take(&mut inbox.notes),
            edits: std::mem::take(&mut inbox.edits),
            new_epoch: std::mem::take(&mut inbox.new_epoch),
            flush: std::mem::take(&mut inbox.flush),
            flushes: inbox.flushes,
            stop: inbox.stop,
            runs: Vec::new(),
        };
        let (due, later) = std::mem::take(&mut self.reloads).into_iter().partition(|load| load.at <= now);
        self.reloads = later;
        work.loads.extend::<Vec<Load>>(due);
        let mut bytes = 0;
        // All of it when flushing or stopping: it is bounded by what memory may hold.
        while committing && (bytes < MAX_COMMIT || work.flush || work.stop) {
            let Some(waiting) = inbox.runs.pop_front() else { break };
            bytes += waiting.size;
            work.runs.push(waiting);
        }
        if committing {
            inbox.since = (!inbox.runs.is_empty()).then_some(now);
            inbox.complete &= !inbox.runs.is_empty();
        }
        work
    }

    fn carry_out(&mut self, work: Work, now: Now) {
        let Some(outbox) = &mut self.opening.outbox else {
            // Settling needs an outbox; there was none to load from.
            self.put_back(work.runs, "its directory cannot be used", now.mono + self.reopen_wait);
            let mut inbox = self.shared.inbox();
            inbox.overflow += work.overflow;
            inbox.overflow_times = inbox.overflow_times.join(work.overflow_times);
            for (key, value) in work.notes {
                // One that was set meanwhile is newer.
                inbox.notes.entry(key).or_insert(value);
            }
            inbox.edits.splice(..0, work.edits);
            return;
        };
        for (epoch, seqs) in &work.settled {
            outbox.settle(*epoch, seqs);
        }
        if !work.told.is_empty() {
            outbox.settle_losses(&work.told);
        }
        for (key, value) in &work.notes {
            outbox.set_note(key, value);
        }
        work.edits.iter().for_each(|edit| edit.apply(outbox));
        if work.new_epoch {
            outbox.begin_epoch(now);
        }
        outbox.owe(work.overflow, LossReason::Memory, work.overflow_times);
        if work.overflow > 0 {
            outbox.make_way(now);
        }
        let mut events = Vec::new();
        for (epoch, seqs, reason) in work.quarantines {
            match outbox.quarantine(epoch, seqs, &reason, now) {
                Ok(losses) => events.push(Event::Lost(losses)),
                Err(line) => events.push(Event::Problem(line)),
            }
        }
        if work.stop {
            outbox.try_now();
        }
        self.send_all(events);
        if !work.runs.is_empty() || work.flush || work.stop {
            self.commit(work.runs, now);
        }
        self.redraw(now);
        for load in work.loads {
            self.load(load, now);
        }
        if work.flush || work.stop {
            self.save(now);
        }
    }

    fn save(&mut self, now: Now) {
        let saved = self.opening.outbox.as_mut().map(|outbox| outbox.save(now));
        if let Some(Err(line)) = saved {
            (self.tell)(Event::Problem(line));
        }
    }

    fn load(&mut self, load: Load, now: Now) {
        let Some(outbox) = &mut self.opening.outbox else { return };
        let Load { epoch, range, max_bytes, .. } = load;
        let Loaded { chunks, losses, failed } = outbox.load(epoch, range.clone(), max_bytes, now);
        if !losses.is_empty() {
            (self.tell)(Event::Lost(losses));
        }
        match failed {
            None => {
                let (last, bytes) = (chunks.last().map(Chunk::last), chunks.iter().map(|c| c.maps.len()).sum());
                (self.tell)(Event::Loaded { epoch, range, chunks });
                if let Some((outbox, last)) = self.opening.outbox.as_mut().zip(last) {
                    outbox.look_ahead(epoch, last, bytes);
                }
            }
            Some(why) => {
                (self.tell)(Event::Problem(format!("records cannot be read back: {why}; trying again")));
                self.reloads.push(Load { epoch, range, max_bytes, at: now.mono + RELOAD });
            }
        }
        self.problems();
    }

    fn maintain(&mut self, now: Now, always: bool) {
        let every = if self.broken { MAINTAIN_BROKEN } else { MAINTAIN };
        if !always && now.mono < self.maintained + every {
            return;
        }
        self.maintained = now.mono;
        let Some(outbox) = &mut self.opening.outbox else { return };
        let losses = outbox.maintain(now);
        let stats = outbox.stats();
        let broken = outbox.is_broken();
        if !losses.is_empty() {
            (self.tell)(Event::Lost(losses));
        }
        self.problems();
        if broken {
            self.broken = true;
        } else {
            self.recovered();
        }
        (self.tell)(Event::Stats(stats));
    }

    fn recovered(&mut self) {
        self.shared.inbox().unwritable = None;
        if std::mem::replace(&mut self.broken, false) {
            self.not_before = Duration::ZERO;
            (self.tell)(Event::Recovered);
        }
    }

    /// Tries again to open a directory that could not be used.
    fn reopen(&mut self, now: Now) {
        if self.opening.outbox.is_some() || now.mono < self.reopen_at {
            return;
        }
        match Outbox::open(Arc::clone(&self.opening.disk), self.opening.options.clone(), now) {
            Ok((outbox, found)) => {
                self.opening.outbox = Some(outbox);
                self.not_before = Duration::ZERO;
                self.shared.inbox().unwritable = None;
                (self.tell)(Event::Opened(Box::new(found)));
            }
            Err(_) => {
                self.reopen_wait = (self.reopen_wait * 2).min(REOPEN_MAX);
                self.reopen_at = now.mono + self.reopen_wait;
            }
        }
    }

    fn problems(&mut self) {
        let lines = self.opening.outbox.as_mut().map(Outbox::take_problems).unwrap_or_default();
        self.send_all(lines.into_iter().map(Event::Problem).collect());
    }

    fn send_all(&mut self, events: Vec<Event>) {
        for event in events {
            (self.tell)(event);
        }
    }
}
