//! Events of a real agent: records that survive an outage, and copies for who listens.

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::sub::Sub;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, wait_until};

/// A collector that measures what is in a file, and fails without it; an alarm on that.
fn watched(agent: &mut Agent) {
    let file = agent.dir().join("value");
    let command = format!("read v < {0} && echo \"tank,side=left level=$v\"", file.display());
    agent.setup.collectors = format!(
        "[[collector]]\nname = \"tank\"\nexec = [\"/bin/sh\", \"-c\", {command:?}]\nevery = \"1s\"\n\n\
         [[alarm]]\nname = \"high\"\ncollector = \"tank\"\nfield = \"level\"\nabove = 9\nclear = 5\nseverity = \"critical\"\n\n"
    );
    put(agent, "1");
}

/// Whole at every moment.
fn put(agent: &Agent, value: &str) {
    let fresh = agent.dir().join("fresh");
    std::fs::write(&fresh, format!("{value}\n")).expect("own directory");
    std::fs::rename(fresh, agent.dir().join("value")).expect("own directory");
}

/// The events in the outbox, in the order of their seqs.
fn events(agent: &Agent) -> Vec<Value> {
    let export = agent.output(&["outbox", "export"]).stdout;
    let lines = String::from_utf8_lossy(&export).into_owned();
    let records = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter(|record| record["name"] == "holdover.event").collect()
}

fn names(agent: &Agent) -> Vec<String> {
    events(agent).iter().map(|event| event["tags"]["event"].as_str().unwrap_or_default().to_owned()).collect()
}

fn wait_for_events(agent: &mut Agent, count: usize) {
    wait_until(&format!("{count} events"), PATIENCE, || {
        agent.check();
        names(agent).len() >= count
    });
}

#[test]
fn an_alarm_of_an_outage_is_delivered_after_it_and_a_copy_is_seen_when_connected() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let copies = Sub::start(&lab, &broker, "%t %x", &["v1/+/+/event"]);
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    watched(&mut agent);
    agent.up();
    agent.wait_for_more(2);
    assert!(names(&agent).is_empty(), "the first runs are no news");

    std::fs::remove_file(agent.dir().join("value")).expect("just written");
    wait_for_events(&mut agent, 1);
    put(&agent, "2");
    wait_for_events(&mut agent, 2);
    assert_eq!(names(&agent), ["collector-failed", "collector-recovered"]);
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    wait_until("the copies", PATIENCE, || copies.lines().len() >= 2);
    let lines = copies.lines();
    assert!(lines[0].contains("/edge-01/event ") && lines[0].contains(&hex("collector-failed")), "{lines:?}");

    broker.stop();
    put(&agent, "10");
    wait_for_events(&mut agent, 3);
    // Between limit and clear level: it stands.
    put(&agent, "6");
    agent.wait_for_more(3);
    assert_eq!(names(&agent).len(), 3);
    broker.up();
    witness.wait_for_all(&mut agent, PATIENCE);
    let raised = hex("alarm-raised");
    assert!(witness.received.records.values().any(|bytes| bytes.contains(&raised)), "the alarm did not arrive");

    put(&agent, "5");
    wait_for_events(&mut agent, 4);
    agent.down();
    witness.assert_sound(&mut agent);
    let all = events(&agent);
    assert_eq!(names(&agent)[2..], ["alarm-raised", "alarm-cleared"]);
    assert_eq!((&all[2]["tags"]["alarm"], &all[2]["tags"]["side"]), (&"high".into(), &"left".into()), "{all:?}");
    agent.verify_outbox();
}

#[test]
fn a_kill_tells_nothing_anew_and_what_ended_meanwhile() {
    let lab = Lab::new();
    let broker = Mosquitto::absent(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    watched(&mut agent);
    put(&agent, "10");
    agent.up();
    wait_for_events(&mut agent, 1);
    agent.wait_for_more(3);
    agent.kill();
    agent.up();
    agent.wait_for_more(3);
    assert_eq!(names(&agent), ["alarm-raised"]);
    agent.kill();
    put(&agent, "1");
    agent.up();
    wait_for_events(&mut agent, 2);
    agent.down();
    assert_eq!(names(&agent), ["alarm-raised", "alarm-cleared"]);
}
