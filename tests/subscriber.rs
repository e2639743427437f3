//! The example subscribers of `schemas/examples/`, run as its readers would: over mutual TLS against mosquitto.

use std::path::Path;
use std::process::Command;

use holdover::record::{ClockContext, Fields, Name, Point, Record, Tags, Value};
use holdover::wire::{
    BatchHeader, Chunk, Lane, Loss, LossReason, PendingRange, State, Status, TopicScheme, encode_batch, encode_payload,
    encode_record, transcode_json,
};
use serde_json::{Value as Json, json};

use crate::support::child::Running;
use crate::support::lab::{Identity, Lab};
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, python, read_lossy, root, wait_until};

const EPOCH: u64 = 5_123_456_789_012_345;

fn batch(lane: Lane, seqs: &[u64], losses: &[Loss]) -> Vec<u8> {
    let context = ClockContext { boot: "boot-1".into(), synced: true };
    let chunk = |seq: u64| {
        let fields = Fields::from([(Name::from("value"), Value::Float(seq as f64))]);
        let point = Point { ts: 1_790_000_000_000, mono: 5, name: "n".into(), tags: Tags::new(), fields, error: None };
        let mut maps = Vec::new();
        encode_record(&Record::new(seq, point), &mut maps);
        Chunk { epoch: EPOCH, first: seq, count: 1, context: context.clone(), maps: maps.into() }
    };
    let chunks: Vec<_> = seqs.iter().map(|seq| chunk(*seq)).collect();
    let header = BatchHeader {
        host: "edge-01",
        site: "plant-a",
        epoch: EPOCH,
        context: &context,
        anchor: None,
        sent: 1_790_000_000_123,
        lane,
    };
    encode_batch(&header, losses, &chunks)
}

fn heartbeat() -> Vec<u8> {
    encode_payload(&Status {
        v: 1,
        state: State::Online,
        session: "s1".into(),
        host: "edge-01".into(),
        site: "plant-a".into(),
        sent: 1_790_000_000_123,
        version: "0".into(),
        epoch: EPOCH,
        next_seq: 14,
        pending: vec![PendingRange { epoch: EPOCH, from: 9, to: 10 }],
        backlog: 2,
        oldest: None,
        eta_s: None,
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    })
}

fn publish(broker: &Mosquitto, who: &Identity, lab: &Lab, topic: &str, payload: &[u8]) {
    let file = lab.path("payload");
    std::fs::write(&file, payload).expect("own directory");
    let mut command = broker.client("mosquitto_pub", who);
    let output = command.args(["-q", "1", "-t", topic]).arg("-f").arg(&file).output().expect("mosquitto_pub starts");
    assert!(output.status.success(), "{topic}: {}", String::from_utf8_lossy(&output.stderr));
}

fn lines(path: &Path) -> Vec<Json> {
    let text = read_lossy(path);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn least_subscriber_prints_each_record_once_and_the_gap() {
    prints_each_record_once_and_the_gap("subscriber.py");
}

#[test]
fn durable_subscriber_prints_each_record_once_and_the_gap() {
    prints_each_record_once_and_the_gap("durable_subscriber.py");
}

fn prints_each_record_once_and_the_gap(example: &str) {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let (hub, host) = (lab.client("hub"), lab.client("edge-01"));
    let (out, log) = (lab.path("lines"), lab.path("subscriber.log"));
    let mut command = Command::new(python::with_modules(&["msgpack", "paho.mqtt", "zstandard"]));
    command.arg(root().join("schemas/examples").join(example)).args(["localhost", &broker.port.to_string()]);
    command.arg(lab.ca()).arg(&hub.cert).arg(&hub.key);
    let mut subscriber = Running::start_split(example, &mut command, &out, &log);
    wait_until("the example to subscribe", PATIENCE, || {
        subscriber.assert_running();
        read_lossy(&log).contains("subscribed")
    });

    let topics = TopicScheme::new("", "plant-a", "edge-01").expect("good names");
    let lost = Loss { epoch: EPOCH, from: 7, to: Some(8), count: 2, reason: LossReason::Quota, t0: 0, t1: 0 };
    let unknown = Loss { from: 11, to: None, reason: LossReason::Epoch, ..lost.clone() };
    let messages = [
        (topics.live("cpu"), batch(Lane::Live, &[1, 2], &[])),
        (topics.history(), zstd::bulk::compress(&batch(Lane::History, &[2, 3], &[]), 1).expect("into memory")),
        (topics.history(), transcode_json(&batch(Lane::History, &[5], &[])).expect("our own batch")),
        (topics.live("cpu"), batch(Lane::Live, &[6], &[])),
        (topics.history(), batch(Lane::History, &[], &[lost, unknown])),
        (topics.status(), heartbeat()),
        (topics.status(), br#"{"state":"offline","session":"s0"}"#.to_vec()),
        (topics.status(), heartbeat()),
    ];
    for (topic, payload) in messages {
        publish(&broker, &host, &lab, topic.as_str(), &payload);
    }

    wait_until("the gap to be printed", PATIENCE, || {
        subscriber.assert_running();
        lines(&out).iter().any(|line| line.get("gap").is_some())
    });
    let lines = lines(&out);
    let (gaps, records): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.get("gap").is_some());
    assert_eq!(
        gaps,
        [&json!({"gap": 4, "host": "edge-01", "epoch": EPOCH})],
        "7, 8 and all from 11 on are declared, 9 and 10 pending"
    );
    let seqs: Vec<_> = records.iter().map(|line| line["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs, [1, 2, 3, 5, 6]);
    assert_eq!(records[2]["lane"], "history");
    assert_eq!(records[2]["fields"], json!({"value": 3.0}));
}
