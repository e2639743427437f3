//! A configuration that changes while the agent runs: read anew on SIGHUP and when a file of it has changed, checked
//! whole, and only then put in place of the former one. One that is refused changes nothing.
//!
//! What is collected and when can change at run time. Who the host is, its broker, its outbox and its log cannot: which of
//! them wait for a restart is said. Its files are looked at every 5 s, and read, on another thread: where they are may hang.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::aside::{self, Aside, Lost};
use crate::clock::Now;
use crate::config::{self, Checked, Config, Rejected, Setting, Watch};

/// How often the files are looked at. A change is acted on when two looks have seen the same: nobody writes any more.
const LOOK: Duration = Duration::from_secs(5);
/// Files that have not answered for this long are told of.
const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration that was read and is good.
pub struct Loaded {
    pub checked: Checked,
    /// See `config_hash` of `meta`.
    pub hash: String,
    /// Of its files, taken before they were read.
    pub fingerprint: u64,
}

impl Loaded {
    /// By `read`, twice: the first time tells the files, and what is changed after they were looked at is noticed later.
    pub fn read(
        read: impl Fn() -> Result<Checked, Rejected>,
        hash: impl Fn(&Checked) -> String,
    ) -> Result<Self, Refused> {
        let fingerprint = match read() {
            Ok(checked) => checked.watch.fingerprint(),
            Err(why) => why.watch.fingerprint(),
        };
        match read() {
            Ok(checked) => Ok(Self { hash: hash(&checked), checked, fingerprint }),
            Err(why) => Err(Refused { why, fingerprint }),
        }
    }
}

/// One that was read and cannot be used.
pub struct Refused {
    pub why: Rejected,
    /// Of its files, taken before they were read: a correction since is a change.
    pub fingerprint: u64,
}

/// Reads it; called again and again, on any thread.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Refused> + Send + Sync>;

/// What became of a reading.
pub type Reading = Result<Result<Loaded, Refused>, Lost>;

/// What another thread is at; there is one at a time.
enum Task {
    /// The fingerprint of the files.
    Look(Aside<u64>),
    Read(Aside<Result<Loaded, Refused>>),
}

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
    task: Option<Task>,
    /// A reading was asked for that could not be begun.
    wanted: bool,
    /// Since when the files owe an answer (monotonic).
    waiting: Option<Duration>,
    /// Why they were not even asked, the last time.
    lost: Option<Lost>,
}

impl Reload {
    pub fn new(started: Checked, fingerprint: u64, load: Load, now: Now) -> Self {
        let watch = started.watch.clone();
        let next_look = now.mono + LOOK;
        Self {
            load,
            started,
            watch,
            seen: fingerprint,
            changing: None,
            next_look,
            task: None,
            wanted: false,
            waiting: None,
            lost: None,
        }
    }

    pub fn next_wake(&self) -> Duration {
        self.next_look
    }

    /// Begins a look at the files when it is time.
    pub fn look(&mut self, now: Now) {
        if now.mono < self.next_look {
            return;
        }
        self.next_look = now.mono + LOOK;
        self.waiting.get_or_insert(now.mono);
        if self.task.is_none() && std::mem::take(&mut self.wanted) {
            self.read();
        } else if self.task.is_none() {
            let watch = self.watch.clone();
            self.task = Some(Task::Look(aside::run("config-look", move || watch.fingerprint())));
        }
    }

    /// Why no change would be noticed now.
    pub fn overdue(&self, now: Now) -> Option<String> {
        self.waiting.filter(|since| now.mono.saturating_sub(*since) >= PATIENCE)?;
        let then = "what is in force goes on, a change of them is not noticed";
        Some(match &self.lost {
            None => format!(
                "the configuration's files have not answered for 30 s: {then}; is their disk, or their server, away?"
            ),
            Some(lost) => format!("the configuration's files have not been looked at for 30 s: {then}: {lost}"),
        })
    }

    /// Reads everything anew, as soon as what is under way has ended.
    pub fn read(&mut self) {
        self.wanted = self.task.is_some();
        if self.task.is_none() {
            let load = Arc::clone(&self.load);
            self.task = Some(Task::Read(aside::run("config-read", move || load())));
        }
    }

    /// The end of a reading; waits for ever when there is none. Cancel-safe.
    pub async fn done(&mut self) -> Reading {
        loop {
            match &mut self.task {
                None => return std::future::pending().await,
                Some(Task::Look(look)) => {
                    let seen = look.await;
                    self.looked(seen);
                }
                Some(Task::Read(reading)) => {
                    let reading = reading.await;
                    self.has_read(&reading);
                    return reading;
                }
            }
        }
    }

    fn looked(&mut self, seen: Result<u64, Lost>) {
        self.task = None;
        self.lost = seen.as_ref().err().cloned();
        // One that was lost is made up for by the next.
        let Ok(fingerprint) = seen else { return };
        self.waiting = None;
        if std::mem::take(&mut self.wanted) {
            self.read();
        } else if fingerprint == self.seen {
            self.changing = None;
        } else if self.changing.replace(fingerprint) == Some(fingerprint) {
            tracing::info!("the configuration's files have changed; reading them");
            self.read();
        }
    }

    fn has_read(&mut self, reading: &Reading) {
        self.task = None;
        self.lost = reading.as_ref().err().cloned();
        match reading {
            // Told, and tried again with the next look.
            Err(Lost::NoThread(_)) => self.wanted = true,
            Err(Lost::Panicked) | Ok(_) => {
                self.waiting = None;
                if std::mem::take(&mut self.wanted) {
                    self.read();
                }
            }
        }
    }

    /// From now on these files are watched.
    pub fn watch(&mut self, reading: &Result<Loaded, Refused>, now: Now) {
        (self.watch, self.seen) = match reading {
            Ok(loaded) => (loaded.checked.watch.clone(), loaded.fingerprint),
            Err(refused) => ((*refused.why.watch).clone(), refused.fingerprint),
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

#[cfg(test)]
mod tests;
