//! Reads configuration files: bounded, UTF-8, and never half of one. The only file of this folder that opens files
//! for their contents; a file that cannot be read is a problem with a name, never a panic.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Origin, Problem};
use super::tree::{self, Table};

/// No configuration needs more; a log file named by mistake has it.
const MAX_FILE: u64 = 1 << 20;
const MAX_SECRET: u64 = 64 << 10;
const MAX_FILES: usize = 1_000;

/// Where the configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The main file; `None` when everything comes from the environment.
    pub file: Option<PathBuf>,
    /// The folder of further files; `None`: `conf.d` beside the main file, if it exists.
    pub conf_d: Option<PathBuf>,
}

/// The text of one file with a problem instead when it has none.
pub(super) fn read_table(path: &Path, problems: &mut Vec<Problem>) -> Table {
    let file: Arc<str> = Arc::from(path.to_string_lossy());
    match read_text(path, &file) {
        Ok(text) => {
            warn_world_writable(path, &file, problems);
            // Editors on Windows leave a byte order mark; columns do not count it.
            let (table, found) = tree::parse(&file, text.strip_prefix('\u{feff}').unwrap_or(&text));
            problems.extend(found);
            table
        }
        Err(problem) => {
            problems.push(problem);
            Table::default()
        }
    }
}

/// The files of a `conf.d` folder in lexical order of their names. Hidden files and other endings are left alone, so
/// that an editor's swap file is never read.
pub(super) fn list_conf_d(folder: &Path, required: bool, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Vec::new(),
        Err(error) => {
            problems.push(Problem::general(format!("cannot list {}: {error}", folder.display())));
            return Vec::new();
        }
    };
    let wanted = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.extension().is_some_and(|extension| extension == "toml")
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
    if files.len() > MAX_FILES {
        problems.push(Problem::general(format!("{} holds more than {MAX_FILES} files", folder.display())));
        files.truncate(MAX_FILES);
    }
    files.sort();
    files
}

/// A secret: the first line of a small file, without its line end.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
    let bytes = read_bounded(path, MAX_SECRET).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line {
        "" => Err(format!("{} is empty", path.display())),
        line if line.contains('\n') => Err(format!("{} has more than one line", path.display())),
        line => Ok(line.to_owned()),
    }
}

fn read_text(path: &Path, file: &Arc<str>) -> Result<String, Problem> {
    let bytes = read_bounded(path, MAX_FILE).map_err(|why| {
        Problem::general(format!("cannot read {}: {why}", path.display())).hint("give the main file with --config FILE")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = good.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        let origin = Origin::File { file: file.clone(), line, column };
        Problem::error(&origin, "not UTF-8 text").hint("save the file as UTF-8")
    })
}

/// The whole file, or why not. A pipe or device is refused before it could block or never end.
fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let meta = fs::metadata(path).map_err(|error| error.to_string())?;
    if meta.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if !meta.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > max {
        return Err(format!("it is larger than {}", super::units::size(max)));
    }
    Ok(bytes)
}

/// A file of lines, `None` if it is absent and nobody named it.
pub(super) fn read_lines(path: &Path, required: bool) -> Result<Option<Vec<u8>>, String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => Ok(None),
        _ => read_bounded(path, MAX_FILE).map(Some),
    }
}

/// Whoever may write a configuration decides what the agent executes.
pub(super) fn warn_world_writable(path: &Path, file: &Arc<str>, problems: &mut Vec<Problem>) {
    if mode(path).is_some_and(|mode| mode & 0o002 != 0) {
        let origin = Origin::File { file: file.clone(), line: 1, column: 1 };
        let hint = format!("chmod o-w {}", path.display());
        problems.push(Problem::warning(&origin, "every user of this host may change this file").hint(hint));
    }
}

/// Permission bits, where the platform has them.
pub(super) fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().and_then(|meta| crate::platform::files::mode(&meta))
}
