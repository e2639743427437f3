//! The agent as users run it: `holdover run --config FILE`, a process that is killed like one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::child::Running;
use super::lab::{Identity, Lab};
use super::oracle::Commits;
use super::{PATIENCE, pass_time, read_lossy, tail_of};

/// How a test's agent is configured; every field has a working value, a test changes what it is about.
pub struct Setup {
    pub host: String,
    pub url: String,
    pub ca: PathBuf,
    pub identity: Option<Identity>,
    pub outbox: PathBuf,
    pub max_bytes: String,
    /// Further lines of `[broker]`.
    pub broker: String,
    /// Further lines of `[uplink]`.
    pub uplink: String,
    /// Whether this host's own metrics are collected too.
    pub default_collectors: bool,
    /// `[[collector]]` tables.
    pub collectors: String,
    /// Other sections.
    pub sections: String,
}

pub struct Agent {
    pub setup: Setup,
    pub log: PathBuf,
    /// One for each process so far.
    pub runs: Vec<Commits>,
    dir: PathBuf,
    child: Option<Running>,
    wrapper: Vec<String>,
}

impl Agent {
    /// Configured for the broker on `port` with a certificate of its own; not started. Emits a [`trickle`].
    pub fn new(lab: &Lab, host: &str, port: u16) -> Agent {
        let dir = lab.path(&format!("agent-{host}"));
        std::fs::create_dir_all(&dir).expect("fresh directory");
        let setup = Setup {
            host: host.to_owned(),
            url: format!("mqtts://localhost:{port}"),
            ca: lab.ca(),
            identity: Some(lab.client(host)),
            outbox: dir.join("outbox"),
            max_bytes: "64MiB".to_owned(),
            broker: String::new(),
            uplink: String::new(),
            default_collectors: false,
            collectors: trickle(&dir),
            sections: String::new(),
        };
        Agent { setup, log: dir.join("agent.log"), runs: Vec::new(), dir, child: None, wrapper: Vec::new() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// From the next start on, `words` stand in front of the command line.
    pub fn wrap(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Where the next process will witness its commits.
    pub fn next_commits(&self) -> PathBuf {
        self.dir.join(format!("commits-{}", self.runs.len()))
    }

    pub fn up(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let commits = self.next_commits();
        let mut command = self.command(&["run"]);
        command.env("HOLDOVER_WITNESS", &commits);
        self.child = Some(Running::start("holdover", &mut command, &self.log));
        self.runs.push(Commits::new(&commits));
    }

    /// SIGTERM; it has to end by itself, with success.
    pub fn down(&mut self) {
        let status = self.child.take().expect("it is running").terminate(PATIENCE);
        assert!(status.success(), "the agent ended with {status}; its log ends:\n{}", tail_of(&self.log, 30));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.take().expect("it is running").kill();
        self.runs.last_mut().expect("it ran").killed = true;
    }

    /// Ends a process that is expected to end by itself: its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        self.child.take().expect("it is running").wait(PATIENCE).code()
    }

    /// Panics if it has ended by itself.
    pub fn check(&mut self) {
        if let Some(child) = &mut self.child {
            child.assert_running();
        }
    }

    pub fn signal(&self, signal: Signal) {
        self.child.as_ref().expect("it is running").signal(signal);
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Where its processes have witnessed their commits.
    pub fn commit_files(&self) -> Vec<PathBuf> {
        let files = (0..self.runs.len()).map(|run| self.dir.join(format!("commits-{run}")));
        files.filter(|file| file.exists()).collect()
    }

    /// What `status --json` says.
    pub fn status(&self) -> serde_json::Value {
        let output = self.output(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    pub fn update_commits(&mut self) {
        self.runs.iter_mut().for_each(Commits::update);
    }

    pub fn committed(&mut self) -> usize {
        self.update_commits();
        self.runs.iter().map(|run| run.list.len()).sum()
    }

    /// Waits until so many more records than now have been committed.
    pub fn wait_for_more(&mut self, count: usize) {
        let goal = self.committed() + count;
        let end = std::time::Instant::now() + PATIENCE;
        while self.committed() < goal {
            self.check();
            let log = || tail_of(&self.log, 30);
            assert!(std::time::Instant::now() < end, "no {count} commits in {PATIENCE:?}; the log ends:\n{}", log());
            pass_time(Duration::from_millis(20));
        }
    }

    /// Waits until it has logged `words` (letter case aside).
    pub fn wait_for_log(&mut self, words: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while !read_lossy(&self.log).to_lowercase().contains(words) {
            self.check();
            let log = || tail_of(&self.log, 30);
            assert!(std::time::Instant::now() < end, "{words:?} is not in the log after {PATIENCE:?}:\n{}", log());
            pass_time(Duration::from_millis(20));
        }
    }

    /// The [`burst`] of that name emits nothing from now on.
    pub fn silence(&self, name: &str) {
        std::fs::remove_file(output_of(&self.dir, name)).expect("it was there");
    }

    /// Another subcommand on the same configuration.
    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("holdover starts")
    }

    /// The same with `input` on its standard input, and nobody who reads what it says.
    pub fn output_unread(&self, args: &[&str], input: &[u8]) -> Option<i32> {
        use std::io::Write as _;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("holdover starts");
        drop(child.stdout.take());
        // It may end before it has read everything.
        child.stdin.take().expect("piped").write_all(input).unwrap_or(());
        child.wait().expect("it ends").code()
    }

    /// The same with `input` on its standard input.
    pub fn output_with(&self, args: &[&str], input: &[u8]) -> Output {
        use std::io::Write as _;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("holdover starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // It may end before it has read everything.
            scope.spawn(move || stdin.write_all(input).unwrap_or(()));
            child.wait_with_output().expect("it ends")
        })
    }

    /// Every checksum is right and every seq accounted for once.
    pub fn verify_outbox(&self) {
        let output = self.output(&["outbox", "verify"]);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "outbox verify: {}:\n{said}", output.status);
    }

    fn command(&self, args: &[&str]) -> Command {
        let config = self.dir.join("holdover.toml");
        // Whole at every moment: a process started just now may be reading it.
        let fresh = config.with_extension("fresh");
        std::fs::write(&fresh, self.config()).expect("own directory");
        std::fs::rename(&fresh, &config).expect("own directory");
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_holdover").to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).arg("--config").arg(config);
        command
    }

    fn config(&self) -> String {
        let Setup {
            host,
            url,
            ca,
            identity,
            outbox,
            max_bytes,
            broker,
            uplink,
            default_collectors,
            collectors,
            sections,
        } = &self.setup;
        let mut text = format!(
            "[host]\nid = {host:?}\nsite = \"lab\"\n\n[broker]\nurl = {url:?}\nca = {ca:?}\nkeep_alive = \"10s\"\n{broker}"
        );
        if let Some(Identity { cert, key }) = identity {
            write!(text, "cert = {cert:?}\nkey = {key:?}\n").expect("a String takes all");
        }
        write!(text, "\n[outbox]\ndir = {outbox:?}\nmax_bytes = {max_bytes:?}\ncommit_window = \"50ms\"\n")
            .expect("a String takes all");
        write!(text, "\n[uplink]\nreconnect_min = \"100ms\"\nreconnect_max = \"1s\"\n{uplink}\n")
            .expect("a String takes all");
        write!(text, "[agent]\ndefault_collectors = {default_collectors}\n\n{sections}\n{collectors}")
            .expect("a String takes all");
        text
    }
}

/// A `[[collector]]` called `name` that emits `lines` records each second, with `filler` bytes of text in each.
/// Jitter spreads several of them over the second. Falls silent when its file is deleted: see [`Agent::silence`].
pub fn burst(dir: &Path, name: &str, lines: u32, filler: usize) -> String {
    let path = output_of(dir, name);
    let text = "x".repeat(filler);
    let line = |n| format!("{{\"tags\":{{\"n\":\"{n}\"}},\"fields\":{{\"text\":\"{text}\",\"value\":{n}}}}}\n");
    std::fs::write(&path, (0..lines).map(line).collect::<String>()).expect("own directory");
    format!(
        "[[collector]]\nname = {name:?}\nexec = [\"/bin/sh\", \"-c\", \"cat {} 2>/dev/null || :\"]\nevery = \"1s\"\njitter = \"900ms\"\n\
         max_output = \"16MiB\"\n\n",
        path.display()
    )
}

fn output_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.ndjson"))
}

/// About 100 small records a second, in four runs at different times.
pub fn trickle(dir: &Path) -> String {
    ["a", "b", "c", "d"].map(|name| burst(dir, name, 25, 40)).concat()
}
