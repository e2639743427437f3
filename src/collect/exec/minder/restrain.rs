//! The limits that a process sets on itself before it starts the script, which inherits them.
//! They stand behind the watch and the control group: each is of one process, the budgets are of all together.

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::collect::exec::limits::Limits;
use crate::collect::exec::tree;

/// How many times the memory budget one process may have as data, most of which is never touched: stacks of threads,
/// pools. Where there is no control group, the watch ends a run that touches more than its budget.
const DATA: u64 = 4;
/// What even a small program maps.
const MIN_DATA: u64 = 256 << 20;
const OPEN_FILES: u64 = 1024;
/// The kernel's out-of-memory killer takes a script before anything else.
const OOM_FIRST: &str = "1000";

/// What of [`Limits`] the kernel bounds by a control group already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounded {
    pub memory: bool,
    pub processes: bool,
}

/// Lowers a limit of this process; one that is lower already stays.
fn lower(resource: Resource, to: u64) {
    let now = getrlimit(resource);
    let least = |limit: Option<u64>| Some(limit.map_or(to, |limit| limit.min(to)));
    setrlimit(resource, Rlimit { current: least(now.current), maximum: least(now.maximum) }).ok();
}

/// `uid` is the user that the script runs as.
pub(super) fn before(limits: &Limits, bounded: Bounded, uid: u32) {
    lower(Resource::Core, 0);
    lower(Resource::Nofile, OPEN_FILES);
    if let Some(bytes) = limits.memory.filter(|_| !bounded.memory) {
        lower(Resource::Data, bytes.saturating_mul(DATA).max(MIN_DATA));
    }
    // The kernel counts all that the user runs on this host, and does not bound root. Twice the budget, so that the
    // watch sees it spent rather than the script fail for lack of it.
    if let Some(most) = limits.processes.filter(|_| !bounded.processes && uid != 0) {
        lower(Resource::Nproc, tree::threads_of(uid) + 2 * u64::from(most));
    }
}

/// CPU time is bounded once the script runs: this process, which may watch it for hours, is not meant.
pub(super) fn after(limits: &Limits, pid: Pid) {
    if let Some(cpu) = limits.cpu {
        let seconds = (cpu + Duration::from_secs(1)).as_secs() + 1;
        let limit = Rlimit { current: Some(seconds), maximum: Some(seconds + 1) };
        prlimit(Some(pid), Resource::Cpu, limit).ok();
    }
}

/// While `start` runs, whatever is started is the first to go when memory runs out.
pub(super) fn first_to_go<T>(start: impl FnOnce() -> T) -> T {
    const FILE: &str = "/proc/self/oom_score_adj";
    let usual = std::fs::read_to_string(FILE);
    std::fs::write(FILE, OOM_FIRST).ok();
    let started = start();
    if let Ok(usual) = usual {
        std::fs::write(FILE, usual.trim()).ok();
    }
    started
}
