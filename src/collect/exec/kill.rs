//! Ends the processes below one, faster than they make new ones.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::tree;

/// More are killed by the next call.
const MOST: usize = 4096;

/// SIGKILL to the descendants of `root` and to the groups that they lead: a group dies at once, whatever it is about to
/// start. To be called until `root` has no child: what is born meanwhile is found the next time.
pub(super) fn below(root: i32) {
    let mut parents = vec![root];
    let mut killed = 0;
    while let Some(parent) = parents.pop() {
        let children = tree::children(parent);
        // Found a moment ago, and ids are handed out in turn: nobody else has it yet.
        if let Some(pid) = Pid::from_raw(parent).filter(|_| parent != root) {
            kill_process(pid, Signal::KILL).ok();
            // Of this id only if it leads one: a process may join any group of its session, which need not be ours.
            kill_process_group(pid, Signal::KILL).ok();
            killed += 1;
        }
        if killed < MOST {
            parents.extend(children);
        }
    }
}
