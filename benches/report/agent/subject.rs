//! Whoever is measured: processes that do one job, with directories, log and certificate of their own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::meter::Meter;
use super::usage::Usage;
use crate::scratch;
use crate::support::child::Running;
use crate::support::lab::Lab;

pub struct Subject {
    /// Its name in the report.
    pub label: &'static str,
    /// What its messages are told by.
    pub sender: String,
    pub processes: Vec<Running>,
    /// Between it and the broker.
    pub meter: Option<Meter>,
}

impl Subject {
    pub fn usage(&mut self) -> Result<Usage, Box<dyn Error>> {
        self.processes.iter_mut().for_each(Running::assert_running);
        Usage::of(&self.processes.iter().map(Running::id).collect::<Vec<_>>())
    }

    pub fn sent(&self) -> u64 {
        self.meter.as_ref().map_or(0, Meter::up)
    }
}

/// Which collectors run, and how often.
#[derive(Clone, Copy, PartialEq)]
pub enum Profile {
    /// As configured without a word: the host set every 10 s.
    Default,
    /// The host set each second, everything else as by default.
    Second,
    /// No collector at all.
    Idle,
}

/// The agent as it is deployed, with a configuration of few lines. `program` is copied: of one that several processes
/// run, the shared pages would be divided among them, and each would look smaller than it is alone.
pub fn agent(
    label: &'static str,
    profile: Profile,
    lab: &Lab,
    broker: u16,
    program: &Path,
) -> Result<Subject, Box<dyn Error>> {
    let host = label.replace([' ', ','], "-");
    let dir = scratch::dir(&host)?;
    let own = copy(program, &dir)?;
    let meter = Meter::before(broker)?;
    let identity = lab.client(&host);
    let (ca, cert, key, outbox) = (lab.ca(), identity.cert, identity.key, dir.join("outbox"));
    let port = meter.port;
    let text = format!(
        "[host]\nid = {host:?}\nsite = \"lab\"\n[broker]\nurl = \"mqtts://localhost:{port}\"\nca = {ca:?}\n\
         cert = {cert:?}\nkey = {key:?}\n[outbox]\ndir = {outbox:?}\n{}",
        collectors(profile)
    );
    let config = dir.join("holdover.toml");
    std::fs::write(&config, text)?;
    let mut command = Command::new(own);
    command.arg("run").arg("--config").arg(config);
    let child = Running::start("holdover", &mut command, &dir.join("log"));
    Ok(Subject { label, sender: host, processes: vec![child], meter: Some(meter) })
}

fn collectors(profile: Profile) -> String {
    match profile {
        Profile::Default => String::new(),
        Profile::Idle => "[agent]\ndefault_collectors = false\n".to_owned(),
        Profile::Second => {
            crate::host::SET.iter().map(|name| format!("[[collector]]\nname = {name:?}\nevery = \"1s\"\n")).collect()
        }
    }
}

/// A copy of a program in `dir`.
pub fn copy(program: &Path, dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let to = dir.join(program.file_name().ok_or("a program without a name")?);
    std::fs::copy(program, &to)?;
    Ok(to)
}
