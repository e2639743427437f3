//! `holdover-hub ingest` as users run it, a process that is killed like one, and what it has stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value as Json;

use super::agent::Agent;
use super::child::Running;
use super::lab::{Identity, Lab};
use super::oracle::Key;
use super::{PATIENCE, pass_time, read_lossy, tail_of, wait_until};

pub struct Hub {
    pub dir: PathBuf,
    pub log: PathBuf,
    pub port: u16,
    pub args: Vec<String>,
    pub verbose: bool,
    ca: PathBuf,
    identity: Identity,
    wrapper: Vec<String>,
    child: Option<Running>,
}

impl Hub {
    /// As the user `hub`, whose client id is its name; not started.
    pub fn new(lab: &Lab, port: u16) -> Hub {
        let dir = lab.path("hub");
        std::fs::create_dir_all(&dir).expect("fresh directory");
        let (log, identity) = (lab.path("hub.log"), lab.client("hub"));
        Hub {
            dir,
            log,
            port,
            args: Vec::new(),
            verbose: true,
            ca: lab.ca(),
            identity,
            wrapper: Vec::new(),
            child: None,
        }
    }

    /// From the next start on, `words` stand in front of the command line.
    pub fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    pub fn up(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_holdover-hub").to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["ingest", "--hub", "hub"]).arg("--dir").arg(&self.dir);
        command.args(["--broker", &format!("mqtts://localhost:{}", self.port)]).arg("--ca").arg(&self.ca);
        command.arg("--cert").arg(&self.identity.cert).arg("--key").arg(&self.identity.key).args(&self.args);
        if self.verbose {
            command.arg("--verbose");
        }
        self.child = Some(Running::start("holdover-hub ingest", &mut command, &self.log));
    }

    /// Waits until it has subscribed, so many times in its life.
    pub fn listening(&mut self, times: usize) {
        wait_until("the hub to listen", PATIENCE, || {
            self.check();
            read_lossy(&self.log).matches("listening on").count() >= times
        });
    }

    /// SIGTERM; it has to end by itself, with success.
    pub fn down(&mut self) {
        let status = self.child.take().expect("it is running").terminate(PATIENCE);
        assert!(status.success(), "the hub ended with {status}; its log ends:\n{}", tail_of(&self.log, 30));
    }

    /// Ends a process that is expected to end by itself: its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        self.child.take().expect("it is running").wait(PATIENCE).code()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.take().expect("it is running").kill();
    }

    /// Panics if it has ended by itself.
    pub fn check(&mut self) {
        if let Some(child) = &mut self.child {
            child.assert_running();
        }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Another subcommand on the same directory.
    pub fn output(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdover-hub"));
        command.args(args).arg("--dir").arg(&self.dir).output().expect("holdover-hub starts")
    }

    pub fn json(&self, args: &[&str]) -> Json {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("holdover-hub {args:?}: {e}: {said}"))
    }

    /// Waits until every record that the agent has committed up to now is stored.
    pub fn wait_until_stored(&mut self, agent: &mut Agent, limit: Duration) {
        agent.update_commits();
        let mut absent: Vec<_> = agent.runs.iter().flat_map(|run| run.list.iter().map(|(key, _)| *key)).collect();
        wait_until(&format!("all records of {} to be stored", agent.setup.host), limit, || {
            agent.check();
            self.check();
            let stored = self.stored();
            absent.retain(|key| !stored.has(&agent.setup.host, *key));
            if !absent.is_empty() {
                pass_time(Duration::from_millis(200));
            }
            absent.is_empty()
        });
    }

    pub fn stored(&self) -> Stored {
        Stored::read(&self.dir)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the hub's log ends:\n{}", tail_of(&self.log, 30));
        }
    }
}

/// The lines of all files, with how often each record is there.
#[derive(Debug, Default)]
pub struct Stored {
    pub records: BTreeMap<(String, Key), Vec<Json>>,
    /// Lines that tell how to correct the times of records before them.
    pub corrections: Vec<Json>,
    pub files: usize,
    /// What follows the last newline of a file.
    pub torn: Vec<String>,
}

impl Stored {
    pub fn read(dir: &Path) -> Stored {
        let mut stored = Stored::default();
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "ndjson")).collect();
        files.sort();
        for file in files {
            stored.files += 1;
            let text = read_lossy(&file);
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            if whole < text.len() {
                stored.torn.push(text[whole..].to_owned());
            }
            for line in text[..whole].lines() {
                let line: Json =
                    serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", file.display()));
                if line["type"] == "clock" {
                    stored.corrections.push(line);
                    continue;
                }
                let number = |name: &str| line[name].as_u64().expect("a number");
                let key = (line["host"].as_str().expect("a host").to_owned(), (number("epoch"), number("seq")));
                stored.records.entry(key).or_default().push(line);
            }
        }
        stored
    }

    /// Reads and deletes all files but the newest, as somebody who ships them elsewhere would.
    pub fn take_final_files(&mut self, dir: &Path) {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "ndjson")).collect();
        files.sort();
        files.pop();
        for file in files {
            let aside = tempfile::tempdir().expect("a temporary directory");
            std::fs::copy(&file, aside.path().join("x.ndjson")).expect("a readable file");
            self.merge(&Stored::read(aside.path()));
            std::fs::remove_file(&file).expect("its own file");
        }
    }

    pub fn merge(&mut self, other: &Stored) {
        self.corrections.extend(other.corrections.iter().cloned());
        for (key, lines) in &other.records {
            self.records.entry(key.clone()).or_default().extend(lines.iter().cloned());
        }
    }

    pub fn has(&self, host: &str, key: Key) -> bool {
        self.records.contains_key(&(host.to_owned(), key))
    }

    pub fn twice(&self) -> Vec<&(String, Key)> {
        self.records.iter().filter(|(_, lines)| lines.len() > 1).map(|(key, _)| key).collect()
    }
}
