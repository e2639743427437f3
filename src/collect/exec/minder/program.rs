//! From an order to a program that may be run: found, looked at, and pinned if its hash is given.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::pin::{Pinned, Unpinned};
use super::trust::{self, Distrust};
use super::{Answer, Order};
use crate::record::{ErrorKind, RunError};

pub(super) struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Held open until the program has been started.
    _pinned: Option<Pinned>,
}

/// What cannot be run is answered.
pub(super) fn prepare(order: &Order) -> Result<Program, Answer> {
    let Some((name, args)) = order.argv.split_first() else {
        return Err(Answer::Refused(RunError::new(ErrorKind::Spawn, "no program is named")));
    };
    let file = find(name, order).ok_or_else(|| not_started(Errno::NOENT))?;
    look_at(&file, order)?;
    let pinned = match &order.confinement.sha256 {
        Some(sha256) => Some(Pinned::new(&file, sha256).map_err(|why| Answer::Refused(unpinned(&file, sha256, why)))?),
        None => None,
    };
    let path = pinned.as_ref().map_or(file, Pinned::path);
    let Some(class) = order.confinement.ionice else {
        return Ok(Program { path, args: args.to_vec(), _pinned: pinned });
    };
    // The kernel's call for it is out of reach without `unsafe`; its tool is on every host with a shell.
    let tool = find("ionice", order).ok_or_else(|| Answer::Refused(no_ionice(name)))?;
    look_at(&tool, order)?;
    let mut all: Vec<String> = class.arguments().iter().map(|&word| word.to_owned()).collect();
    all.push(path.to_string_lossy().into_owned());
    all.extend_from_slice(args);
    Ok(Program { path: tool, args: all, _pinned: pinned })
}

/// A name without a slash is looked for in the script's `PATH`, as the shell does: the first that may be executed, else
/// the first that is there. What is not absolute is meant from the script's directory, from where it is started; the
/// whole path is returned, so that what is looked at is what is run.
fn find(name: &str, order: &Order) -> Option<PathBuf> {
    let dir = std::path::absolute(&order.dir).ok()?;
    if name.contains('/') {
        return Some(dir.join(name));
    }
    let path = order.env.iter().rfind(|(variable, _)| variable == "PATH").map_or("", |(_, value)| value);
    let files = || std::env::split_paths(path).map(|folder| dir.join(folder).join(name)).filter(|file| file.is_file());
    let executable = |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    files().find(executable).or_else(|| files().next())
}

/// What cannot be looked at is not started either: by then it might be there, and another's.
fn look_at(file: &Path, order: &Order) -> Result<(), Answer> {
    if !order.confinement.check_owner {
        return Ok(());
    }
    let refused = |why: String| {
        Answer::Refused(RunError::new(ErrorKind::Permission, format!("{} is not run: {why}", file.display())))
    };
    match trust::check(file, &order.dir, &trusted(order.account.as_ref().map(|account| account.uid))) {
        Ok(()) => Ok(()),
        Err(Distrust::Refused(why)) => Err(refused(why)),
        Err(Distrust::NoFile) => Err(not_started(Errno::ACCESS)),
        Err(Distrust::Unseen(error)) if error.kind() == io::ErrorKind::NotFound => Err(not_started(Errno::NOENT)),
        Err(Distrust::Unseen(error)) => Err(refused(format!(
            "who could change it cannot be seen: {error}; give the agent's user the right to look, or set \
             `check_owner = false`"
        ))),
    }
}

fn trusted(user: Option<u32>) -> Vec<u32> {
    [0, rustix::process::geteuid().as_raw()].into_iter().chain(user).collect()
}

/// Why a program will not be run although it is there: somebody other than root, us and `user` could change it.
pub(super) fn distrusted(file: &Path, user: Option<u32>) -> Option<String> {
    match trust::check(file, Path::new("/"), &trusted(user)) {
        Err(Distrust::Refused(why)) => Some(why),
        Ok(()) | Err(Distrust::Unseen(_) | Distrust::NoFile) => None,
    }
}

fn not_started(errno: Errno) -> Answer {
    let error = io::Error::from(errno);
    Answer::NotStarted { errno: error.raw_os_error(), message: error.to_string() }
}

fn no_ionice(name: &str) -> RunError {
    let why = "`io_class` needs the program ionice, which is not in its PATH; install util-linux, or remove `io_class`";
    RunError::new(ErrorKind::Spawn, format!("cannot start {name}: {why}"))
}

fn unpinned(file: &Path, sha256: &str, why: Unpinned) -> RunError {
    let shown = file.display();
    let (kind, message) = match why {
        Unpinned::Other(found) => (
            ErrorKind::Permission,
            format!(
                "{shown} is not run: its SHA-256 is {found}, not {sha256}; see what changed it, or set `sha256` anew"
            ),
        ),
        Unpinned::TooLarge => {
            (ErrorKind::Permission, format!("{shown} is not run: it is too large to be pinned by `sha256`"))
        }
        Unpinned::Unread(error) => (ErrorKind::Spawn, format!("cannot start {shown}: it cannot be read: {error}")),
        Unpinned::NoMemory(error) => (
            ErrorKind::Unsupported,
            format!("{shown} is not run: this system runs no program from memory ({error}); `sha256` needs that"),
        ),
    };
    RunError::new(kind, message)
}
