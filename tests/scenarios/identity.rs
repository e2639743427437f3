//! Hosts that are not who they were: set back to an older copy of their outbox, or there twice. A new epoch or an alarm,
//! and never two records under one seq in the hub's files.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::agent::{Agent, trickle};
use crate::support::hub::Hub;
use crate::support::judge::{Verdict, wait_for_all};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, pass_time, read_lossy, wait_until};

struct Stage {
    lab: Lab,
    broker: Mosquitto,
    hub: Hub,
    agent: Agent,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        let broker = Mosquitto::start(&lab, "broker");
        let mut hub = Hub::new(&lab, broker.port);
        hub.up();
        hub.listening(1);
        let agent = Agent::new(&lab, "edge-01", broker.port);
        Stage { lab, broker, hub, agent }
    }
}

fn problems(agent: &Agent) -> String {
    agent.status()["status"]["problems"].to_string()
}

/// As a backup is taken and restored: new files with the old content.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().expect("cp starts").success());
}

/// A snapshot of the outbox is taken, the agent goes on, and then the snapshot is put back: what is drawn from then on
/// bears seqs that the hub has other records for, and most of it before anybody can say so.
#[test]
fn an_outbox_set_back_to_a_snapshot_draws_anew_and_mixes_nothing() {
    let Stage { lab, mut broker, mut hub, mut agent } = Stage::new();
    agent.up();
    agent.wait_for_more(100);
    wait_until("the level to become hub", PATIENCE, || agent.status()["status"]["level"] == "hub");
    agent.down();
    let (outbox, snapshot) = (agent.setup.outbox.clone(), lab.path("snapshot"));
    copy(&outbox, &snapshot);
    agent.up();
    agent.wait_for_more(300);
    agent.down();
    // What its goodbye could not deliver would go with the outbox that is about to be thrown away.
    agent.setup.collectors = String::new();
    agent.up();
    wait_for_all(&mut agent, &mut hub, PATIENCE, |_| ());
    agent.down();
    agent.setup.collectors = trickle(agent.dir());
    std::fs::remove_dir_all(&outbox).expect("own directory");
    copy(&snapshot, &outbox);

    broker.stop();
    agent.up();
    agent.wait_for_more(100);
    broker.up();
    let log = agent.log.clone();
    wait_until("the alarm", PATIENCE, || problems(&agent).contains("ALARM: "));
    assert!(read_lossy(&log).contains("ALARM: "));
    agent.wait_for_more(100);
    wait_for_all(&mut agent, &mut hub, PATIENCE, |_| ());
    agent.down();
    hub.down();
    agent.verify_outbox();
    let verdict = Verdict::of(&agent.commit_files(), &hub.dir);
    assert!(verdict.seqs("reused") >= 100, "the seqs were to be drawn twice: {verdict:?}");
    assert!(verdict.seqs("moved") >= verdict.seqs("reused"), "{verdict:?}");
    assert!(verdict.faults().iter().all(|fault| ["missing", "reused"].contains(fault)), "{verdict:?}");
    let outlived = verdict.ranges("missing").iter().all(|(epoch, ..)| *epoch != verdict.ranges("reused")[0].0);
    assert!(outlived, "only what came after all was stored may be missing: {verdict:?}");
}

/// Two agents with one id and one certificate throw each other off the broker.
#[test]
fn two_agents_with_one_id_are_an_alarm_and_their_records_stay_apart() {
    let Stage { lab, broker, mut hub, mut agent } = Stage::new();
    let mut twin = Agent::new(&lab, "twin", broker.port);
    (twin.setup.host, twin.setup.identity) = ("edge-01".to_owned(), agent.setup.identity.clone());
    agent.up();
    agent.wait_for_more(50);
    twin.up();
    wait_until("both to know of each other", PATIENCE, || {
        let alarmed = |agent: &Agent| {
            let output = agent.output(&["status", "--json"]);
            String::from_utf8_lossy(&output.stdout).contains("ALARM: another client connects")
        };
        pass_time(Duration::from_millis(200));
        alarmed(&agent) && alarmed(&twin)
    });
    twin.wait_for_more(50);
    twin.down();
    // What a goodbye could not deliver is delivered after the next start.
    agent.wait_for_more(50);
    agent.down();
    for last in [&mut agent, &mut twin] {
        let files = last.commit_files();
        last.up();
        wait_until("its backlog to be stored", PATIENCE, || {
            pass_time(Duration::from_millis(500));
            Verdict::of(&files, &hub.dir).seqs("missing") == 0
        });
        last.down();
    }
    hub.down();
    let all = [agent.commit_files(), twin.commit_files()].concat();
    let verdict = Verdict::of(&all, &hub.dir);
    assert!(verdict.faults().iter().all(|fault| *fault == "missing"), "{verdict:?}");
    agent.verify_outbox();
    twin.verify_outbox();
}
