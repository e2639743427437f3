//! A configuration that changes while the agent runs: read anew on SIGHUP and when a file of it has changed, checked
//! whole, and only then put in place of the former one. One that is refused changes nothing.
//!
//! What is collected and when can change at run time. Who the host is, its broker, its outbox and its log cannot: which of
//! them wait for a restart is said. It is read and checked on another thread; here its
//! files are only looked at, every 5 s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use crate::clock::Now;
use crate::config::{self, Checked, Config, Rejected, Setting, Watch};

/// How often the files are looked at. A change is acted on when two looks have seen the same: nobody writes any more.
const LOOK: Duration = Duration::from_secs(5);

/// A configuration that was read and is good.
pub struct Loaded {
    pub checked: Checked,
    /// See `config_hash` of `meta`.
    pub hash: String,
    /// Of its files, taken before they were read.
    pub fingerprint: u64,
}

/// Reads it; called again and again, on any thread.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Rejected> + Send + Sync>;

/// What became of a reading.
pub type Reading = Result<Result<Loaded, Rejected>, JoinError>;

pub struct Reload {
    load: Load,
    /// Of the process's start: what a restart would change is told by it.
    started: Checked,
    watch: Watch,
    /// Of the files that are in force, or were refused.
    seen: u64,
    /// Of files that have changed since, seen once.
    changing: Option<u64>,
    next_look: Duration,
    task: Option<JoinHandle<Result<Loaded, Rejected>>>,
    /// Asked again while a reading was under way.
    again: bool,
}

impl Reload {
    pub fn new(started: Checked, fingerprint: u64, load: Load, now: Now) -> Self {
        let watch = started.watch.clone();
        let next_look = now.mono + LOOK;
        Self { load, started, watch, seen: fingerprint, changing: None, next_look, task: None, again: false }
    }

    pub fn next_wake(&self) -> Duration {
        self.next_look
    }

    /// Looks at the files when it is time.
    pub fn look(&mut self, now: Now) {
        if now.mono < self.next_look || self.task.is_some() {
            return;
        }
        self.next_look = now.mono + LOOK;
        let fingerprint = self.watch.fingerprint();
        if fingerprint == self.seen {
            self.changing = None;
        } else if self.changing.replace(fingerprint) == Some(fingerprint) {
            tracing::info!("the configuration's files have changed; reading them");
            self.read();
        }
    }

    /// Reads everything anew, now.
    pub fn read(&mut self) {
        self.again = self.task.is_some();
        if self.task.is_none() {
            let load = Arc::clone(&self.load);
            self.task = Some(tokio::task::spawn_blocking(move || load()));
        }
    }

    /// The end of a reading; waits for ever when there is none. Cancel-safe.
    pub async fn done(&mut self) -> Reading {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let done = task.await;
        self.task = None;
        if std::mem::take(&mut self.again) {
            self.read();
        }
        done
    }

    /// From now on these files are watched.
    pub fn watch(&mut self, reading: &Result<Loaded, Rejected>, now: Now) {
        (self.watch, self.seen) = match reading {
            Ok(loaded) => (loaded.checked.watch.clone(), loaded.fingerprint),
            Err(rejected) => (rejected.watch.clone(), rejected.watch.fingerprint()),
        };
        self.changing = None;
        self.next_look = now.mono + LOOK;
    }

    /// What runs when these collectors replace the present ones: everything else is as it was at the start.
    pub fn effective(&self, fresh: &Config) -> Config {
        Config {
            agent: config::Agent { cgroup: self.started.config.agent.cgroup.clone(), ..fresh.agent.clone() },
            collectors: fresh.collectors.clone(),
            disabled: fresh.disabled.clone(),
            alarms: fresh.alarms.clone(),
            blackouts: fresh.blackouts.clone(),
            ..self.started.config.clone()
        }
    }

    /// The keys whose new values wait for a restart.
    pub fn waiting(&self, fresh: &Checked) -> Vec<String> {
        let (before, after) = (fixed(&self.started.settings), fixed(&fresh.settings));
        let mut keys: Vec<String> = before.keys().chain(after.keys()).map(|key| (*key).to_owned()).collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| before.get(key.as_str()) != after.get(key.as_str()));
        let password = |checked: &Checked| checked.config.broker.password.clone();
        if password(&self.started) != password(fresh) && !keys.iter().any(|key| key == "broker.password_file") {
            keys.push("broker.password_file".to_owned());
        }
        keys
    }
}

/// The settings that a running agent cannot change.
fn fixed(settings: &[Setting]) -> BTreeMap<&str, &str> {
    let changes = |setting: &&Setting| {
        let section = setting.path.split('.').next().unwrap_or_default();
        matches!(section, "host" | "broker" | "outbox" | "uplink" | "log" | "put") || setting.path == "agent.cgroup"
    };
    settings.iter().filter(changes).map(|setting| (setting.path.as_str(), setting.shown.as_str())).collect()
}
