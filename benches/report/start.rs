//! Start after kill -9 with a large backlog: a process that appends is killed, another one opens what it left.
//!
//! Both are this program once more, so that what is read and what memory is taken are those of opening alone.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdover::clock;
use holdover::outbox::{FileDisk, Outbox};
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Outcome, Section};
use crate::fill::{self, Filled, Samples};
use crate::median::{largest, median};

pub const SECTION: Section = Section {
    name: "start",
    about: "opening an outbox with a backlog after kill -9, the check of the active segment included",
    run,
};

/// The first argument of the two processes, then what to do, then the directory.
const CHILD: &str = "--start-child";
/// A killer that never comes must not fill the disk.
const APPEND_AT_MOST: Duration = Duration::from_secs(60);
/// What the active segment holds when its process is killed: about full, which is the most there is to check.
const ACTIVE: u64 = 7_500_000;
/// What an opening says when the process was killed between the first and the last write of a commit.
const CUT_OFF: &str = "it was cut off while it was written";

fn run(short: bool) -> Outcome {
    let filled = fill::outbox(short)?;
    let mut warm = Vec::new();
    let mut cold = Vec::new();
    let mut how = "";
    for round in 0..if short { 1 } else { 7 } {
        kill_while_appending(&filled.dir, round)?;
        warm.push(open(&filled.dir)?);
        kill_while_appending(&filled.dir, round)?;
        how = forget_cached(&filled.dir, short)?;
        cold.push(open(&filled.dir)?);
    }
    Ok(figures(&filled, &warm, &cold, how))
}

fn figures(filled: &Filled, warm: &[Opening], cold: &[Opening], how: &str) -> Vec<Figure> {
    let of = |openings: &[Opening], what: fn(&Opening) -> f64| openings.iter().map(what).collect::<Vec<_>>();
    let cut_off = warm.iter().chain(cold).filter(|opening| !opening.problems.is_empty()).count();
    let held = warm.last().map_or(0, |o| o.records);
    let backlog = format!("{:.2} GB in {} segments, {held} records", filled.bytes as f64 / 1e9, filled.segments);
    let rate = filled.records as f64 / filled.seconds;
    let spread = |openings: &[Opening]| format!("median of {}", openings.len());
    let (warm_ms, cold_ms) = (of(warm, |o| o.ms), of(cold, |o| o.ms));
    vec![
        Figure::new("filling it, 2,000 records a commit", rate, "records/s"),
        Figure::new("open, files in memory", median(&warm_ms), "ms").budget("<= 100").note(backlog),
        Figure::new("open, files in memory, slowest", largest(&warm_ms), "ms").budget("<= 100").note(spread(warm)),
        Figure::new("open, files on the disk", median(&cold_ms), "ms").budget("<= 100").note(how),
        Figure::new("open, files on the disk, slowest", largest(&cold_ms), "ms").budget("<= 100").note(spread(cold)),
        Figure::new("openings that found a commit cut off", cut_off as f64, "")
            .note(format!("of {}; they read the newest segment by its checksums", warm.len() + cold.len())),
        Figure::new("bytes read", median(&of(warm, |o| o.read)) / 1e6, "MB"),
        Figure::new("bytes read / backlog", median(&of(warm, |o| o.read)) / filled.bytes as f64, ""),
        Figure::new("memory resident after it", median(&of(warm, |o| o.rss)) / 1e6, "MB")
            .note(format!("of this program, {:.1} MB of it before", median(&of(warm, |o| o.rss_before)) / 1e6)),
    ]
}

/// What the opening process says.
#[derive(Serialize, Deserialize)]
struct Opening {
    ms: f64,
    read: f64,
    rss_before: f64,
    rss: f64,
    /// Held.
    records: u64,
    problems: Vec<String>,
}

/// Appends in another process until the active segment is about full, and kills it in the middle of its commits.
fn kill_while_appending(dir: &Path, round: u64) -> Result<(), Box<dyn Error>> {
    let mut child = again("append", dir)?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    // At another moment of a commit each time.
    std::thread::sleep(Duration::from_micros(20_000 + 137 * round));
    child.kill()?;
    let status = child.wait()?;
    match line.trim() {
        "appending" => Ok(()),
        other => Err(format!("the appending process ended with {status} and said {other:?}").into()),
    }
}

fn open(dir: &Path) -> Result<Opening, Box<dyn Error>> {
    let output = again("open", dir)?.wait_with_output()?;
    let opening: Opening =
        serde_json::from_slice(&output.stdout).map_err(|_| format!("it ended: {}", output.status))?;
    // The kill may fall between the writes of one commit: that is said, and nothing that was committed is gone.
    match opening.problems.iter().find(|problem| !problem.contains(CUT_OFF)) {
        None => Ok(opening),
        Some(problem) => Err(format!("opening found: {problem}").into()),
    }
}

fn again(what: &str, dir: &Path) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args([CHILD, what]).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

/// Makes the next read of the outbox one of the disk. Returns how. A short run leaves the rest of the machine alone.
fn forget_cached(dir: &Path, short: bool) -> Result<&'static str, Box<dyn Error>> {
    let files = files(dir)?;
    for file in &files {
        file.sync_all()?;
    }
    if !short && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return Ok("after /proc/sys/vm/drop_caches");
    }
    for file in &files {
        rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?;
    }
    Ok("contents dropped file by file; names and sizes stay in memory")
}

fn files(dir: &Path) -> Result<Vec<File>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            files.extend(self::files(&path)?);
        } else if kind.is_file() {
            files.push(File::open(path)?);
        }
    }
    Ok(files)
}

/// Does what a child has been started for; `None` in the parent.
pub fn child() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    args.next().filter(|first| first == CHILD)?;
    let what = args.next()?;
    let dir = PathBuf::from(args.next()?);
    let done = if what == "open" { open_and_tell(&dir) } else { append_and_tell(&dir) };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    })
}

fn append_and_tell(dir: &Path) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let (mut outbox, _) = Outbox::open(Arc::new(FileDisk), fill::options(dir), clock::now())?;
    let mut samples = Samples::take(30)?;
    let goal = outbox.stats().disk_bytes + ACTIVE;
    while outbox.stats().disk_bytes < goal {
        outbox.append(&samples.next(500).0, clock::now())?;
    }
    // From here on as an agent does: one pass a commit.
    outbox.append(&samples.second(), clock::now())?;
    println!("appending");
    std::io::stdout().flush()?;
    while began.elapsed() < APPEND_AT_MOST {
        outbox.append(&samples.second(), clock::now())?;
    }
    Err("nobody killed it".into())
}

fn open_and_tell(dir: &Path) -> Result<(), Box<dyn Error>> {
    let (read, rss_before) = (read_chars()?, resident()?);
    let began = Instant::now();
    let (outbox, opened) = Outbox::open(Arc::new(FileDisk), fill::options(dir), clock::now())?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let (read, rss) = (read_chars()? - read, resident()?);
    let records = opened.epochs.iter().map(|epoch| epoch.pending.len()).sum();
    let opening = Opening { ms, read, rss_before, rss, records, problems: opened.problems };
    println!("{}", serde_json::to_string(&opening)?);
    drop(outbox);
    Ok(())
}

/// Bytes that this process has read from files so far.
fn read_chars() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    Ok(line.ok_or("/proc/self/io has no rchar")?.parse()?)
}

/// Bytes.
fn resident() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    Ok(line.ok_or("/proc/self/status has no VmRSS")?.trim().parse::<f64>()? * 1024.0)
}
