//! Ends the processes below one, faster than they make new ones.

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, pidfd_send_signal};

use super::tree::{self, Family};

/// More are killed by the next call.
const MOST: usize = 4096;

/// SIGKILL to the descendants of `root` and to the groups that they lead: a group dies at once, whatever it is about to
/// start. To be called until `root` has no child: what is born meanwhile is found the next time.
pub(super) fn below(root: i32) {
    let family = Family::now();
    let with_parent = |parent: i32| family.children(parent).into_iter().map(move |child| (child, parent));
    let mut left: Vec<(i32, i32)> = with_parent(root).collect();
    let mut killed = 0;
    while let Some((pid, parent)) = left.pop() {
        // Before it dies and they lose their parent.
        let children: Vec<_> = with_parent(pid).collect();
        if end(pid, &[parent, root]) {
            killed += 1;
            if killed < MOST {
                left.extend(children);
            }
        }
    }
}

/// Kills a child of one of `parents`; whether it is one. An id may have been given to somebody else since it was read:
/// from the moment that the descriptor is there it is of one process, and whose child that is tells whether it is meant.
fn end(id: i32, parents: &[i32]) -> bool {
    let Some(pid) = Pid::from_raw(id) else { return false };
    let process = pidfd_open(pid, PidfdFlags::empty());
    if !tree::read(id).is_some_and(|now| parents.contains(&now.parent)) {
        return false;
    }
    // Of this id only if it leads one: a process may join any group of its session, which need not be ours.
    kill_process_group(pid, Signal::KILL).ok();
    match process {
        Ok(process) => pidfd_send_signal(process, Signal::KILL).ok(),
        // A kernel before 5.3, or no descriptor left.
        Err(_) => kill_process(pid, Signal::KILL).ok(),
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_nobody_of_ours_is_spared() {
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(!end(pid, &[1, pid]), "its id is another's by now");
        assert!(child.try_wait().unwrap().is_none(), "it lives");
        assert!(end(pid, &[1, me]));
        child.wait().unwrap();
        assert!(!end(pid, &[me]), "it is gone");
    }
}
