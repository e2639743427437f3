//! One run, from start to the death of all its processes: bounded in time and output in every path.
//! Knows nothing of records; an error here is the run's, not its output's.
//!
//! On Linux a run has a [`minder`](super::minder). Without one (elsewhere, and in tests of the library) it has a
//! process group, which a child that calls `setsid` leaves.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until};

use super::limits::{Over, Used};
#[cfg(target_os = "linux")]
use super::minded;
use super::pipes::Pipes;
use super::{DEFAULT_PATH, Script, explain, unsupported};
use crate::platform::children::{self, Running};
use crate::record::{ErrorKind, RunError};

/// After the process has ended, how long a child of it may still hold the pipe before it is dropped.
pub(super) const DRAIN: Duration = Duration::from_millis(100);
/// After SIGKILL, how long to wait for the end; a process in an uninterruptible sleep dies later and is reaped then.
const REAP: Duration = Duration::from_secs(2);

pub(super) struct Ended {
    /// At most `max_output` bytes.
    pub stdout: Vec<u8>,
    /// Its exit code, if it ended by itself. One other than 0 is a failure too, unless the output's format knows it.
    pub exit: Option<i32>,
    pub failure: Option<RunError>,
    pub used: Used,
}

/// How a run came to its end.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "what the minder tells, which is Linux's"))]
pub(super) enum End {
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
    TimedOut,
    TooMuch(&'static str),
    Over(Over),
    /// Killed for lack of memory, of the host or of a control group above that of the run.
    Starved,
    /// The minder did not answer.
    Unminded,
    /// The kernel did not tell how it ended.
    Unknown(io::Error),
}

impl From<io::Result<ExitStatus>> for End {
    fn from(status: io::Result<ExitStatus>) -> Self {
        match status {
            Ok(status) => Self::Exited { code: status.code(), signal: children::signal(status) },
            Err(error) => Self::Unknown(error),
        }
    }
}

/// Runs the script to its end, by itself or by us. An error is one of starting it.
pub(super) async fn execute(script: &Script, host: &str, collector: &str) -> Result<Ended, RunError> {
    let Some((program, args)) = script.argv.split_first() else {
        return Err(RunError::new(ErrorKind::Spawn, "no program is configured: `exec` is an empty list"));
    };
    let env = environment(script, host, collector);
    let variables = env.iter().flat_map(|(name, value)| [name, value]);
    if let Some(text) = script.argv.iter().chain(variables).find(|text| text.contains('\0')) {
        let why = format!("{text:?} holds a NUL character, which no program can be given; remove it");
        return Err(RunError::new(ErrorKind::Spawn, format!("cannot start {program}: {why}")));
    }
    unsupported::refuse(script, program)?;
    let started = Instant::now();
    #[cfg(target_os = "linux")]
    if let Some(binary) = super::minder::binary() {
        let finished = minded::run(script, binary, env).await?;
        return Ok(report(script, finished, started));
    }
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(directory(script));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = Running::start(command).map_err(|e| explain::not_started(script, program, &e))?;
    Ok(report(script, unminded(script, child).await, started))
}

/// What a run came to.
pub(super) struct Finished {
    pub end: End,
    pub pipes: Pipes,
    pub used: Used,
}

fn report(script: &Script, finished: Finished, started: Instant) -> Ended {
    let Finished { end, pipes, mut used } = finished;
    let exit = if let End::Exited { code, .. } = end { code } else { None };
    let failure = explain::ended(script, &end, &pipes.last_words());
    used.wall = started.elapsed();
    used.output = pipes.stdout.len() as u64;
    Ended { stdout: pipes.stdout, exit, failure, used }
}

/// The environment of every script, and nothing else of ours; of two with one name the later counts.
fn environment(script: &Script, host: &str, collector: &str) -> Vec<(String, String)> {
    let essential = children::ESSENTIAL.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let ours =
        [("PATH", DEFAULT_PATH), ("LANG", "C.UTF-8"), ("HOLDOVER_HOST", host), ("HOLDOVER_COLLECTOR", collector)];
    let ours = essential.chain(ours.map(|(name, value)| (name, value.to_owned())));
    ours.map(|(name, value)| (name.to_owned(), value)).chain(script.env.iter().cloned()).collect()
}

pub(super) fn directory(script: &Script) -> &Path {
    script.dir.as_deref().unwrap_or(Path::new("/"))
}

async fn unminded(script: &Script, mut child: Running) -> Finished {
    let mut pipes = Pipes::new(child.outputs(), script.max_output);
    let mut end = wait(&mut child, &mut pipes, script.timeout).await;
    if matches!(end, End::Exited { .. }) {
        if let Some(stream) = pipes.drain(DRAIN).await {
            end = End::TooMuch(stream);
        }
    } else {
        stop(&mut child, &mut pipes, script.grace).await;
    }
    Finished { end, pipes, used: Used::default() }
}

/// Until the process ends, prints too much, or its time is up. Both pipes may well close before it ends.
async fn wait(child: &mut Running, pipes: &mut Pipes, timeout: Duration) -> End {
    let time_out = sleep(timeout);
    tokio::pin!(time_out);
    loop {
        tokio::select! {
            status = child.wait() => return status.into(),
            over = pipes.pump() => if let Some(stream) = over { return End::TooMuch(stream) },
            () = &mut time_out => return End::TimedOut,
        }
    }
}

/// SIGTERM, the grace, SIGKILL, and the end. Output is taken off the pipes meanwhile so that nobody blocks on them.
async fn stop(child: &mut Running, pipes: &mut Pipes, grace: Duration) {
    child.terminate();
    let deadline = Instant::now() + grace;
    loop {
        tokio::select! {
            _ = child.wait() => break,
            // What comes after the limit is thrown away; the signal is on its way.
            _ = pipes.pump() => {}
            () = sleep_until(deadline) => break,
        }
    }
    child.kill();
    if tokio::time::timeout(REAP, child.wait()).await.is_err() {
        tracing::warn!("a script does not die of SIGKILL; it hangs in the kernel");
    }
}
