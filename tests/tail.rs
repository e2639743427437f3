//! `holdover-hub tail` as a user runs it, on a real mosquitto over mutual TLS. Envelopes are those of the product's
//! own encoder; `mosquitto_pub` brings them, so that nothing of the agent is needed.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use holdover::record::{ClockContext, Point, Record, Value};
use holdover::wire::{
    BatchHeader, Chunk, Lane, Loss, LossReason, PendingRange, State, Status, encode_batch, encode_payload,
    encode_record,
};
use serde_json::Value as Json;

use crate::support::child::Running;
use crate::support::lab::{Identity, Lab};
use crate::support::mosquitto::Mosquitto;
use crate::support::{PATIENCE, free_port, pass_time, read_lossy, wait_for, wait_until};

/// A broker, a host's certificate to publish with, and tail as the user `viewer`.
struct Stage {
    lab: Lab,
    broker: Mosquitto,
    host: Identity,
    tails: Cell<u32>,
}

struct Tail {
    child: Running,
    out: PathBuf,
    err: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::new();
        let host = lab.client("edge-01");
        // Room for the large hostile message; the rest is as shipped.
        let mut broker = Mosquitto::absent(&lab, "broker");
        broker.set("max_packet_size", "9000000");
        broker.up();
        Stage { lab, broker, host, tails: Cell::new(0) }
    }

    /// Connects as `viewer`; returns when it listens.
    fn tail(&self, args: &[&str]) -> Tail {
        let name = |end: &str| self.lab.path(&format!("tail-{}.{end}", self.tails.get()));
        self.tails.set(self.tails.get() + 1);
        let (out, err) = (name("out"), name("err"));
        let mut command = tail_command(&self.lab, self.broker.port, Some("viewer"));
        let tail = Tail { child: Running::start_split("tail", command.args(args), &out, &err), out, err };
        wait_until("tail to listen", PATIENCE, || tail.errors().contains("listening on"));
        tail
    }

    fn publish(&self, leaf: &str, payload: &[u8]) {
        self.publish_to(&format!("v1/lab/edge-01/{leaf}"), payload, &[]);
    }

    fn publish_to(&self, topic: &str, payload: &[u8], args: &[&str]) {
        let file = self.lab.path("payload");
        std::fs::write(&file, payload).expect("own directory");
        let mut command = self.broker.client("mosquitto_pub", &self.host);
        let output = command.args(["-q", "1", "-t", topic, "-f"]).arg(&file).args(args).output();
        let output = output.expect("mosquitto_pub starts");
        assert!(output.status.success(), "mosquitto_pub: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn live(&self, epoch: u64, seqs: std::ops::RangeInclusive<u64>) {
        self.publish("m/cpu", &batch(epoch, Lane::Live, seqs));
    }
}

impl Tail {
    fn errors(&self) -> String {
        read_lossy(&self.err)
    }

    fn lines(&self) -> Vec<Json> {
        let text = read_lossy(&self.out);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    /// Waits for the verdict on (epoch, seq).
    fn wait_for(&self, epoch: u64, seq: u64) -> String {
        let what = format!("record {seq} of epoch {epoch}");
        wait_for(&what, PATIENCE, || {
            let lines = self.lines();
            let hit = lines.iter().rev().find(|l| l["type"] == "record" && l["epoch"] == epoch && l["seq"] == seq);
            hit.map(|line| line["verdict"].as_str().expect("a verdict").to_owned())
        })
    }

    /// SIGTERM: exit code and lines.
    fn stop(mut self) -> (i32, Vec<Json>) {
        let status = self.child.terminate(PATIENCE);
        (status.code().expect("it ends by itself"), self.lines())
    }

    fn wait(mut self) -> (i32, Vec<Json>) {
        let status = self.child.wait(PATIENCE);
        (status.code().expect("it ends by itself"), self.lines())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("tail said:\n{}", self.errors());
        }
    }
}

fn tail_command(lab: &Lab, port: u16, who: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
    command.args(["tail", "--broker", &format!("mqtts://localhost:{port}")]).arg("--ca").arg(lab.ca());
    if let Some(who) = who {
        let Identity { cert, key } = lab.client(who);
        command.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    command
}

fn batch(epoch: u64, lane: Lane, seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    batch_of("edge-01", epoch, lane, seqs)
}

fn batch_of(host: &str, epoch: u64, lane: Lane, seqs: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    let context = ClockContext { boot: "boot".into(), synced: true };
    let header =
        BatchHeader { host, site: "lab", epoch, context: &context, anchor: None, sent: 1_790_000_000_000, lane };
    let first = *seqs.start();
    let mut maps = Vec::new();
    let mut count = 0;
    for seq in seqs {
        let fields = [("value".into(), Value::Int(seq as i64))].into();
        let point = Point {
            ts: 1_790_000_000_000,
            mono: 1,
            name: "system.cpu".into(),
            tags: Default::default(),
            fields,
            error: None,
        };
        encode_record(&Record::new(seq, point), &mut maps);
        count += 1;
    }
    let chunk = Chunk { epoch, first, count, context: context.clone(), maps: maps.into() };
    encode_batch(&header, &[], std::slice::from_ref(&chunk))
}

/// An envelope without records.
fn losses_of(epoch: u64, loss: Loss) -> Vec<u8> {
    let context = ClockContext { boot: "boot".into(), synced: true };
    let (host, site, sent) = ("edge-01", "lab", 1_790_000_000_000);
    let header = BatchHeader { host, site, epoch, context: &context, anchor: None, sent, lane: Lane::History };
    encode_batch(&header, &[loss], &[])
}

fn status(epoch: u64, next_seq: u64, pending: &[(u64, u64)]) -> Vec<u8> {
    encode_payload(&Status {
        v: 1,
        state: State::Online,
        session: "s1".into(),
        host: "edge-01".into(),
        site: "lab".into(),
        sent: 1_790_000_000_000,
        version: "0.1.0".into(),
        epoch,
        next_seq,
        pending: pending.iter().map(|&(from, to)| PendingRange { epoch, from, to }).collect(),
        backlog: 0,
        oldest: None,
        eta_s: None,
        losses: Vec::new(),
        level: "broker".into(),
        problems: Vec::new(),
    })
}

fn of_type<'a>(lines: &'a [Json], kind: &str) -> Vec<&'a Json> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn tail_tells_new_duplicate_late_lost_and_a_new_epoch() {
    let stage = Stage::new();
    let tail = stage.tail(&["--json", "--fail-on-gap"]);
    stage.live(7, 1..=3);
    assert_eq!(tail.wait_for(7, 3), "new");
    stage.live(7, 3..=4);
    assert_eq!(tail.wait_for(7, 4), "new");
    stage.live(7, 8..=8);
    assert_eq!(tail.wait_for(7, 8), "new");
    stage.publish("h", &batch(7, Lane::History, 5..=5));
    assert_eq!(tail.wait_for(7, 5), "late");
    let loss = Loss { epoch: 7, from: 6, to: Some(6), count: 1, reason: LossReason::Quota, t0: 0, t1: 0 };
    stage.publish("h", &losses_of(7, loss));
    stage.publish_to("v1/lab/edge-01/status", &status(7, 9, &[(7, 7)]), &["-r"]);
    stage.live(8, 1..=2);
    assert_eq!(tail.wait_for(8, 2), "new");
    let (code, lines) = tail.stop();

    let verdicts: Vec<_> = of_type(&lines, "record")
        .iter()
        .map(|l| (l["epoch"].as_u64(), l["seq"].as_u64(), l["verdict"].as_str()))
        .map(|(e, s, v)| (e.unwrap(), s.unwrap(), v.unwrap().to_owned()))
        .collect();
    let expected = [
        (7, 1, "new"),
        (7, 2, "new"),
        (7, 3, "new"),
        (7, 3, "duplicate"),
        (7, 4, "new"),
        (7, 8, "new"),
        (7, 5, "late"),
        (8, 1, "new"),
        (8, 2, "new"),
    ];
    assert_eq!(verdicts, expected.map(|(e, s, v)| (e, s, v.to_owned())));
    let gaps: Vec<_> = of_type(&lines, "gap").iter().map(|l| (l["from"].clone(), l["to"].clone())).collect();
    assert_eq!(gaps, [(5.into(), 7.into())]);
    let losses = of_type(&lines, "loss");
    assert_eq!((losses.len(), &losses[0]["from"], &losses[0]["reason"]), (1, &6.into(), &"quota".into()));
    let epochs: Vec<_> = of_type(&lines, "epoch").iter().map(|l| (l["epoch"].clone(), l["previous"].clone())).collect();
    assert_eq!(epochs, [(7.into(), Json::Null), (8.into(), 7.into())]);
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["type"], &summary["complete"]), (&"summary".into(), &true.into()), "{summary:#}");
    let host = &summary["hosts"][0];
    let counts = ["new", "duplicate", "late", "pending", "open", "declared"].map(|name| host[name].as_u64().unwrap());
    assert_eq!(counts, [7, 1, 1, 1, 0, 1], "{host:#}");
    assert_eq!(code, 0);
}

#[test]
fn planted_gap_fails_when_asked_and_only_then() {
    let stage = Stage::new();
    for (args, expected) in [(&["--json", "--fail-on-gap"] as &[&str], 1), (&["--json"], 0)] {
        let tail = stage.tail(args);
        stage.live(7, 1..=3);
        stage.live(7, 5..=6);
        tail.wait_for(7, 6);
        let (code, lines) = tail.stop();
        assert_eq!(code, expected, "{args:?}");
        let summary = lines.last().expect("a summary");
        assert_eq!(summary["hosts"][0]["gaps"][0]["from"], 4, "{summary:#}");
        assert_eq!(summary["complete"], false);
    }
}

#[test]
fn bad_messages_are_told_and_do_not_stop_the_next() {
    let stage = Stage::new();
    let tail = stage.tail(&["--json", "--fail-on-gap"]);
    let four_mib = 4 << 20;
    stage.publish("m/cpu", &vec![0xc1; four_mib]);
    stage.publish("m/cpu", b"\x81\xa1x".repeat(30_000).as_slice());
    stage.publish("h", &[]);
    stage.publish("status", b"{\"state\":\"on");
    stage.publish("m/cpu", &batch_of("edge-02", 9, Lane::Live, 1..=1));
    // Larger than we announced to the broker: withheld there, and it must not stand in the way either.
    stage.publish("m/cpu", &vec![b'{'; four_mib + 100_000]);
    stage.live(7, 1..=1);
    assert_eq!(tail.wait_for(7, 1), "new");
    let (code, lines) = tail.stop();
    let bad = of_type(&lines, "bad");
    assert_eq!(bad.len(), 5, "{bad:#?}");
    assert!(bad[4]["reason"].as_str().unwrap().contains("edge-02"), "{}", bad[4]);
    assert_eq!(of_type(&lines, "record").len(), 1, "nothing of edge-02 was taken");
    assert_eq!(code, 1, "somebody's records may be in what could not be read");
}

#[test]
fn nothing_is_missed_while_the_broker_restarts() {
    let mut stage = Stage::new();
    let tail = stage.tail(&["--json", "--fail-on-gap"]);
    stage.live(7, 1..=2);
    tail.wait_for(7, 2);
    stage.broker.stop();
    stage.broker.up();
    // Perhaps before tail is back: its session is kept.
    stage.live(7, 3..=4);
    assert_eq!(tail.wait_for(7, 4), "new");
    let (code, lines) = tail.stop();
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["connections"], &summary["complete"]), (&2.into(), &true.into()), "{summary:#}");
    assert_eq!(code, 0);
}

#[test]
fn tail_leaves_no_session_behind() {
    let stage = Stage::new();
    let tail = stage.tail(&["--json"]);
    assert_eq!(tail.stop().0, 0);
    stage.live(7, 1..=2);
    let tail = stage.tail(&["--json"]);
    stage.live(7, 3..=3);
    tail.wait_for(7, 3);
    let (_, lines) = tail.stop();
    assert_eq!(of_type(&lines, "record").len(), 1, "1 and 2 were sent between the two");
}

#[test]
fn what_a_killed_tail_left_in_its_session_is_not_shown_to_the_next() {
    let stage = Stage::new();
    let mut tail = stage.tail(&["--json"]);
    tail.child.kill();
    stage.live(7, 1..=2);
    let tail = stage.tail(&["--json"]);
    stage.live(7, 3..=3);
    tail.wait_for(7, 3);
    let (_, lines) = tail.stop();
    assert_eq!(of_type(&lines, "record").len(), 1, "1 and 2 were for the one that was killed");
    assert_eq!(lines.last().expect("a summary")["connections"], 1);
}

#[test]
fn two_tails_of_one_name_are_told_that_they_throw_each_other_off() {
    let stage = Stage::new();
    let tails = [stage.tail(&["--json"]), stage.tail(&["--json"])];
    // A broker that says why ends one of them; mosquitto 2.0 just hangs up, again and again.
    let told = |tail: &Tail| tail.errors().contains("same client id");
    wait_until("one of them to be told", PATIENCE, || tails.iter().any(told));
}

#[test]
fn count_ends_after_so_many_records() {
    let stage = Stage::new();
    let tail = stage.tail(&["--json", "--count", "3"]);
    stage.live(7, 1..=10);
    let (code, lines) = tail.wait();
    assert_eq!((code, of_type(&lines, "record").len()), (0, 3));
    assert_eq!(lines.last().expect("a summary")["type"], "summary");
}

#[test]
fn lingers_while_a_gap_is_open_and_no_longer() {
    let stage = Stage::new();
    let tail = stage.tail(&["--json", "--fail-on-gap", "--for", "6s", "--linger", "10m"]);
    stage.live(7, 1..=1);
    stage.live(7, 3..=3);
    tail.wait_for(7, 3);
    pass_time(Duration::from_secs(7));
    stage.publish("h", &batch(7, Lane::History, 2..=2));
    let (code, lines) = tail.wait();
    assert_eq!((code, of_type(&lines, "record").len()), (0, 3));
}

#[test]
fn reader_that_closes_the_pipe_ends_it_quietly() {
    let stage = Stage::new();
    let err = stage.lab.path("head.err");
    let mut command = tail_command(&stage.lab, stage.broker.port, Some("viewer"));
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&err).expect("own directory"));
    let mut child = command.spawn().expect("it starts");
    wait_until("tail to listen", PATIENCE, || read_lossy(&err).contains("listening on"));
    stage.live(7, 1..=1);
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    let mut seq = 2;
    let status = wait_for("tail to end", PATIENCE, || {
        stage.live(7, seq..=seq);
        seq += 1;
        child.try_wait().expect("a child can be waited for")
    });
    assert_eq!(status.code(), Some(0));
    let said = read_lossy(&err);
    assert!(!said.to_lowercase().contains("pipe") && !said.contains("records in"), "{said}");
}

#[test]
fn reader_that_pauses_loses_nothing() {
    let stage = Stage::new();
    let err = stage.lab.path("pause.err");
    let mut command = tail_command(&stage.lab, stage.broker.port, Some("viewer"));
    command.args(["--json", "--count", "20000", "--fail-on-gap"]);
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&err).expect("own directory"));
    let mut child = command.spawn().expect("it starts");
    wait_until("tail to listen", PATIENCE, || read_lossy(&err).contains("listening on"));
    // 4 MB as NDJSON: far more than the pipe and all queues of tail hold, so the broker keeps the rest.
    for i in 0..100 {
        stage.live(7, i * 200 + 1..=i * 200 + 200);
    }
    let reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let lines: Vec<Json> =
        reader.lines().map(|line| serde_json::from_str(&line.expect("text")).expect("NDJSON")).collect();
    let seqs: Vec<u64> = of_type(&lines, "record").iter().map(|l| l["seq"].as_u64().expect("a seq")).collect();
    let wrong = seqs.iter().zip(1..).find(|(seq, expected)| *seq != expected);
    assert_eq!((seqs.len(), wrong), (20_000, None), "all of them, once, in order: {}", read_lossy(&err));
    assert_eq!(lines.last().expect("a summary")["connections"], 1);
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(0));
}

#[test]
fn exit_codes_say_why_nothing_came() {
    let stage = Stage::new();
    let port = stage.broker.port;
    let (foreign, foreign_ca) = stage.lab.foreign_client("viewer");
    let run = |command: &mut Command| {
        let output = command.args(["--for", "20s"]).output().expect("it starts");
        (output.status.code().expect("it ends by itself"), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let with = |cert: &Path, key: &Path, ca: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
        command.args(["tail", "--broker", &format!("mqtts://localhost:{port}")]);
        command.arg("--ca").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        command
    };
    let viewer = stage.lab.client("viewer");
    let ca = stage.lab.ca();
    let none = stage.lab.path("none.crt");
    for (name, command, expected, word) in [
        ("no client certificate", tail_command(&stage.lab, port, None), 77, "client certificate"),
        ("a certificate of others", with(&foreign.cert, &foreign.key, &ca), 77, "certificate"),
        (
            "the broker's CA is not trusted",
            with(&viewer.cert, &viewer.key, &foreign_ca),
            78,
            "the certificate of localhost",
        ),
        ("no such file", with(&none, &viewer.key, &ca), 78, "none.crt"),
        ("another key", with(&viewer.cert, &foreign.key, &ca), 78, "does not belong"),
    ] {
        let mut command = command;
        let (code, said) = run(&mut command);
        assert_eq!(code, expected, "{name}: {said}");
        assert!(said.contains(word), "{name}: {said}");
        assert_eq!(said.lines().filter(|l| l.starts_with("holdover-hub: ")).count(), 1, "{name}: {said}");
    }
    let mut nobody = tail_command(&stage.lab, free_port(), Some("viewer"));
    let (code, said) = run(nobody.args(["--connect-within", "500ms"]));
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("refused"), "{said}");
    let usage = Command::new(env!("CARGO_BIN_EXE_holdover-hub")).args(["tail"]).output().expect("it starts");
    assert_eq!(usage.status.code(), Some(2));
}
