//! What one pass of each collector costs in CPU time, beside the same reading done bare and by sysinfo.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use holdover::clock;
use rustix::time::{ClockId, clock_gettime};
use sysinfo::{Disks, Networks, System};

use crate::figure::{Figure, Outcome, Section};
use crate::host::{Host, SET};
use crate::median::median;

pub const SECTION: Section = Section {
    name: "passes",
    about: "CPU time of one pass of the collectors, against bare reads of the same files and against sysinfo",
    run,
};

/// Between two passes that begin cold: caches and branch predictors have seen other work, and sysinfo's least
/// interval for CPU figures (200 ms) is over.
const REST: Duration = Duration::from_millis(210);

fn run(short: bool) -> Outcome {
    let (many, rested) = if short { (20, 2) } else { (1000, 30) };
    let mut figures = set(many, rested)?;
    let mut all = Host::all()?;
    for (index, name) in all.names().into_iter().enumerate() {
        // A pass of some collectors asks the whole kernel.
        let times = if matches!(name, "tcp" | "processes") { many / 10 } else { many };
        let us = warm(times, || drop(all.run(index, &clock::now())));
        figures.push(Figure::new(format!("{name}: one pass, warm"), us, "us"));
    }
    Ok(figures)
}

fn set(many: usize, rested: usize) -> Result<Vec<Figure>, Box<dyn Error>> {
    let mut host = Host::of(&SET)?;
    host.pass();
    let mut bare = Bare::of_open_files()?;
    let mut peer = Peer::new()?;
    let points: usize = host.pass().iter().map(|run| run.points.len()).sum();
    let values = crate::host::values(&host.pass());
    let (ours, raw) = (warm(many, || drop(host.pass())), warm(many, || bare.read()));
    let cold = cold(rested, [&mut || drop(host.pass()), &mut || bare.read(), &mut || peer.refresh()]);
    let files = bare.files.len();
    Ok(vec![
        Figure::new("host set: one pass, warm", ours, "us")
            .budget("<= 100")
            .note(format!("{}; {points} records, {values} values", SET.join(", "))),
        Figure::new("host set: bare reads, warm", raw, "us").note(format!("pread of the same {files} held files")),
        Figure::new("host set / bare reads, warm", ours / raw, ""),
        Figure::new("host set: one pass after 0.2 s of rest", cold[0], "us"),
        Figure::new("host set: bare reads after 0.2 s of rest", cold[1], "us"),
        Figure::new("host set: sysinfo after 0.2 s of rest", cold[2], "us")
            .note("refreshes CPUs, memory, disks with their usage and I/O, networks; load average"),
        Figure::new("host set / bare reads, rested", cold[0] / cold[1], ""),
        Figure::new("host set / sysinfo, rested", cold[0] / cold[2], ""),
    ])
}

/// Microseconds of this process's CPU time that `work` takes, all of its threads counted.
fn cost(work: &mut dyn FnMut()) -> f64 {
    let read = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let before = read();
    work();
    read() - before
}

/// Again and again.
fn warm(times: usize, mut work: impl FnMut()) -> f64 {
    work();
    median(&(0..times).map(|_| cost(&mut work)).collect::<Vec<_>>())
}

/// Each after a rest, in turns.
fn cold<const N: usize>(times: usize, mut works: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut costs = [const { Vec::new() }; N];
    for _ in 0..times {
        for (work, costs) in works.iter_mut().zip(&mut costs) {
            std::thread::sleep(REST);
            costs.push(cost(work));
        }
    }
    costs.map(|costs| median(&costs))
}

/// The least that reading the same can cost: the files that the collectors hold open, read and not looked at.
struct Bare {
    files: Vec<File>,
    buffer: Vec<u8>,
}

impl Bare {
    /// Files of the kernel that this process holds open now.
    fn of_open_files() -> Result<Self, Box<dyn Error>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let Ok(path) = std::fs::read_link(entry?.path()) else { continue };
            let of_kernel = |path: &PathBuf| path.starts_with("/proc") || path.starts_with("/sys");
            // The listing itself is one of them.
            if of_kernel(&path) && path.is_file() {
                files.push(File::open(path)?);
            }
        }
        Ok(Self { files, buffer: vec![0; 1 << 16] })
    }

    fn read(&mut self) {
        for file in &self.files {
            let mut at = 0;
            // A file of a device that is going away fails; that costs the same.
            while let Ok(n @ 1..) = file.read_at(&mut self.buffer, at) {
                at += n as u64;
            }
        }
    }
}

/// sysinfo, asked for the same.
struct Peer {
    system: System,
    disks: Disks,
    networks: Networks,
}

impl Peer {
    fn new() -> Result<Self, Box<dyn Error>> {
        let (disks, networks) = (Disks::new_with_refreshed_list()?, Networks::new_with_refreshed_list()?);
        Ok(Self { system: System::new()?, disks, networks })
    }

    fn refresh(&mut self) {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(false);
        self.networks.refresh(false);
        drop(std::hint::black_box(System::load_average()));
    }
}
