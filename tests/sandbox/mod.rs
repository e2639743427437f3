//! Scripts in the real sandbox: the shipped binary, real processes, by control groups and without.

mod allowed;
mod hostile;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::child::Running;
use crate::support::{PATIENCE, free_port, read_lossy, wait_until};

/// Scripts of a configuration, in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
    /// A number that no other process has among its arguments: seconds to sleep.
    mark: String,
    config: String,
    /// A control group that is the test's.
    group: Option<PathBuf>,
}

/// By which means processes are bounded.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Means {
    /// A control group for each run, below one that the test makes and hands over.
    Groups,
    /// Limits of processes, a sub-reaper, looking at /proc.
    Watch,
}

impl Bench {
    fn new(means: Means) -> Bench {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{}.{:03}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix("holdover-sandbox-").tempdir().expect("a directory");
        // Scripts that run as somebody else find their way in.
        mode(dir.path(), 0o755);
        let group = (means == Means::Groups).then(|| unified().join(format!("holdover-test-{unique}")));
        if let Some(group) = &group {
            std::fs::create_dir(group).expect("root may make control groups");
        }
        let place = group.as_ref().map_or("off".to_owned(), |group| group.display().to_string());
        let config = format!(
            "[broker]\nurl = \"mqtt://127.0.0.1:{}\"\nallow_clear_text = true\n[outbox]\ndir = {:?}\n\
             [agent]\ndefault_collectors = false\ncgroup = {place:?}\n",
            free_port(),
            dir.path().join("outbox"),
        );
        Bench { dir, mark: format!("7{unique}"), config, group }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One more collector, by its argument list and further keys. `MARK` stands for the mark.
    fn add(&mut self, name: &str, argv: &[&str], keys: &str) {
        let argv: Vec<String> = argv.iter().map(|word| word.replace("MARK", &self.mark)).collect();
        let every = if keys.contains("every") { "" } else { "every = \"10s\"\n" };
        self.config += &format!("[[collector]]\nname = {name:?}\nexec = {argv:?}\n{every}{keys}\n");
    }

    fn shell(&mut self, name: &str, text: &str, keys: &str) {
        self.add(name, &["/bin/sh", "-c", text], keys);
    }

    fn write(&self, name: &str, text: &str, permissions: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("own directory");
        mode(&path, permissions);
        path
    }

    fn command(&self, verb: &str) -> Command {
        let config = self.path("holdover.toml");
        std::fs::write(&config, &self.config).expect("own directory");
        let mut command = Command::new("timeout");
        command.arg((3 * PATIENCE.as_secs()).to_string()).arg(env!("CARGO_BIN_EXE_holdover")).arg(verb);
        command.arg("--config").arg(config).env_remove("HOLDOVER_CONFIG").stdin(Stdio::null());
        command
    }

    /// Runs every collector once and gives their records.
    fn once(&self) -> Vec<Value> {
        let output = self.command("once").output().expect("timeout starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
        let lines = String::from_utf8(output.stdout).expect("records are text");
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// An agent that has begun to work. It is a child of `timeout`, which hands signals on.
    fn agent(&self) -> Running {
        let config = self.path("holdover.toml");
        std::fs::write(&config, &self.config).expect("own directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover"));
        command.arg("run").arg("--config").arg(config).env_remove("HOLDOVER_CONFIG");
        let mut agent = Running::start("holdover", &mut command, &self.path("agent.log"));
        wait_until("the status socket", PATIENCE, || {
            agent.assert_running();
            self.path("outbox/agent.sock").exists()
        });
        agent
    }

    /// What a collector's account says in `status`.
    fn account(&self, name: &str) -> Value {
        let output = self.command("status").arg("--json").output().expect("timeout starts");
        let status: Value = serde_json::from_slice(&output.stdout).expect("status is JSON");
        let all = status["collectors"].as_array().expect("a list");
        all.iter().find(|account| account["name"] == name).expect("it is configured").clone()
    }

    /// Nothing of any run is there any more: no process with the mark, no group.
    fn assert_nothing_left(&self) {
        wait_until(&format!("the end of all processes with {}", self.mark), PATIENCE, || self.marked().is_empty());
        let Some(group) = &self.group else { return };
        wait_until("the end of all groups of runs", PATIENCE, || {
            let entries = std::fs::read_dir(group).expect("it is ours").flatten();
            entries.filter(|entry| entry.path().is_dir()).count() == 0
        });
    }

    /// Processes that have the mark among their arguments or variables.
    fn marked(&self) -> Vec<String> {
        let all = std::fs::read_dir("/proc").expect("/proc is there").flatten();
        let text = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).replace('\0', " ");
        let lines = all.map(|entry| format!("{}: {}", entry.path().display(), text(entry.path().join("cmdline"))));
        lines.filter(|line| line.contains(&self.mark)).collect()
    }
}

impl Drop for Bench {
    /// A failed test leaves nothing either.
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let below = std::fs::read_dir(group).into_iter().flatten().flatten();
            for run in below.map(|entry| entry.path()).filter(|path| path.is_dir()) {
                std::fs::write(run.join("cgroup.kill"), "1").ok();
                std::fs::remove_dir(run).ok();
            }
            std::fs::remove_dir(group).ok();
        }
    }
}

/// Where the kernel's control groups of version 2 are.
fn unified() -> PathBuf {
    let mounts = read_lossy(Path::new("/proc/mounts"));
    let found = mounts.lines().find_map(|line| {
        let mut columns = line.split(' ').skip(1);
        let (point, kind) = (columns.next()?, columns.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    });
    found.expect("a cgroup2 file system is mounted (mount -t cgroup2 none DIRECTORY)")
}

fn mode(path: &Path, permissions: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(permissions)).expect("own file");
}

/// The records of one collector.
fn of<'a>(records: &'a [Value], collector: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["collector"] == collector).collect()
}

/// Kind and message of the last error among a collector's records.
fn error<'a>(records: &'a [Value], collector: &str) -> (&'a str, &'a str) {
    let last = of(records, collector).into_iter().rfind(|record| record["status"] == "err");
    let error = &last.unwrap_or_else(|| panic!("{collector} has no error: {records:#?}"))["error"];
    (error["kind"].as_str().expect("a word"), error["message"].as_str().expect("a text"))
}
