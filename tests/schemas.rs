//! `schemas/` against the types, against AsyncAPI's own parser and against the golden vectors.
//!
//! `HOLDOVER_BLESS=1` rewrites the generated schemas; the vectors are never rewritten, see vectors.rs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdover::wire::{HubTopics, TopicScheme};
use holdover::{put, wire};

/// What is sent, and what is said over the socket for applications.
fn schemas() -> Vec<(&'static str, serde_json::Value)> {
    wire::schemas().into_iter().chain(put::schemas()).collect()
}

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// Whether what is generated or missing is to be written.
pub fn bless() -> bool {
    std::env::var_os("HOLDOVER_BLESS").is_some_and(|value| value == "1")
}

#[test]
fn schemas_are_those_of_the_types() {
    for (name, schema) in schemas() {
        let path = directory().join(format!("{name}.schema.json"));
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if bless() {
            fs::write(&path, &generated).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(stored, generated, "{} differs: HOLDOVER_BLESS=1 rewrites it", path.display());
    }
}

#[test]
fn no_schema_is_left_over_from_a_type_that_is_gone() {
    let generated: BTreeSet<_> = schemas().iter().map(|(name, _)| format!("{name}.schema.json")).collect();
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stored: BTreeSet<_> = entries.filter(|name| name.ends_with(".schema.json")).collect();
    assert_eq!(stored, generated);
}

#[test]
fn asyncapi_document_and_vectors_are_valid() {
    let tools = installed_tools();
    let output =
        run(Command::new("node").current_dir(&tools).arg("validate.mjs").arg(directory()), "Node.js 20 or newer");
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    let described: BTreeSet<String> = serde_json::from_value(report["addresses"].clone()).unwrap();
    assert_eq!(described, addresses(), "the channels of asyncapi.yaml are the topics that the code builds");
    assert!(report["vectors"].as_u64() >= Some(20), "{report}");
    assert_eq!(report["examples"].as_u64(), Some(put::schemas().len() as u64), "one of each: {report}");
}

/// The addresses that the code builds, with parameters in the place of names.
fn addresses() -> BTreeSet<String> {
    let host = TopicScheme::new("", "SITE", "HOST").expect("valid levels");
    let topics = [
        host.live("COLLECTOR"),
        host.history(),
        host.status(),
        host.meta(),
        host.event(),
        host.cmd(),
        host.ack("HUB"),
        host.reply("HUB"),
        HubTopics::new("").and_then(|hubs| hubs.worker_state("HUB", "WORKER")).expect("valid levels"),
    ];
    let parameters = ["SITE", "HOST", "COLLECTOR", "HUB", "WORKER"];
    let named = |topic: String| {
        let levels = topic.split('/').map(|level| {
            if parameters.contains(&level) { format!("{{{}}}", level.to_lowercase()) } else { level.to_owned() }
        });
        levels.collect::<Vec<_>>().join("/")
    };
    topics.into_iter().map(|topic| named(topic.to_string())).collect()
}

/// The validators with the packages of their lock file, below target/ and installed once per lock file.
fn installed_tools() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/asyncapi");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("asyncapi");
    let lock = fs::read(source.join("package-lock.json")).expect("the lock file is part of the repository");
    fs::create_dir_all(&target).expect("a writable target directory");
    fs::copy(source.join("validate.mjs"), target.join("validate.mjs")).expect("a writable target directory");
    // Written last: its presence says that the packages of this lock file are complete.
    let stamp = target.join("installed.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return target;
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), target.join(file)).expect("a writable target directory");
    }
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(Command::new("npm").current_dir(&target).args(arguments), "npm of Node.js 20 or newer, and its registry");
    fs::write(&stamp, &lock).expect("a writable target directory");
    target
}

/// Standard output of a program that must exist and succeed.
pub fn run(command: &mut Command, needs: &str) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("this test needs {needs}: {command:?}: {error}"));
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs {needs}: {command:?} failed:\n{problems}");
    output.stdout
}
