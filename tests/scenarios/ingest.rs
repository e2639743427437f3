//! `holdover-hub ingest` on a real broker: every committed record once in its files, whoever is killed (P4), and
//! acknowledgements that never run ahead of the files.

use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::hub::Hub;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::random::Random;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, wait_until};

/// Every committed record is stored, once.
fn wait_for_all(hub: &mut Hub, agent: &mut Agent) {
    agent.update_commits();
    let required: Vec<_> = agent.runs.iter().flat_map(|run| run.list.iter().map(|(key, _)| *key)).collect();
    let mut absent = required.clone();
    wait_until("all committed records to be stored", PATIENCE * 2, || {
        hub.check();
        let stored = hub.stored();
        absent.retain(|key| !stored.has("edge-01", *key));
        if !absent.is_empty() {
            pass_time(Duration::from_millis(200));
        }
        absent.is_empty()
    });
    assert_once(hub);
}

fn assert_once(hub: &Hub) {
    let stored = hub.stored();
    let twice = stored.twice();
    assert!(twice.is_empty(), "{} records are stored twice: {:?} ...", twice.len(), &twice[..twice.len().min(5)]);
}

#[test]
fn every_committed_record_is_stored_once() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut witness = Witness::beside(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(500);
    witness.wait_for_all(&mut agent, PATIENCE);
    wait_for_all(&mut hub, &mut agent);
    let hosts = hub.json(&["hosts", "--json"]);
    assert_eq!(hosts["hosts"][0]["host"], "edge-01");
    assert_eq!(hosts["hosts"][0]["missing"], 0);
    assert_eq!(hub.output(&["gaps"]).status.code(), Some(0));
    agent.down();
    wait_for_all(&mut hub, &mut agent);
    hub.down();
    let stored = hub.stored();
    assert!(stored.torn.is_empty());
    let seqs = stored.records.len() as u64;
    let offline = hub.json(&["hosts", "--json"]);
    assert_eq!(offline["hosts"][0]["stored"], seqs, "the file says the same when no hub runs");
    assert_eq!(offline["hosts"][0]["upto"], seqs);
    assert_eq!(offline["hosts"][0]["state"], "offline");
}

#[test]
fn killed_hub_stores_every_record_once() {
    let mut random = Random::new("killed_hub_stores_every_record_once");
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for _ in 0..40 {
        pass_time(Duration::from_millis(random.within(50..900)));
        hub.check();
        hub.kill();
        pass_time(Duration::from_millis(random.within(0..200)));
        hub.up();
    }
    agent.wait_for_more(100);
    wait_for_all(&mut hub, &mut agent);
    agent.down();
    wait_for_all(&mut hub, &mut agent);
    hub.down();
    assert!(hub.stored().torn.is_empty());
    eprintln!("{} records in {} files", hub.stored().records.len(), hub.stored().files);
}
