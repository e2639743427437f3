//! The command line as a newcomer meets it: what is refused and how it says so, what it prints, with which exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::Running;
use crate::support::lab::{Identity, Lab};
use crate::support::{PATIENCE, free_port, read_lossy, root, tail_of, wait_for, wait_until};

/// A configuration in a directory of its own.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(config: &str) -> Desk {
        let desk = Desk { dir: tempfile::Builder::new().prefix("holdover-cli-").tempdir().expect("a directory") };
        desk.write(config);
        desk
    }

    /// A good one: an agent whose broker is absent.
    fn offline() -> Desk {
        let desk = Desk::new("");
        desk.write(&format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_clear_text = true\n\n[outbox]\ndir = {:?}\n",
            free_port(),
            desk.outbox()
        ));
        desk
    }

    fn write(&self, config: &str) {
        std::fs::write(self.config(), config).expect("own directory");
    }

    fn append(&self, more: &str) {
        self.write(&(read_lossy(&self.config()) + more));
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("holdover.toml")
    }

    fn outbox(&self) -> PathBuf {
        self.dir.path().join("outbox")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = holdover(args);
        command.arg("--config").arg(self.config());
        command
    }

    /// One that is to end by itself; `timeout` ends it with code 124 when it does not.
    fn say(&self, args: &[&str]) -> Said {
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_holdover")).args(args);
        command.arg("--config").arg(self.config()).env_remove("HOLDOVER_CONFIG").stdin(Stdio::null());
        Said::of(command.output().expect("timeout starts"))
    }

    /// An agent that has begun to work.
    fn agent(&self) -> Running {
        let mut agent = Running::start("holdover", &mut self.command(&["run"]), &self.log());
        wait_until("the status socket", PATIENCE, || {
            agent.assert_running();
            self.outbox().join("agent.sock").exists()
        });
        agent
    }

    /// Every command has to refuse it with these words, at `line` of the file.
    fn assert_refused(&self, line: u32, words: &[&str]) {
        self.assert_refused_by(&["run", "check-config", "once", "status"], line, words);
    }

    fn assert_refused_by(&self, commands: &[&str], line: u32, words: &[&str]) {
        for command in commands {
            let said = self.say(&[command]);
            assert_eq!(said.code, 78, "{command}: {}", said.err);
            let place = format!("{}:{line}:", self.config().display());
            for word in words.iter().copied().chain([place.as_str(), "hint: "]) {
                assert!(said.err.contains(word), "{command} does not say {word:?}:\n{}", said.err);
            }
            assert!(!self.outbox().exists(), "{command} has touched the outbox");
        }
    }
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it prints is text");
        Said {
            code: output.status.code().expect("it ends by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn holdover(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
    command.args(args).env_remove("HOLDOVER_CONFIG").stdin(Stdio::null());
    command
}

#[test]
fn help_names_every_command_and_each_command_explains_itself() {
    let help = Said::of(holdover(&["--help"]).output().expect("holdover starts"));
    assert_eq!(help.code, 0);
    for command in ["run", "check-config", "once", "status"] {
        assert!(help.out.contains(&format!("  {command} ")), "{command} is not in:\n{}", help.out);
        let own = Said::of(holdover(&[command, "--help"]).output().expect("holdover starts"));
        assert!(own.code == 0 && own.out.contains("--config") && own.out.contains("/etc/holdover/"), "{}", own.out);
    }
    let nothing = Said::of(holdover(&[]).output().expect("holdover starts"));
    assert_eq!(nothing.code, 2);
    let unknown = Said::of(holdover(&["statsu"]).output().expect("holdover starts"));
    assert!(unknown.code == 2 && unknown.err.contains("status"), "{}", unknown.err);
}

#[test]
fn an_unknown_key_is_refused_at_its_line() {
    let desk = Desk::offline();
    desk.append("max_byte = \"1GiB\"\n");
    desk.assert_refused(7, &["outbox.max_byte", "max_bytes"]);
}

#[test]
fn a_bad_cron_expression_is_refused_at_its_line() {
    let desk = Desk::offline();
    desk.append("\n[[collector]]\nname = \"cpu\"\ncron = \"0 61 * * * ?\"\n");
    desk.assert_refused(10, &["cron", "61"]);
}

#[test]
fn urls_that_would_send_in_the_clear_or_nowhere_are_refused() {
    for (url, word) in [
        ("http://broker.example.com", "http"),
        ("mqtts://broker.example.com:80", "80"),
        ("mqtt://broker.example.com:1883", "mqtts://"),
        ("mqtt://192.0.2.1:1883", "mqtts://"),
        ("mqtts://", "mqtts://"),
    ] {
        let desk = Desk::new(&format!("[broker]\nallow_clear_text = true\nurl = {url:?}\n"));
        desk.append(&format!("[outbox]\ndir = {:?}\n", desk.outbox()));
        desk.assert_refused(3, &["broker.url", word]);
    }
}

#[test]
fn a_password_in_the_url_is_refused_and_not_repeated() {
    let desk = Desk::new("[broker]\nurl = \"mqtts://edge:hunter2@broker.example.com\"\n");
    let said = desk.say(&["check-config"]);
    assert_eq!(said.code, 78);
    assert!(said.err.contains("password_file"), "{}", said.err);
    assert!(!said.err.contains("hunter2"), "the secret is in the message: {}", said.err);
}

#[test]
fn a_secret_shows_neither_in_the_effective_configuration_nor_in_the_log() {
    let desk = Desk::offline();
    let secret = desk.dir.path().join("secret");
    std::fs::write(&secret, "hunter2\n").expect("own directory");
    desk.write(&read_lossy(&desk.config()).replace(
        "[outbox]",
        &format!("username = \"edge\"\npassword_file = {secret:?}\n\n[log]\nlevel = \"trace\"\n\n[outbox]"),
    ));
    for args in [&["check-config"][..], &["check-config", "--json"]] {
        let said = desk.say(args);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"));
    }
    let mut agent = desk.agent();
    wait_until("a connection attempt", PATIENCE, || read_lossy(&desk.log()).contains("no connection"));
    assert!(agent.terminate(PATIENCE).success());
    assert!(!read_lossy(&desk.log()).contains("hunter2"));
}

/// A configuration whose certificate is on line 4 and key on line 5.
fn with_certificate(ca: &Path, identity: &Identity) -> Desk {
    let desk = Desk::new("");
    desk.write(&format!(
        "[broker]\nurl = \"mqtts://localhost:8883\"\nca = {ca:?}\ncert = {:?}\nkey = {:?}\n[outbox]\ndir = {:?}\n",
        identity.cert,
        identity.key,
        desk.outbox()
    ));
    desk
}

#[test]
fn certificates_that_cannot_work_are_refused_at_their_lines() {
    let lab = Lab::new();
    let good = lab.client("edge-01");
    let missing = Identity { cert: lab.path("nowhere.crt"), ..good.clone() };
    with_certificate(&lab.ca(), &missing).assert_refused(4, &["broker.cert", "nowhere.crt"]);
    with_certificate(&lab.path("no-ca.crt"), &good).assert_refused(3, &["broker.ca", "no-ca.crt"]);

    let malformed = Identity { cert: lab.path("bad.crt"), ..good.clone() };
    std::fs::write(&malformed.cert, "this is no certificate\n").expect("own directory");
    let expired = lab.expired_client("edge-02");
    let other = Identity { cert: good.cert.clone(), key: lab.client("edge-03").key };
    // What is inside them matters to those who connect.
    for (ca, identity, line, words) in [
        (lab.ca(), &malformed, 4, ["broker.cert: certificate", "bad.crt is not PEM"]),
        (malformed.cert.clone(), &good, 3, ["broker.ca: CA file", "bad.crt is not PEM"]),
        (lab.ca(), &expired, 4, ["broker.cert: certificate", "expired on"]),
        (lab.ca(), &other, 4, ["broker.cert: key", "does not belong to certificate"]),
    ] {
        with_certificate(&ca, identity).assert_refused_by(&["run", "check-config"], line, &words);
    }

    let fine = with_certificate(&lab.ca(), &good).say(&["check-config"]);
    assert_eq!(fine.code, 0, "{}", fine.err);
    assert!(fine.out.contains("# host id edge-01"), "the id is the certificate's name:\n{}", fine.out);
}

#[test]
fn check_config_prints_what_is_in_force_and_starts_nothing() {
    let desk = Desk::offline();
    let said = desk.say(&["check-config"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let url = format!("{}:2:", desk.config().display());
    for words in ["# host id", &url, "keep_alive = \"30s\"  # default", "every 10s", "a day in the outbox", "is good"] {
        assert!(said.out.contains(words), "{words:?} is not in:\n{}", said.out);
    }
    let json = desk.say(&["check-config", "--json"]).json();
    assert_eq!(json["settings"]["broker.allow_clear_text"]["value"], Value::Bool(true));
    assert_eq!(json["next_runs"][0]["next_ms"].as_array().map(Vec::len), Some(5));
    assert!(json["bytes_per_day"].as_f64() > Some(0.0) && json["days_held"].as_f64() > Some(0.0));
    assert!(!desk.outbox().exists());
}

#[test]
fn the_reference_is_a_configuration_that_changes_nothing() {
    let reference = Said::of(holdover(&["check-config", "--reference"]).output().expect("holdover starts"));
    assert_eq!(reference.code, 0);
    // Comments throughout: with the one required key it means the defaults.
    let url = "[broker]\nurl = \"mqtts://broker.example.com\"\n";
    let outbox = Desk::new(url).outbox();
    let outbox = format!("[outbox]\ndir = {outbox:?}\n");
    let settings = |config: String| {
        let desk = Desk::new(&config);
        let said = desk.say(&["check-config", "--json"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let mut settings = said.json()["settings"].take();
        for (_, setting) in settings.as_object_mut().expect("an object") {
            setting.as_object_mut().expect("an object").remove("origin");
        }
        settings
    };
    // A system without CA certificates refuses "system"; that is not what this is about.
    let lab = Lab::new();
    let ca = format!("ca = {:?}\n", lab.ca());
    let plain = settings(format!("{url}{ca}{outbox}"));
    let commented: String = reference
        .out
        .lines()
        .filter(|line| !line.starts_with('['))
        .map(|line| if line.is_empty() || line.starts_with('#') { format!("{line}\n") } else { format!("# {line}\n") })
        .collect();
    assert_eq!(settings(format!("{commented}\n{url}{ca}{outbox}")), plain);
}

#[test]
fn once_runs_the_named_collectors_and_stores_nothing() {
    let desk = Desk::offline();
    let said = desk.say(&["once", "memory"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let records: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect();
    assert!(!records.is_empty() && records.iter().all(|record| record["collector"] == "memory"));
    assert!(records.iter().any(|record| record["name"] == "system.memory" && record["status"] == "ok"));
    let unknown = desk.say(&["once", "memroy"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("memroy") && unknown.err.contains("memory, "), "{}", unknown.err);
    assert!(!desk.outbox().exists());
}

#[test]
fn once_takes_what_a_host_lacks_for_a_failure_only_when_asked_for_it() {
    let desk = Desk::offline();
    let old = root().join("tests/fixtures/host/old-kernel/1");
    desk.append(&format!("\n[host]\nroot = {old:?}\n"));
    let all = desk.say(&["once"]);
    assert!(all.out.contains("proc/pressure/cpu"), "an old kernel has no pressure: {}", all.out);
    assert_eq!(all.code, 0, "{}", all.err);
    assert_eq!(desk.say(&["once", "pressure"]).code, 1);
}

#[test]
fn collectors_lists_them_and_answers_an_unknown_name_with_those_that_exist() {
    let say = |args: &[&str]| Said::of(holdover(args).output().expect("holdover starts"));
    let all = say(&["collectors"]);
    assert_eq!(all.code, 0, "{}", all.err);
    assert!(all.out.contains("pressure") && !all.out.contains("holdover collectors NAME"), "no hint in a pipe");
    let one = say(&["collectors", "disks"]);
    assert!(one.code == 0 && one.out.contains("latency_read"), "{}", one.out);
    let unknown = say(&["collectors", "cpux"]);
    assert!(unknown.code == 2 && unknown.out.is_empty(), "{}", unknown.out);
    assert!(unknown.err.contains("cpux") && unknown.err.contains("cpu, memory"), "{}", unknown.err);
}

#[test]
fn once_fails_when_a_collector_does() {
    let desk = Desk::offline();
    desk.append("\n[[collector]]\nname = \"broken\"\nexec = [\"/nonexistent/program\"]\nevery = \"10s\"\n");
    let said = desk.say(&["once", "broken"]);
    assert_eq!(said.code, 1);
    let record: Value = serde_json::from_str(said.out.trim()).expect("one record");
    assert_eq!((&record["status"], &record["error"]["kind"]), (&Value::from("err"), &Value::from("spawn")));
}

#[test]
fn status_without_an_agent_says_so_and_fails() {
    let desk = Desk::offline();
    let said = desk.say(&["status"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("no agent runs on") && said.out.contains("holdover run"), "{}", said.out);
    assert_eq!(desk.say(&["status", "--json"]).json()["running"], Value::Bool(false));
}

#[test]
fn status_tells_of_a_running_agent_and_of_one_that_hangs() {
    let desk = Desk::offline();
    let mut agent = desk.agent();
    let document = desk.say(&["status", "--json"]).json();
    assert_eq!(document["pid"], Value::from(agent.id()));
    assert_eq!(document["connection"]["connected"], Value::Bool(false));
    let text = desk.say(&["status"]);
    assert!(text.code == 0 && text.out.contains("not connected") && text.out.contains("collector"), "{}", text.out);
    agent.signal(Signal::STOP);
    let hung = desk.say(&["status"]);
    agent.signal(Signal::CONT);
    assert_eq!(hung.code, 75, "{}", hung.err);
    assert!(hung.err.contains("does not answer"), "{}", hung.err);
    assert!(agent.terminate(PATIENCE).success());
}

#[test]
fn a_second_agent_on_the_same_outbox_is_refused_and_the_first_goes_on() {
    let desk = Desk::offline();
    let mut first = desk.agent();
    let second = desk.say(&["run"]);
    assert_eq!(second.code, 75, "{}", second.err);
    assert!(second.err.contains("in use by another agent"), "{}", second.err);
    assert_eq!(desk.say(&["status", "--json"]).json()["pid"], Value::from(first.id()), "its socket is still there");
    assert!(first.terminate(PATIENCE).success());
}

#[test]
fn an_agent_without_broker_ends_in_time_and_records_the_script_it_interrupts() {
    let desk = Desk::offline();
    let started = desk.dir.path().join("started");
    desk.append(&format!(
        "[agent]\ndefault_collectors = false\nstop_timeout = \"5s\"\n\n[[collector]]\nname = \"slow\"\n\
         exec = [\"/bin/sh\", \"-c\", \"echo $$ > {}; exec sleep 600\"]\nevery = \"1s\"\ntimeout = \"10m\"\n",
        started.display()
    ));
    let witness = desk.dir.path().join("commits");
    let mut command = desk.command(&["run"]);
    let mut agent = Running::start("holdover", command.env("HOLDOVER_WITNESS", &witness), &desk.log());
    let script = wait_for("the script's start", PATIENCE, || {
        agent.assert_running();
        read_lossy(&started).trim().parse::<u32>().ok()
    });
    let asked = Instant::now();
    let status = agent.terminate(PATIENCE);
    assert!(status.success(), "{status}: {}", tail_of(&desk.log(), 20));
    // Its own bound, and what a busy machine adds.
    assert!(asked.elapsed() < Duration::from_secs(5) + PATIENCE / 4, "it took {:?}", asked.elapsed());
    let killed: String = "killed: the agent was stopped".bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(read_lossy(&witness).contains(&killed), "the interrupted run is not on record");
    let gone = || !Path::new(&format!("/proc/{script}")).exists() || is_zombie(script);
    wait_until("the script's end", PATIENCE, gone);
}

fn is_zombie(pid: u32) -> bool {
    read_lossy(Path::new(&format!("/proc/{pid}/stat"))).contains(") Z ")
}

#[test]
fn an_agent_starts_and_says_what_is_wrong_when_its_outbox_cannot_be_used() {
    let desk = Desk::offline();
    // A file where the directory should be: nobody, root included, can make one there.
    std::fs::write(desk.outbox(), "").expect("own directory");
    let mut agent = Running::start("holdover", &mut desk.command(&["run"]), &desk.log());
    wait_until("a connection attempt", PATIENCE, || {
        agent.assert_running();
        read_lossy(&desk.log()).contains("no connection")
    });
    let log = read_lossy(&desk.log());
    assert!(log.contains("cannot be used") && log.contains("host id"), "{log}");
    std::fs::remove_file(desk.outbox()).expect("own directory");
    wait_until("the outbox and the status socket, once they can be made", PATIENCE, || {
        agent.assert_running();
        desk.outbox().join("agent.sock").exists() && desk.outbox().join("host-id").exists()
    });
    let status = desk.say(&["status"]);
    assert!(status.code == 0 && !status.out.contains("cannot be used"), "{}", status.out);
    assert!(agent.terminate(PATIENCE).success());
}

#[test]
fn runs_that_could_not_be_stored_until_the_stop_are_told() {
    let desk = Desk::offline();
    std::fs::write(desk.outbox(), "").expect("own directory");
    desk.append("\n[[collector]]\nname = \"cpu\"\nevery = \"1s\"\n[[collector]]\nname = \"slow\"\n");
    desk.append(&format!(
        "exec = [\"/bin/sh\", \"-c\", \"echo > {}\"]\nevery = \"1s\"\n",
        desk.dir.path().join("ran").display()
    ));
    let mut agent = Running::start("holdover", &mut desk.command(&["run"]), &desk.log());
    wait_until("a pass of all that is due each second", PATIENCE, || {
        agent.assert_running();
        desk.dir.path().join("ran").exists()
    });
    assert!(agent.terminate(PATIENCE).success());
    let log = read_lossy(&desk.log());
    assert!(log.contains("runs that waited in memory are lost"), "{log}");
}

#[test]
fn a_damaged_host_id_is_replaced_and_told() {
    let desk = Desk::offline();
    std::fs::create_dir(desk.outbox()).expect("own directory");
    std::fs::write(desk.outbox().join("host-id"), "no host id\n\n").expect("own directory");
    let warned = desk.say(&["check-config"]);
    assert!(warned.code == 0 && warned.err.contains("does not hold a host id"), "{}", warned.err);
    let mut agent = desk.agent();
    let host = desk.say(&["status", "--json"]).json()["status"]["host"].take();
    assert!(agent.terminate(PATIENCE).success());
    assert_eq!(read_lossy(&desk.outbox().join("host-id")).trim(), host.as_str().unwrap_or_default());
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_agent() {
    let desk = Desk::offline();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = desk.command(&["run"]);
    let mut agent = command.stderr(full).stdout(Stdio::null()).spawn().expect("holdover starts");
    wait_until("the status socket", PATIENCE, || desk.outbox().join("agent.sock").exists());
    let answered = desk.say(&["status"]).code;
    agent.kill().expect("it is our child");
    agent.wait().expect("it is our child");
    assert_eq!(answered, 0);
}

#[test]
fn next_lists_the_coming_runs_for_eyes_scripts_and_programs() {
    let desk = Desk::offline();
    desk.append(
        "[agent]\ndefault_collectors = false\n[[collector]]\nname = \"often\"\nuse = \"load\"\nevery = \"10s\"\n\
         [[collector]]\nname = \"quarter\"\nuse = \"cpu\"\ncron = \"0 0/15 * * * ?\"\nzone = \"UTC\"\n\
         [[collector]]\nname = \"leap\"\nuse = \"memory\"\ncron = \"0 0 0 29 2 ?\"\nzone = \"UTC\"\n",
    );
    let plain = desk.say(&["next"]);
    let count = |name: &str| plain.out.lines().filter(|line| line.ends_with(&format!(" {name}"))).count();
    assert_eq!((plain.code, count("often"), count("quarter"), count("leap")), (0, 360, 4, 0), "{}", plain.out);
    let times: Vec<&str> = plain.out.lines().filter(|line| line.ends_with("quarter")).collect();
    assert!(times.iter().all(|line| line.contains(":00 +00:00")) && times.is_sorted(), "{times:?}");

    let json = desk.say(&["next", "--json", "--for", "2h", "quarter"]).json();
    let quarter = &json["collectors"][0];
    assert_eq!((quarter["runs"].as_u64(), json["collectors"].as_array().map(Vec::len)), (Some(8), Some(1)), "{json}");
    let first = quarter["next_ms"][0].as_i64().expect("a time");
    assert!(first % 900_000 == 0 && first > json["from_ms"].as_i64().expect("a time"), "{json}");

    desk.append("[[blackout]]\nname = \"always\"\nfrom = \"00:00\"\nto = \"24:00\"\ncollectors = [\"quarter\"]\n");
    let dark = desk.say(&["next", "--json", "quarter"]).json();
    assert_eq!((&dark["collectors"][0]["runs"], &dark["collectors"][0]["blackout"]), (&0.into(), &4.into()), "{dark}");

    for (args, words) in [
        (&["next", "oftn"][..], "no collector oftn; those that run are often, quarter, leap"),
        (&["next", "--for", "yesterday"], "a duration such as 30m"),
        (&["next", "--for", "8d"], "up to 7d"),
    ] {
        let refused = desk.say(args);
        assert!(refused.code == 2 && refused.err.contains(words), "{args:?}: {}", refused.err);
    }
}

#[test]
fn next_on_a_terminal_is_a_table_with_one_row_for_many_runs() {
    let desk = Desk::offline();
    desk.append(
        "[agent]\ndefault_collectors = false\n[[collector]]\nname = \"often\"\nuse = \"load\"\nevery = \"10s\"\n",
    );
    let command = format!("{} next --config {}", env!("CARGO_BIN_EXE_holdover"), desk.config().display());
    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output();
    let said = Said::of(output.expect("script starts"));
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("time ") && lines[1].contains("often"), "{}", said.out);
    assert!(lines[1].contains("every 10s") && lines[1].trim_end().ends_with("360 runs"), "{}", said.out);
}

#[test]
fn test_collector_runs_one_and_judges_it() {
    let desk = Desk::offline();
    desk.append(
        "[[collector]]\nname = \"good\"\nexec = [\"/bin/echo\", \"backup age=3600i\"]\nevery = \"1h\"\n\
         [[collector]]\nname = \"slow\"\nexec = [\"/bin/sleep\", \"60\"]\nevery = \"1h\"\ntimeout = \"300ms\"\n",
    );
    let good = desk.say(&["test-collector", "good"]);
    assert_eq!(good.code, 0, "{}", good.err);
    for words in [
        "/bin/echo backup age=3600i  # ",
        "\"age\":3600",
        "1, 0 of them err",
        " s of 5.000 s",
        "\nmemory    ",
        " of 256.0 MiB",
        "\nprocesses 1 of 64\n",
        "\noutput    17 B of 256.0 KiB",
    ] {
        assert!(good.out.contains(words), "{words:?} is not in:\n{}", good.out);
    }
    let slow = desk.say(&["test-collector", "slow"]);
    assert!(slow.code == 1 && slow.out.contains("\nerror     timeout: /bin/sleep: killed after 300ms"), "{}", slow.out);
    let json = desk.say(&["test-collector", "slow", "--json"]).json();
    assert_eq!((json["failed"].as_u64(), json["timeout_ms"].as_u64()), (Some(1), Some(300)), "{json}");
    assert!(json["took_ms"].as_u64() >= Some(300), "{json}");
    assert!(json["used"]["run_duration"].as_f64() >= Some(0.3), "{json}");
    let builtin = desk.say(&["test-collector", "cpu", "--json"]).json();
    assert!(builtin["records"][0]["fields"]["utilization"].is_number(), "ratios need two passes: {builtin}");
    let unknown = desk.say(&["test-collector", "goood"]);
    assert!(unknown.code == 2 && unknown.err.contains("collector goood is not configured"), "{}", unknown.err);
    assert!(!desk.outbox().exists(), "something was stored");
}
