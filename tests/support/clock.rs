//! A wall clock of an agent's own: set wrong, stepped while it runs, and synchronised at last.
//!
//! libfaketime moves the wall clock and nothing else: the agent asks the kernel itself for the other clocks. /run is a
//! file system of the agent's own, so that the test says when a time service has set the clock.

use std::path::{Path, PathBuf};

use super::agent::Agent;

pub struct WallClock {
    file: PathBuf,
    boot: Option<PathBuf>,
}

impl WallClock {
    /// From its next start on, the agent's clock is off by `seconds`.
    pub fn of(agent: &mut Agent, seconds: i64) -> WallClock {
        let clock = WallClock { file: agent.dir().join("clock"), boot: None };
        clock.set(seconds);
        clock.wrap(agent);
        clock
    }

    /// A step, also of a running agent.
    pub fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("own directory");
        std::fs::rename(&new, &self.file).expect("own directory");
    }

    /// As systemd-timesyncd does it: the clock is right, and a file says so.
    pub fn synchronise(&self, agent: &Agent) {
        self.set(0);
        let run = Path::new("/proc").join(agent.id().to_string()).join("root/run/systemd/timesync");
        std::fs::create_dir_all(&run).expect("the agent's own /run");
        std::fs::write(run.join("synchronized"), "").expect("the agent's own /run");
    }

    /// From the next start on, the agent finds another boot of its host.
    pub fn reboot(&mut self, agent: &mut Agent, id: &str) {
        let boot = agent.dir().join("boot_id");
        std::fs::write(&boot, format!("{id}\n")).expect("own directory");
        self.boot = Some(boot);
        self.wrap(agent);
    }

    fn wrap(&self, agent: &mut Agent) {
        let mut script = "mount -t tmpfs none /run && ".to_owned();
        if let Some(boot) = &self.boot {
            script += &format!("mount --bind '{}' /proc/sys/kernel/random/boot_id && ", boot.display());
        }
        let environment = environment().map(|(name, value)| format!("{name}='{value}' ")).concat();
        script += &format!("exec env FAKETIME_TIMESTAMP_FILE='{}' {environment}\"$@\"", self.file.display());
        match rustix::process::geteuid().is_root() {
            true => agent.wrap(&["unshare", "--mount", "sh", "-c", &script, "sh"]),
            false => agent.wrap(&["unshare", "--mount", "--map-root-user", "sh", "-c", &script, "sh"]),
        }
    }
}

/// The environment of a program whose wall clock is off by `offset` (`-86400`).
pub fn shifted(offset: &str) -> Vec<(&'static str, String)> {
    environment().into_iter().chain([("FAKETIME", offset.to_owned())]).collect()
}

fn environment() -> [(&'static str, String); 4] {
    let set = || "1".to_owned();
    [
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME_NO_CACHE", set()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", set()),
        ("NO_FAKE_STAT", set()),
    ]
}

fn library() -> PathBuf {
    let directories = std::fs::read_dir("/usr/lib").expect("/usr/lib can be listed").flatten();
    let found = directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is not installed (Debian: apt-get install libfaketime)")
}
