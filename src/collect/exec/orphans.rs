//! Processes of runs whose minder was killed. They fall to the agent, which starts nothing but minders: whoever else
//! has become its child since the lost minder was started is ended. Who was its child before is none of its business:
//! a shell that starts something and then `exec`s the agent leaves it one, a container's first process gets many.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tokio::process::Child;

use super::tree::{self, Process};
use super::{kill, minder};

/// Between two looks at what is dying.
pub(super) const DYING: Duration = Duration::from_millis(10);

/// A process for certain: an id is given again, but not at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    pid: i32,
    started: u64,
}

impl From<&Process> for Id {
    fn from(process: &Process) -> Self {
        Self { pid: process.pid, started: process.started }
    }
}

#[derive(Debug)]
struct Minder {
    id: Id,
    /// Its run was dropped half-way: it has work to do, and nobody will be told how that ended.
    dropped: bool,
}

/// The children of this process, as far as they have to be told from each other.
#[derive(Debug)]
struct Children {
    /// Not yet waited for.
    minders: Vec<Minder>,
    /// Were there before the first minder.
    strangers: Vec<Id>,
    /// When the first of those minders was started that ended without saying that nothing is left.
    lost: Option<u64>,
}

static CHILDREN: Mutex<Children> = Mutex::new(Children { minders: Vec::new(), strangers: Vec::new(), lost: None });

fn children() -> MutexGuard<'static, Children> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Children {
    fn lose(&mut self, minder: Id) {
        self.lost = Some(self.lost.map_or(minder.started, |first| first.min(minder.started)));
    }

    /// `now` are all children: minders of dropped runs that are no more alive among them have ended.
    fn miss(&mut self, now: &[Process]) {
        let alive = |minder: &Minder| now.iter().any(|child| !child.zombie && Id::from(child) == minder.id);
        let ended = |minder: &Minder| minder.dropped && !alive(minder);
        let gone: Vec<Id> = self.minders.iter().filter(|minder| ended(minder)).map(|minder| minder.id).collect();
        self.minders.retain(|minder| !gone.contains(&minder.id));
        for minder in gone {
            self.lose(minder);
        }
    }

    /// Whether a child is left of a run whose minder was lost.
    fn is_orphan(&self, child: &Process) -> bool {
        let id = Id::from(child);
        let known = self.strangers.contains(&id) || self.minders.iter().any(|minder| minder.id == id);
        !known && self.lost.is_some_and(|since| child.started >= since)
    }
}

/// A minder of this process.
pub(super) struct Known(Option<Id>);

impl Known {
    pub fn new(child: &Child) -> Self {
        // Elsewhere nobody else's children are told from our own, and none is missed.
        let pid = child.id().filter(|_| minder::is_agent());
        let process = pid.and_then(|pid| tree::read(pid.cast_signed()));
        let id = process.as_ref().map(Id::from);
        children().minders.extend(id.map(|id| Minder { id, dropped: false }));
        Self(id)
    }

    /// It has been waited for; `answered` if it has said what became of its run, of which then nothing is left.
    pub fn forget(&mut self, answered: bool) {
        let Some(id) = self.0.take() else { return };
        let mut children = children();
        children.minders.retain(|minder| minder.id != id);
        if !answered {
            children.lose(id);
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        children().minders.iter_mut().filter(|minder| minder.id == id).for_each(|minder| minder.dropped = true);
    }
}

/// From now on processes of a run that lose their minder fall to this process. To be called before the first minder.
pub(super) fn adopt() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if minder::is_agent() {
            children().strangers = own().iter().map(Id::from).collect();
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
        }
    });
}

fn own() -> Vec<Process> {
    tree::children(std::process::id().cast_signed()).into_iter().filter_map(tree::read).collect()
}

/// Ends what has fallen to us of lost runs, with all below it; whether nothing of them is left. Reaps whoever has ended
/// and is no minder.
pub(super) fn end() -> bool {
    if !minder::is_agent() {
        return true;
    }
    let mut children = children();
    let now = own();
    children.miss(&now);
    let mut left = 0;
    for child in now {
        let is_orphan = children.is_orphan(&child);
        let is_minder = children.minders.iter().any(|minder| minder.id == Id::from(&child));
        let Some(pid) = Pid::from_raw(child.pid).filter(|_| is_orphan || (child.zombie && !is_minder)) else {
            continue;
        };
        if is_orphan {
            kill::below(child.pid);
            // A child that has not been waited for: its id is its own.
            kill_process(pid, Signal::KILL).ok();
        }
        let reaped = !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
        left += usize::from(is_orphan && !reaped);
    }
    if left == 0 {
        children.lost = None;
    }
    left == 0
}

/// Until everything has ended that belongs to runs which were dropped half-way.
pub(super) async fn settle() {
    while !end() || children().minders.iter().any(|minder| minder.dropped) {
        tokio::time::sleep(DYING).await;
    }
}

/// Everything below a process; not the process itself.
pub(super) fn kill_below(pid: Option<u32>) {
    if let Some(pid) = pid {
        kill::below(pid.cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, started: u64) -> Process {
        Process { pid, parent: 1, zombie: false, cpu: 0.0, started }
    }

    #[test]
    fn only_what_came_after_a_lost_minder_is_an_orphan() {
        let minder = Minder { id: Id { pid: 20, started: 500 }, dropped: false };
        let stranger = Id { pid: 10, started: 500 };
        let mut children = Children { minders: vec![minder], strangers: vec![stranger], lost: None };
        let orphan = process(30, 501);
        assert!(!children.is_orphan(&orphan), "no minder is lost");
        children.lose(Id { pid: 21, started: 500 });
        children.lose(Id { pid: 22, started: 600 });
        assert!(children.is_orphan(&orphan));
        for other in [process(10, 500), process(20, 500), process(31, 499)] {
            assert!(!children.is_orphan(&other), "{other:?}");
        }
        assert!(children.is_orphan(&process(10, 700)), "the stranger's id, given again");
    }

    #[test]
    fn a_minder_whose_run_was_dropped_is_lost_once_it_is_gone() {
        let minder = |pid, dropped| Minder { id: Id { pid, started: 500 }, dropped };
        let minders = vec![minder(20, true), minder(21, false), minder(22, true)];
        let mut children = Children { minders, strangers: Vec::new(), lost: None };
        children.miss(&[process(20, 500), process(22, 500)]);
        assert_eq!((children.minders.len(), children.lost), (3, None));
        children.miss(&[process(20, 500), process(22, 900)]);
        let left: Vec<i32> = children.minders.iter().map(|minder| minder.id.pid).collect();
        assert_eq!((left, children.lost), (vec![20, 21], Some(500)), "the id of the third is another's");
    }
}
