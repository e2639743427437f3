//! From files and environment to one checked, immutable [`Config`]; every error has a place, a reason and a hint.
//!
//! Two stages: `tree` merges untyped values that know their origin, then each section is read and checked. Never
//! opens a socket, never creates a file, never prints; it looks at the files that the configuration names.

mod alarms;
mod blackouts;
mod broker;
mod collectors;
mod confine;
mod keys;
mod limits;
mod line;
mod owners;
mod problem;
mod put;
mod reader;
mod reference;
mod report;
mod secret;
mod sections;
mod sides;
mod source;
mod timing;
mod tree;
mod units;
mod watch;
mod what;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use blackouts::Blackout;
pub use broker::{Broker, Ca};
pub use collectors::{Collector, Exec, What};
pub use keys::{Key, Kind};
pub use problem::{Origin, Problem, Rejected, Severity};
pub use reference::reference;
pub use report::{NextRuns, Volume};
pub use secret::Secret;
pub use sides::FromLine;
pub use source::Sources;
pub use units::parse_duration;
pub use watch::Watch;

use crate::clock::Now;
use crate::collect::exec::cgroup::Place;
use crate::events::Rule;
use crate::uplink::Level;
use owners::Owners;
use reader::{Reader, Section};
use sides::Lines;
use tree::{Data, Node, Table};

/// The longest host, site or collector name.
pub const MAX_NAME: usize = 64;

/// What the process around the configuration knows; handed in, so that tests can say otherwise.
pub struct Surroundings<'a> {
    /// The environment variables.
    pub env: &'a [(String, String)],
    /// For schedules that lie in the past.
    pub now: Now,
    /// Total bytes of the file system that holds a path (or its nearest existing parent).
    pub file_system_bytes: fn(&Path) -> Option<u64>,
    /// Whether what is read decides what root runs: files that others could change are left out.
    pub guarded: bool,
}

/// Everything that can be configured, resolved and checked. Two are equal when the agent would behave the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub host: Host,
    pub broker: Broker,
    pub outbox: Outbox,
    pub uplink: Uplink,
    pub log: Log,
    pub agent: Agent,
    pub put: Put,
    /// Those that run, defaults first, in the order of the files.
    pub collectors: Vec<Collector>,
    /// Names of those that are switched off.
    pub disabled: Vec<Arc<str>>,
    pub blackouts: Vec<Blackout>,
    pub alarms: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub id: Option<String>,
    pub site: String,
    /// Without slashes at its ends; empty for none.
    pub prefix: String,
    /// Where the host's root directory is: `/`, or its mount in the agent's container.
    pub root: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbox {
    pub dir: PathBuf,
    pub max_bytes: u64,
    pub max_age: Option<Duration>,
    pub drop: Drop,
    pub commit_window: Duration,
}

/// Which records go when the outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    Oldest,
    Newest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub level: Level,
    pub history_rate: Rate,
    /// Messages per second; of no account when the rate is unlimited.
    pub history_batches: u32,
    pub in_flight: u16,
    pub in_flight_bytes: u64,
    pub max_packet: u64,
    pub reconnect_min: Duration,
    pub reconnect_max: Duration,
}

/// How fast something may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Unlimited,
    /// Per second.
    Bytes(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub default_collectors: bool,
    pub stop_timeout: Duration,
    pub cgroup: Place,
    pub limits: Limits,
}

/// The agent's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; 0 is no limit.
    pub max_memory: u64,
    /// Percent of one core; 0 is no limit.
    pub max_cpu: u32,
    /// Over which both are judged.
    pub window: Duration,
    /// Collectors that the last stage turns off.
    pub shed: Vec<String>,
}

/// The socket for applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub enabled: bool,
    pub socket: PathBuf,
    /// Of its group.
    pub gid: Option<u32>,
    pub mode: u32,
    pub records_per_s: u32,
}

/// The effective value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `broker.url`, `collector.cpu.every`.
    pub path: String,
    /// As a TOML literal.
    pub shown: String,
    pub origin: Origin,
}

/// An accepted configuration with what a person may want to know about it.
#[derive(Clone, Debug)]
pub struct Checked {
    pub config: Config,
    /// Every key with a value, in the order of the key table.
    pub settings: Vec<Setting>,
    /// Warnings, and what was left out.
    pub warnings: Vec<Problem>,
    /// The collectors that lines ask for, the vendor's first.
    pub from_lines: Vec<FromLine>,
    pub watch: Watch,
}

impl Checked {
    /// Where a value came from, by path (`broker.cert`); for checks made elsewhere.
    pub fn origin_of(&self, path: &str) -> Origin {
        self.settings.iter().find(|setting| setting.path == path).map_or(Origin::Default, |found| found.origin.clone())
    }

    /// What is not in force although somebody wrote it.
    pub fn left_out(&self) -> impl Iterator<Item = &Problem> {
        self.warnings.iter().filter(|problem| problem.severity == Severity::LeftOut)
    }

    /// A refusal by a check made elsewhere (a certificate, a host id), worded and placed as those made here.
    pub fn refuse(&self, path: &str, message: impl std::fmt::Display, hint: &str) -> Problem {
        Problem::error(&self.origin_of(path), format!("{path}: {message}")).hint(hint)
    }
}

impl Config {
    /// Reads, merges and checks. Every problem of every source is in the refusal.
    pub fn load(sources: &Sources, around: &Surroundings<'_>) -> Result<Checked, Rejected> {
        let (mut problems, mut watch) = (Vec::new(), Watch::new(around.guarded));
        let (root, owners) = gather(sources, around, &mut problems, &mut watch);
        let incomplete = problems.iter().any(|problem| problem.severity == Severity::Error);
        let beside = sources.file.as_deref().and_then(Path::parent);
        check(root, Lines::Beside(beside, owners), Reader { around, problems, settings: Vec::new(), incomplete, watch })
    }

    /// Checks one text as if it were the main file at `file`; nothing else is read.
    pub fn parse(file: &Path, text: &str, around: &Surroundings<'_>) -> Result<Checked, Rejected> {
        let (root, problems) = tree::parse(&Arc::from(file.to_string_lossy()), text);
        let incomplete = !problems.is_empty();
        let reader = Reader { around, problems, settings: Vec::new(), incomplete, watch: Watch::default() };
        check(root, Lines::Unread, reader)
    }
}

impl Surroundings<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A folder that systemd names; of several the first.
    fn directory(&self, variable: &str) -> Option<PathBuf> {
        self.variable(variable)?.split(':').next().map(PathBuf::from)
    }
}

/// Main file, then conf.d, then environment: later ones win.
fn gather(
    sources: &Sources,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
    watch: &mut Watch,
) -> (Table, Owners) {
    let (env, found) = tree::from_env(around.env);
    problems.extend(found);
    sources.file.iter().for_each(|file| watch.file(file));
    problems.extend(sources.file.as_deref().and_then(|file| Owners::of_main(around, &env).refuses(file)));
    let mut root = sources.file.as_deref().map(|file| source::read_table(file, problems)).unwrap_or_default();
    let owners = Owners::of_others(around, &env, &root);
    let beside = sources.file.as_deref().and_then(Path::parent).map(|folder| folder.join("conf.d"));
    let named = sources.conf_d.clone().or_else(|| configured_conf_d(&root));
    let (folder, required) = (named.clone().or(beside), named.is_some());
    folder.iter().for_each(|folder| watch.folder(folder));
    for file in folder.map(|folder| source::list_conf_d(&folder, required, problems)).unwrap_or_default() {
        match owners.leaves_out(&file) {
            Some(problem) => problems.push(problem),
            None => root.merge(source::read_table(&file, problems)),
        }
    }
    root.merge(env);
    (root, owners)
}

/// `conf_d` of `[agent]` in the main file, before anything is checked; a wrong type is reported when it is.
fn configured_conf_d(root: &Table) -> Option<PathBuf> {
    let (_, Node { data: Data::Table(agent), .. }) = root.0.get("agent")? else { return None };
    let (_, Node { data: Data::Str(folder), origin: Origin::File { file, .. } }) = agent.0.get("conf_d")? else {
        return None;
    };
    Some(Path::new(&**file).parent()?.join(folder))
}

fn check(mut root: Table, lines: Lines<'_>, mut reader: Reader<'_>) -> Result<Checked, Rejected> {
    let tables = take_entries(&mut root, keys::COLLECTOR, &mut reader);
    let alarms = take_entries(&mut root, keys::ALARM, &mut reader);
    let windows = take_entries(&mut root, keys::BLACKOUT, &mut reader);
    let host = sections::host(take_section(&mut root, "host", &mut reader), &mut reader);
    let broker = broker::check(take_section(&mut root, "broker", &mut reader), &mut reader);
    let outbox = sections::outbox(take_section(&mut root, "outbox", &mut reader), &mut reader);
    let uplink = sections::uplink(take_section(&mut root, "uplink", &mut reader), &mut reader);
    let log = sections::log(take_section(&mut root, "log", &mut reader), &mut reader);
    let agent = sections::agent(take_section(&mut root, "agent", &mut reader), uplink.as_ref(), &mut reader);
    let put = put::check(take_section(&mut root, "put", &mut reader), outbox.as_ref(), &mut reader);
    let lines = sides::check(take_section(&mut root, "scripts", &mut reader), lines, &mut reader);
    let (from_lines, collectors) = sides::join(lines, tables, &mut reader);
    let (collectors, disabled) = collectors::check(collectors, agent.as_ref(), &mut reader);
    let blackouts = blackouts::check(windows, &collectors, &disabled, &mut reader);
    limits::warn_unknown(agent.as_ref(), &collectors, &disabled, &mut reader);
    let alarms = alarms::check(alarms, &collectors, &disabled, &mut reader);
    sections::topics(host.as_ref(), &collectors, &mut reader);
    unknown_sections(root, &mut reader);
    let mut problems = reader.problems;
    problems.sort_by_cached_key(problem::reading_order);
    let outbox_dir = outbox.as_ref().map(|outbox| outbox.dir.clone());
    match (host, broker, outbox, uplink, log, agent, put) {
        (Some(host), Some(broker), Some(outbox), Some(uplink), Some(log), Some(agent), Some(put))
            if problems.iter().all(|problem| problem.severity != Severity::Error) =>
        {
            let config =
                Config { host, broker, outbox, uplink, log, agent, put, collectors, disabled, blackouts, alarms };
            Ok(Checked { config, settings: reader.settings, warnings: problems, from_lines, watch: reader.watch })
        }
        _ => Err(Rejected { problems, watch: Box::new(reader.watch), outbox_dir }),
    }
}

fn take_section(root: &mut Table, name: &'static str, reader: &mut Reader<'_>) -> Section {
    let spec = keys::section(name).expect("called with the names of the key table");
    let (origin, table) = match root.0.remove(name) {
        Some((_, Node { data: Data::Table(table), origin })) => (origin, table),
        Some((at, node)) => {
            let message = format!("{name}: expected a section, found {}", node.data.kind());
            reader.problems.push(Problem::error(&at, message).hint(format!("write [{name}] on a line of its own")));
            (at, Table::default())
        }
        None => (Origin::Default, Table::default()),
    };
    Section { path: name.to_owned(), origin, keys: spec.keys.into(), table }
}

/// The `[[collector]]` or `[[blackout]]` entries, in the order of the files.
fn take_entries(root: &mut Table, name: &'static str, reader: &mut Reader<'_>) -> Vec<Section> {
    let keys = keys::section(name).expect("called with the names of the key table").keys;
    let wrong = format!("write [[{name}]] with double brackets, once for each {name}");
    let Some((at, node)) = root.0.remove(name) else { return Vec::new() };
    let Data::List(entries) = node.data else {
        reader.problems.push(Problem::error(&at, format!("{name}: expected a list of {name}s")).hint(wrong));
        return Vec::new();
    };
    let mut sections = Vec::new();
    for entry in entries {
        match entry.data {
            Data::Table(table) => {
                sections.push(Section { path: name.to_owned(), origin: entry.origin, keys: keys.into(), table });
            }
            other => {
                let message = format!("{name}: expected a section, found {}", other.kind());
                reader.problems.push(Problem::error(&entry.origin, message).hint(&*wrong));
            }
        }
    }
    sections
}

fn unknown_sections(root: Table, reader: &mut Reader<'_>) {
    let names: Vec<&str> = keys::SECTIONS.iter().map(|section| section.name).collect();
    for (name, (at, node)) in root.0 {
        let what = if matches!(node.data, Data::Table(_) | Data::List(_)) { "section" } else { "key" };
        let owner = keys::SECTIONS.iter().find(|section| section.keys.iter().any(|key| key.name == name));
        let hint = match (nearest(&name, &names), owner) {
            (_, Some(section)) if what == "key" => format!("{name} belongs into [{}]", section.name),
            (Some(close), _) => format!("did you mean {close}?"),
            _ => format!("the sections are {}", names.join(", ")),
        };
        reader.problems.push(Problem::error(&at, format!("unknown {what} {name}")).hint(hint));
    }
}

/// The known name that was probably meant: at most a third of its letters wrong, or one the beginning of the other.
pub(crate) fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let distance = |name: &str| match name.to_ascii_lowercase().replace('-', "_") {
        name if word.len() >= 3 && (name.starts_with(&word) || word.starts_with(&name)) => 1,
        name => edits(&word, &name),
    };
    let close = |name: &str| distance(name) <= (name.len().max(word.len()) / 3).max(1);
    names.iter().filter(|name| close(name)).min_by_key(|name| distance(name)).copied()
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    // Longer words are no misspelling of ours; this bounds the work.
    if a.len() > 2 * MAX_NAME || b.len() > 2 * MAX_NAME {
        return usize::MAX;
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
