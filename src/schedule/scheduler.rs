//! Which collectors are due now, and which runs were missed. Pure: clock readings go in, decisions come out.
//!
//! For every job and at all times: occurrences counted as due = runs handed out + missed, by reason. A wall-clock step
//! never stops a job: forward past a due time the misfire policy decides; backward no occurrence runs twice, unless
//! waiting for the next one would take more than twice the usual interval, when the job starts anew at the new time.

use std::sync::Arc;
use std::time::Duration;

use super::share::{Share, Thinning};
use super::{Blackout, Misfire, Schedule, Zone, next_multiple};
use crate::clock::Now;
use crate::schedule::Cron;

/// The wall clock is looked at again at least this often while a cron job waits.
pub const RECHECK: Duration = Duration::from_secs(30);
/// A cron run that starts within this time of its due time is late, not misfired.
pub const GRACE: Duration = Duration::from_secs(60);
/// The most passed-over occurrences that are counted at one look; a board that boots in 1970 passes over millions.
pub const MAX_COUNTED: u64 = 10_000;
/// A difference between wall clock and time since boot above this is a step, below it is slewing.
const STEP_MS: i64 = 500;

/// One collector to be scheduled. Its index in the list given to [`Scheduler::new`] is its id.
#[derive(Clone, Debug)]
pub struct Job {
    pub collector: Arc<str>,
    pub schedule: Schedule,
    /// The fixed delay of this host, see [`super::jitter`].
    pub jitter: Duration,
    pub misfire: Misfire,
    /// When it is not to run.
    pub blackouts: Arc<[Blackout]>,
}

/// A run to be started now. It counts as running until [`Scheduler::mark_done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRun {
    pub job: usize,
    pub collector: Arc<str>,
    /// The wall-clock time that it was meant for, jitter included.
    pub scheduled_ms: i64,
    /// How long ago that was.
    pub lateness: Duration,
    /// Earlier occurrences passed over since the last one; also reported as [`Missed`].
    pub missed: u64,
}

/// Why an occurrence did not become a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MissReason {
    /// The run before it was still going.
    Overlap,
    /// The agent looked too late: it was stalled or had no processor time.
    Late,
    /// The wall clock was stepped forward over it.
    ClockStep,
    /// The host was suspended.
    Suspend,
    /// It was due in a window in which it is not to run.
    Blackout,
    /// The agent is beyond its own limits: see [`Scheduler::set_share`].
    Shed,
}

impl MissReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Late => "late",
            Self::ClockStep => "clock_step",
            Self::Suspend => "suspend",
            Self::Blackout => "blackout",
            Self::Shed => "shed",
        }
    }
}

/// Occurrences that were due and will not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub job: usize,
    pub collector: Arc<str>,
    /// At most [`MAX_COUNTED`] for one look at the clock.
    pub count: u64,
    pub reason: MissReason,
}

/// The outcome of one look at the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    pub due: Vec<DueRun>,
    pub missed: Vec<Missed>,
}

/// The schedule of all collectors.
#[derive(Debug)]
pub struct Scheduler {
    jobs: Vec<Entry>,
    /// The reading of the last look.
    last: Now,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    running: bool,
    next: Next,
    thinning: Thinning,
}

#[derive(Debug)]
enum Next {
    /// On the monotonic clock.
    Mono(Duration),
    /// Occurrences in wall-clock milliseconds without jitter: the last one passed, and the next if there is any.
    Wall { passed: Option<i64>, next: Option<i64> },
}

/// Occurrences that a look at the clock found due.
struct Passed {
    count: u64,
    /// Of the latest one, in wall-clock milliseconds, jitter included.
    scheduled_ms: i64,
    lateness: Duration,
    /// Too late to count as an ordinary run.
    misfired: bool,
}

impl Scheduler {
    /// Nothing is due at `now` itself: the first occurrence is the first one after it.
    pub fn new(jobs: Vec<Job>, now: Now) -> Self {
        let entry = |job: Job| Entry::new(job, now);
        Self { jobs: jobs.into_iter().map(entry).collect(), last: now }
    }

    /// Looks at the clock. Runs handed out are marked as running.
    pub fn poll(&mut self, now: Now) -> Polled {
        let step_ms = step(self.last, now);
        // Where the wall clock stood after the step, if that came right after the last look: what it passed since is due.
        let since_ms = self.last.wall_ms + step_ms;
        let reason = self.reason(now, step_ms);
        self.last = now;
        let mut polled = Polled::default();
        for (id, entry) in self.jobs.iter_mut().enumerate() {
            if step_ms < -STEP_MS {
                entry.wall_went_back(since_ms);
            }
            if let Some(passed) = entry.advance(now) {
                entry.decide(id, passed, reason, now, &mut polled);
            }
        }
        polled
    }

    /// Another list of jobs. One of the same name and times goes on where it was, and a run that is going stays so; call
    /// it right after [`Scheduler::poll`] with the same reading, so that nothing due before is passed over.
    pub fn replace(&mut self, jobs: Vec<Job>, now: Now) {
        let mut old = std::mem::take(&mut self.jobs);
        let entry = |job: Job| {
            let before = old.iter().position(|entry| entry.job.collector == job.collector);
            match before.map(|position| old.swap_remove(position)) {
                Some(old) if old.job.schedule == job.schedule && old.job.jitter == job.jitter => Entry { job, ..old },
                Some(Entry { running, thinning, .. }) => Entry { running, thinning, ..Entry::new(job, now) },
                None => Entry::new(job, now),
            }
        };
        self.jobs = jobs.into_iter().map(entry).collect();
    }

    /// When to look again, on the monotonic clock; `None` with nothing left to run.
    pub fn next_wake(&self) -> Option<Duration> {
        self.jobs.iter().filter_map(|entry| entry.wake(self.last)).min()
    }

    /// Declares a run started by other means (a command); false if one is going already.
    pub fn mark_running(&mut self, job: usize) -> bool {
        self.jobs.get_mut(job).is_some_and(|entry| !std::mem::replace(&mut entry.running, true))
    }

    pub fn mark_done(&mut self, job: usize) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.running = false;
        }
    }

    /// From now on only so many of a job's due runs are made; the others are missed.
    pub fn set_share(&mut self, job: usize, share: Share) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.thinning.share = share;
        }
    }

    pub fn is_running(&self, job: usize) -> bool {
        self.jobs.get(job).is_some_and(|entry| entry.running)
    }

    /// What to blame for occurrences that were passed over since the last look.
    fn reason(&self, now: Now, step_ms: i64) -> MissReason {
        let awake = now.mono.saturating_sub(self.last.mono);
        let suspended = now.boot.saturating_sub(self.last.boot).saturating_sub(awake);
        if step_ms > STEP_MS && step_ms as u128 > suspended.as_millis() {
            MissReason::ClockStep
        } else if suspended > Duration::from_secs(1) {
            MissReason::Suspend
        } else {
            MissReason::Late
        }
    }
}

/// How far the wall clock moved beyond the time that really passed, suspend included.
fn step(last: Now, now: Now) -> i64 {
    let real = now.boot.as_millis() as i64 - last.boot.as_millis() as i64;
    (now.wall_ms - last.wall_ms).saturating_sub(real)
}

fn first(job: &Job, now: Now) -> Next {
    match &job.schedule {
        Schedule::Every(period) => Next::Mono(next_multiple(now.mono, *period, job.jitter)),
        Schedule::Cron(cron, zone) => {
            Next::Wall { passed: None, next: cron.next_after(now.wall_ms - millis(job.jitter), zone) }
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Entry {
    fn new(job: Job, now: Now) -> Self {
        Self { next: first(&job, now), job, running: false, thinning: Thinning::default() }
    }

    /// Moves past everything due by now.
    fn advance(&mut self, now: Now) -> Option<Passed> {
        match (&self.job.schedule, &mut self.next) {
            (Schedule::Every(period), Next::Mono(next)) => {
                let late = now.mono.checked_sub(*next)?;
                let passed_over = late.as_nanos() / period.as_nanos();
                let lateness = late - *period * u32::try_from(passed_over).unwrap_or(u32::MAX);
                *next = next_multiple(now.mono, *period, self.job.jitter);
                let count = u64::try_from(passed_over).unwrap_or(u64::MAX - 1) + 1;
                Some(Passed { count, scheduled_ms: now.wall_ms - millis(lateness), lateness, misfired: false })
            }
            (Schedule::Cron(cron, zone), Next::Wall { passed, next }) => {
                let jitter = millis(self.job.jitter);
                let (count, latest) = pass_over(cron, zone, (*next)?, now.wall_ms - jitter)?;
                *passed = Some(latest);
                *next = cron.next_after(latest, zone);
                let lateness = Duration::from_millis((now.wall_ms - jitter - latest).max(0) as u64);
                Some(Passed { count, scheduled_ms: latest + jitter, lateness, misfired: lateness > GRACE })
            }
            _ => None,
        }
    }

    /// Turns passed occurrences into at most one run and the account of the rest.
    fn decide(&mut self, job: usize, passed: Passed, reason: MissReason, now: Now, polled: &mut Polled) {
        let collector = &self.job.collector;
        let mut miss = |count, reason| {
            if count > 0 {
                polled.missed.push(Missed { job, collector: collector.clone(), count, reason });
            }
        };
        if passed.misfired && self.job.misfire == Misfire::Skip {
            return miss(passed.count, reason);
        }
        miss(passed.count - 1, reason);
        // A late run is one of now.
        let at = if passed.misfired { now.wall_ms } else { passed.scheduled_ms };
        if self.job.blackouts.iter().any(|blackout| blackout.covers(at)) {
            return miss(1, MissReason::Blackout);
        }
        if self.running {
            return miss(1, MissReason::Overlap);
        }
        // When it was due: how late the agent looks must not count.
        if !self.thinning.admits(now.mono.saturating_sub(passed.lateness)) {
            return miss(1, MissReason::Shed);
        }
        self.running = true;
        polled.due.push(DueRun {
            job,
            collector: collector.clone(),
            scheduled_ms: passed.scheduled_ms,
            lateness: passed.lateness,
            missed: passed.count - 1,
        });
    }

    /// After a backward step: see the head of this file for the rule.
    fn wall_went_back(&mut self, since_ms: i64) {
        let (Schedule::Cron(cron, zone), Next::Wall { passed, next }) = (&self.job.schedule, &mut self.next) else {
            return;
        };
        let wall = since_ms - millis(self.job.jitter);
        let keeps = |passed: i64| {
            let next = cron.next_after(passed, zone)?;
            (next - wall <= 2 * (next - passed)).then_some(next)
        };
        match passed.and_then(keeps) {
            Some(kept) => *next = Some(kept),
            None => (*passed, *next) = (None, cron.next_after(wall, zone)),
        }
    }

    fn wake(&self, last: Now) -> Option<Duration> {
        match self.next {
            Next::Mono(next) => Some(next),
            Next::Wall { next, .. } => {
                let wait = (next? + millis(self.job.jitter) - last.wall_ms).max(0);
                Some(last.mono + RECHECK.min(Duration::from_millis(wait as u64)))
            }
        }
    }
}

/// How many occurrences from `next` on are due at `wall`, and the latest of them.
fn pass_over(cron: &Cron, zone: &Zone, next: i64, wall: i64) -> Option<(u64, i64)> {
    if next > wall {
        return None;
    }
    let due = std::iter::successors(Some(next), |&at| cron.next_after(at, zone).filter(|&at| at <= wall));
    let (mut count, mut latest) = (0, next);
    for at in due.take(MAX_COUNTED as usize) {
        (count, latest) = (count + 1, at);
    }
    if count == MAX_COUNTED {
        // Beyond the count only the latest matters.
        latest = latest_at(cron, zone, next, wall);
    }
    Some((count, latest))
}

/// The latest occurrence at or before `wall`, where `next` is one: "another follows in time" is true before it only.
pub(super) fn latest_at(cron: &Cron, zone: &Zone, next: i64, wall: i64) -> i64 {
    let follows = |from: i64| cron.next_after(from, zone).filter(|&at| at <= wall);
    let (mut latest, mut beyond) = (next, wall);
    while latest < beyond {
        let middle = latest + (beyond - latest) / 2;
        match follows(middle) {
            Some(at) => latest = at,
            None if middle > latest => beyond = middle,
            None => break,
        }
    }
    latest
}
