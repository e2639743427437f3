//! Agent, broker and hub together at level hub: whatever the broker forgets, a thief takes or a kill interrupts, every
//! committed record is in the hub's files once and unchanged (P1, P2, P4). The judge is a program of its own.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::support::agent::Agent;
use crate::support::front::{Front, Seen};
use crate::support::hub::Hub;
use crate::support::judge::{Verdict, wait_for_all};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::random::Random;
use crate::support::scripted_hub::ScriptedHub;
use crate::support::{PATIENCE, pass_time, read_lossy, wait_until};

/// mosquitto's own default.
const QUEUE: &str = "1000";
const PUBLISHES: u64 = 3_000;
/// A little longer than what a hub calls one heartbeat.
const BEAT: Duration = Duration::from_millis(5_300);
const STOLEN: u64 = 60;

/// So many cheap collectors that each publish once a second.
fn many_publishes(agent: &mut Agent) {
    let one =
        |n: u32| format!("[[collector]]\nname = \"l{n}\"\nuse = \"load\"\nevery = \"1s\"\njitter = \"900ms\"\n\n");
    agent.setup.collectors = (0..200).map(one).collect();
}

fn at_level_hub(lab: &Lab, port: u16) -> Agent {
    let mut agent = Agent::new(lab, "edge-01", port);
    agent.setup.uplink = "level = \"hub\"\n".to_owned();
    agent
}

/// Makes the host say how it stands every few seconds instead of every minute, as any command to send something again does.
fn heartbeats(operator: &ScriptedHub, broker: &Mosquitto) -> impl Fn(&mut Agent) {
    let last = Cell::new(None::<Instant>);
    move |agent: &mut Agent| {
        if last.get().is_none_or(|at| at.elapsed() >= BEAT) {
            last.set(Some(Instant::now()));
            let epoch = &agent.status()["status"]["epoch"];
            let again = format!("{{\"cmd\":\"resend\",\"id\":\"beat\",\"epoch\":{epoch},\"from\":1,\"to\":1}}");
            operator.command(broker, &again);
        }
    }
}

fn publishes(agent: &Agent) -> u64 {
    agent.status()["connection"]["publishes"].as_u64().unwrap_or_default()
}

fn backlog(agent: &Agent) -> u64 {
    agent.status()["status"]["backlog"].as_u64().expect("a count")
}

fn verdict(agent: &Agent, hub: &Hub) -> Verdict {
    Verdict::of(&agent.commit_files(), &hub.dir)
}

/// The hub has subscribed once and is away while the broker acknowledges 3,000 publishes. What it lacks of them, once the
/// broker has brought what it kept, is more than `lost`.
fn absent_hub(forgets: bool, lost: u64) {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    broker.set("max_queued_messages", QUEUE);
    broker.set("autosave_interval", "1800");
    let operator = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    hub.down();
    let mut agent = at_level_hub(&lab, broker.port);
    many_publishes(&mut agent);
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    wait_until("3,000 publishes", PATIENCE * 2, || {
        agent.check();
        pass_time(Duration::from_millis(200));
        publishes(&agent) >= PUBLISHES
    });
    assert!(backlog(&agent) >= PUBLISHES - 20, "settled on the broker's word");
    if forgets {
        broker.kill();
        broker.up();
    }
    hub.up();
    hub.listening(2);
    pass_time(Duration::from_secs(2));
    let before = verdict(&agent, &hub);
    assert!(before.seqs("missing") > lost, "the broker was to lose more than {lost}: {before:?}");

    wait_for_all(&mut agent, &mut hub, PATIENCE * 2, heartbeats(&operator, &broker));
    wait_until("the hub's word to settle them", PATIENCE, || {
        pass_time(Duration::from_millis(500));
        backlog(&agent) < PUBLISHES
    });
    assert_eq!(hub.output(&["gaps"]).status.code(), Some(0));
    agent.down();
    hub.down();
    agent.verify_outbox();
    let after = verdict(&agent, &hub);
    assert!(after.faults().iter().all(|fault| *fault == "missing"), "{after:?}");
    eprintln!(
        "{} missing before, then {} of {} stored",
        before.seqs("missing"),
        after.count("stored"),
        after.count("committed")
    );
}

/// Of the 3,000 the broker keeps 1,000 and drops the others without a word: at level broker they would be settled.
#[test]
fn what_the_broker_drops_for_an_absent_hub_is_stored_once() {
    absent_hub(false, 1_000);
}

/// It is killed before it has saved anything: subscription, queue and what it acknowledged are gone.
#[test]
fn what_a_killed_broker_forgets_is_stored_once() {
    absent_hub(true, 2_500);
}

struct Theft {
    _lab: Lab,
    operator: ScriptedHub,
    broker: Mosquitto,
    front: Front,
    hub: Hub,
    agent: Agent,
}

/// A man in the middle takes seq 60 out of what the agent publishes; the broker acknowledges the rest.
fn theft(args: &[&str]) -> Theft {
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let operator = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut front = Front::absent(&lab, broker.port);
    let mut agent = at_level_hub(&lab, front.port);
    front.up(&lab, &agent, &[&["--drop-seq", &STOLEN.to_string()], args].concat());
    agent.up();
    agent.wait_for_more(150);
    wait_until("the theft", PATIENCE, || front.seen().contains(&Seen::Dropped));
    Theft { _lab: lab, operator, broker, front, hub, agent }
}

/// What has its PUBACK is not called pending any more, settled or not: otherwise the hub would wait for it.
fn wait_until_not_promised(agent: &Agent, seq: u64) {
    wait_until("the stolen record to be no longer promised", PATIENCE, || {
        let status = agent.status()["status"].clone();
        let pending = status["pending"].as_array().expect("ranges").clone();
        let promises =
            |range: &serde_json::Value| range["from"].as_u64() <= Some(seq) && range["to"].as_u64() >= Some(seq);
        !pending.iter().any(promises) && status["next_seq"].as_u64() > Some(seq)
    });
}

#[test]
fn a_record_stolen_on_its_way_is_asked_for_and_stored() {
    let Theft { _lab, operator, broker, front, mut hub, mut agent } = theft(&["--drop-times", "1"]);
    wait_until_not_promised(&agent, STOLEN);
    assert!(backlog(&agent) > 0, "it is not settled either");
    wait_for_all(&mut agent, &mut hub, PATIENCE, heartbeats(&operator, &broker));
    let (epoch, _) = crate::support::oracle::newest(&agent.runs).into_iter().next().expect("an epoch");
    let again = &hub.stored().records[&("edge-01".to_owned(), (epoch, STOLEN))];
    assert_eq!((again.len(), again[0]["lane"].as_str()), (1, Some("history")));
    assert_eq!(front.seen().iter().filter(|seen| **seen == Seen::Dropped).count(), 1);
    let asked = read_lossy(&hub.log).matches("asked for records again").count();
    assert_eq!(asked, 1, "one record was missing");
    agent.down();
    hub.down();
    agent.verify_outbox();
}

/// The fault that the others rule out: a thief who takes the record each time. Judge, hub and agent must all name it.
#[test]
fn a_record_stolen_each_time_is_named_by_all_three() {
    let Theft { _lab, operator, broker, front, mut hub, mut agent } = theft(&[]);
    let beat = heartbeats(&operator, &broker);
    wait_until("the hub to ask", PATIENCE, || {
        hub.check();
        beat(&mut agent);
        pass_time(Duration::from_millis(200));
        front.seen().iter().filter(|seen| **seen == Seen::Dropped).count() > 1
    });
    let all = verdict(&agent, &hub);
    let (epoch, _) = crate::support::oracle::newest(&agent.runs).into_iter().next().expect("an epoch");
    assert_eq!(all.ranges("missing").first(), Some(&(epoch, STOLEN, STOLEN)), "{all:?}");
    assert_eq!(hub.output(&["gaps"]).status.code(), Some(1));
    assert!(backlog(&agent) > 0, "the agent does not take it for delivered");
    agent.down();
    hub.down();
}

/// Whoever kills the hub at whatever moment: its acknowledgements settle what it has stored. And whoever speaks of seqs
/// that were never drawn settles nothing: that is an alarm, and the end of the epoch.
#[test]
fn a_killed_hub_settles_what_it_stored_and_a_liar_nothing() {
    let mut random = Random::new("a_killed_hub_settles_what_it_stored_and_a_liar_nothing");
    let lab = Lab::new();
    let mut broker = Mosquitto::absent(&lab, "broker");
    let liar = ScriptedHub::new(&lab, "edge-01");
    broker.up();
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for _ in 0..8 {
        pass_time(Duration::from_millis(random.within(200..1_200)));
        hub.kill();
        hub.up();
    }
    wait_until("the level to become hub", PATIENCE, || agent.status()["status"]["level"] == "hub");
    wait_for_all(&mut agent, &mut hub, PATIENCE, heartbeats(&liar, &broker));
    hub.kill();
    agent.wait_for_more(100);
    let (held, next) = (backlog(&agent), agent.status()["status"]["next_seq"].as_u64().expect("a seq"));
    let old = agent.status()["status"]["epoch"].clone();
    liar.ack(&broker, old.as_u64().expect("an epoch"), next + 100_000);
    wait_until("the alarm", PATIENCE, || {
        agent.status()["status"]["problems"].to_string().contains("ALARM: hub hub-2 knows seq")
    });
    wait_until("a new epoch", PATIENCE, || agent.status()["status"]["epoch"] != old);
    assert!(backlog(&agent) >= held, "the lie settled something");
    hub.up();
    wait_for_all(&mut agent, &mut hub, PATIENCE, heartbeats(&liar, &broker));
    wait_until("the older epoch to be settled too", PATIENCE, || {
        pass_time(Duration::from_millis(500));
        let status = agent.status()["status"].clone();
        status["backlog"].as_u64() < Some(2_000) && status["losses"].as_array().is_some_and(Vec::is_empty)
    });
    agent.down();
    hub.down();
    agent.verify_outbox();
}
