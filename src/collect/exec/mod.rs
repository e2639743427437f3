//! Scripts: any executable with arguments, its output read as records.
//!
//! A run never blocks the loop and never outlives its bounds: time, output, CPU time, memory, processes. On Linux a
//! process of our own stands between the agent and the script (`minder`), which ends all that the script started in
//! every path, also when the run is dropped half-way or the agent is killed. What a script printed as complete,
//! well-formed lines is kept; whatever else went wrong adds one record with `status: "err"`, a typed error, and what
//! the run used.
//!
//! The environment of a script is `PATH`, `LANG=C.UTF-8`, `HOLDOVER_HOST`, `HOLDOVER_COLLECTOR` and what its
//! configuration adds; nothing else of ours. Standard input is closed, the directory is `/` unless configured.
//! docs/sandbox.md is the page for users.

mod account;
pub mod cgroup;
mod confinement;
mod explain;
mod influx;
mod json;
#[cfg(target_os = "linux")]
mod kill;
mod limits;
#[cfg(target_os = "linux")]
mod minded;
#[cfg(target_os = "linux")]
mod minder;
#[cfg(target_os = "linux")]
mod orphans;
mod output;
mod pipes;
mod process;
#[cfg(test)]
mod tests;
#[cfg(target_os = "linux")]
mod tree;

pub use account::find as find_account;
pub use confinement::{Confinement, Ionice};
pub use limits::Limits;
#[cfg(target_os = "linux")]
pub use minder::{distrusted, entry, start_as};

/// Elsewhere scripts run without a minder, bounded in time and output only.
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

use crate::clock::Now;
use crate::record::Point;

/// `PATH` of a script, unless its configuration says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between SIGTERM and SIGKILL.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(1);
pub const DEFAULT_MAX_OUTPUT: usize = 256 << 10;

/// How the output of a script is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// NDJSON when the first character is `{`, else Influx line protocol.
    #[default]
    Auto,
    /// One JSON object per line: `{name?, ts?, tags?, fields, status?, error?}`.
    Ndjson,
    /// Influx line protocol, times in nanoseconds.
    Influx,
}

impl Format {
    pub const NAMES: [&'static str; 3] = ["auto", "ndjson", "influx"];

    /// The format of that name, one of [`Format::NAMES`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "ndjson" => Some(Self::Ndjson),
            "influx" => Some(Self::Influx),
            _ => None,
        }
    }
}

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
            format: Format::Auto,
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
/// the process itself. Lines without a time get that of `now`, lines without a name get `collector`. Nothing
/// printed and exit code 0 is no point at all. Dropping the future kills the process group.
pub async fn run(script: &Script, host: &str, collector: &str, now: &Now) -> Vec<Point> {
    let defaults = output::Defaults { name: collector, ts: now.wall_ms, mono: now.boot_ms() };
    match process::execute(script, host, collector).await {
        Ok(ended) => {
            let whole = ended.failure.is_none();
            let mut points = output::read(&ended.stdout, whole, script.format, &defaults);
            let used = ended.used;
            points.extend(ended.failure.map(|error| Point { fields: used.fields(), ..defaults.failure(error) }));
            points.extend(script.usage.then(|| used.point(collector, defaults.point())));
            points
        }
        Err(error) => vec![defaults.failure(error)],
    }
}
