//! One host, its broker and its hub, simulated from one seed: the shipped scheduler, outbox, writer, uplink, wire format and
//! tracker on a simulated disk, network and clocks. Whatever crashes, forgets, fills up or answers late, what was committed
//! arrives or is declared, and every account is exact after every step.
//!
//! `HOLDOVER_SEED=n` replays one seed and tells every step if it fails, `HOLDOVER_SEEDS=n` runs n of them.

mod agent;
#[path = "../support/crash_disk.rs"]
mod crash_disk;
mod faults;
mod hub;
mod hubside;
mod link;
mod net;
mod plan;
mod plant;
mod truth;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

// What `crash_disk` is a disk for.
use holdover::outbox::{Disk, Entry};

use crate::support::number;
use crate::uplink_sim::plant as uplink;
use plant::Fault;
use world::{Summary, World};

/// In one run of the tests.
const SEEDS: u64 = 10_000;
/// Between two words about how far it is.
const PROGRESS: Duration = Duration::from_secs(30);

fn run(seed: u64, fault: Option<Fault>, traced: bool) -> Result<Summary, String> {
    let mut world = World::new(seed, fault);
    world.trace = traced.then(Vec::new);
    let result = world.run();
    let trace = world.trace.take().unwrap_or_default().join("\n");
    result.map_err(|what| if trace.is_empty() { what } else { format!("{what}\n{trace}") })
}

/// One seed of each kind of complaint, and how many seeds complain so.
#[derive(Default)]
struct Complaints(BTreeMap<String, (u64, String)>);

impl Complaints {
    fn add(&mut self, seed: u64, what: &str) {
        let kind = what.split(':').next().unwrap_or_default().to_owned();
        let first = || (0, format!("seed {seed} (HOLDOVER_SEED={seed} replays it): {what}"));
        self.0.entry(kind).or_insert_with(first).0 += 1;
    }

    fn join(&mut self, other: Self) {
        for (kind, (count, first)) in other.0 {
            self.0.entry(kind).or_insert((0, first)).0 += count;
        }
    }
}

/// What every thread takes its seeds from and adds its figures to.
struct Campaign {
    seeds: Range<u64>,
    next: AtomicU64,
    begun: Instant,
    told: Mutex<Instant>,
}

impl Campaign {
    fn new(seeds: Range<u64>) -> Self {
        let (next, begun) = (AtomicU64::new(seeds.start), Instant::now());
        Self { seeds, next, begun, told: Mutex::new(begun) }
    }

    /// One thread's part. A failure is told at once: the rest may take a day.
    fn lives(&self, traced: bool) -> (Summary, Complaints) {
        let (mut total, mut complaints) = (Summary::default(), Complaints::default());
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end {
                return (total, complaints);
            }
            match run(seed, None, traced) {
                Ok(summary) => total.add(&summary),
                Err(what) => {
                    eprintln!("seed {seed} failed (HOLDOVER_SEED={seed} replays it): {:.300}", what);
                    complaints.add(seed, &what);
                }
            }
            self.progress(seed);
        }
    }

    fn progress(&self, seed: u64) {
        let mut told = self.told.lock().expect("nobody panics while it is held");
        if told.elapsed() >= PROGRESS {
            *told = Instant::now();
            let (done, took) = (seed - self.seeds.start, self.begun.elapsed().as_secs_f64());
            eprintln!("seed {seed} of {}, {:.1} seeds/s", self.seeds.end, done as f64 / took);
        }
    }
}

#[test]
fn what_was_committed_arrives_or_is_declared_whatever_befalls_host_broker_and_hub() {
    let replayed = number("HOLDOVER_SEED");
    let seeds = replayed.map_or(0..number("HOLDOVER_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let campaign = Campaign::new(seeds);
    let (mut total, mut complaints) = (Summary::default(), Complaints::default());
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, NonZero::get);
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| campaign.lives(replayed.is_some()))).collect();
        for handle in handles {
            let (summary, others) = handle.join().expect("a panic is a failure");
            total.add(&summary);
            complaints.join(others);
        }
    });
    let took = campaign.begun.elapsed();
    println!("{count} seeds in {took:.1?}, {:.1} a second: {total:?}", count as f64 / took.as_secs_f64());
    let said: Vec<String> =
        complaints.0.into_values().map(|(count, first)| format!("{count} times, {first}")).collect();
    assert!(said.is_empty(), "{}", said.join("\n"));
    if count > 100 {
        total.did_everything();
    }
}

/// Whether the oracle speaks for the right reason within some seeds; a fault may show in other ways too.
fn caught(fault: Fault, by: &str) -> Result<(), String> {
    let mut others = Complaints::default();
    for seed in 0..300 {
        match run(seed, Some(fault), false) {
            Err(what) if what.starts_with(by) => return Ok(()),
            Err(what) => others.add(seed, &what),
            Ok(_) => {}
        }
    }
    let others: Vec<String> =
        others.0.into_values().map(|(count, first)| format!("{count} times {first:.300}")).collect();
    Err(format!("{fault:?} was never caught as {by} but: {}", others.join("; ")))
}

#[test]
fn faults_planted_between_the_parts_are_caught() {
    let faults = [
        (Fault::Uplink(uplink::Fault::SettleWrongToken), "settle:"),
        (Fault::Uplink(uplink::Fault::SettleBeforeAck), "settle:"),
        (Fault::Uplink(uplink::Fault::RefusalIsSuccess), "settle:"),
        (Fault::Uplink(uplink::Fault::ForgetOnReconnect), "books:"),
        (Fault::Uplink(uplink::Fault::PubackSettlesAtHub), "settle-hub:"),
        (Fault::Uplink(uplink::Fault::AckOfAnotherEpoch), "settle-hub:"),
        (Fault::Uplink(uplink::Fault::ResendOfPending), "republish:"),
        (Fault::Uplink(uplink::Fault::StormOnReconnect), "storm:"),
        (Fault::Uplink(uplink::Fault::ResendIgnored), "stuck:"),
        (Fault::Uplink(uplink::Fault::LiveLast), "p6:"),
        (Fault::Uplink(uplink::Fault::ForgetLosses), "settle:"),
        (Fault::Uplink(uplink::Fault::IgnoreReceiveMaximum), "window:"),
        (Fault::GreedyLoads, "memory:"),
        (Fault::BlocksUnseen, "bounds:"),
        (Fault::SeqReuse, "reuse:"),
        (Fault::DroppedLoss, "stuck:"),
        (Fault::SegmentEdge, "needless:"),
        (Fault::NoFsync, "vanished:"),
        (Fault::MarkerLost, "needless:"),
        (Fault::Unwitnessed, "identity:"),
        (Fault::BookedTwice, "identity:"),
        (Fault::MissedUnsaid, "runs:"),
        (Fault::RunSwallowed, "runs:"),
        (Fault::NoteLost, "level:"),
        (Fault::Garbled, "at-hub:"),
        (Fault::HubAcksEarly, "settle-hub:"),
        (Fault::SinkKeepsTail, "stored-twice:"),
        (Fault::SinkForgets, "unstored:"),
        (Fault::HubNoFsync, "silent:"),
    ];
    let missed: Vec<String> = faults.into_iter().filter_map(|(fault, by)| caught(fault, by).err()).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
