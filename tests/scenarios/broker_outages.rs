//! The broker is absent, stopped, killed, forgets its sessions, or changes its mind about its limits (P1, P2, P8).

use std::time::Duration;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, wait_until};

#[test]
fn records_made_before_the_broker_was_there_arrive_once_it_is() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    // What a user gets: this host's own metrics.
    agent.setup.default_collectors = true;
    agent.setup.collectors = "[[collector]]\nname = \"filesystems\"\nevery = \"2s\"\n".to_owned();
    agent.up();
    let names = ["system.cpu", "system.memory", "system.filesystem", "system.network"];
    // MessagePack text: the letters are in the bytes as they are.
    let hex = |name: &str| name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    wait_until("a record of each name", PATIENCE, || {
        agent.check();
        agent.update_commits();
        names.iter().all(|name| agent.runs[0].list.iter().any(|(_, bytes)| bytes.contains(&hex(name))))
    });
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    for name in names {
        assert!(witness.received.records.values().any(|bytes| bytes.contains(&hex(name))), "no record is named {name}");
    }
}

#[test]
fn nothing_is_lost_when_the_broker_is_stopped_and_started() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for _ in 0..4 {
        agent.wait_for_more(60);
        broker.stop();
        agent.wait_for_more(60);
        broker.up();
    }
    finish(&mut witness, &mut agent);
}

#[test]
fn nothing_is_lost_when_the_broker_is_killed() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for round in 0..8 {
        agent.wait_for_more(40);
        broker.kill();
        // Short and long outages: in the short ones the agent is in the middle of something.
        pass_time(Duration::from_millis(150 * (round % 4)));
        broker.up();
    }
    finish(&mut witness, &mut agent);
}

/// The first publish after such a start meets a broker that knows no subscriber: it must be kept (reason 0x10).
#[test]
fn nothing_is_lost_when_the_broker_forgets_every_session() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for _ in 0..3 {
        agent.wait_for_more(60);
        broker.kill();
        broker.forget();
        agent.wait_for_more(60);
        broker.up();
    }
    finish(&mut witness, &mut agent);
}

#[test]
fn nothing_is_settled_while_nobody_subscribes() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(300);
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    finish(&mut witness, &mut agent);
}

#[test]
fn nothing_is_lost_when_the_receive_maximum_changes_between_connections() {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for maximum in ["1", "20", "2", "5", "1", "40"] {
        agent.wait_for_more(50);
        broker.stop();
        broker.set("max_inflight_messages", maximum);
        agent.wait_for_more(50);
        broker.up();
    }
    finish(&mut witness, &mut agent);
}

fn finish(witness: &mut Witness, agent: &mut Agent) {
    witness.wait_for_all(agent, PATIENCE * 2);
    agent.down();
    witness.assert_sound(agent);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    assert!(witness.received.strangers.is_empty(), "{:?}", witness.received.strangers);
    agent.verify_outbox();
}
