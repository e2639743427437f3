//! `holdover-hub demo` as its viewers see it, piped: what it says at the end, and what it leaves behind.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::child::{Running, unread};
use crate::support::{PATIENCE, read_lossy, wait_for, wait_until};

/// A show in a temporary directory of its own. Fields are dropped in this order.
struct Show {
    child: Running,
    dir: tempfile::TempDir,
}

impl Show {
    fn start(args: &[&str]) -> Show {
        let dir = tempfile::Builder::new().prefix("holdover-shown-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("tmp")).expect("own directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
        command.arg("demo").args(args).env("TMPDIR", dir.path().join("tmp"));
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let child = Running::start_split("holdover-hub demo", &mut command, &out, &err);
        Show { child, dir }
    }

    /// With its three agents at work.
    fn begun() -> Show {
        let mut show = Show::start(&["--seconds", "60"]);
        wait_until("records of all agents to arrive", PATIENCE, || {
            show.child.assert_running();
            show.out().contains("stores the")
        });
        assert_eq!(show.agents().len(), 3);
        show
    }

    fn out(&self) -> String {
        read_lossy(&self.dir.path().join("out"))
    }

    fn err(&self) -> String {
        read_lossy(&self.dir.path().join("err"))
    }

    /// Plays to the end: the exit code, and what was said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait(2 * PATIENCE);
        self.nothing_is_left();
        (status.code(), self.out() + &self.err())
    }

    fn ended(&mut self) -> ExitStatus {
        self.child.wait(Duration::from_secs(30))
    }

    /// The processes whose command line names this show's directory: its agents.
    fn agents(&self) -> Vec<Pid> {
        let own = self.dir.path().to_str().expect("ASCII");
        let processes = std::fs::read_dir("/proc").expect("a process table").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let named = |pid: &i32| read_lossy(Path::new(&format!("/proc/{pid}/cmdline"))).contains(own);
        pids.filter(named).filter_map(Pid::from_raw).collect()
    }

    fn nothing_is_left(&self) {
        assert_eq!(self.agents(), [], "no process is left");
        let left: Vec<_> = std::fs::read_dir(self.dir.path().join("tmp")).expect("own directory").collect();
        assert!(left.is_empty(), "nothing is left on disk: {left:?}");
    }
}

/// Of the table at the end, by host: recorded, delivered, duplicates, declared, silently lost.
fn rows(said: &str) -> Vec<(String, [u64; 5])> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let host = words.next().filter(|word| word.starts_with("demo-"))?.to_owned();
        let numbers: Vec<u64> = words.map_while(|word| word.replace(',', "").parse().ok()).collect();
        Some((host, numbers.try_into().ok()?))
    };
    said.lines().filter_map(row).collect()
}

#[test]
fn nothing_is_lost_and_every_record_is_in_the_account() {
    let (code, said) = Show::start(&["--seconds", "20"]).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("none is silently lost"), "{said}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "piped, it is plain text: {said:?}");
    let rows = rows(&said);
    assert_eq!(rows.iter().map(|(host, _)| &**host).collect::<Vec<_>>(), ["demo-a", "demo-b", "demo-c"], "{said}");
    for (host, [recorded, delivered, _, declared, lost]) in &rows {
        // What waits for a next start is the rest, and named below the table.
        let held = recorded - delivered - declared;
        assert!(*recorded >= 60 && *lost == 0, "{host}: {said}");
        assert_eq!(held > 0, said.contains(&format!("{host}: seq")), "{said}");
    }
}

#[test]
fn a_planted_loss_fails_the_demo_and_is_named() {
    let (code, said) = Show::start(&["--seconds", "20", "--plant-loss"]).end();
    assert_eq!(code, Some(1), "{said}");
    let named: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  SILENTLY LOST: demo-b ")).collect();
    let planted: Vec<_> = said
        .lines()
        .filter_map(|line| line.strip_prefix("  nobody: ")?.split_once('.'))
        .map(|(seqs, _)| seqs)
        .collect();
    assert!(planted.len() == 1 && planted[0].starts_with("seq "), "{said}");
    assert_eq!(named, planted, "{said}");
    let lost: Vec<u64> = rows(&said).iter().map(|(_, row)| row[4]).collect();
    assert_eq!(lost, [0, 1, 0], "{said}");
}

#[test]
fn an_interruption_ends_everything_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut show = Show::begun();
        show.child.signal(signal);
        assert_eq!(show.ended().code(), Some(130), "{}", show.err());
        show.nothing_is_left();
        assert!(show.err().contains("interrupted"), "{}", show.err());
    }
}

/// What is not over has proved nothing.
#[test]
fn a_show_that_nobody_watches_ends_quietly_and_is_no_success() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
    command.args(["demo", "--seconds", "60"]).env("TMPDIR", dir.path());
    let (code, said) = unread(&mut command);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("own directory").collect();
    assert!(left.is_empty(), "nothing is left on disk: {left:?}");
}

#[test]
fn an_agent_that_dies_is_told_and_ends_the_demo() {
    let mut show = Show::begun();
    kill_process(show.agents()[0], Signal::KILL).expect("it runs");
    assert_eq!(show.ended().code(), Some(1));
    assert!(show.err().contains("ended by itself (signal: 9"), "{}", show.err());
    show.nothing_is_left();
}

/// Nobody can clean up then, but agents end with whoever started them.
#[test]
fn agents_do_not_outlive_a_killed_demo() {
    let mut show = Show::begun();
    show.child.kill();
    wait_for("the agents to end", PATIENCE, || show.agents().is_empty().then_some(()));
}
