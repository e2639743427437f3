//! As root, what others could change is not read: the file alone is left out, and said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::{Config, Sources};
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    /// A main file, one in conf.d and one of lines, all good.
    fn new(main: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.at("conf.d")).unwrap();
        fs::create_dir(folder.at("lines")).unwrap();
        let lines = folder.at("lines/user.cron");
        let scripts = format!("[scripts]\nuser_lines = {lines:?}\nzone = \"UTC\"\n");
        fs::write(folder.at("holdover.toml"), format!("{BROKER}{main}\n{scripts}")).unwrap();
        fs::write(folder.at("conf.d/more.toml"), "[host]\nsite = \"more\"\n").unwrap();
        fs::write(lines, "[0 0/5 * * * ?] /bin/echo hi\n").unwrap();
        for name in ["holdover.toml", "conf.d/more.toml", "lines/user.cron"] {
            folder.mode(name, 0o644);
        }
        for name in ["conf.d", "lines"] {
            folder.mode(name, 0o755);
        }
        folder
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) -> &Self {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load(&self, env: &[(String, String)]) -> Result<Checked, Rejected> {
        let sources = Sources { file: Some(self.at("holdover.toml")), conf_d: None };
        Config::load(&sources, &Surroundings { guarded: true, ..around(env) })
    }

    /// The site of conf.d, whether the line runs, and what was left out.
    fn outcome(&self) -> (String, bool, Vec<String>) {
        let checked = self.load(&[]).unwrap_or_else(|rejected| panic!("{rejected}"));
        let line = checked.config.collectors.iter().any(|collector| &*collector.name == "echo");
        (checked.config.host.site.clone(), line, checked.left_out().map(ToString::to_string).collect())
    }
}

#[test]
fn what_nobody_else_can_change_is_read() {
    assert_eq!(Folder::new("").outcome(), ("more".to_owned(), true, Vec::new()));
}

#[test]
fn a_file_that_others_could_change_is_left_out_and_no_other() {
    for (name, mode) in [("conf.d/more.toml", 0o646), ("conf.d", 0o757)] {
        let folder = Folder::new("");
        let (site, line, told) = folder.mode(name, mode).outcome();
        assert_eq!((site.as_str(), line, told.len()), ("default", true, 1), "{name}");
        let place =
            format!("{}:1:1: error, left out: this file is not used: ", folder.at("conf.d/more.toml").display());
        assert!(told[0].starts_with(&place) && told[0].contains("every user of this host may write"), "{told:?}");
        assert!(told[0].contains(&format!("chmod go-w {}`", folder.at(name).display())), "{told:?}");
        assert!(told[0].contains("hint: ") && told[0].contains("agent.check_owner"), "{told:?}");
    }
    for (name, mode) in [("lines/user.cron", 0o646), ("lines", 0o757)] {
        let folder = Folder::new("");
        let (site, line, told) = folder.mode(name, mode).outcome();
        assert_eq!((site.as_str(), line, told.len()), ("more", false, 1), "{name}");
        assert!(told[0].contains("user.cron:1:1: error, left out"), "{told:?}");
    }
}

#[test]
fn a_file_of_another_user_is_left_out() {
    let folder = Folder::new("");
    // Only root can give files away.
    if std::os::unix::fs::chown(folder.at("conf.d/more.toml"), Some(54_321), None).is_ok() {
        let (site, _, told) = folder.outcome();
        assert_eq!(site, "default");
        assert!(told[0].contains("belongs to user 54321") && told[0].contains("chown root"), "{told:?}");
    }
}

#[test]
fn the_main_file_is_refused_and_cannot_vouch_for_itself() {
    for main in ["", "[agent]\ncheck_owner = false"] {
        let folder = Folder::new(main);
        folder.mode("holdover.toml", 0o646);
        let message = error(folder.load(&[]));
        assert!(message.contains("holdover.toml:1:1: error: this file is not used"), "{message}");
        assert!(message.contains("HOLDOVER__AGENT__CHECK_OWNER=false"), "{message}");
        let off = env(&[("HOLDOVER__AGENT__CHECK_OWNER", "false")]);
        assert!(folder.load(&off).is_ok(), "the environment is of whoever starts the agent");
    }
}

#[test]
fn the_main_file_vouches_for_the_others() {
    let folder = Folder::new("[agent]\ncheck_owner = false");
    folder.mode("conf.d/more.toml", 0o646).mode("lines/user.cron", 0o646);
    let checked = folder.load(&[]).unwrap();
    assert_eq!((checked.config.host.site.as_str(), checked.left_out().count()), ("more", 0));
    let on = env(&[("HOLDOVER__AGENT__CHECK_OWNER", "true")]);
    assert_eq!(folder.load(&on).unwrap().left_out().count(), 2, "the environment wins");
    let inside = Folder::new("");
    fs::write(inside.at("conf.d/more.toml"), "[agent]\ncheck_owner = false\n").unwrap();
    inside.mode("conf.d/more.toml", 0o646).mode("lines/user.cron", 0o646);
    assert_eq!(inside.load(&[]).unwrap().left_out().count(), 2, "one that is left out says nothing");
}

#[test]
fn putting_the_owner_right_is_a_change() {
    let folder = Folder::new("");
    folder.mode("lines/user.cron", 0o646);
    let watch = folder.load(&[]).unwrap().watch;
    let before = watch.fingerprint();
    folder.mode("lines/user.cron", 0o644);
    assert_ne!(watch.fingerprint(), before);
}
