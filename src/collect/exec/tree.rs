//! The processes below this one, from /proc: who they are, what they use. Reads only.

use std::path::Path;

use crate::collect::cpu::TICKS_PER_SECOND;
use crate::collect::text::{uint, words};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    /// Ended, and not yet reaped by its parent.
    pub zombie: bool,
    /// CPU time of itself and of its children that ended and were waited for, in seconds.
    pub cpu: f64,
    /// In ticks since the host booted.
    pub started: u64,
}

/// The descendants of `root`, at most `most` of them: a tree may grow as fast as it is walked. Those that end meanwhile
/// may be missing, those that lose their parent may be there twice.
pub(super) fn below(root: i32, most: usize) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for pid in children(parent) {
            if found.len() >= most {
                return found;
            }
            if let Some(process) = read(pid) {
                found.push(process);
                parents.push(pid);
            }
        }
    }
    found
}

/// The children of one process.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match std::fs::read(task.path().join("children")) {
            Ok(text) => found.extend(words(&text).filter_map(|word| i32::try_from(uint(word)?).ok())),
            Err(_) if !Path::new("/proc/thread-self/children").exists() => return children_by_scan(pid),
            // The thread has ended.
            Err(_) => {}
        }
    }
    found
}

/// On a kernel built without that file (`CONFIG_PROC_CHILDREN`).
fn children_by_scan(parent: i32) -> Vec<i32> {
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| read(pid).is_some_and(|process| process.parent == parent)).collect()
}

pub(super) fn read(pid: i32) -> Option<Process> {
    parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (any name) state parent .. utime stime cutime cstime .. threads . starttime`: proc_pid_stat(5).
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let columns: Vec<&[u8]> = words(&stat[end + 1..]).take(20).collect();
    let parent = i32::try_from(uint(columns.get(1)?)?).ok()?;
    let ticks: u64 = columns.get(11..15)?.iter().filter_map(|word| uint(word)).sum();
    let zombie = matches!(columns.first(), Some(&(b"Z" | b"X")));
    let started = uint(columns.get(19)?)?;
    Some(Process { pid, parent, zombie, cpu: ticks as f64 / TICKS_PER_SECOND, started })
}

/// Memory that is the process's alone, in bytes: what it shares with others (code, files) is not counted.
pub(super) fn private_memory(pid: i32) -> u64 {
    let Ok(text) = std::fs::read(format!("/proc/{pid}/statm")) else { return 0 };
    let mut pages = words(&text).skip(1).filter_map(uint);
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// Threads that run under the user id `uid`, as the kernel counts for RLIMIT_NPROC.
pub(super) fn threads_of(uid: u32) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(all) = std::fs::read_dir("/proc") else { return 0 };
    let own = all.flatten().filter(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
            && entry.metadata().is_ok_and(|meta| meta.uid() == uid)
    });
    // A directory has a link for each thread, and two of its own.
    own.filter_map(|entry| Some(entry.path().join("task").metadata().ok()?.nlink().saturating_sub(2))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_a_process_are_found_both_ways() {
        let me = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        let (seen, scanned) = (children(me), children_by_scan(me));
        let tree = below(me, 1000);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen.contains(&pid) && scanned.contains(&pid), "{seen:?} {scanned:?}");
        assert!(tree.iter().any(|process| process.pid == pid && process.parent == me), "{tree:?}");
        assert_eq!(below(1, 1).len(), 1);
        assert!(private_memory(me) > 0);
        assert!(threads_of(rustix::process::getuid().as_raw()) >= 1);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = b"7 (a) Z 9 (\n) S 3 6 7 0 -1 0 0 0 0 0 100 20 3 4 20 0 1 0 77";
        let process = parse(7, stat).unwrap();
        assert_eq!((process.parent, process.zombie, process.cpu, process.started), (3, false, 1.27, 77));
        assert!(parse(7, b"7 (x) Z 3 7 7 0 -1 0 0 0 0 0 1 0 0 0 20 0 1 0 5").unwrap().zombie);
        for bad in [&b""[..], b"7 (x", b"7 (x)", b"7 (x) S", b"7 (x) S x 1 1", b"7 (x) S 3 6 7 0 -1 0 0 0 0 0 1 1"] {
            assert_eq!(parse(7, bad), None);
        }
    }
}
