//! A program and what it starts: a job object, which Windows empties when its last handle is closed, whoever dies.

use std::io;
use std::process::{ExitStatus, Stdio};

use process_wrap::tokio::{ChildWrapper, CommandWrap, JobObject, KillOnDrop};
use tokio::process::{ChildStderr, ChildStdout, Command};

/// Where programs are looked up.
pub const PATH: &str = r"C:\Windows\System32;C:\Windows;C:\Windows\System32\WindowsPowerShell\v1.0";
/// Variables of our own without which PowerShell and what it loads do not start.
pub const ESSENTIAL: &[&str] =
    &["SystemRoot", "SystemDrive", "windir", "TEMP", "TMP", "PATHEXT", "ComSpec", "ProgramData", "ProgramFiles"];
/// ERROR_BAD_EXE_FORMAT and ERROR_NO_SYSTEM_RESOURCES.
pub const NOT_A_PROGRAM: i32 = 193;
pub const TOO_MANY: i32 = 1450;
/// Access rights are lists here, which are not read.
pub const OBEYS_OWNERS: bool = false;

pub fn signal(_: ExitStatus) -> Option<i32> {
    None
}

/// A process in a job of its own. All of the job is ended when this is dropped.
pub struct Running {
    child: Box<dyn ChildWrapper>,
}

impl Running {
    /// Without standard input; the outputs as the command says.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null());
        let child = CommandWrap::from(command).wrap(KillOnDrop).wrap(JobObject).spawn()?;
        Ok(Self { child })
    }

    pub fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout().take(), self.child.stderr().take())
    }

    /// Until the process itself ends, not the whole job. Cancel-safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.inner_mut().wait().await
    }

    /// Nothing that a program without a window would understand.
    pub fn terminate(&self) {}

    pub fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::debug!(%error, "cannot end the job of a script");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
