//! One life of the agent's process: the shipped scheduler, outbox writer and uplink, and the clock under them.
//!
//! What the agent's loop does around them is mirrored here in as few lines as there are: a due run becomes points, a
//! missed one an err record, and everything between outbox and uplink passes through the shipped `relay`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdover::agent::relay;
use holdover::clock::Now;
use holdover::outbox::writer::{self, Event, Handle, Witness, Writer};
use holdover::outbox::{Opened, Options};
use holdover::schedule::{Job, Scheduler};
use holdover::uplink::{Settings, Uplink};
use holdover::wire::Chunk;

use super::crash_disk::{self, SimDisk};
use crate::uplink_sim::plant::Machine;

use super::plant::Fault;

/// What is seen from below: commits in their order, and the crash that may come between two of them.
#[derive(Default)]
pub struct Watch {
    pub witnessed: Vec<Chunk>,
    doom: Option<Doom>,
    /// The disk as the crash left it, and how many commits had returned by then.
    pub image: Option<(SimDisk, Crash, usize)>,
}

struct Doom {
    /// Syncs until it comes.
    left: u64,
    kind: Crash,
    chance: crash_disk::Rng,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what was written is there.
    Kill,
    /// The power fails: what was not synced may be lost, reordered or torn.
    Power,
}

pub type Shared<T> = Arc<Mutex<T>>;

/// Lets a disk crash by appointment.
pub fn watch(disk: &SimDisk, watch: &Shared<Watch>) {
    let watch = Arc::clone(watch);
    disk.on_sync(move |world| {
        let mut watch = watch.lock().expect("one thread");
        let Some(doom) = watch.doom.as_mut() else { return };
        if doom.left > 0 {
            doom.left -= 1;
            return;
        }
        let image = match doom.kind {
            Crash::Kill => world.killed(),
            Crash::Power => world.crash(&mut doom.chance),
        };
        let kind = doom.kind;
        watch.image = Some((image, kind, watch.witnessed.len()));
        watch.doom = None;
    });
}

/// A crash at the sync after so many.
pub fn appoint(watch: &Shared<Watch>, kind: Crash, left: u64, seed: u64) {
    let chance = crash_disk::Rng(seed | 1);
    watch.lock().expect("one thread").doom = Some(Doom { left, kind, chance });
}

/// What every life of one host has in common.
pub struct Host {
    pub settings: Settings,
    pub options: Options,
    pub jobs: Vec<Job>,
    pub fault: Option<Fault>,
}

pub struct Agent {
    /// `None` once it is stopping.
    handle: Option<Handle>,
    pub writer: Writer,
    told: Shared<Vec<Event>>,
    pub machine: Machine,
    pub scheduler: Scheduler,
    pub settings: Settings,
    /// When this boot began.
    pub booted: Duration,
    /// Runs handed out or missed, by job; and when the schedule began.
    pub accounts: Vec<u64>,
    pub began: Now,
    /// When the writer wants to be called again; and until when it is at work.
    pub wake: Duration,
    pub busy_until: Duration,
    /// Epochs that the uplink has been told of.
    pub known: BTreeSet<u64>,
    /// The uplink knows what was found at the start.
    pub opened: bool,
}

impl Agent {
    /// Starts it on what the disk holds.
    pub fn start(
        host: &Host,
        disk: &SimDisk,
        seen: &Shared<Watch>,
        (now, booted): (Now, Duration),
        seed: u64,
    ) -> Result<(Self, Opened), String> {
        let disk = host.fault.map_or_else(|| Arc::new(disk.clone()) as _, |fault| fault.disk(disk));
        let opening = writer::open(disk, host.options.clone(), now).map_err(|e| format!("open: {e}"))?;
        let found = opening.found().clone();
        let opened = opening.stats().broken.is_none() || !found.epochs.is_empty();
        let (hub, anchors) = (relay::hub_memory(&found), relay::anchors(&found));
        let settings = Settings { hub, anchors, ..host.settings.clone() };
        let losses = if host.fault == Some(Fault::DroppedLoss) { Vec::new() } else { found.losses.clone() };
        let uplink = Uplink::new(settings.clone(), relay::epoch_views(&found), losses, seed);
        let told = Shared::<Vec<Event>>::default();
        let (tell, witnessed) = (Arc::clone(&told), Arc::clone(seen));
        let witness: Witness = Box::new(move |chunk| {
            witnessed.lock().expect("one thread").witnessed.push(chunk.clone());
        });
        let window = Duration::from_millis(200);
        let tell = Box::new(move |event| tell.lock().expect("one thread").push(event));
        let (handle, writer) = opening.stepped(window, now.mono, tell);
        let agent = Self {
            handle: Some(handle),
            writer: writer.witnessed_by(Some(witness)),
            told,
            machine: Machine::new(uplink, host.fault.and_then(Fault::in_uplink), settings.clone()),
            scheduler: Scheduler::new(host.jobs.clone(), now),
            settings,
            booted,
            accounts: vec![0; host.jobs.len()],
            began: now,
            wake: Duration::ZERO,
            busy_until: Duration::ZERO,
            known: found.epochs.iter().map(|view| view.epoch).collect(),
            opened,
        };
        Ok((agent, found))
    }

    pub fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// As the loop does before it waits: no run ends before the next is due, but a script's may at any time.
    pub fn commit(&self) {
        let Some(handle) = &self.handle else { return };
        let running = (0..self.accounts.len()).any(|job| self.scheduler.is_running(job));
        handle.commit(if running { Some(Duration::ZERO) } else { self.scheduler.next_wake() });
    }

    /// The loop ends: the writer is told to stop.
    pub fn let_go(&mut self) {
        self.handle = None;
    }

    /// What the writer has said since.
    pub fn take_told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.told.lock().expect("one thread"))
    }
}
