//! What processes use, as the kernel counts it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

/// Several processes that do one job, at one moment. Memory in bytes; the rest since their start.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub rss: f64,
    /// Shared pages divided by those who share them.
    pub pss: f64,
    pub anonymous: f64,
    /// Bytes handed to write calls on files (and on sockets, by programs that use `write` for them).
    pub written: f64,
    /// Bytes of pages made dirty; on file systems with large folios more than was written.
    pub dirtied: f64,
    /// CPU time in whole ticks of 10 ms, threads that ended included.
    pub ticks: f64,
    threads: BTreeMap<PathBuf, Thread>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thread {
    cpu_ns: f64,
    switches: f64,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub cpu_ns: f64,
    /// Context switches of either kind.
    pub switches: f64,
    pub written: f64,
    pub dirtied: f64,
    pub ticks: f64,
}

impl Usage {
    pub fn of(processes: &[u32]) -> Result<Self, Box<dyn Error>> {
        let mut all = Self::default();
        for pid in processes {
            let dir = PathBuf::from(format!("/proc/{pid}"));
            let memory = std::fs::read_to_string(dir.join("smaps_rollup"))?;
            all.rss += number(&memory, "Rss:")? * 1024.0;
            all.pss += number(&memory, "Pss:")? * 1024.0;
            all.anonymous += number(&memory, "Anonymous:")? * 1024.0;
            let io = std::fs::read_to_string(dir.join("io"))?;
            all.written += number(&io, "wchar:")?;
            all.dirtied += number(&io, "write_bytes:")? - number(&io, "cancelled_write_bytes:")?;
            all.ticks += ticks(&std::fs::read_to_string(dir.join("stat"))?)?;
            for task in std::fs::read_dir(dir.join("task"))? {
                let task = task?.path();
                // It may end while it is looked at.
                if let Ok(thread) = Thread::of(&task) {
                    all.threads.insert(task, thread);
                }
            }
        }
        Ok(all)
    }

    /// Since `before`. A thread that has ended takes its time and switches with it; see [`Spent::ticks`].
    pub fn since(&self, before: &Self) -> Spent {
        let mut spent = Spent {
            cpu_ns: 0.0,
            switches: 0.0,
            written: self.written - before.written,
            dirtied: self.dirtied - before.dirtied,
            ticks: self.ticks - before.ticks,
        };
        for (task, thread) in &self.threads {
            let then = before.threads.get(task).copied().unwrap_or_default();
            spent.cpu_ns += thread.cpu_ns - then.cpu_ns;
            spent.switches += thread.switches - then.switches;
        }
        spent
    }
}

impl Thread {
    fn of(task: &std::path::Path) -> Result<Self, Box<dyn Error>> {
        let schedstat = std::fs::read_to_string(task.join("schedstat"))?;
        let cpu_ns = schedstat.split(' ').next().ok_or("schedstat is empty")?.parse()?;
        let status = std::fs::read_to_string(task.join("status"))?;
        let switches = number(&status, "voluntary_ctxt_switches:")? + number(&status, "nonvoluntary_ctxt_switches:")?;
        Ok(Self { cpu_ns, switches })
    }
}

/// The number after a word at the beginning of a line.
fn number(text: &str, word: &str) -> Result<f64, Box<dyn Error>> {
    let line = text.lines().find_map(|line| line.strip_prefix(word)).ok_or_else(|| format!("no {word}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time of `/proc/PID/stat`.
fn ticks(stat: &str) -> Result<f64, Box<dyn Error>> {
    let (_, after_name) = stat.rsplit_once(") ").ok_or("stat has no name")?;
    let words: Vec<&str> = after_name.split(' ').collect();
    let word = |index: usize| -> Result<f64, Box<dyn Error>> { Ok(words.get(index).ok_or("stat is short")?.parse()?) };
    Ok(word(11)? + word(12)?)
}
