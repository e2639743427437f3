//! Control groups, version 2: a directory that was handed to the agent, and below it one group for each run, which
//! accounts for all its processes, bounds them, and kills them whatever they do to hide.
//!
//! Nothing here touches a group that was not handed over: by systemd (`Delegate=yes` marks it) or by the
//! configuration. What the kernel or the delegation lacks (a controller, `cgroup.kill`) is left to the other means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::{Limits, Over};
pub use super::place::Place;
use crate::clock;

/// The group that the agent itself moves to: a group with controllers for its children has no processes of its own.
const AGENT: &str = "agent";
/// Groups of runs are called so, with the id of the process that keeps the run.
const RUN: &str = "run-";
/// How long processes that were killed may take to go, before their groups are left to the next start.
const DYING: Duration = Duration::from_secs(2);
/// By which systemd tells that a group is no longer its own: for everybody since 251, for root before.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// Makes the place ready and returns it; `None` when there is none, an error when a configured one cannot be used.
/// Groups that a killed agent left are emptied and removed.
pub fn prepare(place: &Place) -> Result<Option<PathBuf>, String> {
    let base = match place {
        Place::Off => return Ok(None),
        Place::Auto => match delegated() {
            Some(base) => base,
            None => return Ok(None),
        },
        Place::At(dir) => dir.clone(),
    };
    let why = |error: io::Error| format!("{}: {error}", base.display());
    if !base.join("cgroup.procs").exists() {
        return Err(format!("{} is no directory of a cgroup2 file system", base.display()));
    }
    if *place == Place::Auto {
        settle(&base).map_err(why)?;
    }
    // Each for itself: what is there is used.
    for controller in ["+memory", "+pids"] {
        fs::write(base.join("cgroup.subtree_control"), controller).ok();
    }
    remove_stale(&base);
    let probe = base.join(format!("{RUN}{}", std::process::id()));
    fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).map_err(why)?;
    Ok(Some(base))
}

/// Our own group, or the one above when systemd put us below it (`DelegateSubgroup=`), if it is marked as delegated.
fn delegated() -> Option<PathBuf> {
    let own = own_group()?;
    let marked = |dir: &Path| {
        let mut value = [0u8; 8];
        DELEGATED.iter().any(|name| rustix::fs::getxattr(dir, *name, &mut value[..]).is_ok_and(|n| value[..n] == *b"1"))
    };
    let above = own.parent().map(Path::to_path_buf);
    [Some(own), above].into_iter().flatten().find(|dir| marked(dir))
}

/// Moves this process out of `base`, so that `base` may have controllers for its children.
fn settle(base: &Path) -> io::Result<()> {
    if own_group().as_deref() != Some(base) {
        return Ok(());
    }
    let agent = base.join(AGENT);
    match fs::create_dir(&agent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(agent.join("cgroup.procs"), std::process::id().to_string())
}

/// Where this process is, as a path in the file system.
fn own_group() -> Option<PathBuf> {
    let name = name_of("self")?;
    let path = name.strip_prefix('/')?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| located(line, path))
}

/// The group of a process, as /proc has it.
fn name_of(process: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// `id parent major:minor root mount-point options .. - type source options`: proc_pid_mountinfo(5).
fn located(mount: &str, path: &str) -> Option<PathBuf> {
    let (place, kind) = mount.split_once(" - ")?;
    if !kind.starts_with("cgroup2 ") {
        return None;
    }
    let mut columns = place.split(' ').skip(3);
    let (root, point) = (columns.next()?, columns.next()?);
    let rest = Path::new("/").join(path);
    Some(Path::new(point).join(rest.strip_prefix(root).ok()?))
}

/// Groups whose keeper is gone.
fn remove_stale(base: &Path) {
    let is_stale = |dir: &PathBuf| {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let keeper = name.strip_prefix(RUN).and_then(|pid| pid.parse::<u32>().ok());
        keeper.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let stale: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_stale).collect();
    clear(&stale);
}

/// Ends what is in these groups and removes them, as far as that is done in time: the dead take a moment to go.
#[expect(clippy::disallowed_methods, reason = "before the agent's loop begins, and in a minder, which has none")]
fn clear(groups: &[PathBuf]) {
    for group in groups {
        fs::write(group.join("cgroup.kill"), "1").ok();
    }
    let end = clock::now().mono + DYING;
    for group in groups {
        while fs::remove_dir(group).is_err() && group.exists() && clock::now().mono < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Ends what is left of a run whose keeper was killed; whether nothing is. The dead take a moment to go.
pub(super) fn remove(base: &Path, keeper: i32) -> bool {
    let group = Group { dir: base.join(format!("{RUN}{keeper}")), name: None, home: None, inside: false };
    group.kill();
    fs::remove_dir(&group.dir).is_ok() || !group.dir.exists()
}

/// The group of one run.
pub(super) struct Group {
    dir: PathBuf,
    /// The same as processes in it have it in /proc.
    name: Option<String>,
    /// Where the keeper came from.
    home: Option<PathBuf>,
    /// The keeper is still in it.
    inside: bool,
}

impl Group {
    /// Makes a group below `base` and moves this process into it, so that what it starts is born there.
    pub fn enter(base: &Path, limits: &Limits) -> io::Result<Self> {
        let home = own_group();
        let keeper = std::process::id();
        let mut group = Self { dir: base.join(format!("{RUN}{keeper}")), name: None, home, inside: false };
        // One that has our id for its keeper has none.
        if group.dir.exists() {
            clear(std::slice::from_ref(&group.dir));
        }
        fs::create_dir(&group.dir)?;
        if let Some(bytes) = limits.memory {
            group.set("memory.max", &bytes.to_string());
            group.set("memory.swap.max", "0");
            // Half a script is no script.
            group.set("memory.oom.group", "1");
        }
        if let Some(most) = limits.processes {
            // This process is one of them until it leaves.
            group.set("pids.max", &(u64::from(most) + 1).to_string());
        }
        fs::write(group.dir.join("cgroup.procs"), keeper.to_string())?;
        group.inside = true;
        group.name = name_of("self");
        Ok(group)
    }

    /// Moves this process back to where it came from; what it has started stays.
    pub fn leave(&mut self, limits: &Limits) {
        let procs = self.home.as_ref().map(|home| home.join("cgroup.procs"));
        if procs.is_some_and(|procs| fs::write(procs, std::process::id().to_string()).is_ok()) {
            self.inside = false;
            if let Some(most) = limits.processes {
                self.set("pids.max", &most.to_string());
            }
        }
    }

    /// A file that is not there belongs to a controller that was not handed over.
    fn set(&self, file: &str, value: &str) {
        fs::write(self.dir.join(file), value).ok();
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    /// The value of `key` in a file of `key value` lines.
    fn entry(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
    }

    /// Whether the kernel bounds memory here.
    pub fn bounds_memory(&self) -> bool {
        self.dir.join("memory.max").exists()
    }

    /// Whether the kernel bounds the number of processes here.
    pub fn bounds_processes(&self) -> bool {
        self.dir.join("pids.max").exists()
    }

    /// CPU time of all that ever was in the group.
    pub fn cpu(&self) -> Option<Duration> {
        self.entry("cpu.stat", "usage_usec").map(Duration::from_micros)
    }

    /// The most memory that it ever had (Linux 5.19 and later).
    pub fn memory_peak(&self) -> Option<u64> {
        self.number("memory.peak")
    }

    /// The most processes that it ever had (Linux 6.1 and later).
    pub fn processes_peak(&self) -> Option<u64> {
        self.number("pids.peak")
    }

    /// Whether that process is in it, or below: one with the right to may have moved it elsewhere.
    pub fn holds(&self, pid: i32) -> bool {
        let inside = |name: &str, group: &str| {
            name.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match (&self.name, name_of(&pid.to_string())) {
            (Some(group), Some(name)) => inside(&name, group),
            _ => true,
        }
    }

    /// What the kernel had to refuse or to kill for, by the limits of this group. Those of the groups above, of which the
    /// service's is one, count what they do to us here too.
    pub fn over(&self) -> Option<Over> {
        if self.killed() && self.short() {
            return Some(Over::Memory);
        }
        // Since Linux 6.11 only this group's refusals are counted; before it, those above it count while ours has room.
        let most = self.number("pids.max");
        let had_room = most.is_some_and(|most| self.processes_peak().is_some_and(|peak| peak < most));
        let refused = self.entry("pids.events", "max").is_some_and(|refused| refused > 0);
        (refused && !had_room).then_some(Over::Processes)
    }

    /// Whether some of it was killed for lack of memory, though not for its own limit.
    pub fn starved(&self) -> bool {
        self.killed() && !self.short()
    }

    /// Whether memory ran out for somebody, and some of this group was killed for it.
    fn killed(&self) -> bool {
        self.entry("memory.events", "oom_kill").is_some_and(|kills| kills > 0)
    }

    /// Whether it was the limit of this group, or one below, that memory could not be had within.
    fn short(&self) -> bool {
        self.entry("memory.events", "oom").is_none_or(|times| times > 0)
    }

    /// Kills everything in it at once (Linux 5.14 and later).
    pub fn kill(&self) {
        if !self.inside {
            self.set("cgroup.kill", "1");
        }
    }

    /// Whether processes are in it, zombies aside.
    pub fn populated(&self) -> bool {
        !self.inside && self.entry("cgroup.events", "populated").is_some_and(|populated| populated > 0)
    }
}

impl Drop for Group {
    /// Fails while processes are left in it; then the next start of the agent removes it.
    fn drop(&mut self) {
        fs::remove_dir(&self.dir).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_any_mount() {
        let line = |root: &str, point: &str| {
            format!("30 23 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate")
        };
        let found = |root: &str, point: &str, path: &str| located(&line(root, point), path);
        assert_eq!(found("/", "/sys/fs/cgroup", "a/b.service"), Some("/sys/fs/cgroup/a/b.service".into()));
        assert_eq!(found("/a", "/mnt/cg", "a/b.service"), Some("/mnt/cg/b.service".into()));
        assert_eq!(found("/", "/sys/fs/cgroup/unified", ""), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(found("/other", "/sys/fs/cgroup", "a"), None);
        assert_eq!(located("30 23 0:26 / /proc rw - proc proc rw", "a"), None);
        assert_eq!(located("nonsense", "a"), None);
    }

    #[test]
    fn what_is_no_group_is_refused_and_off_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let why = prepare(&Place::At(dir.path().into())).unwrap_err();
        assert!(why.contains("no directory of a cgroup2 file system"), "{why}");
        assert_eq!(prepare(&Place::Off), Ok(None));
    }

    #[test]
    fn who_is_in_a_group_is_told_by_its_whole_name() {
        let me = std::process::id().cast_signed();
        let own = name_of("self").unwrap();
        let group = |name: &str| Group { dir: PathBuf::new(), name: Some(name.into()), home: None, inside: false };
        let above = own.rsplit_once('/').map_or("", |(above, _)| above);
        assert!(group(&own).holds(me) && group(above).holds(me));
        for other in [format!("{own}x"), format!("{own}/run-1"), "/no/such".to_owned()] {
            assert!(!group(&other).holds(me), "{other}");
        }
        assert!(group("/no/such").holds(-1), "who is gone is nowhere else");
    }

    /// Against a plain directory: which files are written with what.
    #[test]
    fn limits_are_written_and_events_read() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { cpu: None, memory: Some(1 << 20), processes: Some(5) };
        let group = Group::enter(dir.path(), &limits).unwrap();
        let text = |file: &str| fs::read_to_string(group.dir.join(file)).unwrap();
        assert_eq!((text("memory.max").as_str(), text("pids.max").as_str()), ("1048576", "6"));
        assert_eq!(text("cgroup.procs"), std::process::id().to_string());
        assert_eq!((group.cpu(), group.over()), (None, None));
        group.set("cpu.stat", "usage_usec 1500\nuser_usec 1\n");
        group.set("pids.events", "max 2\n");
        group.set("pids.peak", "5\n");
        assert_eq!(group.over(), None, "refused by a group above, for there was room for one more");
        group.set("pids.peak", "6\n");
        assert_eq!((group.cpu(), group.over()), (Some(Duration::from_micros(1500)), Some(Over::Processes)));
        group.set("pids.events", "max 0\n");
        group.set("memory.events", "low 0\noom 0\noom_kill 1\n");
        assert_eq!((group.over(), group.starved()), (None, true), "for the limit of a group above, or of the host");
        group.set("memory.events", "low 0\noom 1\noom_kill 1\n");
        assert_eq!((group.over(), group.starved()), (Some(Over::Memory), false));
        fs::remove_dir_all(&group.dir).unwrap();
    }
}
