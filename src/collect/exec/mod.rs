//! Scripts: any executable with arguments, its output read as records.
//!
//! A run never blocks the loop and never outlives its bounds: time, output, CPU time, memory, processes. On Linux a
//! process of our own stands between the agent and the script (`minder`), which ends all that the script started in
//! every path, also when the run is dropped half-way or the agent is killed. What a script printed as complete,
//! well-formed records is kept (`format`); whatever else went wrong adds one record with `status: "err"`, a typed error,
//! and what the run used.
//!
//! The environment of a script is `PATH`, `LANG=C.UTF-8`, `HOLDOVER_HOST`, `HOLDOVER_COLLECTOR` and what its
//! configuration adds; nothing else of ours. Standard input is closed, the directory is `/` unless configured.
//! docs/sandbox.md is the page for users.

mod account;
#[cfg_attr(not(target_os = "linux"), path = "no_cgroup.rs")]
pub mod cgroup;
mod confinement;
mod explain;
mod format;
#[cfg(target_os = "linux")]
mod kill;
mod limits;
#[cfg(target_os = "linux")]
mod minded;
#[cfg(target_os = "linux")]
mod minder;
#[cfg(target_os = "linux")]
mod orphans;
mod pipes;
mod place;
mod process;
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
mod tree;
mod unsupported;

pub use account::{find as find_account, find_group};
pub use confinement::{Confinement, Ionice};
pub use limits::{Limits, RUN};
#[cfg(target_os = "linux")]
pub use minder::{distrusted, entry, start_as};

/// Elsewhere scripts run without a minder, bounded in time and output only (see `unsupported`).
#[cfg(not(target_os = "linux"))]
pub fn entry() -> Option<std::process::ExitCode> {
    None
}

#[cfg(not(target_os = "linux"))]
pub fn distrusted(_: &std::path::Path, _: Option<&str>) -> Option<String> {
    None
}

use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "schema")]
pub use format::NdjsonLine;
pub use format::{FORMATS, Format, Lines, Spec};

use crate::clock::Now;
use crate::record::{ErrorKind, Point};

/// `PATH` of a script, unless its configuration says otherwise.
pub const DEFAULT_PATH: &str = crate::platform::children::PATH;
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between SIGTERM and SIGKILL.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(1);
pub const DEFAULT_MAX_OUTPUT: usize = 256 << 10;

/// A script as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Program and arguments; never handed to a shell. A program without a slash is looked up in `PATH`.
    pub argv: Vec<String>,
    pub timeout: Duration,
    pub grace: Duration,
    /// Most bytes of standard output, and of standard error, before the script is killed.
    pub max_output: usize,
    pub format: Format,
    /// Added to (or in place of) the variables that every script gets.
    pub env: Vec<(String, String)>,
    pub dir: Option<PathBuf>,
    pub limits: Limits,
    pub confinement: Confinement,
    /// Where control groups may be made, see [`cgroup::prepare`].
    pub groups: Option<PathBuf>,
    /// Whether each run adds a record of what it used.
    pub usage: bool,
}

impl Script {
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            timeout: DEFAULT_TIMEOUT,
            grace: DEFAULT_GRACE,
            max_output: DEFAULT_MAX_OUTPUT,
            format: Format::AUTO,
            env: Vec::new(),
            dir: None,
            limits: Limits::default(),
            confinement: Confinement::default(),
            groups: None,
            usage: false,
        }
    }
}

/// One run: its points in the order printed, then at most one err record for output that cannot be read and one for
/// the process itself. Records without a time get that of `now`, those without a name get `collector`. Nothing
/// printed and exit code 0 is no point at all. Dropping the future kills the process group.
pub async fn run(script: &Script, host: &str, collector: &str, now: &Now) -> Vec<Point> {
    let defaults = format::Defaults { name: collector, ts: now.wall_ms, mono: now.boot_ms() };
    match process::execute(script, host, collector).await {
        Ok(ended) => points(script, ended, &defaults),
        Err(error) => vec![defaults.failure(error)],
    }
}

/// To be called when no script is run any more: waits, at most so long, until everything of the runs that were dropped
/// half-way has ended. What a minder does it does without us too; one that is killed meanwhile is to be missed.
pub async fn settle(at_most: Duration) {
    #[cfg(target_os = "linux")]
    tokio::time::timeout(at_most, orphans::settle()).await.ok();
    #[cfg(not(target_os = "linux"))]
    let _ = at_most;
}

/// What a process printed and how it ended. The exit codes of plugins are in their records, and no failure.
fn points(script: &Script, ended: process::Ended, defaults: &format::Defaults<'_>) -> Vec<Point> {
    let output = format::Output {
        stdout: &ended.stdout,
        whole: ended.failure.is_none(),
        exit: ended.exit,
        program: script.argv.first().map_or("", String::as_str),
    };
    let spec = script.format.of(&output);
    let is_data = spec.is_some_and(|spec| spec.exit_is_data) && matches!(ended.exit, Some(0..=3));
    let mut points = format::read(spec, &output, defaults);
    let failure = ended.failure.filter(|error| !(is_data && error.kind == ErrorKind::Exit));
    let used = ended.used;
    points.extend(failure.map(|error| Point { fields: used.fields(), ..defaults.failure(error) }));
    points.extend(script.usage.then(|| used.point(defaults.name, defaults.point())));
    points
}
