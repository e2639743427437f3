//! The minder: the process between the agent and a script. It is this binary, started again for one run.
//!
//! It sets the limits on itself and starts the script, which inherits them; it is the parent to whom every process of
//! the run falls when its own parent ends (a child sub-reaper), so that none can leave; it watches what they use, ends
//! them all when the script has ended, a budget is spent or the agent is gone, and says what was used. It is a process
//! of its own because a limit that a process sets is its own, and because what it counts must be of one run only.
//!
//! It talks with the agent over its standard input, a socket: its length and JSON are the order, one byte asks for
//! SIGTERM, the end of the stream for SIGKILL; one line of JSON is the answer. The script never sees that socket.
//! What the script's configuration says reaches it as part of the order alone, not as its own environment.

mod pin;
mod program;
mod restrain;
mod serve;
mod trust;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::account::{self, Account};
use super::confinement::Confinement;
use super::limits::{Limits, Over};
use crate::record::RunError;

/// The one argument of a minder.
pub(super) const WORD: &str = "__minder";
/// What asks for SIGTERM.
pub(super) const TERMINATE: &[u8] = b"t";
/// An order is longer only by mistake.
pub(super) const MAX_ORDER: u32 = 4 << 20;

/// A binary whose `main` begins with [`entry`], and whether it is this process's own.
static BINARY: OnceLock<(PathBuf, bool)> = OnceLock::new();

/// The first line of `main` of each binary that runs scripts. The end of the process if it was started as a minder;
/// else this process may start itself as one from now on.
pub fn entry() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|word| word == WORD) {
        return Some(serve::serve());
    }
    // Also when an upgrade has replaced the file meanwhile.
    BINARY.get_or_init(|| (PathBuf::from("/proc/self/exe"), true));
    None
}

/// Starts minders from that binary, whose `main` begins with [`entry`]. Without either call scripts run without a
/// minder, bounded in time and output only: tests of the library have no such binary.
pub fn start_as(binary: PathBuf) {
    BINARY.get_or_init(|| (binary, false));
}

pub(super) fn binary() -> Option<&'static PathBuf> {
    BINARY.get().map(|(binary, _)| binary)
}

/// Whether this process is the agent: it starts nothing but minders.
pub(super) fn is_agent() -> bool {
    BINARY.get().is_some_and(|&(_, own)| own)
}

/// Why a program will not be run, for the configuration to warn of; `user` is whom it runs as.
pub fn distrusted(file: &Path, user: Option<&str>) -> Option<String> {
    program::distrusted(file, user.and_then(|user| account::find(user).ok()).map(|account| account.uid))
}

/// What to run, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub argv: Vec<String>,
    /// The script's whole environment but for what `account` adds; of two with one name the later counts.
    pub env: Vec<(String, String)>,
    pub dir: PathBuf,
    pub limits: Limits,
    pub confinement: Confinement,
    /// Whom [`Confinement::user`] means.
    pub account: Option<Account>,
    /// Where to make a control group.
    pub groups: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It was not started, and why.
    Refused(RunError),
    /// The system did not start it.
    NotStarted {
        errno: Option<i32>,
        message: String,
    },
    Ended(Outcome),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub over: Option<Over>,
    /// Killed for lack of memory, and not for a budget of its own.
    pub starved: bool,
    pub cpu_us: Option<u64>,
    pub memory: Option<u64>,
    pub processes: Option<u64>,
    /// Processes that did not die of SIGKILL in time.
    pub left: usize,
}
