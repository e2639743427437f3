//! What the agent knows of itself: figures for its own collector, the problems for `status`, and the document that
//! the local status socket hands out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::collecting::{Account, Collecting};
use super::delivery::Delivery;
use super::put::Tally;
use super::shedding::{self, Shedding};
use crate::clock::Now;
use crate::collect::AgentFigures;
use crate::config::Checked;
use crate::events::Step;
use crate::outbox::Stats;
use crate::outbox::writer::Event;
use crate::record::Run;
use crate::wire::Status;

/// The same problem is logged again after this.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Different problems logged within [`SAY_AGAIN`].
const SAID: usize = 32;

/// The answer of the status socket. Additions are compatible; `status --json` prints it as it is.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// Of the process.
    pid: u32,
    /// Seconds since it started.
    up_s: u64,
    /// What the broker's subscribers see, or would see.
    status: Status,
    connection: ConnectionView<'a>,
    outbox: OutboxView<'a>,
    config: &'a ConfigView,
    limits: &'a shedding::View,
    collectors: Vec<CollectorView<'a>>,
    /// Null where applications may not put anything.
    put: Option<Tally>,
}

#[derive(Debug, Serialize)]
struct ConnectionView<'a> {
    connected: bool,
    address: Option<&'a str>,
    last_close: Option<&'a str>,
    connections: u64,
    publishes: u64,
    bytes_sent: u64,
    /// Seconds since 1970.
    certificate_ends: Option<i64>,
}

#[derive(Debug, Serialize)]
struct OutboxView<'a> {
    dir: &'a Path,
    #[serde(flatten)]
    stats: &'a Stats,
}

/// The configuration in force, and what became of the last attempt to change it.
#[derive(Debug, Default, Serialize)]
struct ConfigView {
    /// As in `meta`.
    hash: String,
    /// When it was put in force.
    since_ms: i64,
    /// Entries that are wrong and were left out.
    left_out: Vec<String>,
    /// Why the last one that was read was refused; null when it is in force.
    refused: Option<String>,
    /// Keys whose new values wait for a restart.
    restart: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CollectorView<'a> {
    name: &'a str,
    runs: u64,
    failed: u64,
    silent: u64,
    missed: u64,
    /// Of the missed, those left out to stay within the agent's own limits.
    shed: u64,
    commanded: u64,
    last_ms: Option<i64>,
    last_error: Option<&'a str>,
}

/// Keeps what is needed for the report between two turns of the loop.
pub struct Report {
    outbox_dir: PathBuf,
    started: Now,
    stats: Stats,
    recorded: u64,
    config: ConfigView,
    limits: shedding::View,
    /// By the part that reports it; one line each.
    problems: BTreeMap<&'static str, String>,
    problems_changed: bool,
    /// Lines of the outbox in the log, and when each was last written (monotonic).
    said: BTreeMap<String, Duration>,
}

impl Report {
    pub fn new(outbox_dir: PathBuf, started: Now, stats: Stats) -> Self {
        Self {
            outbox_dir,
            started,
            stats,
            recorded: 0,
            config: ConfigView::default(),
            limits: shedding::View::default(),
            problems: BTreeMap::new(),
            problems_changed: false,
            said: BTreeMap::new(),
        }
    }

    pub fn outbox_dir(&self) -> &Path {
        &self.outbox_dir
    }

    /// What was wrong with the outbox at the start.
    pub fn found(&mut self, problems: &[String]) {
        self.problem("outbox at start", (!problems.is_empty()).then(|| problems.join("; ")));
    }

    /// Whether there are more alarms than can be followed.
    pub fn events(&mut self, crowded: bool) {
        let line = "more values are beyond the limits of alarms than can be followed: some alarms are not raised";
        self.problem("events", crowded.then(|| line.to_owned()));
    }

    /// How the agent stands to its own limits.
    pub fn limits(&mut self, shedding: &Shedding) {
        self.limits = shedding.view();
        self.problem("limits unwatched", shedding.unwatched());
    }

    /// The agent does less to stay within them, or more again.
    pub fn stepped(&mut self, step: &Step) {
        self.problem("limits", (step.stage > 0).then(|| step.message.clone()));
    }

    /// What keeps the host id from being stored.
    pub fn host_id(&mut self, problem: Option<String>) {
        if let Some(line) = &problem {
            tracing::warn!("{line}");
        }
        self.problem("host id", problem);
    }

    /// A configuration is in force.
    pub fn configured(&mut self, checked: &Checked, hash: &str, restart: &[String], now: Now) {
        let first = self.config.hash.is_empty();
        let left_out = checked.left_out().map(|problem| one_line(&problem.to_string())).collect::<Vec<_>>();
        if !first {
            checked.warnings.iter().for_each(|problem| tracing::warn!("{problem}"));
            tracing::info!(hash, collectors = checked.config.collectors.len(), "the configuration is in force");
        }
        let waits = (!restart.is_empty()).then(|| format!("restart the agent to put in force: {}", restart.join(", ")));
        if let Some(line) = &waits {
            tracing::warn!("{line}");
        }
        self.problem("configuration", None);
        self.problem("restart", waits);
        self.problem(
            "left out",
            left_out.first().map(|first| match left_out.len() {
                1 => first.clone(),
                n => format!("{first}; and {} more", n - 1),
            }),
        );
        let (hash, restart) = (hash.to_owned(), restart.to_vec());
        self.config = ConfigView { hash, since_ms: now.wall_ms, left_out, refused: None, restart };
    }

    /// One was read and cannot be used.
    pub fn refused_configuration(&mut self, why: &str) {
        tracing::error!("the configuration is refused, the former one stays in force:\n{why}");
        let line = one_line(why);
        self.problem("configuration", Some(format!("refused, the former one stays in force: {line}")));
        self.config.refused = Some(line);
    }

    /// It could not even be read, for want of a thread or by a fault of ours. Tried again and again: said once.
    pub fn unread_configuration(&mut self, why: &str) {
        let line = format!("it could not be read and is tried again, the former one stays in force: {why}");
        if self.problems.get("configuration") != Some(&line) {
            tracing::error!("the configuration: {line}");
        }
        self.problem("configuration", Some(line));
    }

    /// Why a change of the configuration is not noticed.
    pub fn silent_configuration(&mut self, problem: Option<String>) {
        const PART: &str = "configuration files";
        if let Some(line) = problem.as_ref().filter(|_| !self.problems.contains_key(PART)) {
            tracing::warn!("{line}");
        }
        self.problem(PART, problem);
    }

    /// Whether runs wait in memory because they cannot be stored, as far as the writer has told.
    pub fn outbox_fails(&self) -> bool {
        self.stats.broken.is_some()
    }

    fn problem(&mut self, part: &'static str, line: Option<String>) {
        let changed = match line {
            Some(line) => self.problems.insert(part, line.clone()).as_ref() != Some(&line),
            None => self.problems.remove(part).is_some(),
        };
        self.problems_changed |= changed;
    }

    /// The problem lines, if they changed since the last call.
    pub fn changed_problems(&mut self) -> Option<Vec<String>> {
        std::mem::take(&mut self.problems_changed).then(|| self.problems.values().cloned().collect())
    }

    pub fn recorded(&mut self, run: &Run) {
        self.recorded += run.points.len() as u64;
    }

    /// Records of applications.
    pub fn put(&mut self, records: usize) {
        self.recorded += records as u64;
    }

    /// What keeps the sockets, for the status and for applications, from being there; the agent works without them.
    pub fn sockets(&mut self, status: Option<String>, put: Option<String>) {
        for (part, problem) in [("status socket", status), ("put", put)] {
            if self.problems.get(part) == problem.as_ref() {
                continue;
            }
            match &problem {
                Some(line) => tracing::warn!("{line}"),
                None => tracing::info!("{part}: the socket is there now"),
            }
            self.problem(part, problem);
        }
    }

    /// A run that memory cannot hold beside those that wait for their commit.
    pub fn refused(&mut self, collector: &str, points: usize, mono: Duration) {
        let line = format!(
            "a run of {collector} did not fit into the 1 MiB that may wait in memory and is declared lost ({points} \
             records); let it print less at a time"
        );
        self.say(&line, mono);
    }

    /// Takes note of what the outbox writer says.
    pub fn outbox(&mut self, event: &Event, now: Now) {
        match event {
            Event::Stats(stats) => self.stats = stats.clone(),
            Event::Problem(problem) => {
                self.say(problem, now.mono);
                self.problem("outbox", Some(problem.clone()));
            }
            Event::Recovered => {
                tracing::info!("outbox: records are stored again");
                self.problem("outbox", None);
            }
            Event::Opened(found) => {
                tracing::info!(epoch = found.epoch, next_seq = found.next_seq, "outbox: the directory can be used now");
                self.found(&found.problems);
            }
            _ => {}
        }
    }

    /// A disk that fails says the same at every attempt: each line once a minute, and few lines at all.
    fn say(&mut self, line: &str, mono: Duration) {
        self.said.retain(|_, at| mono.saturating_sub(*at) < SAY_AGAIN);
        if self.said.len() < SAID && !self.said.contains_key(line) {
            tracing::warn!("outbox: {line}");
            self.said.insert(line.to_owned(), mono);
        }
    }

    pub fn figures(&self, delivery: &Delivery, collecting: &Collecting, now: Now) -> AgentFigures {
        let traffic = delivery.traffic();
        let Account { runs, failed: runs_failed, missed: runs_skipped, .. } = collecting.total();
        AgentFigures {
            stage: self.limits.stage,
            connected: delivery.uplink().is_connected(),
            outbox_depth: delivery.uplink().backlog(),
            outbox_bytes: self.stats.disk_bytes,
            outbox_limit: self.stats.max_bytes,
            outbox_age_ms: self.stats.oldest_ms.map_or(0, |t| now.wall_ms.saturating_sub(t).max(0) as u64),
            commits: self.stats.commits,
            records_recorded: self.recorded,
            records_settled: self.stats.settled,
            records_lost: self.stats.lost,
            runs,
            runs_failed,
            runs_skipped,
            connections: traffic.connections,
            publishes: traffic.publishes,
            bytes_sent: traffic.bytes_sent,
        }
    }

    /// One JSON document, see [`Document`].
    pub fn document(&self, delivery: &Delivery, collecting: &Collecting, put: Option<Tally>, now: Now) -> String {
        let traffic = delivery.traffic();
        let document = Document {
            pid: std::process::id(),
            up_s: now.mono.saturating_sub(self.started.mono).as_secs(),
            status: delivery.uplink().status(now),
            connection: ConnectionView {
                connected: delivery.uplink().is_connected(),
                address: delivery.address(),
                last_close: delivery.last_close(),
                connections: traffic.connections,
                publishes: traffic.publishes,
                bytes_sent: traffic.bytes_sent,
                certificate_ends: delivery.certificate_ends(),
            },
            outbox: OutboxView { dir: &self.outbox_dir, stats: &self.stats },
            config: &self.config,
            limits: &self.limits,
            collectors: collecting
                .accounts()
                .map(|(name, a)| CollectorView {
                    name,
                    runs: a.runs,
                    failed: a.failed,
                    silent: a.silent,
                    missed: a.missed,
                    shed: a.shed,
                    commanded: a.commanded,
                    last_ms: a.last_ms,
                    last_error: a.last_error.as_deref(),
                })
                .collect(),
            put,
        };
        serde_json::to_string(&document).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
