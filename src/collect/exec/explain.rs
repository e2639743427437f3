//! What a person is told about a run that went wrong: what happened, to which program, and what to do.

use std::io;
use std::path::Path;

use super::limits::Over;
use super::{Script, process};
use crate::platform::{children, files};
use crate::record::{ErrorKind, RunError};
use process::End;

/// `said` is the end of standard error.
pub(super) fn ended(script: &Script, end: &End, said: &str) -> Option<RunError> {
    let program = script.argv.first().map_or("", String::as_str);
    let (kind, why) = match end {
        End::Exited { code: Some(0), .. } => return None,
        End::Exited { code: Some(code), .. } => (ErrorKind::Exit, format!("exit code {code}{said}")),
        End::Exited { signal: Some(signal), .. } => {
            (ErrorKind::Signal, format!("killed by signal {signal}{}{said}", named(*signal)))
        }
        End::Exited { .. } => (ErrorKind::Exit, format!("its end is unknown{said}")),
        End::TimedOut => {
            let after = script.timeout;
            (ErrorKind::Timeout, format!("killed after {after:?}; make it faster or raise `timeout`{said}"))
        }
        End::TooMuch(stream) => {
            let most = script.max_output;
            let why = format!("killed, more than {most} bytes on {stream}; print less or raise `max_output`");
            (ErrorKind::Output, why)
        }
        End::Over(over) => spent(script, *over, said),
        End::Starved => (
            ErrorKind::Signal,
            format!(
                "killed for lack of memory although it was within its budget: the host, or a control group above it, had \
                 no more (of a systemd unit: `MemoryMax=`); see what takes it{said}"
            ),
        ),
        End::Unminded => (
            ErrorKind::Signal,
            format!("the process that watches over it was killed, and so was all of the run; see who did that{said}"),
        ),
        End::Unknown(error) => (ErrorKind::Exit, format!("its end is unknown: {error}{said}")),
    };
    Some(RunError::new(kind, format!("{program}: {why}")))
}

fn spent(script: &Script, over: Over, said: &str) -> (ErrorKind, String) {
    let limits = &script.limits;
    match over {
        Over::Cpu => {
            let most = limits.cpu.unwrap_or_default();
            (ErrorKind::Cpu, format!("killed, more than {most:?} of CPU time; make it cheaper or raise `cpu`{said}"))
        }
        Over::Memory => {
            let most = limits.memory.unwrap_or_default();
            (
                ErrorKind::Memory,
                format!("killed, more than {most} bytes of memory; make it smaller or raise `memory`{said}"),
            )
        }
        Over::Processes => {
            let most = limits.processes.unwrap_or(0);
            let why = format!("killed, more than {most} processes at a time; start fewer or raise `processes`{said}");
            (ErrorKind::Processes, why)
        }
    }
}

fn named(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL, perhaps for lack of memory)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// Why a program could not be started.
pub(super) fn not_started(script: &Script, program: &str, error: &io::Error) -> RunError {
    let dir = script.dir.as_deref().filter(|dir| !dir.is_dir());
    if let Some(dir) = dir {
        return RunError::new(ErrorKind::Spawn, format!("{program}: its directory {} does not exist", dir.display()));
    }
    let file = Path::new(program).metadata().ok().filter(|_| program.contains(std::path::is_separator));
    let (kind, why) = match (error.kind(), file) {
        (io::ErrorKind::NotFound, None) if program.contains(std::path::is_separator) => {
            (ErrorKind::Spawn, "no such file")
        }
        (io::ErrorKind::NotFound, None) => (ErrorKind::Spawn, "not found in PATH; give the full path"),
        (io::ErrorKind::NotFound, Some(_)) => {
            (ErrorKind::Spawn, "the interpreter named in its first line (`#!`), or its loader, does not exist")
        }
        (io::ErrorKind::PermissionDenied, Some(meta)) if meta.is_dir() => (ErrorKind::Spawn, "it is a directory"),
        (io::ErrorKind::PermissionDenied, Some(meta)) if !meta.is_file() => (ErrorKind::Spawn, "it is no regular file"),
        (io::ErrorKind::PermissionDenied, Some(meta)) if files::mode(&meta).is_some_and(|mode| mode & 0o111 == 0) => {
            (ErrorKind::Spawn, "not executable; run `chmod +x` on it")
        }
        (io::ErrorKind::PermissionDenied, _) => (ErrorKind::Permission, "the user it runs as may not execute it"),
        _ if error.raw_os_error() == Some(children::NOT_A_PROGRAM) => {
            (ErrorKind::Spawn, "not a program: a script needs a first line such as `#!/bin/sh`")
        }
        _ if error.raw_os_error() == Some(children::TOO_MANY) => {
            (ErrorKind::Processes, "its user has too many processes on this host; raise `processes`, or see what runs")
        }
        _ => (ErrorKind::Spawn, "the system refused to start it"),
    };
    RunError::new(kind, format!("cannot start {program}: {error}; {why}"))
}
