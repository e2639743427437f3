//! An agent beyond its own limits: it does less by stages, says so everywhere, loses no count, and comes back.

use serde_json::Value;

use rustix::process::Signal;

use crate::support::agent::{Agent, burst};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::sub::Sub;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, read_lossy, wait_until};

const LOW: &str = "max_memory = \"64KiB\"\nlimits_window = \"1s\"\nshed = [\"named\"]\n";
const HIGH: &str = "max_memory = \"4GiB\"\nlimits_window = \"1s\"\nshed = [\"named\"]\n";

fn collector(agent: &Agent, name: &str) -> Value {
    let status = agent.status();
    let all = status["collectors"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|entry| entry["name"] == name).unwrap_or_default()
}

fn number(entry: &Value, key: &str) -> u64 {
    entry[key].as_u64().unwrap_or_else(|| panic!("no {key} in {entry}"))
}

fn stage(agent: &Agent) -> u64 {
    number(&agent.status()["limits"], "stage")
}

fn records(agent: &Agent) -> Vec<Value> {
    let export = agent.output(&["outbox", "export"]).stdout;
    String::from_utf8_lossy(&export).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn configured(lab: &Lab, broker: &Mosquitto, limits: &str) -> Agent {
    let mut agent = Agent::new(lab, "edge-01", broker.port);
    let script = |name: &str| {
        format!(
            "[[collector]]\nname = {name:?}\nexec = [\"/bin/sh\", \"-c\", \"echo '{name} n=1i'\"]\nevery = \"1s\"\n\n"
        )
    };
    let own = "[[collector]]\nname = \"self\"\nuse = \"agent\"\nevery = \"1s\"\n\n";
    agent.setup.collectors = script("kept") + &script("named") + own;
    agent.setup.sections = limits.to_owned();
    agent
}

/// Everything that was due is a run or was missed, and what was missed is in records, by reason.
fn assert_accounted(before_stop: &[(String, Value)], records: &[Value]) {
    for (name, entry) in before_stop {
        let of = |reason: &str| -> u64 {
            let told = records.iter().filter(|r| r["name"] == "holdover.collector.missed");
            let told = told.filter(|r| r["tags"]["collector"] == **name && r["tags"]["reason"] == reason);
            told.map(|r| number(&r["fields"], "count")).sum()
        };
        let (shed, missed) = (of("shed"), of("shed") + of("overlap") + of("late") + of("suspend"));
        assert!(shed >= number(entry, "shed"), "{name}: {shed} told of {entry}");
        assert!(missed >= number(entry, "missed"), "{name}: {missed} told of {entry}");
        let made = records.iter().filter(|r| r["name"] == **name).count() as u64;
        assert!(made >= number(entry, "runs"), "{name}: {made} records of {entry}");
    }
}

#[test]
fn an_agent_beyond_its_memory_sheds_load_by_stages_and_recovers_under_another_limit() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let status = Sub::start(&lab, &broker, "%p", &["v1/+/+/status"]);
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = configured(&lab, &broker, LOW);
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    wait_until("the last stage", PATIENCE, || {
        agent.check();
        stage(&agent) == 3
    });
    let limits = agent.status()["limits"].clone();
    assert!(number(&limits, "memory") > number(&limits, "max_memory"), "{limits}");
    assert_eq!(limits["off"], serde_json::json!(["named"]));
    let (named, own) = (collector(&agent, "named"), collector(&agent, "self"));
    wait_until("eight runs to be shed", PATIENCE, || number(&collector(&agent, "kept"), "shed") >= 8);
    wait_until("the agent's own collector to go on", PATIENCE, || {
        number(&collector(&agent, "self"), "runs") > number(&own, "runs") + 3
    });
    let later = collector(&agent, "named");
    assert!(number(&later, "shed") > number(&named, "shed"), "{later}");
    // One may have been going when it was turned off.
    assert!(number(&later, "runs") <= number(&named, "runs") + 1, "it is off: {named} {later}");
    assert_eq!(collector(&agent, "self")["shed"], 0);
    let said = String::from_utf8_lossy(&agent.output(&["status"]).stdout).into_owned();
    assert!(said.contains("agent.max_memory is 0.1 MiB: stage 3 of 3") && said.contains("named off"), "{said}");
    wait_until("the status topic to say so", PATIENCE, || {
        status.lines().iter().any(|line| line.contains("stage 3 of 3"))
    });

    agent.setup.sections = HIGH.to_owned();
    agent.output(&["check-config"]);
    agent.signal(Signal::HUP);
    wait_until("another limit to be in force", PATIENCE, || {
        agent.check();
        agent.status()["limits"]["max_memory"] == 4_u64 << 30
    });
    assert!(stage(&agent) > 0, "the stage outlives a reload");
    wait_until("nothing to be shed", PATIENCE, || stage(&agent) == 0);
    assert!(!agent.status()["status"]["problems"].to_string().contains("max_memory"));
    let (kept, named) = (collector(&agent, "kept"), collector(&agent, "named"));
    wait_until("everything to run again", PATIENCE, || {
        let runs = |name: &str, before: &Value| number(&collector(&agent, name), "runs") > number(before, "runs") + 3;
        runs("kept", &kept) && runs("named", &named)
    });
    assert_eq!(collector(&agent, "kept")["shed"], kept["shed"]);
    let entries = ["kept", "named"].map(|name| (name.to_owned(), collector(&agent, name)));
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    agent.verify_outbox();

    let records = records(&agent);
    assert_accounted(&entries, &records);
    let events: Vec<&Value> = records.iter().filter(|r| r["name"] == "holdover.event").collect();
    let stages: Vec<(&str, u64)> = events
        .iter()
        .map(|e| (e["tags"]["event"].as_str().unwrap_or_default(), number(&e["fields"], "stage")))
        .collect();
    let (up, down) = ("agent-degraded", "agent-recovered");
    assert_eq!(stages, [(up, 1), (up, 2), (up, 3), (down, 2), (down, 1), (down, 0)]);
    assert_eq!((&events[0]["fields"]["resource"], &events[0]["fields"]["limit"]), (&"memory".into(), &65_536.0.into()));
    assert!(events[0]["fields"]["value"].as_f64() > Some(65_536.0), "{}", events[0]);
    assert!(records.iter().any(|r| r["name"] == "holdover.agent" && r["fields"]["stage"] == 3));
    assert!(read_lossy(&agent.log).contains("stage 1 of 3, one of 2 due runs is made"));
}

#[test]
fn a_restart_tells_that_what_an_earlier_process_shed_is_over() {
    let lab = Lab::new();
    let broker = Mosquitto::absent(&lab, "broker");
    let mut agent = configured(&lab, &broker, LOW);
    let stages = |agent: &Agent| -> Vec<u64> {
        let all = records(agent);
        all.iter().filter(|r| r["name"] == "holdover.event").map(|r| number(&r["fields"], "stage")).collect()
    };
    agent.up();
    wait_until("a stage", PATIENCE, || !stages(&agent).is_empty());
    agent.kill();
    let before = stages(&agent);
    agent.setup.sections = HIGH.to_owned();
    agent.up();
    wait_until("its end", PATIENCE, || stages(&agent).len() > before.len());
    agent.down();
    let after = stages(&agent);
    assert_eq!(after[before.len()..], [0], "once: {after:?}");
}

#[test]
fn cpu_time_beyond_its_limit_is_named_with_its_figure() {
    let lab = Lab::new();
    let broker = Mosquitto::absent(&lab, "broker");
    let mut agent = configured(&lab, &broker, "max_memory = \"0B\"\nmax_cpu = 1\nlimits_window = \"1s\"\n");
    agent.setup.collectors += &["a", "b", "c", "d"].map(|name| burst(agent.dir(), name, 900, 40)).concat();
    agent.up();
    let events =
        |agent: &Agent| records(agent).into_iter().filter(|r| r["name"] == "holdover.event").collect::<Vec<_>>();
    wait_until("a stage", PATIENCE, || {
        agent.check();
        !events(&agent).is_empty()
    });
    agent.down();
    let fields = events(&agent)[0]["fields"].clone();
    assert_eq!((&fields["resource"], &fields["limit"]), (&"cpu".into(), &1.0.into()), "{fields}");
    assert!(fields["value"].as_f64() > Some(1.0), "{fields}");
    agent.verify_outbox();
}
