//! The world around one host, from one seed: its agent and disk, the broker, the hub, the clocks, and what befalls them.
//!
//! One queue of events and the wakes of the shipped parts; the earliest happens next. After each the oracle is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use holdover::clock::Now;
use holdover::outbox::{EpochView, writer};
use holdover::record::{ClockContext, ErrorKind, Fields, Point, Run, RunError, Tags, Value};
use holdover::uplink::Input;
use holdover::uplink::backoff::Rng;
use holdover::wire::Loss;

use super::crash_disk::SimDisk;
use crate::uplink_sim::broker::Broker;
use crate::uplink_sim::oracle::{Check, Oracle};

use super::agent::{Agent, Crash, Host, Shared, Watch};
use super::hub::{Doom, Hub};
use super::net::Net;
use super::plan::Plan;
use super::plant::Fault;
use super::truth::Truth;

/// After the healing: probes, back-off, two heartbeats for each round of questions, and the patience with a hub's word.
const DRAIN: Duration = Duration::from_secs(7_200);
/// A life that does not end is stuck.
const MAX_STEPS: u32 = 200_000;

pub enum Event {
    /// From the agent's connection of this number, if it is still the one.
    Link(u64, Input),
    /// The outbox's word reaches the loop of this life.
    Told(u64, writer::Event),
    /// A script of this life has ended.
    Done(u64, usize),
    /// The next message reaches the hub, by its connection of this number.
    ToHub(u64),
    HubCommits(u64),
    HubReturns(u64),
    HubSpeaks(u64),
    /// The will of a connection that ended.
    Will(super::net::Kept),
    Befalls(Befalls),
    /// The appointed crash did not find a sync.
    CrashNow(u64, Crash),
    Stopped(u64),
    DiskRecovers,
    Heal,
    StopCollecting,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Befalls {
    Crash(Crash, u64),
    CleanStop,
    BrokerCrash,
    HubCrash,
    /// In the middle of its next commit.
    HubDies(Doom),
    HubLeaves,
    WallStep,
    DiskFails,
    DiskFull,
    DiskUnreadable,
    BitRot,
}

/// What lives amounted to, for tests that ask whether the simulation did anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub points: u64,
    pub settled: u64,
    pub lost: u64,
    pub crashes: u64,
    pub live: u64,
    pub history: u64,
    /// Messages that the broker acknowledged and forgot, and seqs that the hub asked for.
    pub forgotten: u64,
    pub asked: u64,
    pub at_hub: u64,
    pub quarantined: u64,
    pub refused: u64,
    pub virtual_time: Duration,
}

impl Summary {
    pub fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.settled += other.settled;
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.live += other.live;
        self.history += other.history;
        self.forgotten += other.forgotten;
        self.asked += other.asked;
        self.at_hub += other.at_hub;
        self.quarantined += other.quarantined;
        self.refused += other.refused;
        self.virtual_time += other.virtual_time;
    }

    pub fn did_everything(&self) {
        let counts = [self.settled, self.lost, self.crashes, self.live, self.history, self.forgotten, self.asked];
        assert!(counts.iter().all(|count| *count > 0), "the simulation left something out: {self:?}");
    }
}

pub struct World {
    pub rng: Rng,
    pub now: Duration,
    pub wall_ms: i64,
    pub events: BTreeMap<(Duration, u64), Event>,
    pub serial: u64,
    pub plan: Plan,
    pub host: Host,
    pub agent: Agent,
    pub disk: SimDisk,
    pub watch: Shared<Watch>,
    /// As it was some commits ago: for a planted fault.
    pub older: Option<SimDisk>,
    /// Number of the agent's present life.
    pub life: u64,
    pub boots: u64,
    pub moods: Broker,
    pub net: Net,
    pub hub: Hub,
    pub hub_link: u64,
    /// A delivery, or a commit, is on its way.
    pub delivering: bool,
    pub committing: bool,
    pub speaking: bool,
    /// Number of the agent's present connection; a new one makes older events void.
    pub connection: u64,
    pub is_up: bool,
    pub subscribed: bool,
    /// Of the connection that is being attempted.
    pub next_will: Option<super::net::Kept>,
    pub oracle: Oracle,
    pub truth: Truth,
    /// The last acknowledgement that this life of the uplink heard.
    pub heard: Option<holdover::wire::Ack>,
    pub collecting: bool,
    pub stopping: bool,
    /// Writer's events that have not reached the loop.
    pub untold: u32,
    /// Something changed since the last look at the books.
    pub unchecked: bool,
    /// Points that this life has handed to the outbox, and the next seqs that it found.
    pub handed: u64,
    pub found: BTreeMap<u64, u64>,
    pub trace: Option<Vec<String>>,
    pub summary: Summary,
}

impl World {
    pub fn fault(&self) -> Option<Fault> {
        self.host.fault
    }

    pub fn after(&mut self, wait: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + wait, self.serial), event);
    }

    /// The agent's clocks.
    pub fn clock(&self) -> Now {
        let up = self.now - self.agent.booted;
        Now { mono: up, boot: up, wall_ms: self.wall_ms }
    }

    /// The hub's: right.
    pub fn hub_clock(&self) -> Now {
        let wall_ms = 1_790_000_000_000 + self.now.as_millis() as i64;
        Now { mono: self.now, boot: self.now, wall_ms }
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now.as_secs_f64();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:10.3} {}", what()));
        }
    }

    /// Runs until everything has arrived or something is wrong.
    pub fn run(&mut self) -> Result<Summary, String> {
        let start = self.now;
        self.act()?;
        let (mut deadline, mut steps) = (Duration::MAX, 0);
        while !self.is_done() {
            let next = self.next().ok_or("stuck: nothing will ever happen again")?;
            steps += 1;
            if next > deadline || steps > MAX_STEPS {
                return Err(self.stuck());
            }
            self.wall_ms += next.saturating_sub(self.now).as_millis() as i64;
            self.now = self.now.max(next);
            if self.events.first_key_value().is_some_and(|((at, _), _)| *at <= self.now)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event)?;
            }
            self.act()?;
            if !self.collecting && self.moods.healthy && deadline == Duration::MAX {
                deadline = self.now + DRAIN;
            }
        }
        self.summary.virtual_time = self.now - start;
        self.finish()
    }

    fn next(&self) -> Option<Duration> {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let here = |wake: Duration| self.agent.booted + wake;
        let schedule = self.agent.scheduler.next_wake().filter(|_| self.collects()).map(here);
        let uplink = self.agent.machine.uplink.next_wake().map(here);
        [event, schedule, uplink, Some(self.agent.wake)].into_iter().flatten().min()
    }

    fn collects(&self) -> bool {
        self.collecting && !self.stopping
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Link(number, input) if number == self.connection => self.reported(input),
            Event::Told(life, event) if life == self.life => self.told(event),
            Event::Done(life, job) if life == self.life => self.finished(job),
            Event::ToHub(link) if link == self.hub_link => return self.delivered(),
            Event::HubCommits(link) if link == self.hub_link => return self.hub_commits(),
            Event::HubSpeaks(link) if link == self.hub_link => self.hub_speaks(),
            Event::HubReturns(link) if link == self.hub_link => return self.hub_returns(),
            Event::CrashNow(life, kind) if life == self.life => return self.crash_now(kind),
            Event::Stopped(life) if life == self.life && self.stopping => return self.stopped(),
            Event::Link(..) | Event::Told(..) | Event::Done(..) | Event::CrashNow(..) | Event::Stopped(_) => {}
            Event::ToHub(_) | Event::HubCommits(_) | Event::HubReturns(_) | Event::HubSpeaks(_) => {}
            Event::Will(will) => self.will(will),
            Event::Befalls(what) => return self.befalls(what),
            Event::DiskRecovers => self.disk_recovers(),
            Event::Heal => self.heal(),
            Event::StopCollecting => self.collecting = false,
        }
        Ok(())
    }

    /// What the agent's loop does in a turn, and the writer's thread beside it.
    pub fn act(&mut self) -> Check {
        self.collect()?;
        let mut polls = 0;
        while let Some(action) = self.agent.machine.poll(self.clock()) {
            polls += 1;
            if polls > 2_000 {
                return Err("busy: no end of actions".into());
            }
            self.carry_out(action)?;
        }
        self.oracle.memory(self.agent.machine.uplink.held_bytes(), self.agent.settings.compression)?;
        if self.stopping && self.agent.machine.uplink.is_stopped() {
            return self.stopped();
        }
        self.books()?;
        self.agent.commit();
        self.write()
    }

    fn collect(&mut self) -> Check {
        if !self.collects() {
            return Ok(());
        }
        let now = self.clock();
        let polled = self.agent.scheduler.poll(now);
        let missed = if self.fault() == Some(Fault::MissedUnsaid) { Vec::new() } else { polled.missed };
        for missed in missed {
            self.agent.accounts[missed.job] += missed.count;
            let error = RunError::new(ErrorKind::Skipped, format!("{} runs", missed.count));
            self.record(missed.job, 1, Some(error));
        }
        for due in polled.due {
            self.agent.accounts[due.job] += 1;
            if self.rng.below(5) == 0 {
                let takes = Duration::from_millis(self.rng.below(20_000));
                self.after(takes, Event::Done(self.life, due.job));
            } else {
                self.finished(due.job);
            }
        }
        self.runs_add_up(now)
    }

    /// `runs_due = runs_recorded + missed`, of what runs by the monotonic clock.
    fn runs_add_up(&self, now: Now) -> Check {
        for (job, (period, account)) in self.plan.periods.iter().zip(&self.agent.accounts).enumerate() {
            let Some(period) = period else { continue };
            let multiples = |at: Duration| (at.as_millis() / period.as_millis()) as u64;
            let due = multiples(now.mono) - multiples(self.agent.began.mono);
            if due != *account {
                return Err(format!("runs: {due} were due of job {job}, {account} ran or were missed"));
            }
        }
        Ok(())
    }

    fn finished(&mut self, job: usize) {
        self.agent.scheduler.mark_done(job);
        let points = 1 + self.rng.below(self.plan.points);
        self.record(job, points, None);
    }

    /// As the agent makes a run of points, and hands it over.
    fn record(&mut self, job: usize, points: u64, error: Option<RunError>) {
        let now = self.clock();
        let points: Vec<Point> = (0..points)
            .map(|_| {
                let bytes = self.plan.filler(&mut self.rng);
                let fields = Fields::from([("text".into(), Value::Str("x".repeat(bytes)))]);
                let (ts, mono, name) = (now.wall_ms, now.boot_ms(), "sim".into());
                self.truth.made(Point { ts, mono, name, tags: Tags::new(), fields, error: error.clone() })
            })
            .collect();
        let Some(handle) = self.agent.handle() else { return };
        self.summary.points += points.len() as u64;
        self.handed += points.len() as u64;
        if self.fault() == Some(Fault::RunSwallowed) && self.rng.below(20) == 0 {
            return;
        }
        let context = ClockContext { boot: self.agent.settings.boot.clone(), synced: self.plan.synced };
        let run = Run { collector: self.host.jobs[job].collector.clone(), context, points };
        if !handle.append(run, now.mono) {
            self.summary.refused += 1;
        }
    }

    /// The writer's turn, if it is not still at the last one.
    fn write(&mut self) -> Check {
        if self.agent.busy_until > self.now {
            self.agent.wake = self.agent.busy_until;
            return Ok(());
        }
        let syncs = self.disk.world().syncs;
        let wake = self.agent.writer.step(self.clock());
        self.agent.wake = self.agent.booted + wake;
        if self.disk.world().syncs != syncs {
            let slow = match self.rng.below(60) {
                0 => 4_000,
                1..6 => 400,
                _ => 20,
            };
            self.agent.busy_until = self.now + Duration::from_millis(1 + self.rng.below(slow));
        }
        self.written()
    }

    /// Takes in what the writer did; a crash in between undoes the rest.
    pub fn written(&mut self) -> Check {
        let (witnessed, image) = {
            let mut watch = self.watch.lock().expect("one thread");
            (std::mem::take(&mut watch.witnessed), watch.image.take())
        };
        let certain = image.as_ref().map_or(witnessed.len(), |(.., count)| *count);
        for chunk in &witnessed[..certain] {
            if self.fault() == Some(Fault::Unwitnessed) && self.rng.below(20) == 0 {
                continue;
            }
            self.note(|| format!("   committed {:?} of {}", chunk.seqs(), chunk.epoch));
            self.truth.appended(chunk)?;
        }
        if let Some((image, crash, _)) = image {
            return self.crash(image, crash);
        }
        let told = self.agent.take_told();
        let wait = self.agent.busy_until.saturating_sub(self.now);
        let quiet = told.is_empty();
        for event in told {
            self.heard_of_outbox(&event)?;
            self.untold += 1;
            self.after(wait, Event::Told(self.life, event));
        }
        if self.fault() == Some(Fault::SeqReuse) && certain > 0 && self.rng.below(4) == 0 {
            self.older = Some(self.disk.killed());
        }
        let Some(outbox) = self.agent.writer.outbox().filter(|_| !quiet) else { return Ok(()) };
        let mut identity = outbox.identity();
        if self.fault() == Some(Fault::BookedTwice) {
            identity.iter_mut().for_each(|identity| identity.settled += u64::from(!identity.held.is_empty()));
        }
        self.truth.judge(outbox, &identity)?;
        let (used, allowed) = (self.disk.world().used(), self.host.options.max_bytes);
        if used <= allowed { Ok(()) } else { Err(format!("bounds: {used} bytes on disk, {allowed} allowed")) }
    }

    fn heard_of_outbox(&mut self, event: &writer::Event) -> Check {
        self.note(|| match event {
            writer::Event::Loaded { range, chunks, .. } => format!("   loaded {} chunks of {range:?}", chunks.len()),
            writer::Event::Stats(stats) => format!("   pending {}, {} bytes", stats.pending, stats.disk_bytes),
            other => format!("   outbox: {other:.300?}"),
        });
        match event {
            writer::Event::Loaded { chunks, .. } => chunks.iter().try_for_each(|chunk| self.truth.loaded(chunk)),
            writer::Event::Opened(found) => {
                self.found = found.epochs.iter().map(|view| (view.epoch, view.next)).collect();
                self.truth.opened(found, &found.losses)
            }
            writer::Event::Lost(losses) => {
                self.summary.lost += losses.iter().map(|loss| loss.count).sum::<u64>();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What the outbox holds, the uplink is going to deliver.
    fn books(&mut self) -> Check {
        if self.untold > 0 || !self.agent.opened || !std::mem::take(&mut self.unchecked) {
            return Ok(());
        }
        let Some(outbox) = self.agent.writer.outbox() else { return Ok(()) };
        for view in outbox.epochs() {
            let mut owed = self.truth.owed(&view);
            owed.subtract(&self.agent.machine.uplink.unsettled(view.epoch));
            if !owed.is_empty() {
                return Err(format!("books: {owed:?} of {} are held, and forgotten by the uplink", view.epoch));
            }
        }
        Ok(())
    }

    /// A loss that names more seqs than are gone is vouched for by no acknowledgement: it is told again, ever more rarely.
    fn stays_told(&self, loss: &Loss) -> bool {
        self.oracle.at_level_hub && loss.to.is_some_and(|to| loss.count < to - loss.from + 1)
    }

    /// Points of this life that have no seq yet: they wait, or are counted to be burned.
    fn without_seq(&self) -> Option<i64> {
        let outbox = self.agent.writer.outbox()?;
        let drawn = |view: &EpochView| view.next - self.found.get(&view.epoch).copied().unwrap_or(1);
        Some(self.handed as i64 - outbox.epochs().iter().map(drawn).sum::<u64>() as i64)
    }

    fn is_done(&self) -> bool {
        let quiet = !self.collecting && self.moods.healthy && !self.stopping && self.untold == 0;
        let settled = |outbox: &holdover::outbox::Outbox| {
            outbox.losses().iter().all(|loss| self.stays_told(loss))
                && outbox.epochs().iter().all(|view| self.truth.owed(view).is_empty())
        };
        quiet
            && self.now > self.plan.end + Duration::from_secs(30)
            && self.agent.machine.uplink.backlog() == 0
            && self.agent.writer.outbox().is_some_and(settled)
            && self.without_seq() == Some(0)
            && self.hub_lacks_nothing()
    }

    fn stuck(&self) -> String {
        match self.without_seq() {
            Some(0) | None => format!("stuck: {}", self.describe()),
            Some(points) => format!("runs: {points} points were handed over, and are neither stored nor declared"),
        }
    }

    fn describe(&self) -> String {
        let outbox = self.agent.writer.outbox();
        let held: Vec<_> = outbox.iter().flat_map(|o| o.epochs()).map(|v| (v.epoch, self.truth.owed(&v))).collect();
        let uplink = &self.agent.machine.uplink;
        format!(
            "held {held:?}, losses {:?}, uplink backlog {}, problems {:?}, hub lacks {:?}",
            outbox.map(|o| o.losses().to_vec()),
            uplink.backlog(),
            uplink.problems(),
            self.hub.gaps(),
        )
    }

    /// In the end: committed => at the hub or declared.
    fn finish(&mut self) -> Result<Summary, String> {
        let points = self.truth.points() as u64;
        for (epoch, mut rest) in self.truth.promised() {
            let (known, stored) = (self.hub.knows(epoch)?, self.hub.stored(epoch));
            self.summary.at_hub += known.seen.len();
            // What its ledger calls stored counts as far as it is in its files.
            let mut declared = known.excused.clone();
            declared.subtract(&known.seen);
            rest.subtract(&declared);
            rest.subtract(&stored);
            if self.oracle.at_level_hub && !rest.is_empty() {
                return Err(format!("silent: {rest:?} of {epoch} are neither at the hub nor declared ({points} made)"));
            }
            if known.seen != stored {
                return Err(format!("unstored: the ledger has {:?} of {epoch}, its files {stored:?}", known.seen));
            }
        }
        (self.summary.live, self.summary.history) = (self.oracle.published_live, self.oracle.published_history);
        self.summary.forgotten = self.net.forgotten;
        Ok(self.summary)
    }
}
