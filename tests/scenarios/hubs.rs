//! Level hub on a real broker: what it acknowledges and then drops comes again, once a hub asks (P1, P2).

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::{gaps, newest};
use crate::support::scripted_hub::{ScriptedHub, replies};
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, tail_of, wait_until};

/// mosquitto's own default.
const QUEUE: &str = "1000";
const PUBLISHES: u64 = 3_000;

fn status(agent: &Agent) -> Value {
    let output = agent.output(&["status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// So many cheap collectors that each publish once a second.
fn many_publishes(agent: &mut Agent) {
    let one =
        |n: u32| format!("[[collector]]\nname = \"l{n}\"\nuse = \"load\"\nevery = \"1s\"\njitter = \"900ms\"\n\n");
    agent.setup.collectors = (0..150).map(one).collect();
}

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

fn ranges(seqs: impl Iterator<Item = u64>) -> Vec<RangeInclusive<u64>> {
    let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
    for seq in seqs {
        match ranges.last_mut().filter(|last| *last.end() + 1 == seq) {
            Some(last) => *last = *last.start()..=seq,
            None => ranges.push(seq..=seq),
        }
    }
    ranges
}

/// The broker acknowledges 3,000 publishes for a subscriber that does not read, keeps 1,000 and drops the others without
/// a word. At level broker they would be gone.
#[test]
fn what_the_broker_drops_for_an_absent_subscriber_comes_again_once_the_hub_asks() {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    broker.set("max_queued_messages", QUEUE);
    let hub = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    many_publishes(&mut agent);
    agent.up();
    witness.wait("the first records", PATIENCE, |received| received.records.len() >= 10);
    assert_eq!(status(&agent)["status"]["level"], "broker", "no hub has spoken");
    let (epoch, _) = epoch_of(&mut agent);
    hub.ack(&broker, epoch, 10);
    wait_until("the level to become hub", PATIENCE, || status(&agent)["status"]["level"] == "hub");

    witness.pause();
    let before = status(&agent)["connection"]["publishes"].as_u64().expect("a count");
    wait_until("3,000 publishes", PATIENCE * 2, || {
        agent.check();
        pass_time(Duration::from_millis(200));
        status(&agent)["connection"]["publishes"].as_u64().expect("a count") >= before + PUBLISHES
    });
    let (_, last) = epoch_of(&mut agent);
    witness.resume();
    witness.wait("what the broker kept", PATIENCE, |received| received.has((epoch, last + 1)));
    // What it dropped does not come by itself, or the broker did not drop it.
    pass_time(Duration::from_secs(2));
    witness.received.update();
    let lost = gaps(&witness.received, &[(epoch, last)].into());
    assert!(lost.len() > 1_000, "the broker was to drop more than 1,000 records, it dropped {}", lost.len());
    let held = status(&agent);
    assert!(held["status"]["backlog"].as_u64() >= Some(PUBLISHES), "{held}");

    for missing in ranges(lost.iter().map(|(_, seq)| *seq)) {
        hub.resend(&broker, epoch, &missing);
    }
    witness.wait_for_all(&mut agent, PATIENCE * 2);
    witness.assert_no_gap();
    assert!(witness.received.losses.is_empty(), "{:?}", witness.received.losses);
    assert!(
        replies(&witness.received).iter().all(|reply| reply.contains("\"ok\":true")),
        "{:?}",
        replies(&witness.received)
    );

    hub.ack(&broker, epoch, last);
    wait_until("the acknowledgement to settle", PATIENCE, || {
        status(&agent)["status"]["backlog"].as_u64() < held["status"]["backlog"].as_u64().map(|n| n / 2)
    });
    agent.down();
    witness.assert_sound(&mut agent);
    agent.verify_outbox();
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
    wait_until("the level to become hub", PATIENCE, || status(&agent)["status"]["level"] == "hub");
    let (_, from) = epoch_of(&mut agent);
    agent.wait_for_more(100);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.kill();
    broker.stop();
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    assert_eq!(status(&agent)["status"]["level"], "hub", "without a word from any hub");
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
    assert_eq!(status(&agent)["status"]["level"], "broker");
    let (_, last) = epoch_of(&mut agent);
    hub.ack(&broker, epoch, last.min(60));
    wait_until("a new word to count", PATIENCE, || status(&agent)["status"]["level"] == "hub");
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
