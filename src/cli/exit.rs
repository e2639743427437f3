//! Exit codes, decided in one place (sysexits where one fits).

use std::io::Write;
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
    /// Output that cannot be written; that nobody reads it is no error, see [`output::Output`].
    fn from(error: std::io::Error) -> Self {
        Self::failed(format!("cannot write the output: {error}"))
    }
}

pub fn finish(done: Result<Exit, Failure>) -> ExitCode {
    let exit = match done {
        Ok(exit) => exit,
        Err(failure) => {
            output::complain(&failure.message);
            failure.exit
        }
    };
    ExitCode::from(exit as u8)
}

/// Clap's own text (help and version are not errors), with our exit codes. Whether anybody reads it changes nothing.
pub fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        error.print().unwrap_or(());
        return ExitCode::from(Exit::Usage as u8);
    }
    let mut out = output::stdout();
    let written = write!(out, "{}", error.render()).and_then(|()| out.flush());
    finish(written.map(|()| Exit::Ok).map_err(Failure::from))
}
