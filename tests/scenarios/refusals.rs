//! Who is turned away, and what they are told (P9): wrong authorities, names, dates, and topics of others.

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, read_lossy};

/// The agent may not reach the broker, says why in words, keeps its records, and delivers them once that is mended.
fn refused_then_mended(
    spoil: impl FnOnce(&Lab, &mut Mosquitto, &mut Agent),
    said: &str,
    mend: impl FnOnce(&Lab, &mut Mosquitto, &mut Agent),
) {
    let lab = Lab::new();
    let mut broker = Mosquitto::start(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    spoil(&lab, &mut broker, &mut agent);
    agent.up();
    agent.wait_for_log(said);
    agent.wait_for_more(50);
    assert!(!broker.log().contains("as edge-01"), "it was let in: {}", broker.log());
    agent.down();
    mend(&lab, &mut broker, &mut agent);
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    agent.up();
    agent.wait_for_more(1);
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    witness.assert_no_gap();
}

fn restart(broker: &mut Mosquitto) {
    broker.stop();
    broker.up();
}

#[test]
fn broker_of_an_unknown_authority_is_not_trusted() {
    refused_then_mended(
        |lab, _, agent| agent.setup.ca = lab.foreign_client("edge-01").1,
        "signed by an unknown authority (not by the configured ca)",
        |lab, _, agent| agent.setup.ca = lab.ca(),
    );
}

#[test]
fn broker_with_an_expired_certificate_is_not_trusted() {
    refused_then_mended(
        |lab, broker, _| {
            lab.server(&["localhost", "--days", "0"]);
            restart(broker);
        },
        "expired",
        |lab, broker, _| {
            lab.server(&["localhost"]);
            restart(broker);
        },
    );
}

#[test]
fn broker_with_another_host_name_is_not_trusted() {
    refused_then_mended(
        |lab, broker, _| {
            lab.server(&["other.example", "--san", "DNS:another.example"]);
            restart(broker);
        },
        "name",
        |lab, broker, _| {
            lab.server(&["localhost"]);
            restart(broker);
        },
    );
}

#[test]
fn agent_with_a_certificate_of_another_authority_is_refused_by_the_broker() {
    refused_then_mended(
        |lab, _, agent| agent.setup.identity = Some(lab.foreign_client("edge-01").0),
        "certificate",
        |lab, _, agent| agent.setup.identity = Some(lab.client("edge-01")),
    );
}

#[test]
fn agent_does_not_start_with_an_expired_certificate() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.identity = Some(lab.expired_client("edge-01"));
    agent.up();
    assert_eq!(agent.wait_for_exit(), Some(78), "{}", read_lossy(&agent.log));
    let said = read_lossy(&agent.log);
    assert!(said.contains("expired") && said.contains("edge-01.crt"), "{said}");
}

#[test]
fn agent_that_writes_under_another_name_is_heard_by_nobody_and_loses_nothing() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut spy = Witness::start(&lab, broker.port, "edge-02");
    let mut agent = Agent::new(&lab, "edge-02", broker.port);
    agent.setup.identity = Some(lab.client("edge-01"));
    agent.up();
    agent.wait_for_log("not authorized");
    agent.wait_for_more(200);
    agent.down();
    // Had anything been let through, it would have come before this.
    agent.setup.identity = Some(lab.client("edge-02"));
    spy.received.update();
    assert!(spy.received.arrivals.is_empty() && spy.received.others.is_empty(), "{:?}", spy.received.others);
    assert!(spy.received.strangers.is_empty(), "{:?}", spy.received.strangers);
    agent.up();
    agent.wait_for_more(1);
    spy.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    spy.assert_sound(&mut agent);
    spy.assert_no_gap();
}
