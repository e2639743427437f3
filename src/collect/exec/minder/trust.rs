//! Who could change what is about to be run. Every directory, symbolic link and file on the way to it, and to the
//! interpreter that its first line names, and so on, must be owned by someone trusted and writable by nobody else.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// The kernel's own limit.
const MAX_LINKS: usize = 40;
/// So many interpreters of interpreters the kernel follows, and no more.
const MAX_INTERPRETERS: usize = 5;
/// What the kernel reads of a first line.
const FIRST_LINE: usize = 256;

/// Why a program is not run.
#[derive(Debug)]
pub(super) enum Distrust {
    /// Someone else could change it; with what to do about it.
    Refused(String),
    /// A directory, a pipe, a device.
    NoFile,
    /// It cannot be looked at.
    Unseen(io::Error),
}

impl From<io::Error> for Distrust {
    fn from(error: io::Error) -> Self {
        Self::Unseen(error)
    }
}

/// `program`, its interpreter, and the interpreter's own; `dir` is where it will be started. What an interpreter such as
/// `env` looks up is not known here.
pub(super) fn check(program: &Path, dir: &Path, trusted: &[u32]) -> Result<(), Distrust> {
    let mut next = program.to_path_buf();
    for _ in 0..=MAX_INTERPRETERS {
        let file = walk(&std::path::absolute(dir.join(next))?, trusted)?;
        match interpreter(&file)? {
            Some(interpreter) => next = interpreter,
            None => break,
        }
    }
    Ok(())
}

/// Follows `path` step by step as the kernel would; returns the file without links.
fn walk(path: &Path, trusted: &[u32]) -> Result<PathBuf, Distrust> {
    let mut left: Vec<OsString> = steps(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    judge(&at, &at.symlink_metadata()?, trusted)?;
    while let Some(step) = left.pop() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        let meta = next.symlink_metadata()?;
        judge(&next, &meta, trusted)?;
        if !meta.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links").into());
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        left.extend(steps(&target));
    }
    Ok(at)
}

/// The names of a path, last first.
fn steps(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

fn judge(path: &Path, meta: &Metadata, trusted: &[u32]) -> Result<(), Distrust> {
    let shown = path.display();
    let owner = meta.uid();
    if !trusted.contains(&owner) {
        return Err(Distrust::Refused(format!(
            "{shown} belongs to user {owner}, who could change what is run; `chown root {shown}`, or run a program as \
             that user (`user`)"
        )));
    }
    // Everybody's directory in which only owners rename and remove, like /tmp; a link's mode means nothing.
    if meta.is_symlink() || (meta.is_dir() && meta.mode() & 0o1000 != 0) {
        return Ok(());
    }
    let who = match meta.mode() & 0o022 {
        mode if mode & 0o002 != 0 => "every user of this host".to_owned(),
        // The group of root is root.
        mode if mode & 0o020 != 0 && meta.gid() != 0 => format!("the group {}", meta.gid()),
        _ => return Ok(()),
    };
    Err(Distrust::Refused(format!("{who} may write to {shown} and change what is run; `chmod go-w {shown}`")))
}

/// What the file's first line names, if it is a script.
fn interpreter(file: &Path) -> Result<Option<PathBuf>, Distrust> {
    if !file.metadata()?.is_file() {
        return Err(Distrust::NoFile);
    }
    let mut start = [0u8; FIRST_LINE];
    // A program may be executable and not readable: then it is no script.
    let Ok(mut open) = open(file) else { return Ok(None) };
    let read = open.read(&mut start)?;
    Ok(named(&start[..read]))
}

/// Opens a file to be read; never waits for the other end of a pipe.
pub(super) fn open(file: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

fn named(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let word = line.split(|b| *b == b' ' || *b == b'\t').find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Below the temporary directory, which is everybody's and sticky, or one's own.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(tree.path("dir")).unwrap();
            tree.mode("dir", 0o755).file("dir/script", 0o755)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn mode(self, name: &str, mode: u32) -> Self {
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        fn file(self, name: &str, mode: u32) -> Self {
            std::fs::write(self.path(name), "#!/bin/sh\n").unwrap();
            self.mode(name, mode)
        }

        fn check(&self, name: &str) -> Result<(), String> {
            let me = rustix::process::geteuid().as_raw();
            check(&self.path(name), &self.path("dir"), &[0, me]).map_err(|error| match error {
                Distrust::Refused(why) => why,
                Distrust::NoFile => "no file".to_owned(),
                Distrust::Unseen(error) => error.to_string(),
            })
        }
    }

    #[test]
    fn what_only_the_trusted_can_change_may_run() {
        assert_eq!(Tree::new().check("dir/script"), Ok(()));
        let trusted = [0, rustix::process::geteuid().as_raw()];
        for program in ["/bin/sh", "/usr/bin/env"] {
            assert!(
                check(Path::new(program), Path::new("/"), &trusted).is_ok(),
                "links of the system are followed: {program}"
            );
        }
    }

    #[test]
    fn whatever_others_may_write_on_the_way_is_refused_by_name() {
        for (name, mode) in [("dir/script", 0o757), ("dir", 0o777), ("dir", 0o757)] {
            let why = Tree::new().mode(name, mode).check("dir/script").unwrap_err();
            assert!(why.contains("every user of this host may write to"), "{why}");
            assert!(why.contains(&format!("{name} and change")) && why.contains("chmod go-w"), "{why}");
        }
        assert_eq!(Tree::new().mode("dir", 0o1777).check("dir/script"), Ok(()), "sticky: only owners rename");
    }

    #[test]
    fn a_group_may_write_only_if_it_is_that_of_root() {
        let tree = Tree::new().mode("dir/script", 0o775);
        std::os::unix::fs::chown(tree.path("dir/script"), None, Some(0)).ok();
        let group = tree.path("dir/script").metadata().unwrap().gid();
        assert_eq!(tree.check("dir/script").is_ok(), group == 0);
        if std::os::unix::fs::chown(tree.path("dir/script"), None, Some(12_345)).is_ok() {
            let why = tree.check("dir/script").unwrap_err();
            assert!(why.contains("the group 12345 may write"), "{why}");
        }
    }

    #[test]
    fn a_file_a_link_or_a_directory_of_another_user_is_refused() {
        let tree = Tree::new();
        symlink(tree.path("dir/script"), tree.path("link")).unwrap();
        assert_eq!(tree.check("link"), Ok(()));
        let why = check(&tree.path("link"), Path::new("/"), &[54_321]).map_err(|e| format!("{e:?}")).unwrap_err();
        assert!(why.contains("belongs to user 0"), "the root directory is the first to be judged: {why}");
        // Only root can give files away.
        if std::os::unix::fs::lchown(tree.path("link"), Some(54_321), None).is_ok() {
            let why = tree.check("link").unwrap_err();
            assert!(why.contains("link belongs to user 54321"), "{why}");
            std::os::unix::fs::lchown(tree.path("dir/script"), Some(54_321), None).unwrap();
            let why = tree.check("dir/script").unwrap_err();
            assert!(why.contains("script belongs to user 54321"), "{why}");
        }
    }

    #[test]
    fn a_link_through_a_directory_of_others_is_refused_although_its_end_is_safe() {
        let tree = Tree::new();
        std::fs::create_dir(tree.path("open")).unwrap();
        symlink(tree.path("dir"), tree.path("open/way")).unwrap();
        let tree = tree.mode("open", 0o777);
        let why = tree.check("open/way/script").unwrap_err();
        assert!(why.contains("/open and change"), "{why}");
        symlink("loop", tree.path("loop")).unwrap();
        assert!(tree.check("loop").unwrap_err().contains("too many symbolic links"));
        assert_eq!(tree.check("dir/../dir/./script"), Ok(()));
    }

    #[test]
    fn the_interpreter_is_looked_at_too() {
        let tree = Tree::new().file("shell", 0o777);
        std::fs::write(tree.path("dir/script"), format!("#! {} -u\n", tree.path("shell").display())).unwrap();
        assert!(tree.check("dir/script").unwrap_err().contains("/shell and change"));
        std::fs::write(tree.path("dir/script"), "#!/no/such/interpreter\n").unwrap();
        assert!(tree.check("dir/script").unwrap_err().contains("No such file"));
    }

    #[test]
    fn so_is_the_interpreter_of_an_interpreter_and_one_named_from_the_directory() {
        let tree = Tree::new().file("shell", 0o777).file("dir/relative", 0o777);
        let first_line = |name: &str, interpreter: &str| {
            std::fs::write(tree.path(name), format!("#!{interpreter}\n")).unwrap();
            tree.path(name).display().to_string()
        };
        let between = first_line("dir/between", &tree.path("shell").display().to_string());
        first_line("dir/script", &between);
        assert!(tree.check("dir/script").unwrap_err().contains("/shell and change"));
        first_line("dir/script", "relative");
        assert!(tree.check("dir/script").unwrap_err().contains("dir/relative and change"));
        let itself = tree.path("dir/script").display().to_string();
        first_line("dir/script", &itself);
        assert_eq!(tree.check("dir/script"), Ok(()), "the kernel gives up, and so do we");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let tree = Tree::new();
        rustix::fs::mknodat(rustix::fs::CWD, tree.path("pipe"), rustix::fs::FileType::Fifo, 0o755.into(), 0).unwrap();
        assert_eq!(tree.check("pipe"), Err("no file".into()));
        assert!(open(&tree.path("pipe")).unwrap_err().to_string().contains("no regular file"));
        assert_eq!(tree.check("dir"), Err("no file".into()));
    }

    #[test]
    fn first_lines_are_read_as_the_kernel_does() {
        let named = |text: &str| super::named(text.as_bytes()).map(|path| path.display().to_string());
        assert_eq!(named("#!/bin/sh\n").as_deref(), Some("/bin/sh"));
        assert_eq!(named("#! \t/usr/bin/env python3 -u").as_deref(), Some("/usr/bin/env"));
        assert_eq!(named("#!sh\n").as_deref(), Some("sh"));
        for none in ["", "#!", "#!\n/bin/sh", "echo", "\u{7f}ELF"] {
            assert_eq!(named(none), None, "{none:?}");
        }
    }
}
