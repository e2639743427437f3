//! `holdover-hub ingest` on a real broker: every committed record once in its files, whoever is killed (P4), and
//! acknowledgements that never run ahead of the files.

use std::path::Path;
use std::time::Duration;

use holdover::wire::Lane;
use serde_json::Value as Json;

use crate::support::agent::{Agent, burst, trickle};
use crate::support::hub::{Hub, Stored};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::random::Random;
use crate::support::said::batch;
use crate::support::sub::Sub;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, read_lossy, wait_until};

/// Every committed record is stored, once.
fn wait_for_all(hub: &mut Hub, agent: &mut Agent) {
    hub.wait_until_stored(agent, PATIENCE * 2);
    assert_once(hub);
}

fn assert_once(hub: &Hub) {
    let stored = hub.stored();
    let twice = stored.twice();
    assert!(twice.is_empty(), "{} records are stored twice: {:?} ...", twice.len(), &twice[..twice.len().min(5)]);
}

#[test]
fn every_committed_record_is_stored_once() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.args = ["--housekeeping", "* * * * * *"].map(str::to_owned).to_vec();
    hub.up();
    hub.listening(1);
    let mut witness = Witness::beside(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(500);
    witness.wait_for_all(&mut agent, PATIENCE);
    wait_for_all(&mut hub, &mut agent);
    let hosts = hub.json(&["hosts", "--json"]);
    assert_eq!(hosts["hosts"][0]["host"], "edge-01");
    assert_eq!(hosts["hosts"][0]["missing"], 0);
    assert_eq!(hub.output(&["gaps"]).status.code(), Some(0));
    let audits = || std::fs::read_dir(hub.dir.join("audit")).into_iter().flatten().flatten().count();
    wait_until("an audit", PATIENCE, || audits() >= 2);
    agent.down();
    hub.down();
    assert_once(&hub);
    let stored = hub.stored();
    assert!(stored.torn.is_empty());
    let seqs = stored.records.len() as u64;
    let offline = hub.json(&["hosts", "--json"]);
    assert_eq!(offline["hosts"][0]["stored"], seqs, "the file says the same when no hub runs");
    assert_eq!(offline["hosts"][0]["upto"], seqs);
    assert_eq!(offline["hosts"][0]["state"], "offline");
}

/// These acknowledgements are covered by the files.
pub fn assert_acks_stored(said: &[String], stored: &Stored) {
    let known = |epoch: u64, seq: u64| stored.has("edge-01", (epoch, seq));
    for line in said {
        let ack: Json = serde_json::from_str(line).expect("an ack is JSON");
        let (epoch, upto) = (ack["epoch"].as_u64().expect("an epoch"), ack["upto"].as_u64().expect("a seq"));
        assert!((1..=upto).all(|seq| known(epoch, seq)), "{line} is ahead of the files");
        let ranges = ack["ranges"].as_array().expect("ranges");
        let ends = |range: &Json| (range[0].as_u64().expect("a seq"), range[1].as_u64().expect("a seq"));
        assert!(ranges.iter().map(ends).all(|(from, to)| (from..=to).all(|seq| known(epoch, seq))), "{line}");
    }
}

/// The acknowledgements that were published so far are covered by what the ledger and the files hold of it.
fn assert_acks_within(hub: &Hub, acks: &Sub) -> usize {
    let said = acks.lines();
    let hosts = hub.json(&["hosts", "--json"]);
    assert_acks_stored(&said, &hub.stored());
    for line in &said {
        let ack: Json = serde_json::from_str(line).expect("an ack is JSON");
        let (epoch, upto) = (ack["epoch"].as_u64().expect("an epoch"), ack["upto"].as_u64().expect("a seq"));
        if hosts["hosts"][0]["epoch"] == epoch {
            assert!(hosts["hosts"][0]["upto"].as_u64() >= Some(upto), "{line} is ahead of the ledger");
        }
    }
    said.len()
}

#[test]
fn killed_hub_stores_every_record_once() {
    let mut random = Random::new("killed_hub_stores_every_record_once");
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let acks = Sub::start(&lab, &broker, "%p", &["v1/+/+/ack/hub"]);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    for _ in 0..40 {
        pass_time(Duration::from_millis(random.within(50..900)));
        hub.check();
        hub.kill();
        assert_acks_within(&hub, &acks);
        pass_time(Duration::from_millis(random.within(0..200)));
        hub.up();
    }
    agent.wait_for_more(100);
    wait_for_all(&mut hub, &mut agent);
    agent.down();
    hub.down();
    assert_once(&hub);
    assert!(hub.stored().torn.is_empty());
    let acknowledged = assert_acks_within(&hub, &acks);
    assert!(acknowledged > 2, "only {acknowledged} acknowledgements were seen");
    eprintln!("{} records in {} files, {acknowledged} acks", hub.stored().records.len(), hub.stored().files);
}

/// A backup put back, by somebody who means well. Files are closed often, so that it is about several.
#[test]
fn an_older_ledger_put_back_costs_no_acknowledged_record_and_none_is_stored_twice() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.args = vec!["--file-age".to_owned(), "1s".to_owned()];
    hub.up();
    hub.listening(1);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.up();
    agent.wait_for_more(50);
    wait_for_all(&mut hub, &mut agent);
    hub.down();
    let (ledger, copy) = (hub.dir.join("ledger.redb"), lab.path("backup.redb"));
    std::fs::copy(&ledger, &copy).expect("a backup");
    let before = hub.stored();
    let acks = Sub::start(&lab, &broker, "%p", &["v1/+/+/ack/hub"]);
    hub.up();
    agent.wait_for_more(200);
    wait_for_all(&mut hub, &mut agent);
    hub.down();
    let since = hub.stored();
    assert!(since.files > before.files + 1, "only {} files: this has tested nothing", since.files);
    assert!(assert_acks_within(&hub, &acks) > 0);
    std::fs::copy(&copy, &ledger).expect("the backup put back");
    hub.up();
    agent.wait_for_more(50);
    wait_for_all(&mut hub, &mut agent);
    agent.down();
    hub.down();
    let after = hub.stored();
    assert!(since.records.keys().all(|key| after.records.contains_key(key)), "records are gone");
    assert_once(&hub);
    assert_acks_within(&hub, &acks);
    assert_eq!(hub.output(&["gaps"]).status.code(), Some(0));
    eprintln!(
        "{}, {}, {} records; {} files",
        before.records.len(),
        since.records.len(),
        after.records.len(),
        after.files
    );
}

/// What a host can bring about is said now and then, and libraries speak to those who ask.
#[test]
fn the_log_is_the_hubs_own_and_a_noisy_host_does_not_fill_it() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.verbose = false;
    hub.up();
    hub.listening(1);
    let host = lab.client("edge-01");
    for epoch in 1..=80 {
        broker.publish(&lab, &host, "v1/lab/edge-01/m/cpu", &batch("edge-01", epoch, Lane::Live, 1..=3), &[]);
    }
    wait_until("all of it to be stored", PATIENCE, || hub.stored().records.len() == 240);
    hub.down();
    let log = read_lossy(&hub.log);
    for what in ["the host has a new outbox", "more epochs than the ledger keeps"] {
        assert!((1..=4).contains(&log.matches(what).count()), "{what}: {log}");
    }
    assert!(!log.contains("Uninited") && !log.contains("Job creator created"), "{log}");
    hub.verbose = true;
    hub.up();
    hub.listening(2);
    hub.down();
    assert!(read_lossy(&hub.log).contains("tokio_cron_scheduler"), "and with --verbose it is there");
}

#[test]
fn killed_agent_leaves_no_duplicate_in_the_files() {
    let mut random = Random::new("killed_agent_leaves_no_duplicate_in_the_files");
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    hub.up();
    hub.listening(1);
    let mut witness = Witness::beside(&lab, broker.port, "edge-01");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    for _ in 0..15 {
        agent.up();
        pass_time(Duration::from_millis(random.within(300..1_500)));
        agent.kill();
    }
    agent.up();
    agent.wait_for_more(50);
    witness.wait_for_all(&mut agent, PATIENCE);
    wait_for_all(&mut hub, &mut agent);
    agent.down();
    assert_once(&hub);
    witness.assert_sound(&mut agent);
    assert!(witness.received.duplicates() > 0, "nothing was sent twice: this has tested nothing");
    assert_eq!(hub.output(&["gaps", "edge-01"]).status.code(), Some(0));
    hub.down();
}

/// The tmpfs is in a mount namespace of the hub's own, as in `full_disk`.
#[test]
fn full_disk_stops_acknowledgements_and_not_the_hub() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut hub = Hub::new(&lab, broker.port);
    let mount = format!("mount -t tmpfs -o size=6m none '{}' && exec \"$@\"", hub.dir.display());
    match rustix::process::geteuid().is_root() {
        true => hub.wrap(&["unshare", "--mount", "sh", "-c", &mount, "sh"]),
        false => hub.wrap(&["unshare", "--mount", "--map-root-user", "sh", "-c", &mount, "sh"]),
    }
    hub.args = vec!["--file-mib".to_owned(), "1".to_owned()];
    hub.up();
    hub.listening(1);
    let acks = Sub::start(&lab, &broker, "%p", &["v1/+/+/ack/hub"]);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.uplink = "history_rate = \"20MB\"\nhistory_batches = 500\n".to_owned();
    agent.setup.collectors = burst(agent.dir(), "flood", 100, 4_000) + &trickle(agent.dir());
    agent.up();
    let inside = Path::new("/proc").join(hub.id().to_string()).join("root");
    let inside = inside.join(hub.dir.strip_prefix("/").expect("an absolute path"));
    let full = |hub: &Hub| read_lossy(&hub.log).matches("the disk is full").count();
    let mut taken = Stored::default();
    for round in 1..=3 {
        wait_until("the hub to meet a full disk", PATIENCE, || {
            hub.check();
            full(&hub) >= round
        });
        let (before, stored) = (acks.lines().len(), Stored::read(&inside).records.len());
        pass_time(Duration::from_secs(3));
        hub.check();
        assert!(Stored::read(&inside).records.len() <= stored + 100, "it goes on storing on a full disk");
        eprintln!("round {round}: {stored} records stored when full, {before} acknowledgements");
        taken.take_final_files(&inside);
    }
    agent.silence("flood");
    agent.wait_for_more(50);
    agent.update_commits();
    let mut absent: Vec<_> = agent.runs.iter().flat_map(|run| run.list.iter().map(|(key, _)| *key)).collect();
    wait_until("everything to be stored", PATIENCE, || {
        hub.check();
        let mut all = Stored::read(&inside);
        all.merge(&taken);
        assert!(all.twice().is_empty(), "stored twice: {:?}", all.twice());
        absent.retain(|key| !all.has("edge-01", *key));
        taken.take_final_files(&inside);
        absent.is_empty()
    });
    agent.down();
    hub.down();
}
