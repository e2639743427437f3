//! From an order to a program that may be run: found, looked at, and pinned if its hash is given.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Order;
use super::pin::{Pinned, Unpinned};
use super::trust::{self, Distrust};
use crate::record::{ErrorKind, RunError};

pub(super) struct Program {
    pub path: PathBuf,
    pub args: Vec<String>,
    /// Held open until the program has been started.
    _pinned: Option<Pinned>,
}

pub(super) fn prepare(order: &Order) -> Result<Program, RunError> {
    let Some((name, args)) = order.argv.split_first() else {
        return Err(RunError::new(ErrorKind::Spawn, "no program is named"));
    };
    let file = find(name, order);
    look_at(&file, order)?;
    let pinned = match &order.confinement.sha256 {
        Some(sha256) => Some(Pinned::new(&file, sha256).map_err(|why| unpinned(&file, sha256, why))?),
        None => None,
    };
    let path = pinned.as_ref().map_or(file, Pinned::path);
    let Some(class) = order.confinement.ionice else {
        return Ok(Program { path, args: args.to_vec(), _pinned: pinned });
    };
    // The kernel's call for it is out of reach without `unsafe`; its tool is on every host with a shell.
    let tool = find("ionice", order);
    look_at(&tool, order)?;
    let mut all: Vec<String> = class.arguments().iter().map(|&word| word.to_owned()).collect();
    all.push(path.to_string_lossy().into_owned());
    all.extend_from_slice(args);
    Ok(Program { path: tool, args: all, _pinned: pinned })
}

/// A name without a slash is looked for in the script's `PATH`, as the shell does.
fn find(name: &str, order: &Order) -> PathBuf {
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return PathBuf::from(name);
    }
    let path = order.env.iter().rfind(|(variable, _)| variable == "PATH").map_or("", |(_, value)| value);
    let found = std::env::split_paths(path).map(|folder| folder.join(name)).find(is_program);
    found.unwrap_or_else(|| PathBuf::from(name))
}

fn look_at(file: &Path, order: &Order) -> Result<(), RunError> {
    // One that was not found is told by the attempt to start it.
    if !order.confinement.check_owner || !file.is_absolute() {
        return Ok(());
    }
    match distrusted(file, order.account.as_ref().map(|account| account.uid)) {
        None => Ok(()),
        Some(why) => Err(RunError::new(ErrorKind::Permission, format!("{} is not run: {why}", file.display()))),
    }
}

/// Why a program is not run although it is there: somebody other than root, us and `user` could change it.
pub(super) fn distrusted(file: &Path, user: Option<u32>) -> Option<String> {
    let mut trusted = vec![0, rustix::process::geteuid().as_raw()];
    trusted.extend(user);
    match trust::check(file, &trusted) {
        Ok(()) | Err(Distrust::Unseen(_)) => None,
        Err(Distrust::Refused(why)) => Some(why),
    }
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
