//! docs/migration.md: the tree that the page shows is taken out of the page and run by the real agent, and what the page
//! says about it is held against what the agent says.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::tail::Tail;
use crate::support::{PATIENCE, root, tail_of, wait_until};

/// Where the page has the tree.
const PLACE: &str = "/usr/local/agent";

fn page() -> String {
    std::fs::read_to_string(root().join("docs/migration.md")).expect("the page is there")
}

/// Each ``### `path` `` with the block below it.
fn files() -> BTreeMap<String, String> {
    let text = page();
    let sections = text.split("\n### `").skip(1).map(|section| {
        let (path, rest) = section.split_once("`\n").expect("a heading");
        let block = rest.split_once("```").expect("a block").1;
        let body = block.split_once('\n').expect("its first line").1;
        (path.to_owned(), body.split_once("```").expect("its end").0.to_owned())
    });
    sections.collect()
}

/// The tree in `dir`; the text of its holdover.toml for there.
fn lay(dir: &Path) -> String {
    let mut files = files();
    let toml = files.remove("holdover.toml").expect("the page has one");
    assert_eq!(files.len(), 7, "{:?}", files.keys());
    for (name, text) in files {
        let path = dir.join(&name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("own directory");
        std::fs::write(&path, text).expect("own directory");
        if !name.starts_with("conf/") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("own file");
        }
    }
    toml.replace(PLACE, &dir.to_string_lossy())
}

/// The line of the page that begins so, in single blanks and with the directory of the test.
fn page_line(start: &str, dir: &Path) -> String {
    let text = page();
    let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} is in the page"));
    squeeze(line).replace(PLACE, &dir.to_string_lossy())
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_page_is_true_of_check_config(agent: &Agent, dir: &Path) {
    let checked = agent.output(&["check-config"]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaints) = (text(&checked.stdout), text(&checked.stderr));
    assert_eq!(checked.status.code(), Some(1), "a line is left out: {complaints}");
    let said: Vec<String> = said.lines().map(squeeze).collect();
    for collector in ["sampler    ", "sampler-2 ", "disk  ", "queue  ", "report  "] {
        let line = page_line(collector, dir);
        assert!(said.contains(&line), "{line:?} is not in:\n{}", said.join("\n"));
    }
    let damaged = page_line("/usr/local/agent/conf/user:4:1:", dir);
    assert!(complaints.contains(&damaged), "{damaged}\n{complaints}");
}

fn has(records: &[Value], collector: &str, fields: &[(&str, Value)], tags: &[(&str, &str)]) -> bool {
    records.iter().any(|record| {
        record["topic"].as_str().is_some_and(|topic| topic.ends_with(&format!("/m/{collector}")))
            && record["status"] == "ok"
            && fields.iter().all(|(name, value)| record["fields"][name] == *value)
            && tags.iter().all(|(name, value)| record["tags"][name] == *value)
    })
}

#[test]
fn the_tree_of_the_migration_page_runs_as_the_page_says() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let tail = Tail::start(&lab, &broker, &["--json"]);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    let dir = lab.path("old");
    agent.setup.collectors = lay(&dir);
    assert_page_is_true_of_check_config(&agent, &dir);

    agent.up();
    let said = || tail.said();
    let seen = || -> Vec<Value> { said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    wait_until("records of every line that is due within a minute", PATIENCE * 2, || {
        agent.check();
        let records = seen();
        has(&records, "sampler", &[], &[("what", "load average")])
            && has(&records, "sampler-2", &[], &[])
            && has(&records, "disk", &[("used", 2.into())], &[("side", "user"), ("path", "/")])
            && has(&records, "queue", &[("waiting", 3.into()), ("name", "mail out".into())], &[])
    });
    let status = agent.status();
    assert!(status["status"]["problems"].to_string().contains("conf/user:4"), "{}", status["status"]["problems"]);
    agent.wait_for_log("expected '['");
    agent.down();
    // At half past two in the night: here and now.
    let once = agent.output(&["once", "report"]);
    let report: Value = serde_json::from_slice(&once.stdout).unwrap_or_else(|error| panic!("{error}: {once:?}"));
    assert_eq!(report["tags"]["kind"], "nightly", "{report}; the log ends:\n{}", tail_of(&agent.log, 5));
}
