//! Ends the processes below one, faster than they make new ones.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::tree::{self, Process};

/// So many are looked for before they are killed.
const PORTION: usize = 512;

/// SIGKILL to a portion of the descendants of `root`, and to their groups: a group dies at once, whatever it is about to
/// start. Returns how many were alive. To be called until it is 0.
pub(super) fn below(root: i32) -> usize {
    let alive: Vec<Process> = tree::below(root, PORTION).into_iter().filter(|process| !process.zombie).collect();
    for process in &alive {
        // Found a moment ago, and ids are handed out in turn: nobody else has it yet. A group is killed only if its leader
        // is one of them, for a process may join any group of its session.
        let Some(pid) = Pid::from_raw(process.pid) else { continue };
        if process.group == process.pid {
            kill_process_group(pid, Signal::KILL).ok();
        } else {
            kill_process(pid, Signal::KILL).ok();
        }
    }
    alive.len()
}
