//! A program and what it starts, when no minder stands between.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Where programs are looked up.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables of our own without which no program starts here.
pub const ESSENTIAL: &[&str] = &[];
/// The file is no program, and too many run already: numbers of the system's errors.
pub const NOT_A_PROGRAM: i32 = rustix::io::Errno::NOEXEC.raw_os_error();
pub const TOO_MANY: i32 = rustix::io::Errno::AGAIN.raw_os_error();
/// Without a minder some of a script's configuration is not obeyed: only in tests of the library.
pub const OBEYS_OWNERS: bool = true;

/// The signal that ended it.
pub fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// A process that leads a group. The group is killed when this is dropped. Its id cannot have been given to others by
/// then: ids are handed out in turn, and between the reaping of the leader and this only a moment goes by.
pub struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// Without standard input; the outputs as the command says.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Self { child, group })
    }

    pub fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Until the process itself ends. Cancel-safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks all of them to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// The group may be empty by now; that is no error.
    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.group, signal)
            && error != rustix::io::Errno::SRCH
        {
            let pgid = self.group.as_raw_nonzero().get();
            tracing::debug!(pgid, %error, "cannot signal the process group of a script");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
