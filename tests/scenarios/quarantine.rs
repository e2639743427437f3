//! A broker that takes no packet as large as one of the records: set aside and declared, the rest goes on; sent again by
//! hand once the broker allows it (`holdover outbox quarantine`).

use serde_json::Value as Json;

use crate::support::agent::{Agent, burst, trickle};
use crate::support::hub::Hub;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::{Commits, Key};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, wait_until};

/// Bytes of text in a record that a broker with [`SMALL`] packets refuses.
const BIG: usize = 9_000;
const SMALL: &str = "6000";

fn listed(agent: &Agent) -> Vec<Json> {
    let output = agent.output(&["outbox", "quarantine", "ls", "--json"]);
    // An agent that has just been started has made no outbox yet.
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn key(value: &Json) -> Key {
    (value["epoch"].as_u64().expect("an epoch"), value["from"].as_u64().expect("a seq"))
}

fn code(agent: &Agent, args: &[&str]) -> Option<i32> {
    agent.output(&[&["outbox", "quarantine"], args].concat()).status.code()
}

#[test]
fn what_the_broker_would_not_take_is_sent_again_by_hand() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    broker.set("max_packet_size", SMALL);
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.collectors = burst(agent.dir(), "big", 1, BIG) + &trickle(agent.dir());
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
    let is_big = |hex: &String| hex.len() > 2 * BIG;
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

/// Delivered on the broker's word while nobody listened. A hub that comes later lacks all of it and asks; by then the
/// broker takes no packet as large as some of the records.
#[test]
fn what_is_refused_when_a_hub_asks_for_it_again_is_declared_and_set_aside() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.uplink = "level = \"broker\"\n".to_owned();
    agent.setup.broker = "unheard = \"settle\"\n".to_owned();
    agent.setup.collectors = burst(agent.dir(), "big", 1, BIG) + &burst(agent.dir(), "small", 5, 40);
    agent.up();
    agent.wait_for_more(20);
    agent.silence("big");
    wait_until("all of it to be settled", PATIENCE, || {
        agent.check();
        agent.status()["status"]["backlog"] == 0
    });
    agent.update_commits();
    let committed = agent.runs[0].list.clone();
    let big: Vec<Key> = committed.iter().filter(|(_, hex)| hex.len() > 2 * BIG).map(|(key, _)| *key).collect();
    assert!(big.len() >= 2 && listed(&agent).is_empty());
    broker.stop();
    broker.set("max_packet_size", SMALL);
    broker.up();

    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let all = format!("1-{}", committed.len());
    wait_until("the hub to know the host", PATIENCE, || hub.output(&["resend", "edge-01", &all]).status.success());
    wait_until("all to be stored or declared", PATIENCE, || {
        agent.check();
        hub.check();
        let stored = hub.stored();
        let small = committed.iter().map(|(key, _)| *key).filter(|key| !big.contains(key));
        small.into_iter().all(|key| stored.has("edge-01", key)) && hub.output(&["gaps"]).status.code() == Some(0)
    });
    let declared = hub.json(&["gaps", "--json"]).to_string();
    assert!(declared.contains("quarantined"), "{declared}");
    assert_eq!(listed(&agent).iter().map(key).collect::<Vec<_>>(), big);
    agent.down();
    hub.down();
    agent.verify_outbox();
    without_its_value(&agent, &big);
}

/// One value is no longer kept: what is left of it can be seen, and done.
fn without_its_value(agent: &Agent, big: &[Key]) {
    let file = listed(agent)[0]["file"].as_str().expect("a file").to_owned();
    std::fs::remove_file(file).expect("it was there");
    let (epoch, seq) = big[0];
    assert_eq!(listed(agent).iter().map(key).collect::<Vec<_>>(), big, "still listed");
    let table = String::from_utf8_lossy(&agent.output(&["outbox", "quarantine", "ls"]).stdout).into_owned();
    assert!(table.contains("(value no longer kept)"), "{table}");
    let retry = agent.output(&["outbox", "quarantine", "retry", "--all"]);
    let said = String::from_utf8_lossy(&retry.stderr).into_owned();
    let remedy = format!("'holdover outbox quarantine drop {seq}-{seq} --epoch {epoch}'");
    assert!(retry.status.code() == Some(1) && said.contains("no longer kept") && said.contains(&remedy), "{retry:?}");
    assert!(String::from_utf8_lossy(&retry.stdout).contains("have new seqs"), "the others are sent again: {retry:?}");
    assert_eq!(listed(agent).iter().map(key).collect::<Vec<_>>(), big[..1]);
    assert_eq!(code(agent, &["retry", &seq.to_string()]), Some(1));
    assert_eq!(code(agent, &["drop", &seq.to_string()]), Some(0));
    assert!(listed(agent).is_empty());
    agent.verify_outbox();
}
