//! A configuration that changes under a running agent: validated, then swapped; refused without harm; nothing that runs,
//! waits or is connected is touched.

use serde_json::Value;

use rustix::process::Signal;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::sub::Sub;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, read_lossy, wait_for, wait_until};

use std::time::Duration;

fn collector(agent: &Agent, name: &str) -> Option<Value> {
    let status = agent.status();
    let all = status["collectors"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|entry| entry["name"] == name)
}

fn script(name: &str, command: &str, when: &str) -> String {
    format!("[[collector]]\nname = {name:?}\nexec = [\"/bin/sh\", \"-c\", {command:?}]\n{when}\ntimeout = \"5m\"\n\n")
}

const ECHO: &str = "echo 'tick n=1i'";

fn started(lab: &Lab, broker: &Mosquitto) -> Agent {
    let mut agent = Agent::new(lab, "edge-01", broker.port);
    let slow =
        format!("touch {0}/began; while [ ! -e {0}/go ]; do sleep 0.1; done; echo 'slow n=1i'", agent.dir().display());
    agent.setup.collectors = script("slow", &slow, "every = \"1s\"")
        + &script("kept", ECHO, "every = \"1s\"")
        + &script("gone", ECHO, "every = \"1s\"");
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    wait_until("the slow script to run", PATIENCE, || agent.dir().join("began").exists());
    wait_until("a run of each", PATIENCE, || {
        ["kept", "gone"].iter().all(|name| collector(&agent, name).is_some_and(|c| c["runs"].as_u64() > Some(0)))
    });
    agent
}

/// By signal: collectors come, go and change while a script of one that goes is running.
#[test]
fn collectors_are_swapped_and_nothing_that_runs_is_touched() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let meta = Sub::start(&lab, &broker, "%p", &["v1/+/+/meta"]);
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = started(&lab, &broker);
    let (before, connections) = (collector(&agent, "kept").expect("it is there"), agent.status()["connection"].clone());

    agent.setup.collectors = script("kept", ECHO, "every = \"1s\"") + &script("fresh", ECHO, "cron = \"* * * * * ?\"");
    // Any command writes the file anew.
    agent.output(&["check-config"]);
    agent.signal(Signal::HUP);
    wait_until("the new one to run", PATIENCE, || {
        agent.check();
        collector(&agent, "fresh").is_some_and(|c| c["runs"].as_u64() > Some(0))
    });
    assert!(collector(&agent, "gone").is_none() && collector(&agent, "slow").is_none());
    let kept = collector(&agent, "kept").expect("it is there");
    assert!(kept["runs"].as_u64() >= before["runs"].as_u64(), "its account goes on: {before} {kept}");
    wait_until("the new schedules to be published", PATIENCE, || {
        meta.lines().last().is_some_and(|meta| meta.contains("\"fresh\"") && !meta.contains("\"gone\""))
    });
    let config = &agent.status()["config"];
    assert_eq!((&config["refused"], &config["restart"]), (&Value::Null, &serde_json::json!([])));

    std::fs::write(agent.dir().join("go"), "").expect("own directory");
    let export = || String::from_utf8_lossy(&agent.output(&["outbox", "export"]).stdout).into_owned();
    wait_until("the slow script of a collector that is no more to be recorded", PATIENCE, || {
        export().contains("\"slow\"")
    });
    let line = export().lines().find(|line| line.contains("\"slow\"")).map(str::to_owned).expect("just seen");
    assert!(line.contains("\"ok\""), "it ended by itself: {line}");
    let now = agent.status()["connection"].clone();
    assert_eq!(now["connections"], connections["connections"], "the connection was touched");
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    agent.verify_outbox();
}

/// By the files alone: a bad one is refused and told, a good one after it is taken, and what needs a restart is named.
#[test]
fn a_bad_configuration_is_refused_and_its_correction_is_noticed() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut agent = started(&lab, &broker);
    let good = agent.setup.collectors.clone();
    let status = |agent: &Agent, part: &str| agent.status()["config"][part].clone();
    let hash = status(&agent, "hash");

    agent.setup.collectors =
        good.clone() + "[[collector]]\nname = \"bad\"\nexec = [\"/bin/true\"]\ncron = \"* * * * *\"\n";
    agent.output(&["check-config"]);
    let refused = wait_for("the refusal", PATIENCE, || {
        pass_time(Duration::from_millis(200));
        status(&agent, "refused").as_str().map(str::to_owned)
    });
    assert!(refused.contains("has 5 fields") && refused.contains("holdover.toml:"), "{refused}");
    assert_eq!(status(&agent, "hash"), hash, "the former one stays in force");
    assert!(agent.status()["status"]["problems"].to_string().contains("the former one stays in force"));
    let runs = collector(&agent, "kept").expect("it is there")["runs"].as_u64();
    wait_until("the former one to go on", PATIENCE, || {
        collector(&agent, "kept").expect("there")["runs"].as_u64() > runs
    });

    agent.setup.collectors = good + &script("fresh", ECHO, "every = \"1s\"");
    agent.setup.max_bytes = "32MiB".to_owned();
    agent.output(&["check-config"]);
    wait_until("the correction to be noticed", PATIENCE, || {
        agent.check();
        collector(&agent, "fresh").is_some_and(|c| c["runs"].as_u64() > Some(0))
    });
    assert_eq!(
        (status(&agent, "refused"), status(&agent, "restart")),
        (Value::Null, serde_json::json!(["outbox.max_bytes"]))
    );
    let problems = agent.status()["status"]["problems"].to_string();
    assert!(problems.contains("restart the agent to put in force: outbox.max_bytes"), "{problems}");
    std::fs::write(agent.dir().join("go"), "").expect("own directory");
    agent.down();
    let log = read_lossy(&agent.log);
    assert!(log.contains("refused, the former one stays in force"), "{log}");
}

/// Nothing runs in a window, everything due in it is counted, and one record tells how many when it is taken away.
#[test]
fn a_blackout_takes_runs_counts_them_and_is_lifted_by_a_reload() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    let (dark, lit) = (script("dark", ECHO, "every = \"1s\""), script("lit", ECHO, "every = \"1s\""));
    let window = "[[blackout]]\nname = \"always\"\ncron = \"* * * * * ?\"\nlasts = \"1h\"\ncollectors = [\"dark\"]\n";
    agent.setup.collectors = format!("{dark}{lit}{window}");
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    wait_until("three runs to be taken", PATIENCE, || {
        collector(&agent, "dark").is_some_and(|c| c["missed"].as_u64() > Some(2))
    });
    let before = collector(&agent, "dark").expect("it is there");
    assert_eq!(before["runs"], 0, "{before}");
    assert!(collector(&agent, "lit").is_some_and(|c| c["runs"].as_u64() > Some(0)));

    agent.setup.collectors = format!("{dark}{lit}");
    agent.output(&["check-config"]);
    agent.signal(Signal::HUP);
    wait_until("it to run", PATIENCE, || collector(&agent, "dark").is_some_and(|c| c["runs"].as_u64() > Some(0)));
    let missed = collector(&agent, "dark").expect("it is there")["missed"].clone();
    agent.down();
    let export = String::from_utf8_lossy(&agent.output(&["outbox", "export"]).stdout).into_owned();
    let told: Vec<Value> = export.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told: Vec<&Value> =
        told.iter().filter(|r| r["name"] == "holdover.collector.missed" && r["tags"]["reason"] == "blackout").collect();
    assert_eq!(told.len(), 1, "one record for the window: {told:?}");
    let others: u64 = export.lines().filter(|l| l.contains("\"overlap\"") && l.contains("\"dark\"")).count() as u64;
    assert_eq!(told[0]["fields"]["count"].as_u64().map(|n| n + others), missed.as_u64(), "{told:?}");
}
