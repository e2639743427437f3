//! Both sides: whose line and whose script runs, under which name, and what a bad line costs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::{Config, FromLine, Sources, What};
use super::*;

/// A vendor's tree and an operator's, beside a main file without the default set.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(vendor: &str, user: &str) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("share/default.cron", vendor).write("etc/user.cron", user);
        for script in ["share/default/sampler.py", "share/default/disk.sh", "share/default/net/if.sh"] {
            tree.script(script);
        }
        tree.toml("")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
        fs::write(self.at(name), text).unwrap();
        self
    }

    fn script(&self, name: &str) -> &Self {
        self.write(name, "#!/bin/sh\n");
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// The main file, with more behind it.
    fn toml(self, more: &str) -> Self {
        let main = format!(
            "{BROKER}[agent]\ndefault_collectors = false\n[scripts]\ndefault_lines = \"../share/default.cron\"\n\
             default_dir = \"../share/default\"\nzone = \"UTC\"\n{more}"
        );
        self.write("etc/holdover.toml", main);
        self
    }

    fn try_load(&self) -> Result<Checked, Rejected> {
        let sources = Sources { file: Some(self.at("etc/holdover.toml")), conf_d: None };
        Config::load(&sources, &around(&[]))
    }

    fn load(&self) -> Checked {
        self.try_load().unwrap_or_else(|rejected| panic!("{rejected}"))
    }

    /// Without the directory that all of it is in.
    fn short(&self, text: &str) -> String {
        let whole = fs::canonicalize(self.0.path()).unwrap();
        let text = text.replace(&*whole.to_string_lossy(), "");
        text.replace(&*self.0.path().to_string_lossy(), "").replace("/etc/../", "/")
    }

    /// `name: schedule: argv` of each collector.
    fn runs(&self) -> Vec<String> {
        let show = |collector: &super::super::Collector| {
            let What::Exec(exec) = &collector.what else { return collector.name.to_string() };
            self.short(&format!("{}: {}: {}", collector.name, collector.schedule, exec.argv.join(" ")))
        };
        self.load().config.collectors.iter().map(show).collect()
    }

    fn origins(&self) -> Vec<String> {
        let show = |from: &FromLine| {
            let instead = from.instead_of.as_deref().unwrap_or("-");
            self.short(&format!("{} {} {} {instead}", from.collector, from.origin, from.script))
        };
        self.load().from_lines.iter().map(show).collect()
    }

    fn complaints(&self) -> Vec<String> {
        self.load().warnings.iter().map(|problem| self.short(&problem.to_string())).collect()
    }
}

#[test]
fn lines_of_both_sides_run_as_written() {
    let tree = Tree::new(
        "# vendor\r\n[0 0/1 * * * ?] default/sampler.py arg1 \"arg 2\"\r\n",
        "\u{feff}[0 30 2 ? * 6L] user/backup.sh\n\n[0 0/5 * * * ?] /bin/echo hi # done",
    );
    tree.script("etc/user/backup.sh");
    assert_eq!(
        tree.runs(),
        [
            "sampler: 0 0/1 * * * ? (UTC): /share/default/sampler.py arg1 arg 2",
            "backup: 0 30 2 ? * 6L (UTC): /etc/user/backup.sh",
            "echo: 0 0/5 * * * ? (UTC): /bin/echo hi",
        ]
    );
    assert_eq!(tree.complaints(), [""; 0]);
    let checked = tree.load();
    assert_eq!(tree.short(&checked.origin_of("collector.sampler.cron").to_string()), "/share/default.cron:2:2");
    assert_eq!(tree.short(&checked.origin_of("collector.sampler.exec").to_string()), "/share/default.cron:2:17");
}

#[test]
fn the_users_script_of_a_name_runs_instead_of_the_vendors() {
    let tree =
        Tree::new("[0 0/1 * * * ?] default/sampler.py\n[0 0/1 * * * ?] disk.sh\n[0 0/1 * * * ?] default/net/if.sh", "");
    tree.script("etc/user/sampler.py").script("etc/user/net/if.sh");
    assert_eq!(
        tree.origins(),
        [
            "sampler /share/default.cron:1:1 /etc/user/sampler.py /share/default/sampler.py",
            "disk /share/default.cron:2:1 /share/default/disk.sh -",
            "net-if /share/default.cron:3:1 /etc/user/net/if.sh /share/default/net/if.sh",
        ]
    );
}

#[test]
fn the_users_lines_of_a_script_stand_in_for_all_of_the_vendors() {
    let tree = Tree::new(
        "[0 0/1 * * * ?] default/sampler.py cpu\n[0 0/1 * * * ?] default/disk.sh\n[0 0/5 * * * ?] default/sampler.py net",
        "[0/10 * * * * ?] default/sampler.py all",
    );
    assert_eq!(
        tree.runs(),
        [
            "disk: 0 0/1 * * * ? (UTC): /share/default/disk.sh",
            "sampler: 0/10 * * * * ? (UTC): /share/default/sampler.py all",
        ]
    );
    assert!(tree.origins()[1].ends_with(" /share/default.cron:1"), "{:?}", tree.origins());
}

/// Another ending, another directory, the same characters once they are a name: another script, and both run.
#[test]
fn a_script_that_is_called_alike_stands_in_for_none() {
    let vendor = "[0 0/1 * * * ?] default/disk.sh\n[0 0/1 * * * ?] default/net/if.sh";
    let tree =
        Tree::new(vendor, "[1 * * * * ?] user/disk.py\n[1 * * * * ?] /opt/disk.sh\n[1 * * * * ?] user/net-if.sh");
    tree.script("etc/user/disk.py").script("etc/user/net-if.sh");
    assert_eq!(
        tree.runs(),
        [
            "disk: 0 0/1 * * * ? (UTC): /share/default/disk.sh",
            "net-if: 0 0/1 * * * ? (UTC): /share/default/net/if.sh",
            "disk-2: 1 * * * * ? (UTC): /etc/user/disk.py",
            "disk-3: 1 * * * * ? (UTC): /opt/disk.sh",
            "net-if-2: 1 * * * * ? (UTC): /etc/user/net-if.sh",
        ]
    );
    assert!(tree.load().from_lines.iter().all(|from| from.instead_of.is_none()));
}

/// One script, however a line calls it.
#[test]
fn a_script_is_the_same_by_its_whole_path() {
    for call in ["/share/default/disk.sh", "/etc/user/disk.sh"] {
        let tree = Tree::new("[0 0/1 * * * ?] default/disk.sh", "");
        tree.script("etc/user/disk.sh");
        tree.write("etc/user.cron", format!("[1 * * * * ?] {}{call}", tree.0.path().display()));
        assert_eq!(tree.runs(), [format!("disk: 1 * * * * ? (UTC): {call}")]);
        let bare = Tree::new("[0 0/1 * * * ?] disk.sh", "[1 * * * * ?] user/disk.sh");
        assert_eq!(bare.runs().len(), 1, "user/NAME and NAME");
    }
    let tree = Tree::new("[0 0/1 * * * ?] /bin/echo a", "[1 * * * * ?] /bin/../bin/echo b");
    assert_eq!(tree.runs(), ["echo: 1 * * * * ? (UTC): /bin/../bin/echo b"]);
}

#[test]
fn names_are_told_apart() {
    let tree = Tree::new(
        "[0 * * * * ?] default/sampler.py a\n[0 * * * * ?] default/sampler.py b\n[0 * * * * ?] /opt/sampler-2.sh\n\
         [0 * * * * ?] /opt/cpu.py\n[0 * * * * ?] /opt/größe.sh\n[0 * * * * ?] /opt/...\n[0 * * * * ?] default/sampler.py c",
        "",
    );
    let names: Vec<String> = tree.load().config.collectors.iter().map(|collector| collector.name.to_string()).collect();
    assert_eq!(names, ["sampler", "sampler-3", "sampler-2", "cpu-script", "gr--e", "script", "sampler-4"]);
    let long = Tree::new(&format!("[0 * * * * ?] /opt/{0}\n[0 * * * * ?] /opt/{0}", "x".repeat(300)), "");
    assert_eq!(long.load().config.collectors.len(), 2);
}

#[test]
fn a_bad_line_costs_itself_only() {
    let tree = Tree::new("[0 0/1 * * * ?] default/sampler.py\n", "");
    let mut user = b"0 * * * * ? default/disk.sh\n[0 0 0 30 2 ?] default/disk.sh\n[0 0 0 1 1 ? 2020] default/disk.sh\n\
        [* * * * *] default/disk.sh\n[0 * * * * ?] absent.sh\n[0 * * * * ?] default/../../etc/passwd\n\
        [0 * * * * ?] default/disk.sh 'x\n"
        .to_vec();
    user.extend(b"[0 * * * * ?] default/\xff\xfe\n[0 * * * * ?] default/disk.sh ok\n");
    tree.write("etc/user.cron", user);
    assert_eq!(
        tree.runs(),
        [
            "sampler: 0 0/1 * * * ? (UTC): /share/default/sampler.py",
            "disk: 0 * * * * ? (UTC): /share/default/disk.sh ok"
        ]
    );
    let complaints = tree.complaints();
    let expected = [
        (":1:1", "expected '['"),
        (":2:2", "never comes"),
        (":3:2", "times that are over"),
        (":4:2", "has 5 fields"),
        (":5:15", "in neither directory"),
        (":6:15", "leaves its directory"),
        (":7:31", "never closed"),
        (":8:23", "not UTF-8"),
    ];
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, (place, words)) in complaints.iter().zip(expected) {
        let start = format!("/etc/user.cron{place}: error, left out: line: ");
        assert!(complaint.starts_with(&start), "{complaint} does not start with {start}");
        assert!(complaint.contains(words) && complaint.contains("\n  hint: "), "{complaint}");
    }
    assert_eq!(tree.load().left_out().count(), expected.len());
}

#[test]
fn doubtful_lines_run_with_a_warning() {
    let tree = Tree::new("[0 * * * * ?] default/sampler.py | tee /tmp/x\n[0 * * * * ?] user/none.sh", "");
    fs::set_permissions(tree.at("share/default/sampler.py"), fs::Permissions::from_mode(0o644)).unwrap();
    let complaints = tree.complaints();
    for words in ["warning: line: '|' is handed", "sampler.py is not executable", "none.sh: No such file"] {
        assert!(complaints.iter().any(|complaint| complaint.contains(words)), "{words}: {complaints:#?}");
    }
    assert_eq!(tree.runs().len(), 2);
}

#[test]
fn a_table_of_the_name_changes_a_line() {
    let lines = "[0 0/1 * * * ?] default/sampler.py\n[0 0/1 * * * ?] default/disk.sh";
    let changed = Tree::new(lines, "").toml(
        "[[collector]]\nname = \"sampler\"\ntimeout = \"30s\"\nevery = \"10s\"\n[[collector]]\nname = \"disk\"\nenabled = false",
    );
    assert_eq!(changed.runs(), ["sampler: every 10s: /share/default/sampler.py"]);
    let checked = changed.load();
    assert_eq!((checked.config.collectors[0].timeout, &*checked.config.disabled[0]), (Duration::from_secs(30), "disk"));
    let replaced = Tree::new(lines, "").toml("[[collector]]\nname = \"disk\"\nuse = \"disks\"\nevery = \"10s\"");
    assert_eq!(replaced.runs()[1], "disk");
    assert_eq!(replaced.origins().len(), 1, "the table's disk is no line's any more");
}

/// The vendor withdraws a line in an upgrade: what the operator said about it must not keep the agent from starting.
#[test]
fn a_change_of_what_is_gone_is_left_out() {
    let tree = Tree::new("", "").toml("[[collector]]\nname = \"sampler\"\nenabled = false");
    assert_eq!(tree.runs(), [""; 0]);
    let complaints = tree.complaints();
    assert!(complaints[0].contains("toml:9:1: error, left out: collector.sampler: there is no line"), "{complaints:?}");
}

#[test]
fn files_that_nobody_named_may_be_absent_and_others_may_not() {
    let tree = Tree::new("", "");
    fs::remove_file(tree.at("etc/user.cron")).unwrap();
    assert_eq!(tree.complaints(), [""; 0]);
    fs::remove_file(tree.at("share/default.cron")).unwrap();
    let refused = error(tree.try_load());
    assert!(refused.contains("toml:6:17: error: scripts.default_lines: cannot read"), "{refused}");
    let zone = Tree::new("", "").toml("").write("etc/conf.d/z.toml", "[scripts]\nzone = \"Mars/Base\"").try_load();
    assert!(error(zone).contains("scripts.zone: time zone \"Mars/Base\""));
    let folder = Tree::new("", "");
    fs::remove_file(folder.at("etc/user.cron")).unwrap();
    fs::create_dir(folder.at("etc/user.cron")).unwrap();
    assert!(error(folder.try_load()).contains("it is a directory"));
}

#[test]
fn too_many_lines_cost_those_that_are_too_many() {
    let lines: String = (0..300).map(|n| format!("[0 * * * * ?] /opt/s{n}\n")).collect();
    let tree = Tree::new("", &lines);
    assert_eq!(tree.load().config.collectors.len(), 256);
    let told = tree.load().left_out().map(ToString::to_string).collect::<String>();
    assert!(told.contains("user.cron:257:1") && told.contains("the 43 after it"), "{told}");
}
