//! A broker that takes no packet as large as one of the records: set aside and declared, the rest goes on; sent again by
//! hand once the broker allows it (`holdover outbox quarantine`).

use serde_json::Value as Json;

use crate::support::agent::{Agent, burst, trickle};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::{Commits, Key};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, wait_until};

fn listed(agent: &Agent) -> Vec<Json> {
    let output = agent.output(&["outbox", "quarantine", "ls", "--json"]);
    // An agent that has just been started has made no outbox yet.
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn code(agent: &Agent, args: &[&str]) -> Option<i32> {
    agent.output(&[&["outbox", "quarantine"], args].concat()).status.code()
}

#[test]
fn what_the_broker_would_not_take_is_sent_again_by_hand() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    broker.set("max_packet_size", "6000");
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.collectors = burst(agent.dir(), "big", 1, 9_000) + &trickle(agent.dir());
    agent.up();
    wait_until("two values to be set aside", PATIENCE, || {
        agent.check();
        listed(&agent).len() >= 2
    });
    assert_eq!(code(&agent, &["retry", "--all"]), Some(75), "an agent runs on the outbox");
    agent.silence("big");
    agent.wait_for_more(100);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    let aside = listed(&agent);
    let key = |value: &Json| -> Key { (value["epoch"].as_u64().expect("one"), value["from"].as_u64().expect("one")) };
    assert!(aside.iter().all(|value| value["names"] == serde_json::json!(["big"]) && value["from"] == value["to"]));
    witness.received.update();
    assert!(aside.iter().all(|value| !witness.received.records.contains_key(&key(value))), "it has come after all");
    assert!(witness.received.losses.iter().any(|loss| loss.reason == "quarantined"), "{:?}", witness.received.losses);

    let (kept, dropped) = (aside[0].clone(), aside[1].clone());
    assert_eq!(code(&agent, &["drop", &dropped["from"].to_string()]), Some(0));
    assert_eq!(code(&agent, &["drop", &dropped["from"].to_string()]), Some(1), "it is gone");
    assert_eq!(code(&agent, &["retry", "20-10"]), Some(2));
    broker.stop();
    broker.set("max_packet_size", "131072");
    broker.up();
    assert_eq!(code(&agent, &["retry", "--all"]), Some(0));
    assert!(listed(&agent).is_empty());
    // Under a new seq: the old one is declared lost, and stays so.
    let is_big = |hex: &String| hex.len() > 2 * 9_000;
    witness.received.update();
    assert!(!witness.received.records.values().any(is_big));
    agent.up();
    witness.wait("the record to come", PATIENCE, |received| received.records.values().any(is_big));
    // Stored by the command line, which has no witness: what came stands in for it, between two runs of the agent.
    let again = agent.dir().join("commits-retry");
    let big = witness.received.records.iter().filter(|(_, hex)| is_big(hex));
    let lines: String = big.map(|((epoch, seq), hex)| format!("{epoch} {seq} {hex}\n")).collect();
    std::fs::write(&again, lines).expect("own directory");
    let before_the_last = agent.runs.len() - 1;
    agent.runs.insert(before_the_last, Commits::new(&again));
    agent.wait_for_more(1);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    assert!([&kept, &dropped].iter().all(|value| !witness.received.records.contains_key(&key(value))));
    let came = witness.received.records.values().filter(|hex| is_big(hex)).count();
    assert_eq!(came, aside.len() - 1, "all but the one that was dropped");
    agent.verify_outbox();
}
