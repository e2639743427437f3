//! Real programs as collectors: Debian's monitoring plugins against servers on loopback, and what Prometheus' own
//! client library exposes. What is looked at is what `holdover once` and a running agent make of them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::child::Running;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::tail::Tail;
use crate::support::{PATIENCE, free_port, python_with, tool, wait_until};

/// A configuration with nothing but the collectors that a test adds, and no broker.
struct Bench {
    dir: tempfile::TempDir,
}

/// What a run gave.
struct Run {
    records: Vec<Value>,
    code: i32,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::Builder::new().prefix("holdover-scripts-").tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One run of `argv` in the real agent's hands.
    fn once(&self, argv: &[&str], format: &str) -> Run {
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:1\"\nallow_clear_text = true\n[outbox]\ndir = {:?}\n[agent]\n\
             default_collectors = false\n[[collector]]\nname = \"check\"\nevery = \"1h\"\ntimeout = \"{}s\"\n\
             exec = {argv:?}\nformat = \"{format}\"\n",
            self.path("outbox"),
            PATIENCE.as_secs() / 2,
        );
        std::fs::write(self.path("holdover.toml"), config).expect("own directory");
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_holdover")).args(["once", "check"]);
        command.arg("--config").arg(self.path("holdover.toml")).env_remove("HOLDOVER_CONFIG").stdin(Stdio::null());
        let output = command.output().expect("timeout starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let code = output.status.code().expect("it ends by itself");
        assert!(code <= 1, "{argv:?}: {err}");
        Run { records: out.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect(), code }
    }

    /// A plugin, told by its name.
    fn plugin(&self, name: &str, args: &[&str]) -> Run {
        let path = plugin(name);
        let argv: Vec<&str> =
            [path.to_str().expect("a name in UTF-8")].into_iter().chain(args.iter().copied()).collect();
        self.once(&argv, "auto")
    }
}

impl Run {
    /// All is well: no err record, and the state is `code`. Returns what the plugin said.
    fn state(&self, code: i64) -> &str {
        assert_eq!(self.code, 0, "a state is data: {:#?}", self.records);
        assert!(self.records.iter().all(|record| record["status"] == "ok"), "{:#?}", self.records);
        let state = &self.records[0];
        assert_eq!((&state["name"], &state["fields"]["state"]), (&json!("nagios_state"), &json!(code)), "{state:#}");
        assert_eq!(state["tags"], json!({"collector": "check"}));
        state["fields"]["service_output"].as_str().expect("a text")
    }

    /// The record of one item of performance data.
    fn data(&self, label: &str) -> &Value {
        let found = self.records.iter().find(|r| r["name"] == "nagios" && r["tags"]["perfdata"] == label);
        found.unwrap_or_else(|| panic!("no {label} in {:#?}", self.records))
    }
}

fn plugin(name: &str) -> PathBuf {
    let path = Path::new("/usr/lib/nagios/plugins").join(name);
    assert!(path.exists(), "{} is missing: install monitoring-plugins-basic", path.display());
    path
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Answers every request with 200 and a page, until it is dropped.
struct Web {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    fn start() -> Web {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take_while(|_| !stopped.load(Ordering::SeqCst)).flatten() {
                answer(stream);
            }
        });
        Web { port, stop, thread: Some(thread) }
    }
}

/// A client that goes away early is none of our business.
fn answer(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut request = [0; 4096];
    if stream.read(&mut request).is_ok_and(|n| n > 0) {
        let page = "it works | really";
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", page.len());
        stream.write_all((head + page).as_bytes()).ok();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

/// A TLS server with the laboratory's certificate for localhost.
fn tls(lab: &Lab, name: &str) -> (Running, u16) {
    let port = free_port();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
    command.arg(lab.authority().join("server.crt")).arg("-key").arg(lab.authority().join("server.key"));
    let mut server = Running::start("openssl s_server", &mut command, &lab.path(&format!("{name}.log")));
    wait_until("the TLS server", PATIENCE, || {
        server.assert_running();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    });
    (server, port)
}

#[test]
fn reachability_is_checked_by_plugins_whose_exit_code_is_the_state() {
    let (bench, web) = (Bench::new(), Web::start());
    let port = web.port.to_string();
    let http = bench.plugin("check_http", &["-H", "127.0.0.1", "-p", &port, "-w", "30", "-c", "60", "-t", "90"]);
    assert!(http.state(0).starts_with("HTTP OK: HTTP/1.1 200 OK"), "{:#?}", http.records);
    let time = http.data("time");
    assert_eq!((&time["tags"]["unit"], number(&time["fields"]["warning_gt"])), (&json!("s"), 30.0));
    assert_eq!((number(&time["fields"]["critical_gt"]), number(&time["fields"]["critical_lt"])), (60.0, 0.0));
    assert!(number(&time["fields"]["value"]) > 0.0);
    assert_eq!((&http.data("size")["tags"]["unit"], number(&http.data("size")["fields"]["min"])), (&json!("B"), 0.0));

    let tcp = bench.plugin("check_tcp", &["-H", "127.0.0.1", "-p", &port, "-t", "90"]);
    assert!(tcp.state(0).starts_with("TCP OK"), "{:#?}", tcp.records);
    assert!(number(&tcp.data("time")["fields"]["max"]) > 0.0);

    // Its output has no status word and no data: its name says what it is.
    let closed = free_port().to_string();
    let refused = bench.plugin("check_tcp", &["-H", "127.0.0.1", "-p", &closed]);
    assert!(refused.state(2).contains("Connection refused"), "{:#?}", refused.records);
    // Another page than expected, by a plugin that nothing but its output gives away.
    let path = plugin("check_http");
    let text = format!("exec {} -H 127.0.0.1 -p {port} -s nowhere -t 90", path.display());
    let wrong = bench.once(&["/bin/sh", "-c", &text], "auto");
    assert!(wrong.state(2).contains("HTTP CRITICAL"), "{:#?}", wrong.records);
}

#[test]
fn certificates_are_checked_by_plugins() {
    let (bench, lab) = (Bench::new(), Lab::new());
    let (_server, port) = tls(&lab, "good");
    let port = port.to_string();
    let at = ["-H", "localhost", "-I", "127.0.0.1", "-p", &port, "-S", "-t", "90", "-C"];
    let good = bench.plugin("check_http", &[&at[..], &["3,1"]].concat());
    assert!(good.state(0).contains("Certificate 'localhost' will expire"), "{:#?}", good.records);
    let soon = bench.plugin("check_http", &[&at[..], &["90000,1"]].concat());
    assert!(soon.state(1).contains("WARNING - Certificate"), "{:#?}", soon.records);
    let ssl = bench.plugin("check_tcp", &["-H", "127.0.0.1", "-p", &port, "-S", "-D", "3,1", "-t", "90"]);
    assert!(ssl.state(0).contains("Certificate"), "{:#?}", ssl.records);

    lab.server(&["localhost", "--days", "0"]);
    let (_expired, port) = tls(&lab, "expired");
    let port = port.to_string();
    let expired =
        bench.plugin("check_http", &["-H", "localhost", "-I", "127.0.0.1", "-p", &port, "-S", "-t", "90", "-C", "3"]);
    assert!(expired.state(2).contains("expired"), "{:#?}", expired.records);
}

#[test]
fn disks_processes_load_and_files_are_checked_by_plugins() {
    let bench = Bench::new();
    let disk = bench.plugin("check_disk", &["-w", "0%", "-c", "0%", "-p", "/"]);
    assert!(disk.state(0).starts_with("DISK OK"), "{:#?}", disk.records);
    let root = disk.data("/");
    assert!(number(&root["fields"]["max"]) >= number(&root["fields"]["value"]) && root["tags"]["unit"] == "B");

    let procs = bench.plugin("check_procs", &["-w", "0:0", "-c", "0:100000"]);
    assert!(procs.state(1).starts_with("PROCS WARNING"), "{:#?}", procs.records);
    assert_eq!(number(&procs.data("procs")["fields"]["warning_gt"]), 0.0);
    assert!(number(&procs.data("procs")["fields"]["value"]) >= 1.0);

    let load = bench.plugin("check_load", &["-w", "1000,1000,1000", "-c", "2000,2000,2000"]);
    assert!(load.state(0).contains("load average"), "{:#?}", load.records);
    assert_eq!(load.records.len(), 4, "load1, load5, load15: {:#?}", load.records);

    std::fs::write(bench.path("some.log"), "all is well\n").expect("own directory");
    let old = bench.path("seen").display().to_string();
    let log = bench.path("some.log").display().to_string();
    let look = || bench.plugin("check_log", &["-F", &log, "-O", &old, "-q", "disaster"]);
    look().state(0);
    std::fs::write(&log, "all is well\na disaster = 1 | fire\n").expect("own directory");
    assert!(look().state(2).contains("a disaster = 1 | fire"), "a line of a log is no performance data");

    let unknown = bench.plugin("check_dummy", &["3", "whatever"]);
    assert_eq!(unknown.state(3), "UNKNOWN: whatever");
}

#[test]
fn what_a_plugin_cannot_say_is_an_error_beside_its_state() {
    let bench = Bench::new();
    // Its own argument `x` turns up as a threshold, which is none.
    let odd = bench.plugin("check_procs", &["-w", "x", "-c", "0:100000"]);
    assert_eq!((odd.code, &odd.records[0]["fields"]["state"]), (1, &json!(1)), "{:#?}", odd.records);
    assert!(number(&odd.data("procs")["fields"]["value"]) >= 1.0);
    let error = &odd.records.last().expect("an error")["error"];
    assert_eq!(error["kind"], "parse");
    assert!(error["message"].as_str().is_some_and(|m| m.contains("a threshold of `procs` is no range")), "{error}");
    // Not even a plugin: the state is UNKNOWN, and the run failed.
    let gone = bench.once(&["/bin/sh", "-c", "echo half; exit 127"], "nagios");
    assert_eq!((gone.code, &gone.records[0]["fields"]["state"]), (1, &json!(3)));
    assert_eq!((&gone.records[1]["status"], &gone.records[1]["error"]["kind"]), (&json!("err"), &json!("exit")));
    assert_eq!(gone.records.len(), 2, "{:#?}", gone.records);
}

#[test]
fn states_go_from_the_agent_through_the_broker_to_the_viewer_and_are_no_failures() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let tail = Tail::start(&lab, &broker, &["--json"]);
    let mut agent = Agent::new(&lab, "edge-01", broker.port);
    agent.setup.collectors = format!(
        "[[collector]]\nname = \"alarm\"\nevery = \"1s\"\nexec = [{:?}, \"2\", \"fire\"]\n",
        plugin("check_dummy")
    );
    agent.up();
    wait_until("the alarm at the viewer", PATIENCE, || {
        agent.check();
        let said = tail.said();
        let mut records = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.any(|r| r["name"] == "nagios_state" && r["fields"]["state"] == 2 && r["tags"]["collector"] == "alarm")
    });
    let status = agent.status();
    let collectors = status["collectors"].as_array().expect("a list");
    let alarm = collectors.iter().find(|collector| collector["name"] == "alarm").expect("it is configured");
    assert!(alarm["runs"].as_u64() > Some(0) && alarm["failed"] == 0, "{alarm}");
    agent.down();
}

/// The records of the library's own reading, in the order of their names.
fn sorted(mut records: Vec<Value>) -> Vec<String> {
    for record in &mut records {
        record
            .as_object_mut()
            .expect("an object")
            .retain(|key, _| ["name", "tags", "ts", "fields"].contains(&key.as_str()));
    }
    let mut lines: Vec<String> = records.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn what_prometheus_own_library_exposes_is_read_as_it_reads_it() {
    let bench = Bench::new();
    for format in ["prometheus", "openmetrics"] {
        let text = bench.path(format);
        let output = python_with(&["prometheus_client"]).arg(tool("exposition.py")).arg(format).arg(&text).output();
        let output = output.expect("python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let expected: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
        assert!(expected.len() > 10);
        for given in [format, "auto"] {
            let run = bench.once(&["cat", text.to_str().expect("a path in UTF-8")], given);
            assert_eq!(run.code, 0, "{:#?}", run.records);
            let mut records = run.records;
            // Those of the text are of 2017 and 1969; the others have that of the run.
            let recent = |ts: &Value| ts.as_i64().is_some_and(|ts| ts > 1_600_000_000_000);
            records.iter_mut().filter(|record| recent(&record["ts"])).for_each(|record| record["ts"] = Value::Null);
            assert_eq!(sorted(records), sorted(expected.clone()), "{format} as {given}");
        }
    }
}
