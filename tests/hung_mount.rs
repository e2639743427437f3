//! A real mount that hangs: a FUSE file system whose daemon stops answering, in a mount namespace of its own, and the
//! agent as users run it.
//!
//! Needs root and /dev/fuse, as continuous integration has them; without them the tests fail.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use holdover::record::{ErrorKind, Record};
use rustix::process::Signal;

use crate::support::child::Running;
use crate::support::oracle::Commits;
use crate::support::{PATIENCE, free_port, pass_time, python, read_lossy, tail_of, tool, wait_for, wait_until};

/// A directory in which the file system is mounted and the agent runs. Fields are dropped in this order.
struct Bench {
    server: Running,
    commits: Commits,
    dir: tempfile::TempDir,
}

impl Bench {
    /// With a server that answers. `manner` says how it does not, later: see the tool.
    fn new(manner: &str) -> Bench {
        let dir = tempfile::Builder::new().prefix("holdover-hung-").tempdir().expect("a directory");
        let (mountpoint, log) = (dir.path().join("mnt"), dir.path().join("server.log"));
        std::fs::create_dir(&mountpoint).expect("own directory");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(python().get_program()).arg("-B");
        command.arg(tool("hung_fs.py")).arg(&mountpoint).arg(dir.path().join("hang")).arg(manner);
        let mut server = Running::start("hung_fs.py", &mut command, &log);
        wait_until("the file system to be mounted", PATIENCE, || {
            server.assert_running();
            read_lossy(&log).contains("ready")
        });
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_clear_text = true\n\n[outbox]\ndir = {:?}\n\
             commit_window = \"50ms\"\n\n[agent]\ndefault_collectors = false\nstop_timeout = \"2s\"\n\n\
             [[collector]]\nname = \"cpu\"\nevery = \"1s\"\n\n[[collector]]\nname = \"filesystems\"\nevery = \"1s\"\n\
             params = {{ network = true, types = [\"tmpfs\"], timeout = \"2s\" }}\n",
            free_port(),
            dir.path().join("outbox")
        );
        std::fs::write(dir.path().join("holdover.toml"), config).expect("own directory");
        let commits = Commits::new(&dir.path().join("commits"));
        Bench { server, commits, dir }
    }

    fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The same program with the same process id, in the server's mount namespace.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.server.id())).arg(program).stdin(Stdio::null());
        command
    }

    fn holdover(&self, args: &[&str]) -> Command {
        let mut command = self.inside(env!("CARGO_BIN_EXE_holdover"));
        command.args(args).arg("--config").arg(self.dir.path().join("holdover.toml"));
        command.env("HOLDOVER_WITNESS", self.dir.path().join("commits"));
        command
    }

    fn agent(&self) -> Running {
        Running::start("holdover", &mut self.holdover(&["run"]), &self.log())
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    /// From now on nothing is answered; proven with another program.
    fn hang(&self) {
        std::fs::write(self.dir.path().join("hang"), "").expect("own directory");
        let mut command = self.inside("timeout");
        command.args(["--signal=KILL", "1", "stat", "--file-system"]).arg(self.mountpoint().join("below"));
        // Left alone: where it cannot be killed, it ends when the server answers again.
        let other = Running::start("stat", &mut command, &self.dir.path().join("stat.log"));
        pass_time(Duration::from_millis(1500));
        let said = read_lossy(&self.dir.path().join("stat.log"));
        assert!(!said.contains("Blocks"), "the file system does not hang: {said}");
        other.signal(Signal::KILL);
    }

    fn answer(&self) {
        std::fs::remove_file(self.dir.path().join("hang")).expect("it hung");
    }

    /// The records committed since the last call.
    fn news(&mut self) -> Vec<Record> {
        let from = self.commits.list.len();
        self.commits.update();
        self.commits.list[from..].iter().map(|(_, hex)| decode(hex)).collect()
    }

    /// Waits for the records about `mountpoint` until one is as wanted; all records seen meanwhile.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        let mut seen = Vec::new();
        let log = self.log();
        wait_for(&format!("{what}; the log ends:\n{}", tail_of(&log, 20)), PATIENCE, || {
            let news = self.news();
            let found = news.iter().any(&wanted);
            seen.extend(news);
            found.then_some(())
        });
        seen
    }
}

fn decode(hex: &str) -> Record {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..hex.len() / 2).map(|n| byte(2 * n)).collect();
    rmp_serde::from_slice(&bytes).expect("a record")
}

fn is_about(record: &Record, mountpoint: &str) -> bool {
    record.name == "system.filesystem" && record.tags.get("mountpoint").is_some_and(|tag| **tag == *mountpoint)
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count).unwrap_or_default()
}

#[test]
fn a_hung_mount_hinders_neither_other_collectors_nor_the_stop() {
    let mut bench = Bench::new("deaf");
    let (mnt, below) = (bench.mountpoint(), bench.mountpoint().join("below"));
    let (mnt, below) = (mnt.to_str().expect("ASCII"), below.to_str().expect("ASCII"));
    let mut agent = bench.agent();
    bench.wait_for("a record of the mount while its server answers", |r| is_about(r, mnt) && r.error.is_none());
    let healthy = threads(agent.id());

    bench.hang();
    let overdue =
        |r: &Record, at: &str| is_about(r, at) && r.error.as_ref().is_some_and(|e| e.kind == ErrorKind::Timeout);
    bench.wait_for("the mount to be reported", |r| overdue(r, mnt));
    bench.wait_for("the tmpfs below it to be reported", |r| overdue(r, below));
    let (mut seen, mut most) = (Vec::new(), 0);
    while seen.iter().filter(|r| overdue(r, mnt)).count() < 8 {
        agent.assert_running();
        let more = bench.wait_for("the next run", |r| overdue(r, mnt));
        seen.extend(more);
        most = most.max(threads(agent.id()));
    }
    assert!(most <= healthy + 2, "{most} threads, {healthy} while all was well: one for each mount that hangs");
    assert!(seen.iter().any(|r| is_about(r, "/") && r.error.is_none()), "its neighbour is measured");
    // In order, and never more than one period apart (one may be late on a busy machine): none was missed.
    assert_eq!(seen.iter().find(|r| r.name == "holdover.collector.missed"), None, "a run did not happen");
    let cpu = seen.iter().filter(|r| r.name == "system.cpu").count();
    let runs = seen.iter().filter(|r| is_about(r, "/")).count();
    assert!(cpu + 1 >= runs && runs >= 8, "{cpu} records of cpu beside {runs} runs of filesystems");

    let status = agent.terminate(Duration::from_secs(10));
    assert!(status.success(), "it ended with {status}:\n{}", tail_of(&bench.log(), 20));
    bench.answer();
}

/// Lines of the operator's that are behind a mount which hangs: what is in force goes on, and their change is noticed later.
#[test]
fn a_configuration_whose_mount_hangs_holds_no_run_up() {
    let mut bench = Bench::new("deaf");
    let lines = bench.mountpoint().join("below/user.cron");
    let write = |bench: &Bench, line: &str| {
        let script = format!("echo '{line}' > {}", lines.display());
        assert!(bench.inside("sh").arg("-c").arg(script).status().expect("nsenter").success());
    };
    write(&bench, "# nothing yet");
    let file = bench.dir.path().join("holdover.toml");
    let config = read_lossy(&file) + &format!("\n[scripts]\nuser_lines = {lines:?}\n");
    std::fs::write(&file, config.replace("name = \"filesystems\"", "name = \"filesystems\"\nenabled = false"))
        .expect("own");
    let mut agent = bench.agent();
    bench.wait_for("a record", |r| r.name == "system.cpu" && !r.fields.is_empty());

    bench.hang();
    let log = bench.log();
    let mut seen = Vec::new();
    wait_until("the files that do not answer to be told", PATIENCE, || {
        agent.assert_running();
        seen.extend(bench.news());
        read_lossy(&log).contains("files have not answered for 30 s")
    });
    let cpu = seen.iter().filter(|r| r.name == "system.cpu").count();
    assert!(cpu >= 25, "{cpu} runs in at least 30 s");
    assert_eq!(seen.iter().find(|r| r.name == "holdover.collector.missed"), None, "a run did not happen");

    bench.answer();
    write(&bench, "[* * * * * ?] /bin/echo n=1");
    wait_until("the change to be noticed", PATIENCE, || {
        agent.assert_running();
        read_lossy(&log).contains("the configuration is in force")
    });
    assert!(agent.terminate(Duration::from_secs(10)).success());
}

#[test]
fn a_mount_that_answers_again_or_is_gone_is_told_so() {
    let mut bench = Bench::new("holding");
    let mnt = bench.mountpoint();
    let mnt = mnt.to_str().expect("ASCII");
    let mut agent = bench.agent();
    bench.hang();
    bench.wait_for("the mount to be reported", |r| is_about(r, mnt) && r.error.is_some());
    bench.answer();
    let seen = bench.wait_for("the mount to be measured", |r| is_about(r, mnt) && r.error.is_none());
    assert!(seen.iter().any(|r| r.name == "system.cpu"));
    // The server dies: the kernel says so at once, and that is no time-out.
    bench.server.kill();
    bench.wait_for("the end of its server", |r| {
        is_about(r, mnt) && r.error.as_ref().is_some_and(|e| e.kind != ErrorKind::Timeout)
    });
    assert!(agent.terminate(Duration::from_secs(10)).success());
}

/// A thread that the kernel does not let go keeps the process in the table, whoever it is. What is the agent's to do is
/// done before: all is committed, the outbox is closed and free for the next agent.
#[test]
fn a_thread_that_cannot_be_killed_keeps_nothing_but_the_process_id() {
    let mut bench = Bench::new("holding");
    let mnt = bench.mountpoint();
    let mnt = mnt.to_str().expect("ASCII");
    let mut first = bench.agent();
    bench.hang();
    bench.wait_for("the mount to be reported", |r| is_about(r, mnt) && r.error.is_some());
    first.signal(Signal::TERM);
    let log = bench.log();
    wait_until("the agent to have stopped", Duration::from_secs(10), || read_lossy(&log).contains("\"stopped\""));
    bench.news();
    let mut second = bench.agent();
    let seen = bench.wait_for("records of the next agent", |r| r.name == "system.cpu" && !r.fields.is_empty());
    let seqs: BTreeSet<_> = seen.iter().map(|r| r.seq).collect();
    assert_eq!(seqs.len(), seen.len(), "no seq twice");
    bench.answer();
    assert!(first.wait(Duration::from_secs(10)).success(), "gone as soon as the kernel lets it");
    assert!(second.terminate(Duration::from_secs(10)).success());
}

/// The hub's directory is behind the mount: one hub stores there already, another is at its start.
#[test]
fn a_hub_whose_disk_hangs_ends_when_it_is_told_to() {
    let bench = Bench::new("deaf");
    let below = bench.mountpoint().join("below");
    let hub = |name: &str| {
        let mut command = bench.inside(env!("CARGO_BIN_EXE_holdover-hub"));
        command.args(["ingest", "--hub", name, "--allow-clear-text", "--broker"]);
        command.arg(format!("mqtt://127.0.0.1:{}", free_port())).arg("--dir").arg(below.join(name));
        Running::start("holdover-hub", &mut command, &bench.dir.path().join(format!("{name}.log")))
    };
    let mut running = hub("running");
    wait_until("the hub to serve its socket", PATIENCE, || {
        running.assert_running();
        let mut command = bench.inside("test");
        command.arg("-S").arg(below.join("running/hub.sock")).status().expect("nsenter").success()
    });
    bench.hang();
    let mut starting = hub("starting");
    pass_time(Duration::from_secs(2));
    for hub in [&mut running, &mut starting] {
        hub.assert_running();
        let status = hub.terminate(Duration::from_secs(40));
        assert!(status.success(), "it ended with {status}");
    }
    assert!(read_lossy(&bench.dir.path().join("starting.log")).contains("the disk does not answer"));
    bench.answer();
}
