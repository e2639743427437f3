//! Exit codes, decided in one place (sysexits where one fits).

use std::process::ExitCode;

use super::output;

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// The command ran and its answer is "no": verification failed, the agent is not running.
    Failed = 1,
    Usage = 2,
    /// Another agent holds the outbox, or the agent cannot be reached: worth trying again.
    Temporary = 75,
    /// The configuration is refused; trying again without a change is useless
    /// (`RestartPreventExitStatus=78`).
    Config = 78,
}

/// Why a command stopped, and with which code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Config, message)
    }
}

impl From<std::io::Error> for Failure {
    /// Output that cannot be written: the reader has gone away.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

pub fn finish(done: Result<Exit, Failure>) -> ExitCode {
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::complain(&failure.message);
            }
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Clap's own text (help and version are not errors), with our exit codes.
pub fn usage(error: &clap::Error) -> ExitCode {
    let code = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    if error.print().is_err() {
        return ExitCode::from(Exit::Failed as u8);
    }
    ExitCode::from(code as u8)
}
