//! The collecting side of the loop: what is due is run, and every run becomes one [`Run`] for the outbox.
//!
//! Built-in collectors run inline, scripts as tasks, at most one of each; a panic in either becomes its record, and so
//! does a script that the agent's stop cuts short. Nothing here knows the outbox or the network.

mod absent;
mod account;
mod untold;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use crate::clock::{self, Now};
use crate::collect::{self, AgentFigures, Collector, CollectorSpec, Context, HostRoot, exec};
use crate::events::{Events, Rule, Step};
use crate::record::{ClockContext, ErrorKind, Point, Run, RunError};
use crate::schedule::{Job, MissReason, Missed, Scheduler, Share};
use absent::Absent;
pub use absent::absence;
pub use account::Account;
use untold::Untold;

/// What one configured collector is.
pub enum Source {
    Builtin { spec: &'static CollectorSpec, collector: Box<dyn Collector> },
    Script(Arc<exec::Script>),
}

/// The collectors of a running agent from now on; `None` for one that goes on as it is.
pub type Plan = Vec<(Arc<str>, Option<Source>)>;

/// All collectors with their schedule. Index = the scheduler's job id.
pub struct Collecting {
    scheduler: Scheduler,
    sources: Vec<(Arc<str>, Source)>,
    accounts: Vec<Account>,
    /// Of collectors that a reload has taken away.
    retired: Account,
    absent: Vec<Absent>,
    events: Events,
    untold: Vec<Untold>,
    root: HostRoot,
    host: Arc<str>,
    boot: Arc<str>,
    synced: Synced,
    scripts: JoinSet<Vec<Point>>,
    /// What each of `scripts` is a run of.
    running: HashMap<Id, Running>,
}

/// A script that has been started.
struct Running {
    /// By name: a reload may move the jobs about, and take this one away.
    collector: Arc<str>,
    started: Now,
    /// Of its start: that is when its records are dated.
    context: ClockContext,
}

/// A script's run that has ended; a panic of ours on the way is the error.
pub type Finished = Result<(Id, Vec<Point>), JoinError>;

/// Whether the wall clock is synchronised, asked of the kernel at most every 10 s.
#[derive(Debug)]
struct Synced {
    value: bool,
    next: Duration,
}

impl Synced {
    const PERIOD: Duration = Duration::from_secs(10);

    fn get(&mut self, now: &Now) -> bool {
        if now.mono >= self.next {
            self.value = clock::synced();
            self.next = now.mono + Self::PERIOD;
        }
        self.value
    }
}

impl Collecting {
    /// `sources` in the order of the scheduler's jobs.
    pub fn new(
        scheduler: Scheduler,
        sources: Vec<(Arc<str>, Source)>,
        root: HostRoot,
        host: Arc<str>,
        boot: Arc<str>,
    ) -> Self {
        let (accounts, retired) = (vec![Account::default(); sources.len()], Account::default());
        let absent = sources.iter().map(|_| Absent::default()).collect();
        let untold = vec![Untold::default(); sources.len()];
        let synced = Synced { value: false, next: Duration::ZERO };
        let (scripts, running, events) = (JoinSet::new(), HashMap::new(), Events::new(Vec::new(), Vec::new()));
        Self {
            scheduler,
            sources,
            accounts,
            retired,
            absent,
            events,
            untold,
            root,
            host,
            boot,
            synced,
            scripts,
            running,
        }
    }

    /// What runs are to be told of from now on.
    pub fn watched_by(mut self, events: Events) -> Self {
        self.events = events;
        self
    }

    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.scheduler.next_wake()
    }

    /// No run ends before that; a script's may at any time.
    pub fn next_run(&self) -> Option<Duration> {
        if self.running.is_empty() { self.next_wake() } else { Some(Duration::ZERO) }
    }

    /// Runs the built-in collectors that are due, starts the scripts that are, and records what was missed.
    pub fn poll(&mut self, now: &Now, figures: &AgentFigures) -> Vec<Run> {
        let polled = self.scheduler.poll(*now);
        let mut runs = Vec::new();
        for missed in &polled.missed {
            let account = &mut self.accounts[missed.job];
            account.missed += missed.count;
            account.shed += if missed.reason == MissReason::Shed { missed.count } else { 0 };
            if !self.untold[missed.job].add(missed.reason, missed.count, now.mono) {
                runs.push(self.missed(missed, now));
            }
        }
        for job in 0..self.untold.len() {
            for reason in self.untold[job].ripe(now.mono) {
                runs.extend(self.told(job, reason, now));
            }
        }
        for due in polled.due {
            runs.extend(self.told(due.job, MissReason::Blackout, now));
            runs.extend(self.start(due.job, now, figures));
        }
        runs
    }

    /// From now on so much of what is due is done; `off` names collectors of which nothing is. Returns what is to be
    /// recorded of the time before. The agent's own collector always runs: it tells how this goes on.
    pub fn shed(&mut self, share: Share, off: &[String], now: &Now) -> Vec<Run> {
        for (job, (name, source)) in self.sources.iter().enumerate() {
            let own = matches!(source, Source::Builtin { spec, .. } if spec.name == collect::OWN);
            let off = off.iter().any(|off| **off == **name);
            self.scheduler.set_share(
                job,
                if own {
                    Share::All
                } else if off {
                    Share::None
                } else {
                    share
                },
            );
        }
        self.all_told(&[MissReason::Shed], now)
    }

    /// Runs one collector now, beside its schedule; a script's records come when it ends.
    pub fn run_now(&mut self, collector: &str, now: &Now, figures: &AgentFigures) -> Result<Option<Run>, String> {
        let job = self.job(collector);
        let job = job.ok_or_else(|| format!("no collector of that name runs here: {collector:.64}"))?;
        if !self.scheduler.mark_running(job) {
            return Err(format!("{collector} is running already"));
        }
        self.accounts[job].commanded += 1;
        Ok(self.start(job, now, figures))
    }

    /// The next script to end; waits for ever when none runs. Cancel-safe.
    pub async fn finished(&mut self) -> Finished {
        match self.scripts.join_next_with_id().await {
            Some(finished) => finished,
            None => std::future::pending().await,
        }
    }

    /// Takes a script's result in.
    pub fn complete(&mut self, finished: Finished, now: &Now) -> Option<Run> {
        let (id, points) = match finished {
            Ok((id, points)) => (id, Ok(points)),
            Err(error) => (error.id(), Err(error)),
        };
        let running = self.running.remove(&id)?;
        let points = points.unwrap_or_else(|_| {
            let message = "the agent failed while it ran this script; its log line says where".to_owned();
            vec![err_point(&running.collector, &running.started, RunError::new(ErrorKind::Panic, message))]
        });
        self.ended(running, points, now)
    }

    /// Nothing is started any more. Scripts that still run are killed, and that is what is recorded of them.
    pub fn stop(&mut self, now: &Now) -> Vec<Run> {
        let mut runs = Vec::new();
        while let Some(finished) = self.scripts.try_join_next_with_id() {
            runs.extend(self.complete(finished, now));
        }
        runs.extend(self.all_told(&[MissReason::Blackout, MissReason::Shed], now));
        // Dropping a run kills its process group.
        self.scripts.abort_all();
        for (_, running) in std::mem::take(&mut self.running) {
            let message = "killed: the agent was stopped while it ran".to_owned();
            let point = err_point(&running.collector, &running.started, RunError::new(ErrorKind::Signal, message));
            // What the agent ends has not failed: nobody is to be told of it as an event.
            let points = vec![point];
            self.book(&running.collector, &points, now);
            runs.push(Run { collector: running.collector, context: running.context, points });
        }
        runs
    }

    /// Other collectors from now on. What is unchanged keeps its place in time, its counters and its account; scripts
    /// that run go on and are recorded, also those of collectors that are no more.
    pub fn replace(&mut self, jobs: Vec<Job>, plan: Plan, now: &Now) -> Vec<Run> {
        // What the former windows have cost is told.
        let runs = self.all_told(&[MissReason::Blackout, MissReason::Shed], now);
        self.scheduler.replace(jobs, *now);
        let names = std::mem::take(&mut self.sources).into_iter();
        let states = std::mem::take(&mut self.accounts).into_iter().zip(std::mem::take(&mut self.absent));
        let mut old: HashMap<Arc<str>, (Source, Account, Absent)> =
            names.zip(states).map(|((name, source), (account, absent))| (name, (source, account, absent))).collect();
        for (job, (name, fresh)) in plan.into_iter().enumerate() {
            let before = old.remove(&name);
            let (source, account, absent) = match fresh {
                Some(source) => (source, before.map(|b| b.1).unwrap_or_default(), Absent::default()),
                None => before.expect("only a collector that was there is kept"),
            };
            if self.running.values().any(|running| running.collector == name) {
                self.scheduler.mark_running(job);
            }
            self.sources.push((name, source));
            self.accounts.push(account);
            self.absent.push(absent);
        }
        for (_, account, _) in old.into_values() {
            self.retired.add(&account);
        }
        self.untold = vec![Untold::default(); self.sources.len()];
        runs
    }

    /// Other alarms from now on, for the present collectors; see [`Events::replace`].
    pub fn replace_alarms(&mut self, rules: Vec<Rule>, now: &Now) -> Vec<Run> {
        let collectors: Vec<Arc<str>> = self.sources.iter().map(|(name, _)| name.clone()).collect();
        let over = self.events.replace(rules, &collectors, now);
        let context = self.context(now);
        over.into_iter()
            .map(|(collector, point)| Run { collector, context: context.clone(), points: vec![point] })
            .collect()
    }

    /// The agent does less from now on, or more again.
    pub fn stepped(&mut self, step: Step, now: &Now) -> Run {
        let (collector, context) = (step.collector.clone(), self.context(now));
        Run { collector, context, points: vec![self.events.stepped(step, now)] }
    }

    /// All runs so far, those of collectors that are no more included.
    pub fn total(&self) -> Account {
        let mut total = self.retired.clone();
        self.accounts.iter().for_each(|account| total.add(account));
        total
    }

    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.sources.iter().map(|(name, _)| &**name).zip(&self.accounts)
    }

    /// The job is marked as running.
    fn start(&mut self, job: usize, now: &Now, figures: &AgentFigures) -> Option<Run> {
        let context = Context { host: &self.root, now, agent: figures };
        let points = match &mut self.sources[job].1 {
            Source::Builtin { spec, collector } => run_builtin(spec, collector.as_mut(), &context),
            Source::Script(script) => {
                let script = script.clone();
                self.spawn(job, script, *now);
                return None;
            }
        };
        self.scheduler.mark_done(job);
        let repeats = self.absent[job].repeats(&points);
        let (context, name) = (self.context(now), self.sources[job].0.clone());
        self.record(name, points, repeats, context, now)
    }

    fn job(&self, collector: &str) -> Option<usize> {
        self.sources.iter().position(|(name, _)| &**name == collector)
    }

    /// A script's run is over.
    fn ended(&mut self, running: Running, points: Vec<Point>, now: &Now) -> Option<Run> {
        if let Some(job) = self.job(&running.collector) {
            self.scheduler.mark_done(job);
        }
        self.record(running.collector, points, false, running.context, now)
    }

    fn spawn(&mut self, job: usize, script: Arc<exec::Script>, now: Now) {
        let (host, name) = (self.host.clone(), self.sources[job].0.clone());
        let collector = name.clone();
        let task = self.scripts.spawn(async move { exec::run(&script, &host, &name, &now).await });
        let running = Running { collector, started: now, context: self.context(&now) };
        self.running.insert(task.id(), running);
    }

    /// Makes a run that ended one for the outbox. What it changes goes with its points, into the same commit; of one that
    /// only `repeats` that its source is missing nothing else does. One of a collector that is no more changes nothing.
    fn record(
        &mut self,
        collector: Arc<str>,
        mut points: Vec<Point>,
        repeats: bool,
        context: ClockContext,
        now: &Now,
    ) -> Option<Run> {
        let known = self.job(&collector).is_some();
        let events = if known { self.events.saw(&collector, &points, now) } else { Vec::new() };
        if repeats {
            points.clear();
        }
        self.book(&collector, &points, now);
        points.extend(events);
        (!points.is_empty()).then_some(Run { collector, context, points })
    }

    /// Counts a run that ended.
    fn book(&mut self, collector: &str, points: &[Point], now: &Now) {
        let job = self.job(collector);
        let account = job.map_or(&mut self.retired, |job| &mut self.accounts[job]);
        account.runs += 1;
        account.silent += u64::from(points.is_empty());
        account.last_ms = Some(now.wall_ms);
        let error = points.iter().find_map(|p| p.error.as_ref()).map(|e| e.message.clone());
        account.failed += u64::from(error.is_some());
        if !(points.is_empty() && job.is_some_and(|job| self.absent[job].is_said())) {
            account.last_error = error;
        }
    }

    pub fn context(&mut self, now: &Now) -> ClockContext {
        ClockContext { boot: self.boot.clone(), synced: self.synced.get(now) }
    }

    /// The record of what was missed for this reason and not told so far.
    fn told(&mut self, job: usize, reason: MissReason, now: &Now) -> Option<Run> {
        let count = self.untold[job].take(reason)?;
        let collector = self.sources[job].0.clone();
        Some(self.missed(&Missed { job, collector, count, reason }, now))
    }

    fn all_told(&mut self, reasons: &[MissReason], now: &Now) -> Vec<Run> {
        let jobs = 0..self.sources.len();
        jobs.flat_map(|job| reasons.iter().map(move |reason| (job, *reason)))
            .filter_map(|(job, reason)| self.told(job, reason, now))
            .collect()
    }

    /// Runs that were due and did not happen are data too: `runs_due = runs_recorded + missed[reason]`.
    fn missed(&mut self, missed: &Missed, now: &Now) -> Run {
        Run {
            collector: missed.collector.clone(),
            context: self.context(now),
            points: vec![untold::point(missed, now)],
        }
    }
}

/// The err record of a whole run.
fn err_point(collector: &str, at: &Now, error: RunError) -> Point {
    Point {
        ts: at.wall_ms,
        mono: at.boot_ms(),
        name: collector.to_owned().into(),
        tags: BTreeMap::new(),
        fields: BTreeMap::new(),
        error: Some(error),
    }
}

/// One run of a built-in collector; a bug in it costs one record, never the agent.
pub fn run_builtin(spec: &CollectorSpec, collector: &mut dyn Collector, context: &Context<'_>) -> Vec<Point> {
    // A collector that panicked is used again: it holds only the counters of its previous run.
    match catch_unwind(AssertUnwindSafe(|| collect::run(spec, collector, context))) {
        Ok(points) => points,
        Err(_) => {
            let message = format!("the built-in collector {} failed inside; its log line says where", spec.name);
            vec![Point {
                ts: context.now.wall_ms,
                mono: context.now.boot_ms(),
                name: spec.metrics.first().map_or(spec.name, |m| m.name).into(),
                tags: BTreeMap::new(),
                fields: BTreeMap::new(),
                error: Some(RunError::new(ErrorKind::Panic, message)),
            }]
        }
    }
}

#[cfg(test)]
mod tests;
