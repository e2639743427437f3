//! What one life is made of, drawn from its seed: settings, sizes, and what befalls it when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdover::outbox::{DropPolicy, Options};
use holdover::schedule::{Job, Misfire, Schedule, Zone};
use holdover::uplink::backoff::Rng;
use holdover::uplink::{Compression, Encoding, Level, Pace, Settings};
use holdover::wire::TopicScheme;

use super::crash_disk::SimDisk;
use crate::uplink_sim::broker::{Broker, Poison};
use crate::uplink_sim::oracle::Oracle;

use super::agent::{Agent, Crash, Host, Shared, Watch, watch};
use super::hub::{Doom, Hub};
use super::net::Net;
use super::plant::Fault;
use super::truth::Truth;
use super::world::{Befalls, Event, Summary, World};

pub struct Plan {
    /// Of jobs that run by the monotonic clock.
    pub periods: Vec<Option<Duration>>,
    /// Bytes in a record, at most, for most records.
    fat: u64,
    /// Points of a run, at most.
    pub points: u64,
    pub synced: bool,
    /// The broker takes packets of any size.
    pub any_size: bool,
    /// When collecting ends.
    pub end: Duration,
}

impl Plan {
    pub fn filler(&self, rng: &mut Rng) -> usize {
        let most = match rng.below(60) {
            0 => 17_500,
            1..4 => 4_000,
            _ => self.fat,
        };
        rng.below(most) as usize
    }
}

/// `boot`: of the running kernel.
pub fn boot_id(number: u64) -> Arc<str> {
    format!("boot-{number}").into()
}

fn settings(rng: &mut Rng) -> Settings {
    let topics = TopicScheme::new("", "site", "host").expect("plain levels");
    let mut settings = Settings::new("host", "site", boot_id(0), topics);
    settings.urls = vec!["mqtts://broker:8883".into()];
    settings.encoding = if rng.below(12) == 0 { Encoding::Json } else { Encoding::Msgpack };
    settings.compression = if rng.below(8) == 0 { Compression::Zstd } else { Compression::None };
    settings.level = [Level::Auto, Level::Auto, Level::Broker, Level::Hub][rng.below(4) as usize];
    settings.pace = match rng.below(3) {
        0 => None,
        1 => Some(Pace { bytes_per_s: 20_000, batches_per_s: 4 }),
        _ => Some(Pace::default()),
    };
    settings
}

fn options(rng: &mut Rng) -> Options {
    let (minted, run) = (AtomicU64::new(1), rng.below(1 << 40));
    let (max_bytes, segment_bytes) =
        [(512 << 10, 64 << 10), (768 << 10, 64 << 10), (4 << 20, 64 << 10), (4 << 20, 1 << 20)][rng.below(4) as usize];
    Options {
        max_bytes,
        segment_bytes: Some(segment_bytes),
        drop: if rng.below(4) == 0 { DropPolicy::DropNewest } else { DropPolicy::DropOldest },
        fingerprint: "board-0".to_owned(),
        save_every: Duration::from_secs(2 + rng.below(60)),
        new_epoch: Arc::new(move || (run << 12) + minted.fetch_add(1, Ordering::Relaxed)),
        ..Options::new("/outbox")
    }
}

fn jobs(rng: &mut Rng) -> Vec<Job> {
    let every = |rng: &mut Rng| Schedule::Every(Duration::from_secs(1 + rng.below(12)));
    let cron = Schedule::cron("0/20 * * * * ?", Zone::utc()).expect("a plain expression");
    let schedules = [("cpu", every(rng)), ("mem", every(rng)), ("disk", cron)];
    let misfire = if rng.below(2) == 0 { Misfire::Once } else { Misfire::Skip };
    let job = |(name, schedule): (&str, Schedule)| {
        let cron = matches!(schedule, Schedule::Cron(..));
        let jitter = Duration::from_millis(if cron { 700 } else { 0 });
        Job { collector: name.into(), schedule, jitter, misfire, blackouts: Arc::default() }
    };
    schedules.map(job).into()
}

/// Moods of the broker that show within a short life.
fn moods(rng: &mut Rng) -> Broker {
    let mut moods = Broker::new(rng);
    (moods.cutter, moods.kills) = (None, 0);
    if moods.poison == Poison::Cut || rng.below(2) == 0 {
        moods.poison_rate = 0;
    }
    moods
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed_0f1a_57f0_0d00);
        let jobs = jobs(&mut rng);
        let host = Host { settings: settings(&mut rng), options: options(&mut rng), jobs, fault };
        let period = |job: &Job| if let Schedule::Every(period) = job.schedule { Some(period) } else { None };
        // Now and then a host that measures a lot, or a time in which everything happens.
        let (points, hard) = (if rng.below(24) == 0 { 24 } else { 4 }, rng.below(16) == 0);
        let faulty = Duration::from_secs(8 + rng.below(if hard { 150 } else { 42 }));
        let plan = Plan {
            periods: host.jobs.iter().map(period).collect(),
            fat: [60, 200, 1_500, 9_000][rng.below(4) as usize],
            points,
            synced: rng.below(3) != 0,
            any_size: rng.below(4) != 0,
            end: faulty + Duration::from_secs(rng.below(8)),
        };
        let (disk, seen) = (SimDisk::new(), Shared::<Watch>::default());
        disk.world().ignores_sync = fault == Some(Fault::NoFsync);
        watch(&disk, &seen);
        let wall_ms = rng.below(1_900_000_000_000) as i64;
        let now = holdover::clock::Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms };
        let (agent, found) =
            Agent::start(&host, &disk, &seen, (now, Duration::ZERO), rng.next_u64()).expect("nothing is wrong yet");
        let net = Net { limit: 2 + rng.below(60) as usize, hub_is_here: true, ..Net::default() };
        let oracle = Oracle::new(host.settings.unheard, host.settings.pace);
        let mut world = Self::around(host, agent, (disk, seen), (plan, net), (oracle, moods(&mut rng)), rng);
        world.wall_ms = wall_ms;
        world.started(&found).expect("nothing is wrong yet");
        world.lay_plans(faulty, if hard { 20 } else { 6 });
        world
    }

    fn around(
        host: Host,
        agent: Agent,
        (disk, watch): (SimDisk, Shared<Watch>),
        (plan, net): (Plan, Net),
        (oracle, moods): (Oracle, Broker),
        rng: Rng,
    ) -> Self {
        let fault = host.fault;
        Self {
            rng,
            now: Duration::ZERO,
            wall_ms: 0,
            events: std::collections::BTreeMap::new(),
            serial: 0,
            plan,
            host,
            agent,
            disk,
            watch,
            older: None,
            life: 0,
            boots: 0,
            moods,
            net,
            hub: Hub::new(fault, holdover::clock::Now { mono: Duration::ZERO, boot: Duration::ZERO, wall_ms: 0 }),
            hub_link: 0,
            delivering: false,
            committing: false,
            speaking: false,
            connection: 0,
            is_up: false,
            subscribed: false,
            next_will: None,
            oracle,
            truth: Truth::default(),
            heard: None,
            collecting: true,
            stopping: false,
            untold: 0,
            unchecked: false,
            handed: 0,
            found: std::collections::BTreeMap::new(),
            trace: None,
            summary: Summary::default(),
        }
    }

    fn lay_plans(&mut self, faulty: Duration, most: u64) {
        for _ in 0..self.rng.below(most) {
            let at = Duration::from_millis(self.rng.below(faulty.as_millis() as u64));
            let syncs = self.rng.below(8);
            let what = match self.rng.below(17) {
                0..3 => Befalls::Crash(Crash::Power, syncs),
                3..5 => Befalls::Crash(Crash::Kill, syncs),
                5 => Befalls::CleanStop,
                6..8 => Befalls::BrokerCrash,
                8 => Befalls::HubCrash,
                9 if syncs < 4 => Befalls::HubDies(Doom::InSink),
                9 => Befalls::HubDies(Doom::AtLedger),
                10..12 => Befalls::HubLeaves,
                12 => Befalls::WallStep,
                13 => Befalls::DiskFails,
                14 => Befalls::DiskFull,
                15 => Befalls::DiskUnreadable,
                _ => Befalls::BitRot,
            };
            self.after(at, Event::Befalls(what));
        }
        self.after(faulty, Event::Heal);
        self.after(self.plan.end, Event::StopCollecting);
    }
}
