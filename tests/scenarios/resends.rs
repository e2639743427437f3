//! What a hub asks for again, seen by another's eye on the wire: exactly the missing seqs, on the host's own topic, after
//! two heartbeats, and nothing at a reconnect.

use std::time::Duration;

use holdover::record::{ClockContext, Point, Record, Value};
use holdover::wire::{
    BatchHeader, Chunk, Lane, PendingRange, State, Status, encode_batch, encode_payload, encode_record,
};
use serde_json::Value as Json;

use crate::support::hub::Hub;
use crate::support::lab::{Identity, Lab};
use crate::support::mosquitto::Mosquitto;
use crate::support::sub::Sub;
use crate::support::{PATIENCE, pass_time, wait_until};

/// Longer than what counts as one heartbeat.
const BEAT: Duration = Duration::from_millis(5_300);

struct Stage {
    lab: Lab,
    broker: Mosquitto,
    host: Identity,
    hub: Hub,
    commands: Sub,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        let host = lab.client("edge-01");
        let broker = Mosquitto::start(&lab, "broker");
        let commands = Sub::start(&lab, &broker, "%t|%R|%r|%p", &["v1/+/+/cmd", "v1/_hubs/#"]);
        let mut hub = Hub::new(&lab, broker.port);
        hub.up();
        hub.listening(1);
        Stage { lab, broker, host, hub, commands }
    }

    fn publish(&self, leaf: &str, payload: &[u8], args: &[&str]) {
        let file = self.lab.path("payload");
        std::fs::write(&file, payload).expect("own directory");
        let mut command = self.broker.client("mosquitto_pub", &self.host);
        let topic = format!("v1/lab/edge-01/{leaf}");
        let output = command.args(["-q", "1", "-t", &topic, "-f"]).arg(&file).args(args).output();
        assert!(output.expect("mosquitto_pub starts").status.success());
    }

    fn live(&self, seqs: std::ops::RangeInclusive<u64>) {
        self.publish("m/cpu", &batch(Lane::Live, seqs), &[]);
    }

    fn beat(&self, next: u64, pending: &[(u64, u64)]) {
        self.publish("status", &status(next, pending), &["-r"]);
    }

    /// Everything asked so far: (from, to).
    fn asked(&self) -> Vec<(u64, u64)> {
        let lines = self.commands.lines();
        let asked = lines.iter().filter(|line| line.starts_with("v1/lab/edge-01/cmd|"));
        asked
            .map(|line| {
                let words: Vec<&str> = line.splitn(4, '|').collect();
                assert_eq!(words[1], "v1/lab/edge-01/reply/hub", "the response topic");
                assert_eq!(words[2], "0", "not retained");
                let command: Json = serde_json::from_str(words[3]).expect("a command is JSON");
                assert_eq!((&command["cmd"], &command["epoch"]), (&Json::from("resend"), &Json::from(7)));
                assert!(command["id"].as_str().is_some_and(|id| !id.is_empty() && id.len() <= 64));
                (command["from"].as_u64().expect("a seq"), command["to"].as_u64().expect("a seq"))
            })
            .collect()
    }

    fn wait_for_asked(&mut self, expected: &[(u64, u64)]) {
        wait_until("the hub to ask", PATIENCE, || {
            self.hub.check();
            self.asked().len() >= expected.len()
        });
        assert_eq!(self.asked(), expected);
    }

    fn wait_for_stored(&mut self, count: usize) {
        wait_until("the records to be stored", PATIENCE, || {
            self.hub.check();
            self.hub.stored().records.len() == count
        });
    }
}

fn batch(lane: Lane, seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let context = ClockContext { boot: "boot".into(), synced: true };
    let (host, site, epoch, sent) = ("edge-01", "lab", 7, 1_790_000_000_000);
    let header = BatchHeader { host, site, epoch, context: &context, anchor: None, sent, lane };
    let (first, mut maps, mut count) = (*seqs.start(), Vec::new(), 0);
    for seq in seqs {
        let fields = [("value".into(), Value::Int(seq as i64))].into();
        let (name, tags) = ("system.cpu".into(), Default::default());
        let point = Point { ts: sent, mono: 1, name, tags, fields, error: None };
        encode_record(&Record::new(seq, point), &mut maps);
        count += 1;
    }
    let chunk = Chunk { epoch, first, count, context: context.clone(), maps: maps.into() };
    encode_batch(&header, &[], std::slice::from_ref(&chunk))
}

fn status(next_seq: u64, pending: &[(u64, u64)]) -> Vec<u8> {
    encode_payload(&Status {
        v: 1,
        state: State::Online,
        session: "s1".into(),
        host: "edge-01".into(),
        site: "lab".into(),
        sent: 1_790_000_000_000,
        version: "0.1.0".into(),
        epoch: 7,
        next_seq,
        pending: pending.iter().map(|&(from, to)| PendingRange { epoch: 7, from, to }).collect(),
        backlog: 0,
        oldest: None,
        eta_s: None,
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    })
}

#[test]
fn exactly_the_missing_seqs_are_asked_for_after_two_heartbeats() {
    let mut stage = Stage::new();
    stage.live(1..=4);
    stage.live(7..=9);
    stage.live(14..=20);
    // 5 and 6 are stolen, 10..=13 the host still has, 21 and 22 are a stolen tail.
    stage.beat(23, &[(10, 13)]);
    pass_time(BEAT);
    assert_eq!(stage.asked(), [], "one heartbeat proves nothing");
    let gaps = stage.hub.output(&["gaps"]);
    assert_eq!(gaps.status.code(), Some(1));
    let said = String::from_utf8_lossy(&gaps.stdout).into_owned();
    assert!(said.contains("missing  edge-01 seq 5..=6") && said.contains("pending  edge-01 seq 10..=13"), "{said}");
    stage.beat(23, &[(10, 13)]);
    stage.wait_for_asked(&[(5, 6)]);
    // The answer brings the next question at once.
    stage.publish("h", &batch(Lane::History, 5..=6), &[]);
    stage.wait_for_asked(&[(5, 6), (21, 22)]);
    // What is not answered is asked again a heartbeat later.
    pass_time(BEAT);
    stage.beat(23, &[]);
    stage.wait_for_asked(&[(5, 6), (21, 22), (21, 22)]);
    stage.publish("h", &batch(Lane::History, 21..=22), &[]);
    stage.publish("h", &batch(Lane::History, 10..=13), &[]);
    stage.wait_for_stored(22);
    pass_time(BEAT);
    stage.beat(23, &[]);
    assert_eq!(stage.hub.output(&["gaps"]).status.code(), Some(0));
    // By hand: of what is here as well.
    let output = stage.hub.output(&["resend", "edge-01", "3-4"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stage.wait_for_asked(&[(5, 6), (21, 22), (21, 22), (3, 4)]);
    stage.hub.down();
    assert_eq!(stage.hub.output(&["resend", "edge-01", "3-4"]).status.code(), Some(69), "no hub runs");
}

#[test]
fn neither_a_restart_nor_a_reconnect_asks_for_anything() {
    let mut stage = Stage::new();
    stage.live(1..=4);
    stage.live(7..=9);
    stage.beat(10, &[]);
    stage.wait_for_stored(7);
    for restart in 1..=3 {
        pass_time(BEAT);
        match restart {
            1 => {
                stage.hub.down();
                stage.hub.up();
            }
            2 => {
                stage.hub.kill();
                stage.hub.up();
            }
            _ => {
                stage.broker.stop();
                stage.broker.up();
            }
        }
        stage.hub.listening(restart + 1);
    }
    pass_time(Duration::from_secs(2));
    assert_eq!(stage.asked(), [], "the retained status is no heartbeat");
    stage.beat(10, &[]);
    pass_time(BEAT);
    assert_eq!(stage.asked(), []);
    stage.beat(10, &[]);
    stage.wait_for_asked(&[(5, 6)]);
    stage.hub.down();
}

#[test]
fn the_workers_state_is_retained_and_its_will_says_offline() {
    let mut stage = Stage::new();
    let states = |stage: &Stage| -> Vec<(String, String)> {
        let lines = stage.commands.lines();
        let of_ours = lines.iter().filter_map(|line| line.strip_prefix("v1/_hubs/hub/w0/state|"));
        of_ours
            .map(|line| {
                let said: Json = serde_json::from_str(line.rsplit_once('|').expect("four words").1).expect("JSON");
                let word = |name: &str| said[name].as_str().expect("a word").to_owned();
                (word("state"), word("session"))
            })
            .collect()
    };
    let wait_for = |stage: &Stage, count: usize| {
        wait_until("the worker's state", PATIENCE, || states(stage).len() >= count);
        states(stage)
    };
    assert_eq!(wait_for(&stage, 1)[0].0, "online");
    stage.hub.kill();
    let killed = wait_for(&stage, 2);
    assert_eq!(killed[1], ("offline".to_owned(), killed[0].1.clone()), "the will of that connection");
    stage.hub.up();
    let again = wait_for(&stage, 3);
    assert!(again[2].0 == "online" && again[2].1 != killed[0].1, "each connection has its own session");
    stage.hub.down();
    assert_eq!(wait_for(&stage, 4)[3], ("offline".to_owned(), again[2].1.clone()));
}
