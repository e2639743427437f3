//! A place on a real disk for this run, below `target/tmp`, gone at its end.

use std::error::Error;
use std::path::{Path, PathBuf};

const PREFIX: &str = "report-";

/// The directory of this run, which `clear` removes.
fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{PREFIX}{}", std::process::id()))
}

/// An empty directory of that name. An error when it would be in memory: then every figure about writing were false.
pub fn dir(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let dir = place().join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    match file_system(&dir).as_str() {
        "tmpfs" | "ramfs" => Err(format!("{} is in memory: set CARGO_TARGET_DIR to a disk", dir.display()).into()),
        _ => Ok(dir),
    }
}

/// Type of the file system that holds `path`.
pub fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    // Of several mounts at one place the last one hides the others.
    mounts.lines().filter_map(of).max_by_key(|(depth, _)| *depth).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}

/// Removes what this run made, and what runs that were killed have left.
pub fn clear() {
    let Ok(entries) = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    let own = std::process::id();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        let of_nobody = |pid| pid == own || !Path::new("/proc").join(format!("{pid}")).exists();
        if pid.is_some_and(of_nobody) {
            // What cannot be removed now is met again by the next run.
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}
