//! A run with a minder, as the agent sees it: an order sent, output taken, an answer awaited; and what is to be done
//! when the minder itself is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until};

use super::account::{self, Account};
use super::limits::Used;
use super::minder::{Answer, Order, Outcome, TERMINATE, WORD};
use super::pipes::Pipes;
use super::process::{DRAIN, End, Finished, directory};
use super::{Script, cgroup, explain, orphans};
use crate::record::{ErrorKind, RunError};

/// After the order to kill everything, how long the minder may take: it tries for eight seconds.
const KILLING: Duration = Duration::from_secs(10);
/// What a list of processes shows.
const NAME: &str = "holdover";
/// An answer is some hundred bytes.
const MAX_ANSWER: usize = 64 << 10;

/// `env` is the script's alone. The minder, which may be root where the script is not, has no environment: nothing
/// there steers its loader.
pub(super) async fn run(script: &Script, binary: &Path, env: Vec<(String, String)>) -> Result<Finished, RunError> {
    let program = &script.argv[0];
    let account = script.confinement.user.as_deref().map(|user| may_become(program, user)).transpose()?;
    let order = Order {
        argv: script.argv.clone(),
        env,
        dir: directory(script).to_path_buf(),
        limits: script.limits.clone(),
        confinement: script.confinement.clone(),
        account: account.flatten(),
        groups: script.groups.clone(),
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|e| no_minder(program, &e))?;
    ours.set_nonblocking(true).map_err(|e| no_minder(program, &e))?;
    let mut command = Command::new(binary);
    command.arg0(NAME).arg(WORD).env_clear();
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
    orphans::adopt();
    let mut child = command.spawn().map_err(|e| no_minder(program, &e))?;
    // Our copy of the minder's end, or we would never see it close.
    drop(command);
    let pipes = Pipes::new((child.stdout.take(), child.stderr.take()), script.max_output);
    let talk = Talk::new(ours, &order).map_err(|e| no_minder(program, &e))?;
    let mut run = Run { known: orphans::Known::new(&child), child, talk, pipes };
    let finished = run.finish(script).await;
    let end = Instant::now() + KILLING;
    while !orphans::end() && Instant::now() < end {
        sleep(orphans::DYING).await;
    }
    finished.map(|(end, used)| Finished { end, pipes: std::mem::take(&mut run.pipes), used })
}

/// `None` when it is who runs the agent.
fn may_become(program: &str, user: &str) -> Result<Option<Account>, RunError> {
    let account = account::find(user).map_err(|why| {
        RunError::new(ErrorKind::Spawn, format!("cannot start {program}: {why}; create the user or change `user`"))
    })?;
    let me = rustix::process::geteuid();
    if me.is_root() {
        return Ok(Some(account));
    }
    if me.as_raw() == account.uid {
        return Ok(None);
    }
    let why =
        format!("{program} is not run: only root may run it as {user}, and the agent runs as user {}", me.as_raw());
    Err(RunError::new(ErrorKind::Permission, format!("{why}; remove `user`, or run the agent as root")))
}

fn no_minder(program: &str, error: &io::Error) -> RunError {
    let why = format!("cannot start {program}: the agent cannot start its own binary to watch over it: {error}");
    RunError::new(ErrorKind::Spawn, format!("{why}; see whether the host has memory and processes left"))
}

/// What is written to the minder and read from it.
struct Talk {
    stream: UnixStream,
    order: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
}

impl Talk {
    /// The order is its length, four bytes, and JSON.
    fn new(stream: std::os::unix::net::UnixStream, order: &Order) -> io::Result<Self> {
        let json = serde_json::to_vec(order)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        let order = [length.to_be_bytes().as_slice(), &json].concat();
        Ok(Self { stream: UnixStream::from_std(stream)?, order, written: 0, answer: Vec::new() })
    }

    /// Sends what is left of the order and waits for the answer; `None` when the minder is gone. Cancel-safe.
    async fn answer(&mut self) -> Option<Answer> {
        while self.written < self.order.len() {
            self.written += self.stream.write(&self.order[self.written..]).await.ok()?;
        }
        let mut part = [0u8; 1024];
        while !self.answer.ends_with(b"\n") {
            let n = self.stream.read(&mut part).await.ok().filter(|&n| n > 0)?;
            self.answer.extend_from_slice(&part[..n]);
            if self.answer.len() > MAX_ANSWER {
                return None;
            }
        }
        serde_json::from_slice(&self.answer).ok()
    }

    /// One byte always fits; should it not, the end of the stream follows.
    fn terminate(&self) {
        self.stream.try_write(TERMINATE).ok();
    }

    async fn kill(&mut self) {
        self.stream.shutdown().await.ok();
    }
}

/// When it is dropped half-way the stream ends, which tells the minder to kill everything.
struct Run {
    child: Child,
    known: orphans::Known,
    talk: Talk,
    pipes: Pipes,
}

impl Run {
    async fn finish(&mut self, script: &Script) -> Result<(End, Used), RunError> {
        let (end, answer) = self.wait(script.timeout).await;
        let answer = match &end {
            Some(_) => self.stop(script.grace).await,
            None => answer,
        };
        self.bury(script.groups.as_ref(), answer.is_none()).await;
        let outcome = match answer {
            Some(Answer::Refused(error)) => return Err(error),
            Some(Answer::NotStarted { errno, message }) => {
                let error = errno.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error);
                return Err(explain::not_started(script, &script.argv[0], &error));
            }
            Some(Answer::Ended(outcome)) => Some(outcome),
            None => None,
        };
        let over = self.pipes.drain(DRAIN).await.map(End::TooMuch);
        Ok((end.or(over).unwrap_or_else(|| ended(outcome)), outcome.map_or_else(Used::default, used)))
    }

    /// Until it is over, prints too much, or its time is up; in the latter two cases with the reason.
    async fn wait(&mut self, timeout: Duration) -> (Option<End>, Option<Answer>) {
        let time_out = sleep(timeout);
        tokio::pin!(time_out);
        loop {
            tokio::select! {
                answer = self.talk.answer() => return (None, answer),
                over = self.pipes.pump() => if let Some(stream) = over { return (Some(End::TooMuch(stream)), None) },
                () = &mut time_out => return (Some(End::TimedOut), None),
            }
        }
    }

    /// SIGTERM, the grace, SIGKILL. Output is taken off the pipes meanwhile so that nobody blocks on them.
    async fn stop(&mut self, grace: Duration) -> Option<Answer> {
        self.talk.terminate();
        if let Some(answer) = self.answer_until(Instant::now() + grace).await {
            return answer;
        }
        self.talk.kill().await;
        self.answer_until(Instant::now() + KILLING).await.flatten()
    }

    /// `None` when the time is up before there is an answer, or none to be had.
    async fn answer_until(&mut self, deadline: Instant) -> Option<Option<Answer>> {
        loop {
            tokio::select! {
                answer = self.talk.answer() => return Some(answer),
                // What comes after the limit is thrown away.
                _ = self.pipes.pump() => {}
                () = sleep_until(deadline) => return None,
            }
        }
    }

    /// The minder ends with its answer. One that has none was killed or stopped by somebody, and is killed.
    async fn bury(&mut self, groups: Option<&PathBuf>, killed: bool) {
        let pid = self.child.id();
        if killed {
            orphans::kill_below(self.child.id());
            self.child.start_kill().ok();
        }
        if tokio::time::timeout(KILLING, self.child.wait()).await.is_ok() {
            self.known.forget(!killed);
        }
        let end = Instant::now() + KILLING;
        if let (true, Some(groups), Some(pid)) = (killed, groups, pid) {
            while !cgroup::remove(groups, pid.cast_signed()) && Instant::now() < end {
                sleep(orphans::DYING).await;
            }
        }
    }
}

impl Drop for Run {
    /// A minder that a script has stopped goes on, to find that the talk has ended.
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::CONT).ok();
        }
    }
}

fn ended(outcome: Option<Outcome>) -> End {
    match outcome {
        None => End::Unminded,
        Some(Outcome { over: Some(over), .. }) => End::Over(over),
        Some(Outcome { starved: true, .. }) => End::Starved,
        Some(Outcome { code, signal, .. }) => End::Exited { code, signal },
    }
}

fn used(outcome: Outcome) -> Used {
    if outcome.left > 0 {
        tracing::warn!(
            processes = outcome.left,
            "processes of a script do not die of SIGKILL; they hang in the kernel"
        );
    }
    Used {
        cpu: outcome.cpu_us.map(Duration::from_micros),
        memory: outcome.memory,
        processes: outcome.processes,
        ..Used::default()
    }
}
