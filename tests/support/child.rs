//! A child process with its output in a file: started, signalled, waited for and ended by process id.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{tail_of, wait_for};

pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Standard output and standard error are appended to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Running {
        let out = File::options().create(true).append(true).open(log).expect("log file in a fresh directory");
        let err = out.try_clone().expect("clone of an open file");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Running { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Standard error to `log`; standard output to a file of its own.
    pub fn start_split(name: &str, command: &mut Command, out: &Path, log: &Path) -> Running {
        let stdout = File::create(out).expect("output file in a fresh directory");
        let stderr = File::options().create(true).append(true).open(log).expect("log file in a fresh directory");
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Running { name: name.to_owned(), child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child's id is a process id");
        // It may have ended by itself just now; whoever cares asks `exited`.
        kill_process(pid, signal).ok();
    }

    /// `kill -9`, and gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, then waits until it is gone.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end; its log ends:\n{}", self.name, tail_of(&self.log, 30));
        wait_for(&what, limit, || self.exited())
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Panics with the log's end if it has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.exited() {
            let how = status.signal().map_or_else(|| format!("{status}"), |signal| format!("signal {signal}"));
            panic!("{} has ended ({how}); its log ends:\n{}", self.name, tail_of(&self.log, 40));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs it to its end with a standard output that nobody reads from the start: its exit code, and what it complained of.
pub fn unread(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
