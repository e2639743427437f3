//! The minder's whole life: an order is read, the script started, watched and ended, the answer written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{DumpableBehavior, Signal};

use super::program::{self, Program};
use super::restrain::{self, Bounded};
use super::watch::{self, Watch};
use super::{Answer, MAX_ORDER, Order, Outcome};
use crate::collect::exec::cgroup::Group;

/// A nice value: of a process that does next to nothing, and must not wait when it does.
const PRIORITY: i32 = -10;

pub(super) fn serve() -> ExitCode {
    let answered = talk();
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Nobody can be told when the talk with the agent itself fails.
fn talk() -> io::Result<()> {
    // Should the agent die while this process is stopped, it goes on, and finds that the agent is gone.
    rustix::process::set_parent_process_death_signal(Some(Signal::CONT)).ok();
    // Out of reach of the agent's terminal and group.
    rustix::process::setsid().ok();
    // Started by another name, it would be shown by that.
    rustix::thread::set_name(c"holdover").ok();
    let agent = File::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    let order: Order = serde_json::from_slice(&read_order(&agent)?)?;
    let answer = carry_out(&order, &agent, &nothing);
    let mut answer = serde_json::to_vec(&answer)?;
    answer.push(b'\n');
    (&agent).write_all(&answer)
}

fn read_order(mut agent: &File) -> io::Result<Vec<u8>> {
    let mut length = [0u8; 4];
    agent.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MAX_ORDER {
        return Err(io::Error::other("no order is as long"));
    }
    let mut order = vec![0u8; length as usize];
    agent.read_exact(&mut order)?;
    Ok(order)
}

fn carry_out(order: &Order, agent: &File, nothing: &File) -> Answer {
    let program = match program::prepare(order) {
        Ok(program) => program,
        Err(answer) => return answer,
    };
    // Scripts of the same user shall not look into this process, nor take its socket.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).ok();
    // Where no group can be made, the other means have to do.
    let mut group = order.groups.as_deref().and_then(|base| Group::enter(base, &order.limits).ok());
    let bounded = group.as_ref().map_or_else(Bounded::default, |group| Bounded {
        memory: group.bounds_memory(),
        processes: group.bounds_processes(),
    });
    let uid = order.account.as_ref().map_or_else(|| rustix::process::getuid().as_raw(), |account| account.uid);
    restrain::before(&order.limits, bounded, uid);
    // A file may be long in coming: who has given up on it meanwhile wants it no more.
    if watch::is_called(agent) {
        return Answer::Ended(Outcome::default());
    }
    let started = restrain::first_to_go(|| start(order, &program));
    drop(program);
    // Whoever may signal this process can end it by SIGKILL alone. The script does not inherit that.
    nix::sys::signal::SigSet::all().thread_block().ok();
    // Whatever the script starts, this process has its turn; for root only, whom alone the kernel does not bound.
    rustix::process::setpriority_process(None, PRIORITY).ok();
    if let Some(group) = &mut group {
        group.leave(&order.limits);
    }
    // The script alone holds the pipes, so that their end is its end.
    rustix::stdio::dup2_stdout(nothing).ok();
    rustix::stdio::dup2_stderr(nothing).ok();
    match started {
        Ok(child) => {
            restrain::after(&order.limits, rustix::process::Pid::from_child(&child));
            let limits = &order.limits;
            Answer::Ended(Watch { child, group, limits, agent, latest: 0, memory: 0, processes: 0 }.run())
        }
        Err(error) => Answer::NotStarted { errno: error.raw_os_error(), message: error.to_string() },
    }
}

fn start(order: &Order, program: &Program) -> io::Result<Child> {
    let mut command = Command::new(&program.path);
    command.args(&program.args).current_dir(&order.dir).process_group(0).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    if order.confinement.nice != 0 {
        rustix::process::nice(i32::from(order.confinement.nice))?;
    }
    if let Some(account) = &order.account {
        // Of root's groups none is left: the standard library sees to that when the user changes.
        command.gid(account.gid).uid(account.uid);
        command.env("HOME", &account.home).env("USER", &account.name).env("LOGNAME", &account.name);
    }
    command.envs(order.env.iter().map(|(name, value)| (name, value)));
    command.spawn()
}
