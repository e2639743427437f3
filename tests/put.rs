//! Records that applications put: durable when the command says so, told by the line when not, and no way to disturb the
//! collectors.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::lab::Lab;
use crate::support::mosquitto::Mosquitto;
use crate::support::witness::Witness;
use crate::support::{PATIENCE, pass_time, wait_until};

const PUT: &[&str] = &["put", "--collector", "app"];

fn started(lab: &Lab, port: u16, section: &str) -> Agent {
    let mut agent = Agent::new(lab, "edge-01", port);
    agent.setup.collectors =
        "[[collector]]\nname = \"tick\"\nexec = [\"/bin/echo\", \"tick n=1i\"]\nevery = \"1s\"\n\n".to_owned();
    agent.setup.sections = format!("[put]\nenabled = true\n{section}");
    agent.up();
    wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
    agent
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// What the outbox holds of that name, in order.
fn stored(agent: &Agent, name: &str) -> Vec<Value> {
    let export = String::from_utf8_lossy(&agent.output(&["outbox", "export"]).stdout).into_owned();
    let all = export.lines().map(|line| serde_json::from_str::<Value>(line).expect("export is NDJSON"));
    all.filter(|record| record["name"] == name).collect()
}

fn ticks(agent: &Agent) -> u64 {
    agent.status()["collectors"][0]["runs"].as_u64().expect("it is there")
}

/// One conversation by hand: docs/put.md.
fn speak(agent: &Agent, batch: &[u8]) -> Value {
    let mut stream = connect(agent);
    stream.write_all(batch).expect("it is taken");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn connect(agent: &Agent) -> UnixStream {
    UnixStream::connect(agent.setup.outbox.join("put.sock")).expect("it is open")
}

/// Through broker and hub side: the bytes committed are the bytes that arrive, and the account of runs is untouched.
#[test]
fn what_is_put_arrives_byte_for_byte_and_is_no_run() {
    let lab = Lab::new();
    let broker = Mosquitto::start(&lab, "broker");
    let mut witness = Witness::start(&lab, broker.port, "edge-01");
    let mut agent = started(&lab, broker.port, "");
    let lines: String = (0..600).map(|n| format!("{{\"name\":\"app.job\",\"fields\":{{\"n\":{n}}}}}\n")).collect();
    let output = agent.output_with(&["put", "--collector", "app", "--tag", "unit=a"], lines.as_bytes());
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    assert!(said(&output).starts_with("600 records stored, within seqs "), "{}", said(&output));
    // The end of the input ends the line.
    let influx = agent.output_with(PUT, b"app.queue,unit=b depth=7i 1700000000123456789");
    assert_eq!(code(&influx), Some(0), "{}", said(&influx));

    let jobs = stored(&agent, "app.job");
    let numbers: Vec<u64> = jobs.iter().filter_map(|record| record["fields"]["n"].as_u64()).collect();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
    assert!(jobs.iter().all(|record| record["tags"]["unit"] == "a" && record["ts"].as_i64() > Some(1_700_000_000_000)));
    let queue = &stored(&agent, "app.queue")[0];
    assert_eq!((&queue["ts"], &queue["fields"]["depth"]), (&1_700_000_000_123_i64.into(), &7.into()));

    let status = agent.status();
    assert_eq!(status["collectors"].as_array().map(Vec::len), Some(1), "no collector came of it: {status}");
    witness.wait_for_all(&mut agent, PATIENCE);
    agent.down();
    witness.assert_sound(&mut agent);
    agent.verify_outbox();
}

/// The promise of exit code 0: kill -9 right after it, and the records are there.
#[test]
fn what_was_answered_survives_a_kill_right_after() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    for round in 0..5 {
        let line = format!("app.round n={round}i\n");
        let output = agent.output_with(PUT, line.as_bytes());
        agent.kill();
        assert_eq!(code(&output), Some(0), "{}", said(&output));
        agent.up();
        wait_until("the agent to answer", PATIENCE, || agent.output(&["status", "--json"]).status.success());
        let rounds: Vec<Value> = stored(&agent, "app.round").iter().map(|r| r["fields"]["n"].clone()).collect();
        assert_eq!(rounds, (0..=round).map(Value::from).collect::<Vec<_>>());
    }
    agent.down();
    agent.verify_outbox();
}

#[test]
fn what_is_refused_is_told_by_its_line_and_the_rest_is_stored() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let mut input = b"app.a n=1i\n\n# note\nholdover.event n=1i\nnonsense\n".to_vec();
    input.extend(vec![b'x'; 200_000]);
    input.extend_from_slice(b"\n\xff\xfe\napp.a n=2i");
    let output = agent.output_with(PUT, &input);
    let said = said(&output);
    assert_eq!(code(&output), Some(1), "{said}");
    for part in [
        "2 records stored",
        "4 lines refused",
        "line 4 is refused: names that begin with `holdover.`",
        "line 5 is refused",
        "line 6 is refused: it is longer than",
        "line 7 is refused: not UTF-8",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(stored(&agent, "app.a").len(), 2);
    assert!(stored(&agent, "holdover.event").iter().all(|r| r["fields"]["n"] != 1));

    let own = agent.output_with(&["put", "--collector", "tick"], b"a n=1i\n");
    assert_eq!(code(&own), Some(1), "{own:?}");
    assert!(String::from_utf8_lossy(&own.stderr).contains("one of the agent's own collectors"), "{own:?}");
    for bad in [["put", "--collector", "a.b"], ["put", "--collector", "holdover"]] {
        assert_eq!(code(&agent.output_with(&bad, b"a n=1i\n")), Some(2), "{bad:?}");
    }
    assert!(stored(&agent, "a").is_empty());
    let put = agent.status()["put"].clone();
    assert_eq!((put["stored"].as_u64(), put["failed"]["invalid"].as_u64()), (Some(2), Some(1)), "{put}");
    assert!(
        put["refused"].as_u64() >= Some(2) && put["last_error"].as_str().is_some_and(|e| e.contains("tick")),
        "{put}"
    );
    let table = self::said(&agent.output(&["status"]));
    assert!(table.contains("\nput         2 records stored, in "), "{table}");
    let none = agent.output_with(PUT, b"");
    assert_eq!((code(&none), &*none.stdout), (Some(0), &b"no record stored\n"[..]));
    agent.down();
}

/// The exit code is the promise, whether anybody reads the answers or not.
#[test]
fn what_nobody_reads_the_answers_of_is_stored_or_told_by_the_exit_code_all_the_same() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let lines: String = (0..1000).map(|n| format!("app.unread n={n}i\n")).collect();
    for args in [&["put", "--collector", "app"][..], &["put", "--collector", "app", "--json"]] {
        assert_eq!(agent.output_unread(args, lines.as_bytes()), Some(0), "{args:?}");
        assert_eq!(agent.output_unread(args, format!("{lines}nonsense\n").as_bytes()), Some(1), "{args:?}");
    }
    assert_eq!(stored(&agent, "app.unread").len(), 4000);
    agent.kill();
    assert_eq!(agent.output_unread(&["put", "--collector", "app", "--json"], b"a n=1i\n"), Some(75));
}

/// As many names as fit 32 KiB take more memory than one batch may; its maker need not know.
#[test]
fn a_batch_that_takes_too_much_memory_goes_in_parts() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let names: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain(['_']).collect();
    let listed = |value: &str| names.iter().map(|name| format!("{name}={value}")).collect::<Vec<_>>().join(",");
    let lines = format!("m,{} {}\n", listed("b"), listed("1")).repeat(64);
    let header = "{\"put\":1,\"collector\":\"app\"}\n";
    let whole = speak(&agent, format!("{header}{lines}").as_bytes());
    assert_eq!((&whole["error"]["kind"], &whole["stored"]), (&"oversize".into(), &0.into()), "{whole}");
    let output = agent.output_with(PUT, lines.as_bytes());
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    assert!(said(&output).starts_with("64 records stored"), "{}", said(&output));
    assert_eq!(stored(&agent, "m").len(), 64);
    agent.down();
    agent.verify_outbox();
}

/// Nobody there, or not allowed: the caller is told that nothing is stored, and keeps what it has.
#[test]
fn without_an_agent_or_a_socket_nothing_is_said_to_be_stored() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let socket = agent.setup.outbox.join("put.sock");
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    agent.kill();
    for removed in [false, true] {
        if removed {
            std::fs::remove_file(&socket).expect("a dead agent left it");
        }
        let output = agent.output_with(PUT, b"app.a n=1i\n");
        assert_eq!(code(&output), Some(75), "{output:?}");
        let said = said(&output);
        assert!(said.contains("no agent runs there") && said.contains("nothing from there on is stored"), "{said}");
        assert!(said.contains("stopped at line 1,") && said.contains("no record stored"), "{said}");
    }
    agent.setup.sections = String::new();
    let disabled = agent.output_with(PUT, b"app.a n=1i\n");
    assert_eq!(code(&disabled), Some(1), "{disabled:?}");
    assert!(said(&disabled).contains("enabled = true in [put]"), "{disabled:?}");
}

/// Half a line and silence, lines without end, a thousand connections, nonsense, peers that never read: the collector's
/// runs are not missed, and who behaves is served.
#[test]
fn hostile_clients_disturb_no_collector() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let header = b"{\"put\":1,\"collector\":\"app\"}\n";
    let nonsense = speak(&agent, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(nonsense["error"]["kind"], "invalid", "{nonsense}");
    let cut = speak(&agent, &[&header[..], b"app.cut n=12"].concat());
    assert_eq!((&cut["stored"], &cut["refused"][0]["line"]), (&0.into(), &1.into()), "{cut}");

    let before = ticks(&agent);
    let endless = std::thread::scope(|scope| {
        let endless = scope.spawn(|| {
            let mut stream = connect(&agent);
            let chunk = vec![b'x'; 1 << 20];
            (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count()
        });
        endless.join().expect("it ends")
    });
    assert!(endless < 1024, "a gigabyte in one line was read");
    let mut held = Vec::new();
    for n in 0..1000 {
        // The kernel's queue may be full: not to wait is the caller's choice.
        let path = agent.setup.outbox.join("put.sock");
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .expect("a socket");
        let address = rustix::net::SocketAddrUnix::new(&path).expect("short");
        if rustix::net::connect(&socket, &address).is_ok() {
            let mut stream = UnixStream::from(socket);
            stream.write_all(if n % 2 == 0 { b"{\"put\":1,\"coll" } else { header }).unwrap_or(());
            held.push(stream);
        }
    }
    assert!(held.len() > 100, "only {} connections were made", held.len());
    wait_until("the collector to go on meanwhile", PATIENCE, || {
        agent.check();
        ticks(&agent) > before + 4
    });
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.id())).expect("it runs").count();
    assert!(descriptors < 64, "{descriptors} open files");
    drop(held);
    wait_until("who behaves to be served", PATIENCE, || {
        pass_time(Duration::from_millis(100));
        code(&agent.output_with(PUT, b"app.good n=1i\n")) == Some(0)
    });
    assert!(!stored(&agent, "app.good").is_empty() && stored(&agent, "app.cut").is_empty());
    agent.down();
    agent.verify_outbox();
}

/// A connection that says nothing has its place for a moment; one that only looks is no batch.
#[test]
fn who_connects_and_says_nothing_holds_no_place() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "");
    let mut idle: Vec<UnixStream> = (0..32).map(|_| connect(&agent)).collect();
    for stream in &mut idle {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let answer: Value = serde_json::from_str(&answer).expect("a document");
        assert_eq!(answer["error"]["kind"], "busy", "{answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("nothing came")), "{answer}");
    }
    // One that the system keeps from going on for a second after it has connected is told so.
    let told = (0..20).filter(|_| {
        let mut stream = connect(&agent);
        stream.shutdown(Shutdown::Write).expect("it is open");
        stream.read(&mut [0; 1]).expect("it is closed") > 0
    });
    let told = told.count() as u64;
    assert!(told < 10, "{told} answers to nothing");
    assert_eq!(code(&agent.output_with(PUT, b"app.good n=1i\n")), Some(0));
    let put = agent.status()["put"].clone();
    assert_eq!((put["batches"].as_u64(), put["failed"]["busy"].as_u64()), (Some(33 + told), Some(32 + told)), "{put}");
    agent.down();
}

/// A folder that comes late, as one of a file system that is mounted after the start. When the file is removed: the tests
/// beside the code.
#[test]
fn the_socket_is_made_when_it_can_be() {
    let lab = Lab::new();
    let late = lab.path("late");
    let mut agent = started(&lab, 1, &format!("socket = {:?}\n", late.join("put.sock")));
    let problems = |agent: &Agent| agent.status()["status"]["problems"].to_string();
    let told = problems(&agent);
    assert!(told.contains("no application can put records") && told.contains("it is tried again"), "{told}");
    std::fs::create_dir(&late).expect("a folder");
    wait_until("the socket to be there", PATIENCE, || {
        pass_time(Duration::from_millis(100));
        code(&agent.output_with(PUT, b"app.late n=1i\n")) == Some(0)
    });
    wait_until("the problem to be over", PATIENCE, || !problems(&agent).contains("no application"));
    agent.down();
    assert!(!late.join("put.sock").exists());
}

/// More than the rate: nothing is lost, and the sender waits.
#[test]
fn who_sends_too_much_waits_and_loses_nothing() {
    let lab = Lab::new();
    let mut agent = started(&lab, 1, "records_per_s = 400\n");
    let lines: String = (0..2000).map(|n| format!("app.flood n={n}i\n")).collect();
    let output = agent.output_with(PUT, lines.as_bytes());
    assert_eq!(code(&output), Some(0), "{}", said(&output));
    assert_eq!(stored(&agent, "app.flood").len(), 2000);
    assert_eq!(agent.status()["outbox"]["lost"], 0);
    agent.down();
    agent.verify_outbox();
}
