//! The shipped uplink in a simulated world: every run from one seed, checked after every step.
//!
//! `HOLDOVER_SEED=n` replays one seed and tells every step if it fails, `HOLDOVER_SEEDS=n` runs n of them.

pub mod broker;
mod hub;
pub mod oracle;
mod outbox;
pub mod plant;
mod world;

use plant::Fault;
use world::{Summary, World};

use crate::support::number;

const SEEDS: u64 = 1_000;

fn run(seed: u64, fault: Option<Fault>) -> Result<Summary, String> {
    let mut world = World::new(seed, fault);
    if fault.is_none() && number("HOLDOVER_SEED").is_some() {
        world.trace = Some(Vec::new());
    }
    let result = world.run();
    let trace = world.trace.take().unwrap_or_default().join("\n");
    result.map_err(|what| if trace.is_empty() { what } else { format!("{what}\n{trace}") })
}

#[test]
fn uplink_keeps_its_promises_whatever_broker_outbox_and_clock_do() {
    let seeds = match number("HOLDOVER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOLDOVER_SEEDS").unwrap_or(SEEDS),
    };
    let count = seeds.end - seeds.start;
    let (threads, mut total) = (2, Summary::default());
    let results: Vec<(u64, Result<Summary, String>)> = std::thread::scope(|scope| {
        let worker = |part: u64| {
            seeds.clone().filter(move |s| s % threads == part).map(|s| (s, run(s, None))).collect::<Vec<_>>()
        };
        let handles: Vec<_> = (0..threads).map(|part| scope.spawn(move || worker(part))).collect();
        handles.into_iter().flat_map(|h| h.join().expect("a panic is a failure")).collect()
    });
    for (seed, result) in results {
        match result {
            Ok(summary) => {
                total.settled += summary.settled;
                total.quarantined += summary.quarantined;
                total.ended += summary.ended;
                total.held += summary.held;
                total.only_link += summary.only_link;
                total.live += summary.live;
                total.history += summary.history;
                total.hubs += summary.hubs;
                total.asked += summary.asked;
                total.connections += summary.connections;
                total.virtual_time += summary.virtual_time;
            }
            Err(what) => panic!("seed {seed} (HOLDOVER_SEED={seed} replays it): {what}"),
        }
    }
    println!("{total:?}");
    assert!(total.settled > 0 && total.live > 0 && total.history > 0, "the simulation did nothing: {total:?}");
    if count > 100 {
        assert!(total.ended > 0 && total.only_link > 0, "neither values nor links that end connections: {total:?}");
        assert!(total.hubs > 0 && total.asked > 0, "no hub, or none that asked for anything: {total:?}");
    }
}

/// Whether the oracle speaks for the right reason within some seeds; a fault may show in other ways too.
fn is_caught(fault: Fault, by: &str) -> bool {
    (0..300).any(|seed| run(seed, Some(fault)).is_err_and(|what| what.starts_with(by)))
}

#[test]
fn planted_faults_are_caught_by_the_oracle() {
    for (fault, by) in [
        (Fault::SettleWrongToken, "settle:"),
        (Fault::SettleBeforeAck, "settle:"),
        (Fault::ForgetOnReconnect, "status:"),
        (Fault::RefusalIsSuccess, "settle:"),
        (Fault::IgnoreReceiveMaximum, "window:"),
        (Fault::LiveLast, "p6:"),
        (Fault::Spin, "busy:"),
        (Fault::ForgetLosses, "settle:"),
        (Fault::ConvictWithoutContrast, "quarantine:"),
        (Fault::PubackSettlesAtHub, "settle-hub:"),
        (Fault::AckOfAnotherEpoch, "settle-hub:"),
        (Fault::AckBeyondNext, "settle-hub:"),
        (Fault::ResendOfPending, "republish:"),
        (Fault::ResendIgnored, "status:"),
        (Fault::StormOnReconnect, "storm:"),
    ] {
        assert!(is_caught(fault, by), "{fault:?} was never caught as {by}");
    }
}
