//! Processes of runs whose minder was killed. They fall to the agent, which has no children but minders: whoever else
//! is its child is ended.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::process::Child;

use super::{kill, minder, tree};

/// The minders of this process that have not been waited for.
static MINDERS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn minders() -> MutexGuard<'static, Vec<i32>> {
    MINDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of [`MINDERS`]. Of a run that is dropped half-way it stays one: it has work to do.
pub(super) struct Known(Option<i32>);

impl Known {
    pub fn new(child: &Child) -> Self {
        let pid = child.id().map(u32::cast_signed);
        minders().extend(pid);
        Self(pid)
    }

    /// It has been waited for.
    pub fn forget(&mut self) {
        let pid = self.0.take();
        minders().retain(|minder| Some(*minder) != pid);
    }
}

/// From now on processes of a run that lose their minder fall to this process.
pub(super) fn adopt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if minder::is_agent() {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
        }
    });
}

/// Ends and reaps every child that is no minder, with all below it.
pub(super) fn end() {
    if !minder::is_agent() {
        return;
    }
    let known = minders();
    for pid in tree::children(std::process::id().cast_signed()) {
        if known.contains(&pid) {
            continue;
        }
        kill_below(u32::try_from(pid).ok());
        let Some(orphan) = Pid::from_raw(pid) else { continue };
        kill_process(orphan, Signal::KILL).ok();
        // One that takes longer to die is reaped after the next run.
        waitpid(Some(orphan), WaitOptions::NOHANG).ok();
    }
}

/// Everything below a process; not the process itself.
pub(super) fn kill_below(pid: Option<u32>) {
    if let Some(pid) = pid {
        kill::below(pid.cast_signed());
    }
}
