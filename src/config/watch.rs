//! What a configuration was read from, and a cheap look at whether any of it has changed since.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::{owners, source};

/// The files and folders of one reading, whether they existed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    files: Vec<PathBuf>,
    /// Of them, every `*.toml` counts.
    folders: Vec<PathBuf>,
    /// Of them, only being there counts: scripts may write beside themselves.
    scripts: Vec<PathBuf>,
    /// Whether who could change the files counts.
    guarded: bool,
}

impl Watch {
    pub(super) fn new(guarded: bool) -> Self {
        Self { guarded, ..Self::default() }
    }

    pub(super) fn file(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    pub(super) fn folder(&mut self, path: &Path) {
        self.folders.push(path.to_owned());
    }

    pub(super) fn script(&mut self, path: &Path) {
        self.scripts.push(path.to_owned());
    }

    /// Differs when something was edited, replaced, added or removed; not when a file was only written again. Reads them:
    /// they are few, small and cached.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.iter().for_each(|file| self.look(file, &mut hasher));
        for folder in &self.folders {
            for file in source::list_conf_d(folder, false, &mut Vec::new()) {
                file.hash(&mut hasher);
                self.look(&file, &mut hasher);
            }
        }
        self.scripts.iter().for_each(|script| script.is_file().hash(&mut hasher));
        hasher.finish()
    }

    fn look(&self, file: &Path, hasher: &mut DefaultHasher) {
        source::read_lines(file, false).hash(hasher);
        if self.guarded {
            owners::changeable(file).hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_shows_and_no_change_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("conf.d")).unwrap();
        std::fs::write(at("main.toml"), "a").unwrap();
        let mut watch = Watch::default();
        watch.file(&at("main.toml"));
        watch.file(&at("user.cron"));
        watch.folder(&at("conf.d"));
        watch.script(&at("sampler.py"));
        let mut seen = vec![watch.fingerprint()];
        let mut changed = |what: &str| {
            let now = watch.fingerprint();
            assert!(!seen.contains(&now), "{what}");
            assert_eq!(watch.fingerprint(), now, "{what}: unchanged");
            seen.push(now);
        };
        std::fs::write(at("main.toml"), "ab").unwrap();
        changed("grown");
        std::fs::write(at("fresh"), "cd").unwrap();
        std::fs::rename(at("fresh"), at("main.toml")).unwrap();
        changed("replaced by one of the same length");
        std::fs::write(at("user.cron"), "").unwrap();
        changed("a file that was absent");
        std::fs::write(at("conf.d/10-more.toml"), "").unwrap();
        changed("one more in the folder");
        std::fs::write(at("conf.d/10-more.toml"), "x").unwrap();
        changed("edited in the folder");
        std::fs::write(at("sampler.py"), "").unwrap();
        changed("a script of the user's");
        std::fs::write(at("main.toml"), "cd").unwrap();
        std::fs::write(at("sampler.py"), "grown").unwrap();
        std::fs::write(at("conf.d/.10-more.toml.swp"), "x").unwrap();
        assert_eq!(
            watch.fingerprint(),
            *seen.last().unwrap(),
            "the same again, contents of a script, an editor's file"
        );
        std::fs::remove_file(at("main.toml")).unwrap();
        assert!(!seen.contains(&watch.fingerprint()), "removed");
    }
}
