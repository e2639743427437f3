//! The processes below this one, from /proc: who they are, what they use. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

/// Who is whose child, as the kernel tells it.
pub(super) enum Family {
    /// It is asked for each process.
    Asked,
    /// It was built without that (`CONFIG_PROC_CHILDREN`): all processes of the host, looked at once.
    Scanned(BTreeMap<i32, Vec<i32>>),
}

impl Family {
    pub fn now() -> Self {
        static ASKED: OnceLock<bool> = OnceLock::new();
        if *ASKED.get_or_init(|| Path::new("/proc/thread-self/children").exists()) {
            return Self::Asked;
        }
        Self::scan(Path::new("/proc"))
    }

    fn scan(proc: &Path) -> Self {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let all = std::fs::read_dir(proc).into_iter().flatten().flatten();
        for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            if let Some(process) = read_in(proc, pid) {
                children.entry(process.parent).or_default().push(pid);
            }
        }
        Self::Scanned(children)
    }

    /// The children of one process.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        match self {
            Self::Asked => asked(pid),
            Self::Scanned(children) => children.get(&pid).cloned().unwrap_or_default(),
        }
    }

    /// The descendants of `root`, at most `most` of them: a tree may grow as fast as it is walked. Those that end
    /// meanwhile may be missing.
    fn below(&self, root: i32, most: usize) -> Vec<Process> {
        let mut found: Vec<Process> = Vec::new();
        // One that loses its parent meanwhile is met twice.
        let mut met = BTreeSet::from([root]);
        let mut parents = vec![root];
        while let Some(parent) = parents.pop() {
            for pid in self.children(parent).into_iter().filter(|&pid| met.insert(pid)) {
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
}

/// The descendants of `root`, at most `most` of them.
pub(super) fn below(root: i32, most: usize) -> Vec<Process> {
    Family::now().below(root, most)
}

/// The children of one process.
pub(super) fn children(pid: i32) -> Vec<i32> {
    Family::now().children(pid)
}

/// Each thread has children of its own.
fn asked(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    // A file that cannot be read is of a thread that has ended.
    let lists = tasks.filter_map(|task| std::fs::read(task.path().join("children")).ok());
    let pids = |text: Vec<u8>| words(&text).filter_map(|word| i32::try_from(uint(word)?).ok()).collect::<Vec<_>>();
    lists.flat_map(pids).collect()
}

pub(super) fn read(pid: i32) -> Option<Process> {
    read_in(Path::new("/proc"), pid)
}

fn read_in(proc: &Path, pid: i32) -> Option<Process> {
    parse(pid, &std::fs::read(proc.join(format!("{pid}/stat"))).ok()?)
}

/// `pid (any name) state parent .. utime stime cutime cstime .. threads . starttime`: proc_pid_stat(5).
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|&b| b == b')')?;
    let columns: Vec<&[u8]> = words(&stat[end + 1..]).take(20).collect();
    let parent = i32::try_from(uint(columns.get(1)?)?).ok()?;
    let ticks: u64 = columns.get(11..15)?.iter().filter_map(|word| uint(word)).sum();
    // The first thread may have ended with others alive.
    let zombie = matches!(columns.first(), Some(&(b"Z" | b"X"))) && uint(columns.get(17)?)? <= 1;
    let started = uint(columns.get(19)?)?;
    Some(Process { pid, parent, zombie, cpu: ticks as f64 / TICKS_PER_SECOND, started })
}

/// Memory that is the process's alone, in bytes: what it shares with others (code, files) is not counted.
pub(super) fn private_memory(pid: i32) -> u64 {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if let Some(bytes) = private(&process) {
        return bytes;
    }
    // A process whose first thread has ended shows nothing; its other threads do.
    let threads = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| private(&thread.path())).next().unwrap_or(0)
}

/// `size resident shared ..`, in pages: proc_pid_statm(5).
fn private(process: &Path) -> Option<u64> {
    let text = std::fs::read(process.join("statm")).ok()?;
    let mut pages = words(&text).filter_map(uint);
    let (_, resident, shared) = (pages.next().filter(|&size| size > 0)?, pages.next()?, pages.next()?);
    Some(resident.saturating_sub(shared) * rustix::param::page_size() as u64)
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
        let trees = [Family::Asked, Family::scan(Path::new("/proc"))].map(|family| family.below(me, 1000));
        child.kill().unwrap();
        child.wait().unwrap();
        for tree in trees {
            assert!(tree.iter().any(|process| process.pid == pid && process.parent == me), "{tree:?}");
        }
        assert_eq!(below(1, 1).len(), 1);
        assert!(private_memory(me) > 0);
        assert!(threads_of(rustix::process::getuid().as_raw()) >= 1);
    }

    /// A host of many processes is looked at once, however many of them are below one.
    #[test]
    fn one_scan_gives_the_whole_tree() {
        let proc = tempfile::tempdir().unwrap();
        let write = |pid: i32, parent: i32| {
            let dir = proc.path().join(pid.to_string());
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("stat"), format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 5"))
                .unwrap();
        };
        std::fs::create_dir(proc.path().join("sys")).unwrap();
        for (pid, parent) in [(10, 1), (11, 10), (12, 11), (13, 10), (14, 1)] {
            write(pid, parent);
        }
        let family = Family::scan(proc.path());
        std::fs::remove_dir_all(proc.path()).unwrap();
        let sorted = |pid: i32| {
            let mut children = family.children(pid);
            children.sort_unstable();
            children
        };
        assert_eq!([sorted(10), sorted(11), sorted(12), sorted(1)], [vec![11, 13], vec![12], vec![], vec![10, 14]]);
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        let stat = |threads: u32| format!("7 (x) Z 3 7 7 0 -1 0 0 0 0 0 1 0 0 0 20 0 {threads} 0 5");
        assert!(!parse(7, stat(2).as_bytes()).unwrap().zombie);
        assert!(parse(7, stat(1).as_bytes()).unwrap().zombie);
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
