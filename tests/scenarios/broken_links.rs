//! The broker is well and the way to it is not: cuts in the middle of a batch, acknowledgements that never come (P2).

use std::time::Duration;

use crate::support::agent::{Agent, burst};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::proxy::Proxy;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, wait_until};

#[test]
fn nothing_is_lost_when_the_connection_is_cut_after_any_number_of_bytes() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let proxy = Proxy::start(broker.port);
    let mut agent = Agent::new(&lab, "edge-01", proxy.port);
    agent.setup.collectors = ["a", "b", "c", "d", "e"].map(|name| burst(agent.dir(), name, 60, 40)).concat();
    agent.up();
    // Inside the handshake, CONNECT, the first publishes, and further and further into a batch.
    let mut bytes: Vec<u64> = vec![1, 200, 600, 1_000];
    bytes.extend((1_300..6_000).step_by(211));
    bytes.extend((6_000..16_000).step_by(1_501));
    for bytes in bytes {
        // Something to send as soon as the connection is there. After the cut all of it arrives before the next one:
        // a message on which three connections in a row are lost is rightly suspected of killing them.
        proxy.refuse(true);
        proxy.drop_connections();
        agent.wait_for_more(50);
        let cuts = proxy.cuts();
        proxy.cut_next_after(bytes);
        proxy.refuse(false);
        wait_until("the connection to be cut", PATIENCE, || proxy.cuts() > cuts);
        witness.wait_for_all(&mut agent, PATIENCE);
    }
    witness.wait_for_all(&mut agent, PATIENCE * 2);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    agent.verify_outbox();
}

/// What was published and not acknowledged is published again: duplicates prove that it had not been settled.
#[test]
fn record_is_not_settled_while_its_acknowledgement_is_withheld() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let proxy = Proxy::start(broker.port);
    let mut agent = Agent::new(&lab, "edge-01", proxy.port);
    agent.up();
    for round in 0..5 {
        agent.wait_for_more(1);
        witness.wait_for_all(&mut agent, PATIENCE);
        proxy.mute(true);
        // What was on its way before the silence has arrived by then, and may have been acknowledged.
        pass_time(Duration::from_millis(300));
        witness.received.update();
        let (before, duplicates) = (witness.received.records.len(), witness.received.duplicates());
        agent.wait_for_more(30);
        witness.wait("records to arrive unacknowledged", PATIENCE, |received| received.records.len() > before);
        // The agent's process may end as well: what it knew about acknowledgements must not be ahead of the truth.
        if round % 2 == 1 {
            agent.kill();
            agent.up();
        }
        proxy.drop_connections();
        proxy.mute(false);
        witness.wait("the same records again", PATIENCE, |received| received.duplicates() > duplicates);
    }
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
}

/// A peer that accepts and then says nothing at all must not hold the agent for ever.
#[test]
fn silent_connection_is_given_up() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let proxy = Proxy::start(broker.port);
    let mut agent = Agent::new(&lab, "edge-01", proxy.port);
    agent.up();
    witness.wait("a first record", PATIENCE, |received| !received.records.is_empty());
    let before = proxy.connections();
    proxy.mute(true);
    wait_until("the agent to try anew", PATIENCE * 2, || proxy.connections() > before);
    proxy.drop_connections();
    proxy.mute(false);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
}
