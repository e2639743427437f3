//! One process, from spawn to the death of its group: bounded in time and output in every path.
//! Knows nothing of records; an error here is the process's, not its output's.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{DEFAULT_PATH, Script};
use crate::collect::text;
use crate::record::{ErrorKind, RunError};

/// After the process has ended, how long a child of it may still hold the pipe before it is dropped.
const DRAIN: Duration = Duration::from_millis(100);
/// After SIGKILL, how long to wait for the end; a process in an uninterruptible sleep dies later and is reaped then.
const REAP: Duration = Duration::from_secs(2);
/// How much of standard error's end is kept for the message.
const STDERR_TAIL: usize = 4096;

pub(super) struct Ended {
    /// At most `max_output` bytes.
    pub stdout: Vec<u8>,
    pub failure: Option<RunError>,
    /// Its exit code, if it ended by itself.
    pub exit: Option<i32>,
}

/// What made us stop waiting for a process.
enum How {
    Exited(ExitStatus),
    TimedOut,
    TooMuch(&'static str),
    /// The kernel did not tell how it ended.
    Unknown(io::Error),
}

/// Kills the group when dropped. The id cannot have been given to others by then: ids are handed out in turn, and
/// between the reaping of the leader and this at most [`DRAIN`] goes by.
struct Group(Pid);

impl Group {
    /// The group may be empty by now; that is no error.
    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.0, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::debug!(pgid = self.0.as_raw_nonzero().get(), %error, "cannot signal the process group of a script");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Standard output and error as they come in.
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    stdout: Vec<u8>,
    /// The last [`STDERR_TAIL`] bytes, with some slack.
    stderr: Vec<u8>,
    stderr_total: usize,
    max: usize,
}

impl Pipes {
    fn new(child: &mut Child, max: usize) -> Self {
        let (out, err) = (child.stdout.take(), child.stderr.take());
        Self { out, err, stdout: Vec::new(), stderr: Vec::new(), stderr_total: 0, max }
    }

    fn is_open(&self) -> bool {
        self.out.is_some() || self.err.is_some()
    }

    /// Waits for some bytes or an end on either pipe; `Some` names the stream that went over the limit. Cancel-safe.
    async fn pump(&mut self) -> Option<&'static str> {
        let mut from_out = [0u8; 8192];
        let mut from_err = [0u8; 1024];
        tokio::select! {
            n = read(&mut self.out, &mut from_out) => {
                let room = self.max - self.stdout.len();
                self.stdout.extend_from_slice(&from_out[..n.min(room)]);
                (n > room).then_some("standard output")
            }
            n = read(&mut self.err, &mut from_err) => {
                self.stderr.extend_from_slice(&from_err[..n]);
                if self.stderr.len() > 2 * STDERR_TAIL {
                    self.stderr.drain(..self.stderr.len() - STDERR_TAIL);
                }
                self.stderr_total = self.stderr_total.saturating_add(n);
                (self.stderr_total > self.max).then_some("standard error")
            }
        }
    }

    /// As much as is there within `limit`, or until the last writer is gone.
    async fn drain(&mut self, limit: Duration) -> Option<&'static str> {
        let deadline = Instant::now() + limit;
        while self.is_open() {
            match timeout_at(deadline, self.pump()).await {
                Ok(None) => {}
                Ok(over) => return over,
                Err(_) => break,
            }
        }
        None
    }

    /// `: last line of standard error`, or nothing.
    fn last_words(&self) -> String {
        let line = self.stderr.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).rfind(|line| !line.is_empty());
        line.map_or_else(String::new, |line| format!(": {}", text::clean(line, 200)))
    }
}

/// Bytes read; a pipe at its end, or broken, is dropped. Never ready once that has happened.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> usize {
    let Some(open) = pipe else { return std::future::pending().await };
    let n = open.read(buffer).await.unwrap_or(0);
    if n == 0 {
        *pipe = None;
    }
    n
}

/// Runs the script to its end, by itself or by us. An error is one of starting it.
pub(super) async fn execute(script: &Script, host: &str, collector: &str) -> Result<Ended, RunError> {
    let Some((program, args)) = script.argv.split_first() else {
        return Err(RunError::new(ErrorKind::Spawn, "no program is configured: `exec` is an empty list"));
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", DEFAULT_PATH).env("LANG", "C.UTF-8");
    command.env("HOLDOVER_HOST", host).env("HOLDOVER_COLLECTOR", collector);
    command.envs(script.env.iter().map(|(k, v)| (k, v)));
    command.current_dir(script.dir.as_deref().unwrap_or(Path::new("/")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| not_started(script, program, &e))?;
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
        return Err(RunError::new(ErrorKind::Spawn, format!("{program}: the process has no id")));
    };
    let group = Group(pid);
    let mut pipes = Pipes::new(&mut child, script.max_output);
    let mut how = wait(&mut child, &mut pipes, script.timeout).await;
    if matches!(how, How::Exited(_)) {
        if let Some(stream) = pipes.drain(DRAIN).await {
            how = How::TooMuch(stream);
        }
    } else {
        stop(&mut child, &group, &mut pipes, script.grace).await;
    }
    drop(group);
    let failure = explain(script, &how, &pipes);
    let exit = if let How::Exited(status) = &how { status.code() } else { None };
    Ok(Ended { stdout: pipes.stdout, failure, exit })
}

/// Until the process ends, prints too much, or its time is up. Both pipes may well close before it ends.
async fn wait(child: &mut Child, pipes: &mut Pipes, timeout: Duration) -> How {
    let time_out = sleep(timeout);
    tokio::pin!(time_out);
    loop {
        tokio::select! {
            status = child.wait() => return status.map_or_else(How::Unknown, How::Exited),
            over = pipes.pump() => if let Some(stream) = over { return How::TooMuch(stream) },
            () = &mut time_out => return How::TimedOut,
        }
    }
}

/// SIGTERM, the grace, SIGKILL, and the end. Output is taken off the pipes meanwhile so that nobody blocks on them.
async fn stop(child: &mut Child, group: &Group, pipes: &mut Pipes, grace: Duration) {
    group.signal(Signal::TERM);
    let deadline = Instant::now() + grace;
    loop {
        tokio::select! {
            _ = child.wait() => break,
            // What comes after the limit is thrown away; the signal is on its way.
            _ = pipes.pump() => {}
            () = sleep_until(deadline) => break,
        }
    }
    group.signal(Signal::KILL);
    if tokio::time::timeout(REAP, child.wait()).await.is_err() {
        tracing::warn!(
            pgid = group.0.as_raw_nonzero().get(),
            "a script does not die of SIGKILL; it hangs in the kernel"
        );
    }
}

fn explain(script: &Script, how: &How, pipes: &Pipes) -> Option<RunError> {
    let program = script.argv.first().map_or("", String::as_str);
    let said = pipes.last_words();
    match how {
        How::Exited(status) if status.success() => None,
        How::Exited(status) => Some(match (status.code(), status.signal()) {
            (Some(code), _) => RunError::new(ErrorKind::Exit, format!("{program}: exit code {code}{said}")),
            (None, Some(signal)) => {
                RunError::new(ErrorKind::Signal, format!("{program}: killed by signal {signal}{}{said}", named(signal)))
            }
            (None, None) => RunError::new(ErrorKind::Exit, format!("{program}: {status}{said}")),
        }),
        How::TimedOut => {
            let after = script.timeout;
            Some(RunError::new(
                ErrorKind::Timeout,
                format!("{program}: killed after {after:?}; make it faster or raise `timeout`{said}"),
            ))
        }
        How::TooMuch(stream) => Some(RunError::new(
            ErrorKind::Output,
            format!(
                "{program}: killed, more than {} bytes on {stream}; print less or raise `max_output`",
                script.max_output
            ),
        )),
        How::Unknown(error) => {
            Some(RunError::new(ErrorKind::Exit, format!("{program}: its end is unknown: {error}{said}")))
        }
    }
}

fn named(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL, perhaps for lack of memory)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// Why a program could not be started, with what to do about it.
pub(super) fn not_started(script: &Script, program: &str, error: &io::Error) -> RunError {
    let dir = script.dir.as_deref().filter(|dir| !dir.is_dir());
    if let Some(dir) = dir {
        return RunError::new(ErrorKind::Spawn, format!("{program}: its directory {} does not exist", dir.display()));
    }
    let file = Path::new(program).metadata().ok().filter(|_| program.contains('/'));
    let (kind, why) = match (error.kind(), file) {
        (io::ErrorKind::NotFound, None) if program.contains('/') => (ErrorKind::Spawn, "no such file"),
        (io::ErrorKind::NotFound, None) => (ErrorKind::Spawn, "not found in PATH; give the full path"),
        (io::ErrorKind::NotFound, Some(_)) => {
            (ErrorKind::Spawn, "the interpreter named in its first line (`#!`), or its loader, does not exist")
        }
        (io::ErrorKind::PermissionDenied, Some(meta)) if meta.is_dir() => (ErrorKind::Spawn, "it is a directory"),
        (io::ErrorKind::PermissionDenied, Some(meta)) if meta.permissions().mode() & 0o111 == 0 => {
            (ErrorKind::Spawn, "not executable; run `chmod +x` on it")
        }
        (io::ErrorKind::PermissionDenied, _) => (ErrorKind::Permission, "the agent's user may not execute it"),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            (ErrorKind::Spawn, "not a program: a script needs a first line such as `#!/bin/sh`")
        }
        _ => (ErrorKind::Spawn, "the system refused to start it"),
    };
    RunError::new(kind, format!("cannot start {program}: {error}; {why}"))
}
