//! The checks can fail: a proxy takes one committed record out of the stream, the broker acknowledges the rest, and
//! both `tail --fail-on-gap` and the witness must notice. Without the theft the same run must be clean.

use std::collections::BTreeMap;

use crate::support::agent::Agent;
use crate::support::front::{Front, Seen};
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::oracle::{gaps, missing};
use crate::support::tail::Tail;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, wait_until};

const STOLEN: u64 = 60;

struct Outcome {
    missing: Vec<u64>,
    gaps: Vec<u64>,
    tail_code: Option<i32>,
    tail_said: String,
    stolen: bool,
}

/// A run behind the proxy until well after seq 60.
fn run(args: &[&str]) -> Outcome {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let tail = Tail::start(&lab, &broker, &["--fail-on-gap", "--json"]);
    let mut front = Front::absent(&lab, broker.port);
    let mut agent = Agent::new(&lab, "edge-01", front.port);
    front.up(&lab, &agent, args);
    agent.up();
    agent.wait_for_more(150);
    agent.update_commits();
    let last = agent.runs[0].list.last().expect("150 records").0;
    witness.wait("the last record", PATIENCE, |received| received.has(last));
    wait_until("tail to show the last record", PATIENCE, || tail.said().contains(&format!("\"seq\":{}", last.1)));
    agent.down();
    witness.assert_sound(&mut agent);
    let (tail_code, tail_said) = tail.stop();
    Outcome {
        missing: missing(&agent.runs, &witness.received)
            .into_iter()
            .map(|(_, seq)| seq)
            .filter(|s| *s <= last.1)
            .collect(),
        gaps: gaps(&witness.received, &BTreeMap::from([last])).into_iter().map(|(_, seq)| seq).collect(),
        tail_code,
        tail_said,
        stolen: front.seen().contains(&Seen::Dropped),
    }
}

#[test]
fn stolen_record_fails_the_witness_and_tail() {
    let outcome = run(&["--drop-seq", &STOLEN.to_string()]);
    assert!(outcome.stolen, "the proxy saw no record {STOLEN}");
    assert_eq!(outcome.missing, [STOLEN]);
    assert_eq!(outcome.gaps, [STOLEN]);
    let end: String = outcome.tail_said.lines().rev().take(10).collect::<Vec<_>>().join("\n");
    assert!(outcome.tail_code.is_some_and(|code| code != 0), "tail did not fail; it said:\n{end}");
    assert!(outcome.tail_said.contains("gap"), "tail did not name the gap; it said:\n{end}");
}

#[test]
fn run_without_theft_is_clean() {
    let outcome = run(&[]);
    assert!(!outcome.stolen);
    assert_eq!(outcome.missing, Vec::<u64>::new());
    assert_eq!(outcome.gaps, Vec::<u64>::new());
    let end: String = outcome.tail_said.lines().rev().take(10).collect::<Vec<_>>().join("\n");
    assert_eq!(outcome.tail_code, Some(0), "tail found fault; it said:\n{end}");
}
