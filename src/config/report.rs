//! What `check-config` tells: the effective configuration with the origin of each value, when each collector runs next,
//! how much it makes a day and how long an outage the outbox holds. Builds text and JSON, prints nothing.

use std::sync::Arc;

use serde_json::json;

use super::collectors::{Collector, What};
use super::keys::REPEATED;
use super::problem::{Origin, Problem};
use super::{Checked, Config, Setting};
use crate::clock::Now;
use crate::schedule::{self, Advice, Schedule};

/// The part of `max_bytes` that always holds records: a full outbox drops a whole segment, a sixteenth at most.
const USABLE: f64 = 15.0 / 16.0;

/// The next runs of one collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextRuns {
    pub collector: Arc<str>,
    /// The schedule in words.
    pub schedule: String,
    /// Wall-clock milliseconds.
    pub at_ms: Vec<i64>,
    /// The same as local times of the schedule's zone.
    pub at: Vec<String>,
}

/// How much is collected, and how long an outage fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volume {
    pub runs_per_day: f64,
    pub bytes_per_day: f64,
    /// Days of outage that `max_bytes` holds; `None` when nothing is collected.
    pub days_held: Option<f64>,
}

impl Volume {
    /// The outage held, for a person: `12 days`, `7 hours`.
    pub fn held(&self) -> Option<String> {
        let seconds = (self.days_held? * 86_400.0).clamp(0.0, 1e12) as u64;
        Some(match seconds {
            172_800.. => format!("{} days", seconds / 86_400),
            7_200.. => format!("{} hours", seconds / 3_600),
            _ => format!("{} minutes", seconds / 60),
        })
    }
}

impl Config {
    /// The next `count` runs of each collector, with the jitter of this host.
    pub fn next_runs(&self, host_id: &str, now: Now, count: usize) -> Vec<NextRuns> {
        let runs = |collector: &Collector| {
            let jitter = schedule::jitter(host_id, &collector.name, collector.jitter);
            let at_ms = collector.schedule.next_runs(now, jitter, count);
            let at = at_ms.iter().map(|&ms| collector.schedule.display_time(ms)).collect();
            NextRuns { collector: collector.name.clone(), schedule: collector.schedule.to_string(), at_ms, at }
        };
        self.collectors.iter().map(runs).collect()
    }

    /// From the bytes that one run of a collector takes in the outbox, measured or estimated by the caller.
    pub fn volume(&self, now: Now, bytes_per_run: &dyn Fn(&Collector) -> f64) -> Volume {
        let (mut runs_per_day, mut bytes_per_day) = (0.0, 0.0);
        for collector in &self.collectors {
            let runs = collector.schedule.runs_per_day(now);
            runs_per_day += runs;
            bytes_per_day += runs * bytes_per_run(collector);
        }
        let days_held = (bytes_per_day > 0.0).then(|| self.outbox.max_bytes as f64 * USABLE / bytes_per_day);
        Volume { runs_per_day, bytes_per_day, days_held }
    }
}

/// A program that is started more often than this is told, runs a day: every 5 s.
const OFTEN: f64 = 17_280.0;

impl Checked {
    /// What is doubtful about the schedules, for a person who asks.
    pub fn advice(&self, now: Now) -> Vec<Problem> {
        self.config.collectors.iter().flat_map(|collector| self.advice_on(collector, now)).collect()
    }

    fn advice_on(&self, collector: &Collector, now: Now) -> Vec<Problem> {
        let mut found = collector.schedule.advice(now);
        let often = collector.schedule.runs_per_day(now);
        if matches!(collector.what, What::Exec(_)) && often > OFTEN {
            let message = format!("it starts a program {often:.0} times a day");
            let hint = "a program that starts costs more than what it measures: run it less often, or let it print several records".to_owned();
            found.push(Advice { message, hint });
        }
        let key = |key: &str| format!("collector.{}.{key}", collector.name);
        let path = if matches!(collector.schedule, Schedule::Cron(..)) { key("cron") } else { key("every") };
        let origin = self.origin_of(&path);
        found.into_iter().map(|a| Problem::warning(&origin, format!("{path}: {}", a.message)).hint(a.hint)).collect()
    }

    /// TOML with the origin of each value in a comment. Secrets are not in it: they are never values.
    pub fn effective(&self) -> String {
        let mut text = String::new();
        let mut current = "";
        for setting in self.ordered() {
            let (section, key) = split(&setting.path);
            if section != current {
                current = section;
                text.push_str(&header(section, text.is_empty()));
            }
            text.push_str(&format!("{key} = {}  # {}\n", setting.shown, setting.origin));
        }
        for name in &self.config.disabled {
            text.push_str(&format!("\n# collector {name} is switched off\n"));
        }
        text
    }

    /// The same as a JSON object: path to value and origin.
    pub fn effective_json(&self) -> serde_json::Value {
        let entry = |setting: &Setting| {
            let origin = match &setting.origin {
                Origin::File { file, line, column } => json!({"file": &**file, "line": line, "column": column}),
                Origin::Env(name) => json!({"env": &**name}),
                Origin::Default => json!("default"),
            };
            (setting.path.clone(), json!({"value": literal(&setting.shown), "origin": origin}))
        };
        self.ordered().into_iter().map(entry).collect::<serde_json::Map<_, _>>().into()
    }

    /// Section by section: derived values join the others of their section.
    fn ordered(&self) -> Vec<&Setting> {
        let mut sections: Vec<&str> = Vec::new();
        for setting in &self.settings {
            let section = split(&setting.path).0;
            if !sections.contains(&section) {
                sections.push(section);
            }
        }
        let of = |section: &&str| {
            self.settings
                .iter()
                .filter({
                    let section = *section;
                    move |setting: &&Setting| split(&setting.path).0 == section
                })
                .collect::<Vec<_>>()
        };
        sections.iter().flat_map(of).filter(|setting| !setting.shown.is_empty()).collect()
    }
}

/// `collector.cpu.params.top` is key `params.top` of section `collector.cpu`.
fn split(path: &str) -> (&str, &str) {
    let repeated = REPEATED.iter().any(|section| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.')));
    let dots = usize::from(repeated);
    match path.match_indices('.').nth(dots) {
        Some((at, _)) => (&path[..at], &path[at + 1..]),
        None => ("", path),
    }
}

fn header(section: &str, first: bool) -> String {
    let blank = if first { "" } else { "\n" };
    match section.split_once('.') {
        Some((repeated, name)) => format!("{blank}[[{repeated}]]\nname = {}\n", super::reader::quote(name)),
        None => format!("{blank}[{section}]\n"),
    }
}

/// A TOML literal as JSON.
fn literal(shown: &str) -> serde_json::Value {
    let parsed = format!("value = {shown}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.and_then(|value| serde_json::to_value(value).ok()).unwrap_or(serde_json::Value::Null)
}
