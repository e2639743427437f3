//! Level hub on a real broker, with a stand-in for the hub: what it says settles, nothing else does (P2); and commands.

use std::time::Duration;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::hub::Hub;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::newest;
use crate::support::scripted_hub::{ScriptedHub, replies};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, read_lossy, tail_of, wait_until};

fn wait_until_connected(agent: &mut Agent) {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        agent.check();
        let output = agent.output(&["status", "--json"]);
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if document["connection"]["connected"] == true {
            return;
        }
        let log = || tail_of(&agent.log, 30);
        assert!(std::time::Instant::now() < end, "not connected: {output:?}; its log ends:\n{}", log());
        pass_time(Duration::from_millis(100));
    }
}

fn epoch_of(agent: &mut Agent) -> (u64, u64) {
    agent.update_commits();
    newest(&agent.runs).into_iter().next().expect("something was committed")
}

#[test]
fn at_level_hub_a_restart_sends_again_what_no_hub_acknowledged_and_the_level_stays() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let hub = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    witness.wait("the first records", PATIENCE, |received| received.records.len() >= 50);
    let (epoch, _) = epoch_of(&mut agent);
    hub.ack(&broker, epoch, 40);
    wait_until("the level to become hub", PATIENCE, || agent.status()["status"]["level"] == "hub");
    let (_, from) = epoch_of(&mut agent);
    agent.wait_for_more(100);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.kill();
    broker.stop();
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    assert_eq!(agent.status()["status"]["level"], "hub", "without a word from any hub");
    broker.up();
    let again = from + 1..=from + 100;
    witness.wait("the same records again", PATIENCE, |received| {
        again.clone().all(|seq| received.arrivals.iter().filter(|(key, ..)| *key == (epoch, seq)).count() > 1)
    });
    agent.down();
    witness.assert_sound(&mut agent);
    agent.verify_outbox();
    let forget = agent.output(&["outbox", "forget-hub"]);
    assert!(forget.status.success(), "{forget:?}");
    agent.up();
    wait_until_connected(&mut agent);
    // The retained acknowledgement is there, and older than the wish to forget.
    pass_time(Duration::from_secs(1));
    assert_eq!(agent.status()["status"]["level"], "broker");
    let (_, last) = epoch_of(&mut agent);
    hub.ack(&broker, epoch, last.min(60));
    wait_until("a new word to count", PATIENCE, || agent.status()["status"]["level"] == "hub");
    agent.down();
}

#[test]
fn commands_are_answered_and_nothing_but_the_three_is_done() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let hub = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.collectors += "[[collector]]\nname = \"rare\"\nuse = \"load\"\nevery = \"1h\"\n";
    agent.up();
    witness.wait("the first records", PATIENCE, |received| received.records.len() >= 10);
    let mut expect = |command: &str, words: &str| {
        hub.command(&broker, command);
        witness.wait(words, PATIENCE, |received| replies(received).iter().any(|reply| reply.contains(words)));
    };
    expect("{\"cmd\":\"ping\",\"id\":\"p\"}", "\"id\":\"p\",\"ok\":true");
    expect("{\"cmd\":\"run\",\"id\":\"r\",\"collector\":\"rare\"}", "\"id\":\"r\",\"ok\":true");
    // Runs on command are at least a second apart.
    pass_time(Duration::from_millis(1_100));
    expect("{\"cmd\":\"run\",\"id\":\"u\",\"collector\":\"/bin/sh\"}", "\"id\":\"u\",\"ok\":false");
    expect("{\"cmd\":\"reboot\",\"id\":\"x\"}", "\"id\":\"x\",\"ok\":false");
    expect("not a command", "\"id\":\"\",\"ok\":false");
    expect("{\"cmd\":\"resend\",\"id\":\"f\",\"epoch\":5,\"from\":1,\"to\":9}", "\"id\":\"f\",\"ok\":false");
    let hex = |name: &str| name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    witness.wait("the record of the run", PATIENCE, |received| {
        received
            .records
            .values()
            .any(|bytes| bytes.contains(&hex("system.load")) || bytes.contains(&hex("system.cpu.load")))
    });
    agent.down();
    witness.assert_sound(&mut agent);
}

/// It refuses the first connection of agent and hub, whose wills were to be retained.
#[test]
fn a_broker_without_retained_messages_is_told_of_and_works_at_level_hub() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    broker.set("check_retain_source", "true\nretain_available false");
    broker.up();
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(50);
    hub.wait_until_stored(&mut agent, PATIENCE);
    wait_until("the level to become hub", PATIENCE, || agent.status()["status"]["level"] == "hub");
    agent.wait_for_more(20);
    hub.wait_until_stored(&mut agent, PATIENCE);
    assert!(hub.stored().twice().is_empty());
    for log in [&agent.log, &hub.log] {
        let said = read_lossy(log);
        assert_eq!(said.matches("0x9a Retain not supported; it keeps no retained messages").count(), 1, "{said}");
    }
    assert!(read_lossy(&agent.log).contains("allow retained messages at the broker"));
    agent.down();
    hub.down();
}
