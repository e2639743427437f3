//! What befalls the host, the broker and the hub, and how each comes back.

use std::io;
use std::path::Path;
use std::time::Duration;

use holdover::outbox::{Disk, Opened};
use holdover::uplink::{HubMemory, Input, Level};

use super::crash_disk::SimDisk;
use crate::uplink_sim::oracle::Check;

use super::agent::{Agent, Crash, appoint, watch};
use super::plan::boot_id;
use super::plant::Fault;
use super::world::{Befalls, Event, World};

/// The goodbye to the broker takes no longer.
const STOP: Duration = Duration::from_secs(5);

impl World {
    pub fn befalls(&mut self, what: Befalls) -> Check {
        self.note(|| format!("!! {what:?}"));
        let while_ = Duration::from_millis(500 + self.rng.below(20_000));
        match what {
            Befalls::Crash(kind, 0) => return self.crash_now(kind),
            Befalls::Crash(kind, syncs) => {
                appoint(&self.watch, kind, syncs - 1, self.rng.next_u64());
                self.after(Duration::from_secs(12), Event::CrashNow(self.life, kind));
            }
            Befalls::CleanStop if !self.stopping => {
                self.stopping = true;
                if let Some(handle) = self.agent.handle() {
                    handle.flush();
                }
                self.agent.machine.handle(Input::Stop, self.clock());
                self.after(STOP, Event::Stopped(self.life));
            }
            Befalls::CleanStop => {}
            Befalls::BrokerCrash => self.broker_crashes(),
            Befalls::HubCrash => {
                let (power, seed) = (self.rng.below(2) == 0, self.rng.next_u64());
                self.hub.crash(power, seed, self.hub_clock())?;
                self.hub_leaves(while_);
            }
            Befalls::HubDies(doom) => self.hub.doom(doom, self.rng.next_u64()),
            Befalls::HubLeaves => self.hub_leaves(while_),
            Befalls::WallStep => self.wall_ms += self.rng.below(2_000_000_000) as i64 - 1_000_000_000,
            Befalls::DiskFails => {
                let (after, times) = (self.rng.below(10), 1 + self.rng.below(30));
                self.disk.fail(after, times, io::ErrorKind::Other);
                self.after(while_, Event::DiskRecovers);
            }
            Befalls::DiskFull => {
                let mut disk = self.disk.world();
                disk.capacity = Some(disk.used() + self.rng.below(128 << 10));
                drop(disk);
                self.after(while_, Event::DiskRecovers);
            }
            Befalls::DiskUnreadable => {
                self.disk.world().unreadable = true;
                self.truth.unreadable = true;
                self.after(while_, Event::DiskRecovers);
            }
            Befalls::BitRot => self.bit_rots(),
        }
        Ok(())
    }

    /// One bit of one segment.
    fn bit_rots(&mut self) {
        let mut segments = Vec::new();
        for epoch in self.disk.list(Path::new("/outbox")).unwrap_or_default().into_iter().filter(|entry| entry.is_dir) {
            let dir = Path::new("/outbox").join(epoch.name);
            let files = self.disk.list(&dir).unwrap_or_default();
            segments.extend(files.into_iter().filter(|f| f.name.ends_with(".seg")).map(|f| dir.join(f.name)));
        }
        if segments.is_empty() {
            return;
        }
        let path = segments.swap_remove(self.rng.below(segments.len() as u64) as usize);
        self.note(|| format!("   in {}", path.display()));
        self.truth.unreadable = true;
        let (rng, newest) = (&mut self.rng, self.truth.newest());
        self.disk.world().edit(&path, |bytes| {
            let at = rng.below(bytes.len() as u64) as usize;
            // The newest value takes its own seqs with it, should the process be killed before the next commit: nothing
            // else on this disk knows of them.
            let near = &bytes[at.saturating_sub(20_000)..(at + 20_000).min(bytes.len())];
            if near.windows(newest.len()).any(|bytes| bytes == newest) {
                return;
            }
            bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.below(8));
        });
    }

    pub fn disk_recovers(&mut self) {
        let mut disk = self.disk.world();
        (disk.capacity, disk.failure, disk.unreadable) = (None, None, false);
    }

    pub fn crash_now(&mut self, kind: Crash) -> Check {
        let image = match kind {
            Crash::Kill => self.disk.killed(),
            Crash::Power => {
                let mut chance = super::crash_disk::Rng(self.rng.next_u64() | 1);
                self.disk.world().crash(&mut chance)
            }
        };
        self.crash(image, kind)
    }

    /// The process is gone, and starts on what the disk kept.
    pub fn crash(&mut self, image: SimDisk, kind: Crash) -> Check {
        self.note(|| format!("!! crash: {kind:?}"));
        self.summary.crashes += 1;
        self.link_lost();
        let image = if self.fault() == Some(Fault::SeqReuse) { self.older.take().unwrap_or(image) } else { image };
        if kind == Crash::Power {
            self.boots += 1;
        }
        self.disk = image;
        self.start(kind == Crash::Power)
    }

    /// The loop has ended, or took too long to.
    pub fn stopped(&mut self) -> Check {
        self.link_lost();
        self.net.will = None;
        self.agent.let_go();
        self.agent.busy_until = Duration::ZERO;
        self.agent.writer.step(self.clock());
        let life = self.life;
        self.written()?;
        // A crash on the way has started another.
        if life != self.life {
            return Ok(());
        }
        self.agent.writer.close(self.clock());
        self.start(false)
    }

    fn start(&mut self, boots: bool) -> Check {
        self.life += 1;
        self.stopping = false;
        self.untold = 0;
        self.heard = None;
        {
            let mut disk = self.disk.world();
            disk.ignores_sync = self.fault() == Some(Fault::NoFsync);
            // Whatever was wrong with the disk is over by the time the host is up again.
            (disk.capacity, disk.failure, disk.unreadable) = (None, None, false);
        }
        watch(&self.disk, &self.watch);
        if self.rng.below(8) == 0 {
            self.host.options.fingerprint = format!("board-{}", self.life);
        }
        let booted = if boots { self.now } else { self.agent.booted };
        if boots {
            self.host.settings.boot = boot_id(self.boots);
        }
        let mut now = self.clock();
        (now.mono, now.boot) = (self.now - booted, self.now - booted);
        let (agent, found) = Agent::start(&self.host, &self.disk, &self.watch, (now, booted), self.rng.next_u64())?;
        self.agent = agent;
        if let Some(handle) = self.agent.handle().filter(|_| self.fault() == Some(Fault::NoteLost)) {
            handle.set_note(HubMemory::NOTE, "");
        }
        self.oracle.restarted();
        // A crash may have come while it started: then nobody has seen what it found.
        if self.watch.lock().expect("one thread").image.is_none() {
            self.started(&found)?;
        }
        self.written()
    }

    /// What a start has found.
    pub fn started(&mut self, found: &Opened) -> Check {
        self.note(|| format!("started: {found:.600?}"));
        let acknowledged = self.agent.settings.hub == HubMemory::Acknowledged;
        self.oracle.at_level_hub = match self.host.settings.level {
            Level::Hub => true,
            Level::Auto => acknowledged,
            Level::Broker => false,
        };
        self.oracle.newest = found.epoch;
        self.handed = 0;
        self.found = found.epochs.iter().map(|view| (view.epoch, view.next)).collect();
        if self.agent.opened { self.truth.opened(found, &found.losses) } else { Ok(()) }
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.note(|| "heal".into());
        self.moods.heal();
        self.moods.poison_rate = 0;
        self.disk_recovers();
        self.hub.spare();
        self.net.limit = usize::MAX;
    }
}
