//! The three agents: their configuration files, their processes, and what their outboxes hold.
//!
//! Each is this very program told to be the agent; it ends when its standard input does, so none outlives the demo.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::account::{Seqs, insert};
use crate::outbox::FileDisk;
use crate::outbox::inspect;
use crate::uplink::transport::tls::IdentityFiles;

/// The hidden subcommand of `holdover-hub` that does what `holdover run` does.
pub const SUBCOMMAND: &str = "demo-agent";
/// For an agent to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);
/// For a killed one to be gone.
const DEATH: Duration = Duration::from_secs(5);
/// Often, so that there is something to see.
pub(super) const EVERY: Duration = Duration::from_secs(1);
const OFTEN: &[&str] = &["cpu", "memory", "load", "disks", "network"];

#[derive(Debug)]
pub(super) struct Agent {
    pub host: &'static str,
    dir: PathBuf,
    child: Option<Child>,
    /// It was asked to end.
    stopping: bool,
    /// When a file of the outbox that [`Agent::news`] has read was last written to.
    seen: Option<SystemTime>,
}

impl Agent {
    /// Writes its configuration, with the backlog sent at `pace` bytes a second; starts nothing.
    pub fn new(
        dir: PathBuf,
        host: &'static str,
        port: u16,
        ca: &Path,
        identity: &IdentityFiles,
        pace: u64,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let agent = Self { host, dir, child: None, stopping: false, seen: None };
        let config = agent.config();
        let text = config_text(&agent.outbox(), port, ca, identity, pace)?;
        std::fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        Ok(agent)
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("holdover.toml")
    }

    pub fn outbox(&self) -> PathBuf {
        self.dir.join("outbox")
    }

    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("agent.log"));
        let log = log.with_context(|| format!("cannot write to {}", self.dir.display()))?;
        // The file may have been built anew meanwhile; this is the one that runs.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("holdover-hub");
        // The user's own agent may be configured by these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOLDOVER_") || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        command.arg(SUBCOMMAND).arg("--config").arg(self.config());
        // Ctrl-C is for the demo, which then ends its agents.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
        self.child = Some(command.spawn().context("cannot start this program once more (/proc/self/exe)")?);
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// An agent that ended by itself ends the show.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && !self.stopping
            && let Some(status) = child.try_wait()?
        {
            bail!("the agent {} ended by itself ({status}); its log ends:\n{}", self.host, self.last_words());
        }
        Ok(())
    }

    /// kill -9.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            timeout(DEATH, child.kill()).await.with_context(|| format!("cannot kill {}", self.host))??;
        }
        Ok(())
    }

    /// SIGTERM: it commits, says goodbye and ends, for which [`Agent::goodbye`] waits.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.stopping = true;
        if let Some(pid) = self.pid().and_then(|id| Pid::from_raw(id.cast_signed())) {
            kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop {}", self.host))?;
        }
        Ok(())
    }

    pub async fn goodbye(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // `wait` would close it, and its end is a second request to stop: do not wait for the broker.
        let stdin = child.stdin.take();
        let ended = timeout(GOODBYE, child.wait()).await;
        drop(stdin);
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                bail!("the agent {} ended with {status}; its log ends:\n{}", self.host, self.last_words())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("the agent {} did not end within {} s of SIGTERM", self.host, GOODBYE.as_secs()),
        }
    }

    /// What its outbox holds by its newest segment, if it has been written to since the last call and can be read
    /// now. For the eye: no record is read, so the account does not rest on it.
    pub fn news(&mut self) -> Option<Seqs> {
        let written = written(&self.outbox());
        if written.is_none() || written == self.seen {
            return None;
        }
        let view = inspect::view(&FileDisk, &self.outbox()).ok()?;
        let mut seqs = Seqs::new();
        for epoch in view.epochs.iter().filter(|epoch| epoch.next > 1) {
            insert(&mut seqs, epoch.epoch, 1, epoch.next - 1);
        }
        self.seen = written;
        Some(seqs)
    }

    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// When a segment was last written to.
fn written(outbox: &Path) -> Option<SystemTime> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let epochs = entries(outbox).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let segments = epochs.flat_map(|epoch| entries(&epoch.path()));
    segments.filter_map(|segment| segment.metadata().ok()?.modified().ok()).max()
}

fn config_text(outbox: &Path, port: u16, ca: &Path, identity: &IdentityFiles, pace: u64) -> anyhow::Result<String> {
    let mut text = format!(
        "# Written by `holdover-hub demo`; the host is named after its certificate.\n\
         [host]\nsite = \"demo\"\n\n\
         [broker]\nurl = \"mqtts://localhost:{port}\"\nca = {}\ncert = {}\nkey = {}\n\n\
         [outbox]\ndir = {}\nmax_bytes = \"64MiB\"\n\n\
         # The backlog is sent slowly enough to be watched, and lost connections are made anew soon.\n\
         [uplink]\nhistory_rate = \"{pace}B\"\nhistory_batches = 4\nreconnect_min = \"200ms\"\nreconnect_max = \"1s\"\n",
        quoted(ca)?,
        quoted(&identity.certificate)?,
        quoted(&identity.key)?,
        quoted(outbox)?
    );
    for name in OFTEN {
        text += &format!("\n[[collector]]\nname = \"{name}\"\nevery = \"{}s\"\n", EVERY.as_secs());
    }
    Ok(text)
}

/// As TOML.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("the temporary directory {} is not UTF-8; set TMPDIR to another", path.display()))?;
    Ok(toml::Value::from(text).to_string())
}

/// One line of `holdover outbox export`.
#[derive(Deserialize)]
struct Exported {
    epoch: u64,
    seq: u64,
}

/// What the outbox of an agent that has ended says.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Every record in it, settled or not.
    pub recorded: Seqs,
    /// Of these, what waits for the next start: not acknowledged before the stop.
    pub held: Seqs,
    /// What casts doubt on it.
    pub doubts: Vec<String>,
}

/// Reads every record.
pub(super) fn ended(dir: &Path) -> anyhow::Result<Stored> {
    let mut lines = Vec::new();
    let mut doubts = inspect::export(&FileDisk, dir, &mut lines)?;
    let mut recorded = Seqs::new();
    for line in serde_json::Deserializer::from_slice(&lines).into_iter::<Exported>() {
        let Exported { epoch, seq } = line?;
        insert(&mut recorded, epoch, seq, seq);
    }
    doubts.extend(inspect::verify(&FileDisk, dir)?.problems);
    let view = inspect::view(&FileDisk, dir)?;
    let held = view.epochs.into_iter().map(|epoch| (epoch.epoch, epoch.held_seqs)).filter(|(_, held)| !held.is_empty());
    Ok(Stored { recorded, held: held.collect(), doubts })
}
