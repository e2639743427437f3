//! While the script runs: looks again and again at what all its processes use, until it ends, is told to end, or has
//! spent a budget. Then ends what is left.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, pidfd_open, waitid, waitpid,
};

use super::Outcome;
use crate::clock;
use crate::collect::exec::cgroup::Group;
use crate::collect::exec::kill;
use crate::collect::exec::limits::{Limits, Over};
use crate::collect::exec::tree;

/// The first look is soon, for what goes wrong goes wrong fast; later ones cost less.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(100);
/// After the script has ended, how long what it started may take to end by itself.
const LINGER: Duration = Duration::from_millis(100);
/// How long to try to end everything.
const KILLING: Duration = Duration::from_secs(8);
const SIGXCPU: i32 = Signal::XCPU.as_raw();
/// More processes than any script has.
const MANY: usize = 4096;
const FEW: usize = 64;

pub(super) struct Watch<'a> {
    pub child: Child,
    pub group: Option<Group>,
    pub limits: &'a Limits,
    /// The agent: a byte asks for SIGTERM, the end for SIGKILL.
    pub agent: &'a File,
    /// The last of it seen, and the most.
    pub latest: u64,
    pub memory: u64,
    pub processes: u64,
}

/// What all processes use together.
struct Seen {
    cpu: Duration,
    memory: u64,
    processes: u64,
}

/// Why the watch is over.
enum Stopped {
    /// The script has ended by itself.
    Ended,
    /// By the agent, or the agent is gone.
    Asked,
    Over(Over),
}

enum Woken {
    Script,
    Agent,
    Nobody,
}

impl Watch<'_> {
    /// Until everything has ended, or will not.
    pub fn run(mut self) -> Outcome {
        let pid = Pid::from_child(&self.child);
        let stopped = self.watch(pid);
        let over = match stopped {
            Stopped::Over(over) => Some(over),
            // What it was refused it may not have outlived: what it has left behind tells.
            Stopped::Ended => self.look(pid),
            Stopped::Asked => None,
        };
        if matches!(stopped, Stopped::Ended) && over.is_none() {
            linger(pid);
        }
        let left = self.end_all(pid);
        self.outcome(over, left)
    }

    fn watch(&mut self, pid: Pid) -> Stopped {
        use std::io::Read;
        // Without it the looks find the end.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        let mut next = FIRST_LOOK;
        let mut asked_to_end = false;
        loop {
            match self.wait(pidfd.as_ref(), next) {
                Woken::Agent => {
                    let mut asked = [0u8; 1];
                    if !matches!((&mut &*self.agent).read(&mut asked), Ok(1)) {
                        return Stopped::Asked;
                    }
                    asked_to_end = true;
                    kill_process_group(pid, Signal::TERM).ok();
                }
                Woken::Script | Woken::Nobody => {}
            }
            if ended(pid) {
                return if asked_to_end { Stopped::Asked } else { Stopped::Ended };
            }
            let before = self.latest;
            if let Some(over) = self.look(pid) {
                return Stopped::Over(over);
            }
            next = self.until_next(before, next);
        }
    }

    /// How long not to look. What grows so fast that it would spend its budget meanwhile is looked at at once.
    fn until_next(&self, before: u64, last: Duration) -> Duration {
        let growth = self.latest.saturating_sub(before);
        let spent_by_then = self.limits.memory.is_some_and(|most| growth > 0 && self.latest + 2 * growth > most);
        if spent_by_then { FIRST_LOOK } else { (last * 2).min(LAST_LOOK) }
    }

    fn wait(&self, script: Option<&OwnedFd>, at_most: Duration) -> Woken {
        let mut fds = vec![PollFd::new(self.agent, PollFlags::IN)];
        fds.extend(script.map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = Timespec::try_from(at_most).ok();
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Woken::Nobody;
        }
        if !fds[0].revents().is_empty() {
            return Woken::Agent;
        }
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) { Woken::Script } else { Woken::Nobody }
    }

    /// What has been spent, if anything.
    fn look(&mut self, pid: Pid) -> Option<Over> {
        if let Some(over) = self.group.as_ref().and_then(Group::over) {
            return Some(over);
        }
        let seen = self.see(pid);
        self.latest = seen.memory;
        self.memory = self.memory.max(seen.memory);
        self.processes = self.processes.max(seen.processes);
        match self.judge(&seen)? {
            Over::Cpu => Some(Over::Cpu),
            // Processes come and go while they are counted: what counts is what is there twice.
            Over::Memory | Over::Processes => self.judge(&self.see(pid)),
        }
    }

    /// What all of them use now, memory as far as the group does not bound it; also reaps those that fell to us.
    fn see(&self, pid: Pid) -> Seen {
        let me = std::process::id().cast_signed();
        let most = self.limits.processes.map_or(MANY, |most| 2 * most as usize + FEW);
        let group = self.group.as_ref();
        let mut seen = Seen { cpu: Duration::ZERO, memory: 0, processes: 0 };
        let mut cpu = 0.0;
        for process in tree::below(me, most) {
            let orphan = process.zombie && process.parent == me && process.pid != pid.as_raw_nonzero().get();
            // What it used is among what was reaped from then on.
            if orphan && reap(process.pid) {
                continue;
            }
            cpu += process.cpu;
            if process.zombie {
                continue;
            }
            seen.processes += 1;
            if !group.is_some_and(|group| group.bounds_memory() && group.holds(process.pid)) {
                seen.memory += tree::private_memory(process.pid);
            }
        }
        // The group knows best, but not of those that left it.
        let in_group = group.and_then(Group::cpu).unwrap_or_default();
        seen.cpu = in_group.max(reaped().cpu + Duration::from_secs_f64(cpu));
        seen
    }

    fn judge(&self, seen: &Seen) -> Option<Over> {
        let Limits { cpu, memory, processes } = *self.limits;
        if cpu.is_some_and(|most| seen.cpu > most) {
            return Some(Over::Cpu);
        }
        if memory.is_some_and(|most| seen.memory > most) {
            return Some(Over::Memory);
        }
        processes.is_some_and(|most| seen.processes > u64::from(most)).then_some(Over::Processes)
    }

    /// Returns how many are left. Whatever is born meanwhile is born below us, and is found the next time.
    fn end_all(&self, pid: Pid) -> usize {
        let end = clock::now().mono + KILLING;
        let me = std::process::id().cast_signed();
        loop {
            if let Some(group) = &self.group {
                group.kill();
            }
            kill_process_group(pid, Signal::KILL).ok();
            kill::below(me);
            let others = reap_others(pid);
            let populated = self.group.as_ref().is_some_and(Group::populated);
            if others == 0 && ended(pid) && !populated {
                return 0;
            }
            if clock::now().mono >= end {
                return tree::below(me, MANY).len().max(1);
            }
            // While there are many, there is no time to lose.
            pause(if others > FEW { Duration::ZERO } else { FIRST_LOOK });
        }
    }

    /// What only the end shows. An exit code is the script's own word, whatever it had used.
    fn late(&self, signal: Option<i32>) -> Option<Over> {
        let Limits { cpu, memory, .. } = *self.limits;
        match signal? {
            // The process's own limit of CPU time.
            SIGXCPU if cpu.is_some() => Some(Over::Cpu),
            // Once seen, and gone when it was looked at again.
            _ if memory.is_some_and(|most| self.memory > most) => Some(Over::Memory),
            _ => None,
        }
    }

    fn outcome(mut self, over: Option<Over>, left: usize) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.try_wait().ok().flatten();
        let reaped = reaped();
        let group = self.group.as_ref();
        let cpu = group.and_then(Group::cpu).unwrap_or_default().max(reaped.cpu);
        let memory = group.and_then(Group::memory_peak).unwrap_or(reaped.memory).max(self.memory);
        let processes = group.and_then(Group::processes_peak).unwrap_or(1).max(self.processes);
        let signal = status.and_then(|status| status.signal());
        let over = over.or_else(|| group.and_then(Group::over)).or_else(|| self.late(signal));
        Outcome {
            code: status.and_then(|status| status.code()),
            signal,
            over,
            starved: signal == Some(Signal::KILL.as_raw()) && group.is_some_and(Group::starved),
            cpu_us: Some(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX)),
            memory: Some(memory),
            processes: Some(processes),
            left,
        }
    }
}

/// What those used who ended and were waited for, by us or by each other.
struct Reaped {
    cpu: Duration,
    /// Of the largest of them.
    memory: u64,
}

fn reaped() -> Reaped {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Reaped { cpu: Duration::ZERO, memory: 0 } };
    let time = |t: nix::sys::time::TimeVal| {
        Duration::new(u64::try_from(t.tv_sec()).unwrap_or(0), u32::try_from(t.tv_usec()).unwrap_or(0) * 1000)
    };
    let kib = u64::try_from(usage.max_rss()).unwrap_or(0);
    Reaped { cpu: time(usage.user_time()) + time(usage.system_time()), memory: kib << 10 }
}

/// Whether the agent has something to say, or is gone.
pub(super) fn is_called(agent: &File) -> bool {
    let mut fds = [PollFd::new(agent, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether it has ended. The script is not reaped before all is over: until then its id, by which its group goes too, is
/// nobody else's.
fn ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

fn reap(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)))
}

/// Reaps whoever has ended, but for the script; returns how many other children there still are.
fn reap_others(script: Pid) -> usize {
    reap_but(script, tree::children(std::process::id().cast_signed()))
}

fn reap_but(script: Pid, children: Vec<i32>) -> usize {
    children.into_iter().filter(|&pid| pid != script.as_raw_nonzero().get() && !reap(pid)).count()
}

/// Processes behind a pipe may have something to write yet.
fn linger(script: Pid) {
    let end = clock::now().mono + LINGER;
    while reap_others(script) > 0 && clock::now().mono < end {
        pause(FIRST_LOOK);
    }
}

fn pause(duration: Duration) {
    let timeout = Timespec::try_from(duration).ok();
    poll(&mut [], timeout.as_ref()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_keeps_its_id_until_all_is_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        while !ended(pid) {
            pause(FIRST_LOOK);
        }
        let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let raw = |pid: Pid| pid.as_raw_nonzero().get();
        let both = vec![raw(pid), raw(Pid::from_child(&other))];
        assert_eq!(reap_but(pid, both.clone()), 1);
        other.kill().unwrap();
        while reap_but(pid, both.clone()) > 0 {
            pause(FIRST_LOOK);
        }
        assert!(other.wait().is_err(), "the other was reaped");
        assert!(ended(pid) && tree::read(raw(pid)).is_some_and(|process| process.zombie), "the script was not");
        assert!(child.wait().unwrap().success());
    }
}
