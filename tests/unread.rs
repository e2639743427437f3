//! Commands whose standard output nobody reads any more, as behind `| head -1`: they end quietly, with the exit code of
//! their work; a standard output that cannot be written is an error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdover::hub::ledger::{Ledger, Told};
use holdover::wire::State;
use rustix::process::Signal;

use crate::support::child::{Running, unread};
use crate::support::{PATIENCE, free_port, root, tail_of, wait_until};

/// A configuration, and an outbox in which something is stored.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { dir: tempfile::tempdir().expect("a directory") };
        let old = root().join("tests/fixtures/host/old-kernel/1");
        let config = format!(
            "[host]\nroot = {old:?}\n\n[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_clear_text = true\n\n[outbox]\ndir = {:?}\n\n\
             [[collector]]\nname = \"broken\"\nexec = [\"/nonexistent/program\"]\nevery = \"1s\"\n",
            free_port(),
            desk.outbox(),
        );
        std::fs::write(desk.dir.path().join("holdover.toml"), config).expect("own directory");
        desk
    }

    fn outbox(&self) -> PathBuf {
        self.dir.path().join("outbox")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.args(args).arg("--config").arg(self.dir.path().join("holdover.toml")).env_remove("HOLDOVER_CONFIG");
        command
    }

    fn stores_something(&self) {
        let log = self.dir.path().join("agent.log");
        let mut agent = Running::start("holdover", &mut self.command(&["run"]), &log);
        let lines = || self.command(&["outbox", "export"]).output().map_or(0, |output| output.stdout.len());
        wait_until("something to be stored", PATIENCE, || {
            agent.assert_running();
            lines() > 0
        });
        agent.signal(Signal::TERM);
        assert!(agent.wait(PATIENCE).success(), "{}", tail_of(&log, 30));
    }

    /// Every segment is cut short.
    fn damage(&self) {
        let list = |dir: &Path| std::fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path());
        let epochs = list(&self.outbox()).filter(|path| path.is_dir());
        let segments: Vec<PathBuf> = epochs.flat_map(|epoch| list(&epoch).collect::<Vec<_>>()).collect();
        assert!(!segments.is_empty());
        for segment in segments {
            File::options().write(true).open(segment).and_then(|file| file.set_len(5000)).expect("own file");
        }
    }
}

/// Read or not, it ends with `code`, and says the same on standard error.
fn ends(mut command: Command, code: i32) {
    command.stdin(Stdio::null());
    let read = command.output().expect("it starts");
    assert!(!read.stdout.is_empty(), "{command:?} prints nothing: this tests nothing");
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert_eq!(read.status.code(), Some(code), "{command:?}: {said}");
    assert_eq!(unread(&mut command), (Some(code), said), "{command:?}");
    let full =
        command.stdout(File::options().write(true).open("/dev/full").expect("Linux")).output().expect("it starts");
    assert_ne!(full.status.code(), Some(0), "{command:?} was not heard");
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left"), "{command:?}: {full:?}");
}

#[test]
fn whether_anybody_reads_changes_neither_the_exit_code_nor_the_complaints() {
    let desk = Desk::new();
    desk.stores_something();
    for (code, args) in [
        (0, &["check-config"][..]),
        (0, &["check-config", "--json"]),
        (0, &["check-config", "--reference"]),
        (0, &["once", "memory"]),
        (1, &["once"]),
        (1, &["test-collector", "broken"]),
        (1, &["test-collector", "broken", "--json"]),
        (0, &["next"]),
        (0, &["next", "--json"]),
        (1, &["status"]),
        (1, &["status", "--json"]),
        (0, &["outbox", "ls"]),
        (0, &["outbox", "stats"]),
        (0, &["outbox", "losses"]),
        (0, &["outbox", "verify"]),
        (0, &["outbox", "export"]),
        (0, &["outbox", "quarantine", "ls"]),
        (0, &["outbox", "forget-hub"]),
    ] {
        ends(desk.command(args), code);
    }
    desk.damage();
    for args in [&["outbox", "verify"], &["outbox", "verify", "--json"][..]] {
        ends(desk.command(args), 1);
    }
    for args in [&["--help"], &["--version"], &["collectors"][..], &["collectors", "cpu", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.args(args);
        ends(command, 0);
    }
}

/// A gap of four records in an epoch that the host has given up.
#[test]
fn a_hub_tells_by_its_exit_code_what_nobody_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let hub = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
        command.args(args).arg("--dir").arg(dir.path());
        command
    };
    let mut ledger = Ledger::open(dir.path()).expect("own directory");
    let mut draft = ledger.draft().expect("an open ledger");
    draft.host("edge-01").expect("readable").hear("lab", Some(8), 1);
    draft.host("edge-01").expect("readable").told = Some(Told {
        state: State::Online,
        session: "s".to_owned(),
        sent: 1,
        epoch: 8,
        next: 1,
        pending: Vec::new(),
        backlog: 0,
        level: "hub".to_owned(),
        version: "1".to_owned(),
    });
    let account = draft.account("edge-01", 7).expect("readable");
    account.take(1..=5);
    account.take(10..=12);
    draft.commit("").expect("own directory");
    drop(ledger);
    for (code, args) in [
        (0, &["hosts"][..]),
        (0, &["hosts", "--json"]),
        (1, &["gaps"]),
        (1, &["gaps", "--json"]),
        (0, &["gaps", "other"]),
    ] {
        ends(hub(args), code);
    }
}
