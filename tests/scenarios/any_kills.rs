//! Agent, broker and hub are killed with -9, one at a time and together, at random: at level `hub` every committed
//! record is in the hub's files once and unchanged, though the broker forgets what it had acknowledged (P1, P2, P4).

use std::time::Duration;

use serde_json::Value as Json;

use crate::support::agent::Agent;
use crate::support::hub::{Hub, Stored};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::Commits;
use crate::support::random::Random;
use crate::support::{PATIENCE, number, pass_time, wait_until};

/// `HOLDOVER_ANY_KILLS=n` asks for more.
const CYCLES: u64 = 300;

/// What the agent committed, as the hub's files ought to say it.
fn expected(hex: &str) -> Json {
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("the agent witnesses in hex"))
        .collect();
    rmp_serde::from_slice(&bytes).expect("a MessagePack map")
}

/// Everything that the files say of a committed record and that is not so.
fn differences(runs: &[Commits], stored: &Stored) -> Vec<String> {
    let mut found = Vec::new();
    for ((epoch, seq), hex) in runs.iter().flat_map(|run| &run.list) {
        let Some(lines) = stored.records.get(&("edge-01".to_owned(), (*epoch, *seq))) else { continue };
        let record = expected(hex);
        for member in ["seq", "ts", "name", "status", "tags", "fields"] {
            if lines[0][member] != record[member] {
                found.push(format!("seq {seq}: {member} is {}, committed as {}", lines[0][member], record[member]));
            }
        }
    }
    found
}

#[test]
fn whoever_is_killed_every_record_is_stored_once() {
    let mut random = Random::new("whoever_is_killed_every_record_is_stored_once");
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.uplink = "level = \"hub\"\nhistory_rate = \"unlimited\"\n".to_owned();
    agent.up();
    let mut killed = [0_u32; 3];
    for _ in 0..number("HOLDOVER_ANY_KILLS").unwrap_or(CYCLES) {
        pass_time(Duration::from_millis(random.within(50..500)));
        // 1 to 7: at least one of the three.
        let who = random.within(1..8);
        if who & 1 != 0 {
            agent.check();
            agent.kill();
        }
        if who & 2 != 0 {
            broker.kill();
        }
        if who & 4 != 0 {
            hub.check();
            hub.kill();
        }
        pass_time(Duration::from_millis(random.within(0..100)));
        if who & 2 != 0 {
            broker.up();
        }
        if who & 4 != 0 {
            hub.up();
        }
        if who & 1 != 0 {
            agent.up();
        }
        (0..3).for_each(|bit| killed[bit] += u32::from(who & (1 << bit) != 0));
    }
    agent.wait_for_more(100);
    agent.update_commits();
    let mut absent: Vec<_> = agent.runs.iter().flat_map(|run| run.list.iter().map(|(key, _)| *key)).collect();
    wait_until("all committed records to be stored", PATIENCE * 3, || {
        agent.check();
        hub.check();
        let stored = hub.stored();
        absent.retain(|key| !stored.has("edge-01", *key));
        if !absent.is_empty() {
            pass_time(Duration::from_millis(300));
        }
        absent.is_empty()
    });
    agent.down();
    hub.down();
    agent.update_commits();
    let stored = hub.stored();
    let twice = stored.twice();
    assert!(twice.is_empty(), "{} records are stored twice: {:?} ...", twice.len(), &twice[..twice.len().min(5)]);
    let changed = differences(&agent.runs, &stored);
    assert!(changed.is_empty(), "{} differences: {:?}", changed.len(), &changed[..changed.len().min(5)]);
    let committed = agent.committed();
    let [agents, brokers, hubs] = killed;
    eprintln!(
        "{agents} kills of the agent, {brokers} of the broker, {hubs} of the hub; {committed} records, each stored once"
    );
    assert!(committed > 500, "only {committed} records were committed");
    agent.verify_outbox();
}
