//! Processes by name: how many run, and what they use together. A name that nothing runs under gives `count` 0, so
//! that "it is gone" is a value and not a silence.
//!
//! One pass over `/proc` reads every process's `comm` (5-10 us each), and more only of those that match. Names are
//! `comm`, which the kernel cuts at 15 bytes; a longer one is compared with the program's file name, too.

use std::collections::BTreeMap;
use std::path::Path;

use super::cpu::TICKS_PER_SECOND;
use super::root::{read_limited, unreadable};
use super::text::{self, words};
use super::{Collector, CollectorSpec, Context, MetricSpec, ParamError, ParamKind, ParamSpec, Params, Points};
use crate::record::{ErrorKind, RunError};

pub const SPEC: CollectorSpec = CollectorSpec {
    name: "processes",
    about: "how many processes run under given names, and their memory and CPU time",
    default_schedule: "30s",
    default_on: false,
    params: &[ParamSpec {
        name: "names",
        kind: ParamKind::List,
        about: "names to count, such as sshd; a `*` at the end stands for any rest; at least one",
        default: "[]",
    }],
    metrics: METRICS,
    build,
};

const NAME: &str = "process";
/// What the kernel keeps of a name.
const COMM: usize = 15;
/// Processes looked at in one run: some 100 ms. Beyond it the counts are too small, and an err record says so.
const MAX_SCANNED: usize = 10_000;

const METRICS: &[MetricSpec] = &[
    MetricSpec::updown(NAME, "count", "{process}").is("system.process.count", "processes of that name"),
    MetricSpec::updown(NAME, "memory_usage", "By")
        .is("process.memory.usage", "resident memory of all of them; memory that they share counts more than once"),
    MetricSpec::updown(NAME, "threads", "{thread}").is("process.thread.count", "threads of all of them"),
    MetricSpec::counter(NAME, "cpu_time", "s").is(
        "process.cpu.time",
        "CPU time of all of them that this agent has seen, since their own start; goes on when one of them ends",
    ),
];

struct Processes {
    names: Vec<Watched>,
}

struct Watched {
    name: String,
    /// Ticks used so far by each process that runs, by id and start time (ids are used again).
    running: BTreeMap<(u64, u64), u64>,
    ticks: u64,
}

/// What the processes of one name use now.
#[derive(Default)]
struct Sum {
    count: u64,
    memory: u64,
    threads: u64,
    running: BTreeMap<(u64, u64), u64>,
}

fn build(params: &Params) -> Result<Box<dyn Collector>, ParamError> {
    let names = params.list("names");
    if names.is_empty() {
        return Err(ParamError::value("names", "name at least one process, such as [\"sshd\"]"));
    }
    if names.iter().any(|name| name.is_empty() || name.contains('/')) {
        return Err(ParamError::value("names", "a name is neither empty nor a path"));
    }
    let names = names.iter().map(|name| Watched { name: name.clone(), running: BTreeMap::new(), ticks: 0 }).collect();
    Ok(Box::new(Processes { names }))
}

impl Collector for Processes {
    fn collect(&mut self, ctx: &Context<'_>, out: &mut Points) -> Result<(), RunError> {
        let Scan { scanned, sums, missing } = self.scan(&ctx.host.path("proc"))?;
        if scanned == 0 {
            return Err(RunError::new(ErrorKind::Unsupported, "/proc lists no process; is it mounted?"));
        }
        for (watched, sum) in self.names.iter_mut().zip(sums) {
            watched.account(sum.running);
            let draft = out.add(NAME).tag("name", text::name(watched.name.as_bytes())).uint("count", sum.count);
            draft
                .uint("memory_usage", sum.memory)
                .uint("threads", sum.threads)
                .float("cpu_time", watched.ticks as f64 / TICKS_PER_SECOND);
        }
        if scanned > MAX_SCANNED {
            let message =
                format!("{scanned} processes run, only {MAX_SCANNED} were looked at; the counts are too small");
            return Err(RunError::new(ErrorKind::Output, message));
        }
        missing.map_or(Ok(()), Err)
    }
}

/// One pass over all processes.
struct Scan {
    /// How many there are.
    scanned: usize,
    /// In the order of the names.
    sums: Vec<Sum>,
    /// Why a process of a wanted name is not in its sum.
    missing: Option<RunError>,
}

impl Processes {
    fn scan(&self, proc: &Path) -> Result<Scan, RunError> {
        let entries = std::fs::read_dir(proc).map_err(|e| unreadable("proc", &e))?;
        let mut sums: Vec<Sum> = self.names.iter().map(|_| Sum::default()).collect();
        let (mut scanned, mut missing) = (0usize, None);
        // A process that ends while we look at it is left out: every read below may fail.
        for entry in entries.flatten() {
            let Some(pid) = text::uint(entry.file_name().as_encoded_bytes()) else { continue };
            scanned += 1;
            if scanned > MAX_SCANNED {
                continue;
            }
            let dir = proc.join(entry.file_name());
            let Ok(comm) = read_limited(&dir.join("comm")) else { continue };
            let comm = comm.trim_ascii_end();
            for (watched, sum) in self.names.iter().zip(&mut sums) {
                if is_named(&watched.name, comm, &dir) {
                    missing = sum.add(pid, &dir).err().or(missing);
                }
            }
        }
        Ok(Scan { scanned, sums, missing })
    }
}

impl Watched {
    /// Adds what was used since the last run; a process seen for the first time adds all that it used so far.
    fn account(&mut self, running: BTreeMap<(u64, u64), u64>) {
        for (process, ticks) in &running {
            let before = self.running.get(process).copied().unwrap_or(0);
            self.ticks = self.ticks.saturating_add(ticks.saturating_sub(before));
        }
        self.running = running;
    }
}

impl Sum {
    fn add(&mut self, pid: u64, dir: &Path) -> Result<(), RunError> {
        let Ok(text) = read_limited(&dir.join("stat")) else { return Ok(()) };
        let Some(stat) = parse_stat(&text) else {
            return Err(text::malformed(&format!("proc/{pid}/stat"), "a line of 22 columns or more", &text));
        };
        if stat.ended {
            return Ok(());
        }
        self.count += 1;
        self.threads = self.threads.saturating_add(stat.threads);
        self.running.insert((pid, stat.started), stat.ticks);
        let resident = read_limited(&dir.join("status")).ok().and_then(|text| resident(&text));
        self.memory = self.memory.saturating_add(resident.unwrap_or(0));
        Ok(())
    }
}

/// Whether the process in `dir` whose `comm` this is goes by `name`.
fn is_named(name: &str, comm: &[u8], dir: &Path) -> bool {
    let name = name.as_bytes();
    if name.len() <= COMM || name.ends_with(b"*") && name.len() <= COMM + 1 {
        return text::matches(name, comm);
    }
    comm == &name[..COMM] && program(dir).is_some_and(|file| text::matches(name, &file))
}

/// The file name of the program, from the first word of its command line.
fn program(dir: &Path) -> Option<Vec<u8>> {
    let line = read_limited(&dir.join("cmdline")).ok()?;
    let first = line.split(|&b| b == 0).next()?;
    let file = first.rsplit(|&b| b == b'/').next()?;
    (!file.is_empty()).then(|| file.to_vec())
}

pub(super) struct Stat {
    /// A zombie: only its exit code is left.
    pub ended: bool,
    pub ticks: u64,
    pub threads: u64,
    pub started: u64,
}

/// `13652 (name) with ) in it) S 1 ...`: the columns count from the last parenthesis.
pub(super) fn parse_stat(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|&b| b == b')')?;
    let mut columns = words(&text[close + 1..]);
    let ended = matches!(columns.next()?, b"Z" | b"X" | b"x");
    let mut number = |skip: usize| columns.nth(skip).and_then(text::uint);
    let (user, system) = (number(10)?, number(0)?);
    let (threads, started) = (number(4)?, number(1)?);
    Some(Stat { ended, ticks: user.checked_add(system)?, threads, started })
}

/// `VmRSS:    9876 kB`, in bytes; kernel threads have none.
pub(super) fn resident(text: &[u8]) -> Option<u64> {
    kilobytes(text, b"VmRSS:")
}

/// What no file backs, in memory or swapped out, in bytes; kernels before 4.5 do not tell.
pub(super) fn private(text: &[u8]) -> Option<u64> {
    kilobytes(text, b"RssAnon:").map(|anonymous| anonymous.saturating_add(kilobytes(text, b"VmSwap:").unwrap_or(0)))
}

fn kilobytes(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text::lines(text).find(|line| line.starts_with(key))?;
    words(line).nth(1).and_then(text::uint)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_goes_on_when_a_process_ends_and_its_id_is_used_again() {
        let mut watched = Watched { name: "a".into(), running: BTreeMap::new(), ticks: 0 };
        watched.account(BTreeMap::from([((7, 100), 50), ((8, 100), 5)]));
        assert_eq!(watched.ticks, 55);
        watched.account(BTreeMap::from([((7, 100), 60)]));
        assert_eq!(watched.ticks, 65, "8 ended");
        watched.account(BTreeMap::from([((7, 900), 3)]));
        assert_eq!(watched.ticks, 68, "another 7");
    }

    #[test]
    fn stat_is_read_from_behind_the_name() {
        let text = b"42 (evil) 1 (x) R 1 42 42 0 -1 4194560 1 0 0 0 12 3 0 0 20 0 4 0 777 1000 10 0\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.ended, stat.ticks, stat.threads, stat.started), (false, 15, 4, 777));
        assert!(parse_stat(b"42 (name").is_none());
        assert!(parse_stat(b"42 (name) R 1 2").is_none());
    }

    #[test]
    fn private_memory_is_what_no_file_backs_wherever_it_is() {
        let text = b"Name:\tholdover\nVmRSS:\t    7800 kB\nRssAnon:\t    2500 kB\nRssFile:\t    5300 kB\nVmSwap:\t     500 kB\n";
        assert_eq!((resident(text), private(text)), (Some(7_800 << 10), Some(3_000 << 10)));
        assert_eq!(private(b"VmRSS:\t    7800 kB\n"), None, "an old kernel");
        assert_eq!(private(b"RssAnon:\t\nVmRSS:\t kB\n"), None);
    }

    #[test]
    fn names_are_parameters_that_must_be_given() {
        assert!(build(&Params::new()).is_err());
        let mut params = Params::new();
        params.set(SPEC.params, "names", super::super::ParamValue::List(vec!["/bin/sh".into()])).unwrap();
        assert!(build(&params).is_err());
    }
}
