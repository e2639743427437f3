//! The agent's loop: the only part of the host side that knows everyone.
//!
//! One thread, no locks: whatever happens next (a timer, a socket, a commit, a script's end, a signal) is handled
//! to its end before the next thing. The outbox writer is the one other thread; between the two are bounded queues.

mod alarm;
mod collecting;
mod delivery;
mod ipc;
mod peers;
mod put;
pub mod relay;
mod reload;
mod report;
mod setup;
mod shedding;
mod socket;
mod witness;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{self, Now};
use crate::collect::{HostRoot, exec};
use crate::config::Config;
use crate::events::Events;
use crate::outbox::writer::{Edit, Event, Handle, Returned};
use crate::platform::service::{ServiceManager, Signals};
use crate::record::Run;
use crate::uplink::Input;
use crate::wire::encode_payload;
use alarm::Alarm;
use collecting::Collecting;
pub use collecting::{Source, absence, run_builtin};
use delivery::Delivery;
use ipc::StatusSocket;
pub use ipc::ask;
pub use reload::{Load, Loaded, Refused};
use reload::{Reading, Reload};
use report::Report;
pub use setup::{
    ChangeError, Identity, StartError, change_outbox, forget_hub, identify, script_groups, source, sources, start,
    tls_files,
};
use shedding::Shedding;
pub use witness::VARIABLE as WITNESS_VARIABLE;

/// At a stop, how long the last commit may take to be published too; at most a quarter of the stop's time.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// The least time that the outbox gets to close, however long the goodbye to the broker took.
const OUTBOX_CLOSE: Duration = Duration::from_secs(1);

/// The agent, ready to run: everything is open and nothing has been collected yet.
pub struct Agent {
    collecting: Collecting,
    delivery: Delivery,
    outbox: Handle,
    events: mpsc::Receiver<Event>,
    socket: StatusSocket,
    door: Option<put::Door>,
    service: ServiceManager,
    alarm: Alarm,
    report: Report,
    shedding: Shedding,
    stop_timeout: Duration,
    /// What is in force.
    config: Config,
    reload: Reload,
    root: HostRoot,
    /// Where scripts get control groups of their own; made ready once, at the start.
    groups: Option<PathBuf>,
    identity: Identity,
    /// Runs handed to the outbox writer that it has not told to be committed.
    unstored: u64,
    /// The last flush that the outbox has done.
    flushed: u64,
}

/// Why the loop ended other than by request.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("signal handlers cannot be installed: {0}")]
    Signals(std::io::Error),
    #[error("the outbox writer ended unexpectedly; see the log line before this one")]
    Outbox,
}

/// What woke the loop.
enum Woken {
    Stop(&'static str),
    Hangup,
    Read(Box<Reading>),
    Writer(Option<Event>),
    Again,
}

impl Agent {
    /// Runs until SIGTERM or SIGINT, then stops within `stop_timeout`.
    pub async fn run(mut self) -> Result<(), RunError> {
        let mut signals = Signals::install().map_err(RunError::Signals)?;
        self.service.ready(&format!("collecting; outbox {}", self.report.outbox_dir().display()));
        self.forget_stale();
        loop {
            let now = clock::now();
            self.collect(now);
            self.mind_limits(now);
            self.reload.look(now);
            self.report.silent_configuration(self.reload.overdue(now));
            self.report.sockets(self.socket.problem(), self.door.as_ref().and_then(put::Door::problem));
            self.deliver(now).await;
            if self.run_commanded(now) {
                continue;
            }
            match self.wait(&mut signals).await {
                Woken::Again => {}
                Woken::Hangup => {
                    tracing::info!("SIGHUP: reading the configuration");
                    self.reload.read();
                }
                Woken::Read(reading) => self.reread(*reading),
                Woken::Writer(Some(event)) => self.told(event),
                Woken::Writer(None) => return Err(RunError::Outbox),
                Woken::Stop(signal) => return self.stop(signal, &mut signals).await,
            }
        }
    }

    /// Everything due now is run and handed to the outbox.
    fn collect(&mut self, now: Now) {
        self.service.tick(now.mono);
        let figures = self.report.figures(&self.delivery, &self.collecting, now);
        for run in self.collecting.poll(&now, &figures) {
            self.record(run);
        }
    }

    /// Beyond its own limits the agent does less, by stages, and says so.
    fn mind_limits(&mut self, now: Now) {
        let Some(change) = self.shedding.look(&self.root, now) else { return };
        let step = match change {
            Some(change) => Some(shedding::step(&change, &self.shedding.measures())),
            None => self.shedding.anew().filter(|step| self.collecting.events().owes_a_step(step.stage)),
        };
        if let Some(step) = step {
            match step.up {
                true => tracing::warn!("{}", step.message),
                false => tracing::info!("{}", step.message),
            }
            self.delivery.handle(Input::Ease(step.stage > 0), now);
            let told = self.collecting.shed(self.shedding.share(), self.shedding.off(), &now);
            told.into_iter().for_each(|run| self.record(run));
            self.report.stepped(&step);
            let run = self.collecting.stepped(step, &now);
            self.record(run);
        }
        self.report.limits(&self.shedding);
    }

    fn record(&mut self, run: Run) {
        self.report.recorded(&run);
        let (collector, points) = (run.collector.clone(), run.points.len());
        let events = self.collecting.events();
        // What has been told must be known after a kill too, or it would be told again, or never be over; and what is known
        // to be told must have been. So the note goes with the run.
        let edit = edit(events.hand_over(&run.points));
        let telling = edit.is_some();
        self.report.events(events.is_crowded());
        if self.outbox.append_noting(run, edit, clock::now().mono) {
            self.unstored += 1;
            if telling {
                self.outbox.flush();
            }
            return;
        }
        // What memory cannot hold is counted by the writer and becomes a declared loss.
        self.report.refused(&collector, points, clock::now().mono);
        if telling {
            self.collecting.events().refused();
        }
    }

    /// What an earlier process told of what is no longer configured need not be known.
    fn forget_stale(&mut self) {
        if let Some(edit) = edit(self.collecting.events().take_stale()) {
            self.outbox.edit_note(edit);
            self.outbox.flush();
        }
    }

    /// Records of an application. They are no run of a collector: nothing was due.
    fn put(&mut self, request: put::Request) {
        let put::Request { collector, points, reply } = request;
        let configured = self.config.collectors.iter().map(|known| &known.name).chain(&self.config.disabled);
        if configured.into_iter().any(|known| *known == collector) {
            let message = format!("collector: {collector} is one of the agent's own collectors: choose another name");
            // Whoever asked may have gone away.
            return drop(reply.send(Err(Returned::Refused(message))));
        }
        let now = clock::now();
        let run = Run { collector, context: self.collecting.context(&now), points };
        let count = run.points.len();
        if self.outbox.put(run, reply, now.mono) {
            self.unstored += 1;
            self.report.put(count);
        }
    }

    /// Collectors that a hub wants to run now. Returns whether there were any.
    fn run_commanded(&mut self, now: Now) -> bool {
        let runs = self.delivery.take_runs();
        let any = !runs.is_empty();
        for (collector, ticket) in runs {
            let figures = self.report.figures(&self.delivery, &self.collecting, now);
            let outcome = self.collecting.run_now(&collector, &now, &figures).map(|run| {
                run.into_iter().for_each(|run| self.record(run));
                format!("{collector} runs")
            });
            self.delivery.handle(Input::Ran { ticket, outcome }, now);
        }
        any
    }

    async fn deliver(&mut self, now: Now) {
        if let Some(problems) = self.report.changed_problems() {
            self.delivery.handle(Input::Problems(problems), now);
        }
        self.delivery.act(now, &mut self.outbox).await;
    }

    /// Sleeps until something happens. Everything awaited here is cancel-safe.
    async fn wait(&mut self, signals: &mut Signals) -> Woken {
        let now = clock::now();
        let reload = Some(self.reload.next_wake());
        let limits = Some(self.shedding.next_wake());
        let wakes = [self.collecting.next_wake(), self.delivery.next_wake(), self.service.next_wake(), reload, limits];
        let wake = wakes.into_iter().flatten().min().unwrap_or(now.mono + Duration::from_secs(60));
        self.outbox.commit(self.collecting.next_run());
        tokio::select! {
            biased;
            signal = signals.any() => signal.map_or(Woken::Hangup, Woken::Stop),
            event = self.events.recv() => Woken::Writer(event),
            reading = self.reload.done() => Woken::Read(Box::new(reading)),
            event = self.delivery.next() => {
                self.delivery.happened(event, clock::now());
                Woken::Again
            }
            finished = self.collecting.finished() => {
                if let Some(run) = self.collecting.complete(finished, &clock::now()) {
                    self.record(run);
                }
                Woken::Again
            }
            peer = self.socket.accept() => {
                let put = self.door.as_ref().map(put::Door::tally);
                ipc::answer(peer, self.report.document(&self.delivery, &self.collecting, put, clock::now()));
                Woken::Again
            }
            request = next_put(self.door.as_mut()) => {
                self.put(request);
                Woken::Again
            }
            () = self.alarm.at(wake) => Woken::Again,
        }
    }

    /// Another configuration, if it is good; else the former one goes on.
    fn reread(&mut self, reading: Reading) {
        let now = clock::now();
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => return self.report.unread_configuration(&error.to_string()),
        };
        self.reload.watch(&reading, now);
        match reading {
            Ok(loaded) => self.reconfigure(&loaded, now),
            Err(refused) => self.report.refused_configuration(&refused.why.to_string()),
        }
    }

    fn reconfigure(&mut self, loaded: &Loaded, now: Now) {
        let config = self.reload.effective(&loaded.checked.config);
        let plan = match setup::changed_sources(&self.config, &config, self.groups.as_deref()) {
            Ok(plan) => plan,
            Err(error) => return self.report.refused_configuration(&error.to_string()),
        };
        // What is due is run as it was configured when it became due.
        self.collect(now);
        for run in self.collecting.replace(setup::jobs(&config, &self.identity.host.id), plan, &now) {
            self.record(run);
        }
        self.shedding.configure(&config.agent.limits);
        for run in self.collecting.shed(self.shedding.share(), self.shedding.off(), &now) {
            self.record(run);
        }
        self.report.limits(&self.shedding);
        for run in self.collecting.replace_alarms(config.alarms.clone(), &now) {
            self.record(run);
        }
        let meta = encode_payload(&setup::meta(&config, &self.identity, &self.root, &loaded.hash));
        self.delivery.handle(Input::Meta(meta), now);
        self.report.configured(&loaded.checked, &loaded.hash, &self.reload.waiting(&loaded.checked), now);
        self.stop_timeout = config.agent.stop_timeout;
        self.config = config;
    }

    /// Takes in everything that the writer has told so far: one commit tells of each run in it.
    fn told(&mut self, first: Event) {
        let mut event = Some(first);
        while let Some(told) = event {
            self.committed(told);
            event = self.events.try_recv().ok();
        }
    }

    /// Takes in what the outbox writer says.
    fn committed(&mut self, event: Event) {
        let now = clock::now();
        self.report.outbox(&event, now);
        match &event {
            Event::Appended { .. } | Event::Unstored => self.unstored = self.unstored.saturating_sub(1),
            Event::Opened(found) => {
                self.opened();
                self.collecting.events().remember(found.notes.get(Events::NOTE).map(String::as_str));
                self.forget_stale();
                self.delivery.handle(Input::Anchors(relay::anchors(found)), now);
            }
            Event::Noted { stored } => self.collecting.events().settled(*stored),
            Event::Flushed(number) => self.flushed = *number,
            _ => {}
        }
        if let Some(input) = relay::to_uplink(event) {
            self.delivery.handle(input, now);
        }
    }

    /// The outbox directory could not be used at the start, and now can: what is kept in it beside the outbox.
    fn opened(&mut self) {
        self.report.host_id(setup::keep_host_id(self.report.outbox_dir(), &self.identity.host));
        self.socket.try_now();
        if let Some(door) = &self.door {
            door.try_now();
        }
    }

    /// Stops collecting, commits what was collected and publishes it too if there is a connection, lets what is in flight
    /// be acknowledged, says goodbye.
    async fn stop(mut self, signal: &str, signals: &mut Signals) -> Result<(), RunError> {
        tracing::info!(signal, "stopping: what was collected is committed, what is in flight awaited");
        self.service.stopping();
        self.door = None;
        let now = clock::now();
        let mut deadline = now.mono + self.stop_timeout;
        for run in self.collecting.stop(&now) {
            self.record(run);
        }
        // Not one that a note asked for before.
        let last = self.outbox.flush();
        let committed = |agent: &Self| agent.flushed >= last || !agent.delivery.uplink().is_connected();
        let commit_by = now.mono + LAST_COMMIT.min(self.stop_timeout / 4);
        let hurried = self.wind_down(signals, commit_by, committed).await?;
        self.delivery.handle(Input::Stop, clock::now());
        let farewell_by = if hurried { clock::now().mono } else { deadline };
        if self.wind_down(signals, farewell_by, |agent| agent.delivery.uplink().is_stopped()).await? || hurried {
            deadline = clock::now().mono;
        }
        let left = deadline.saturating_sub(clock::now().mono).max(OUTBOX_CLOSE);
        if !self.outbox.shutdown(self.events, left).await {
            tracing::warn!("the outbox did not close in time; the next start checks it");
        }
        if self.unstored > 0 && self.report.outbox_fails() {
            tracing::error!(
                runs = self.unstored,
                "the outbox could not be written: runs that waited in memory are lost"
            );
        }
        exec::settle(deadline.saturating_sub(clock::now().mono)).await;
        tracing::info!("stopped");
        Ok(())
    }

    /// Goes on with everything but collecting until it is `done`, at most until then (monotonic). Returns whether somebody
    /// asked to stop once more, which ends it as well.
    async fn wind_down(
        &mut self,
        signals: &mut Signals,
        until: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, RunError> {
        while !done(self) && clock::now().mono < until {
            self.delivery.act(clock::now(), &mut self.outbox).await;
            if done(self) {
                break;
            }
            let now = clock::now();
            let wake = self.delivery.next_wake().unwrap_or(until).min(until).saturating_sub(now.mono);
            tokio::select! {
                biased;
                signal = signals.next() => {
                    tracing::warn!(signal, "asked again: stopping without waiting for the broker");
                    return Ok(true);
                }
                event = self.events.recv() => match event {
                    Some(event) => self.committed(event),
                    None => return Err(RunError::Outbox),
                },
                event = self.delivery.next() => self.delivery.happened(event, clock::now()),
                () = tokio::time::sleep(wake) => {}
            }
        }
        Ok(false)
    }
}

fn edit(words: Vec<(String, bool)>) -> Option<Edit> {
    (!words.is_empty()).then_some(Edit { note: Events::NOTE, words })
}

async fn next_put(door: Option<&mut put::Door>) -> put::Request {
    match door {
        Some(door) => door.next().await,
        None => std::future::pending().await,
    }
}
