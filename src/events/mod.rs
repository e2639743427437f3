//! Events: what a run changes that a person may want to be told, as records named `holdover.event`.
//!
//! A collector that was well and fails, or is well again; a value beyond the limit of an alarm, or back. What is compared
//! is always what was last told with what the run shows. So a change that may not be told now, because there were too
//! many, is told with a later run if it still holds. Pure: time and points come in; bounded: see the constants.

mod point;
mod rule;
mod state;
mod throttle;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::record::{ErrorKind, Fields, Point, RunError};
use point::What;
pub use rule::{Bound, Rule};
use state::{Series, State};
use throttle::Throttle;

/// Events of this host at once, and after that one each while.
const ALL: Throttle = Throttle::new(32, Duration::from_secs(10));
/// Series of all alarms that are beyond their limits, or lately were.
const MAX_SERIES: usize = 512;
/// An alarm whose series is not measured any more is over after so many runs.
const UNSEEN: u32 = 3;
/// In the note: the agent itself does less. No collector and no alarm has a space in its name.
const DEGRADED: &str = "agent degraded";
/// Of what is told as bad, what a note of the outbox can hold; the others are told again after a restart.
const MAX_KEPT: usize = 100;

/// What is known of all collectors and alarms.
#[derive(Debug)]
pub struct Events {
    rules: Vec<Rule>,
    collectors: BTreeMap<Arc<str>, Health>,
    /// By the alarm's name and the series.
    series: BTreeMap<(Arc<str>, String), Series>,
    all: Throttle,
    /// Told as bad by an earlier process and not met yet, as hashes.
    kept: BTreeSet<u32>,
    /// The agent was last told to be beyond its own limits.
    degraded: bool,
    changed: bool,
    crowded: bool,
}

/// The agent itself does less, or more again, to stay within its own limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Whose event it is.
    pub collector: Arc<str>,
    /// From now on; 0: nothing is left out.
    pub stage: u8,
    pub up: bool,
    pub fields: Fields,
    pub message: String,
}

/// One collector.
#[derive(Debug)]
struct Health {
    state: State,
    /// It has run well since the start.
    was_well: bool,
}

impl Events {
    /// Key of the note that [`Events::take_note`] is for.
    pub const NOTE: &str = "events";

    pub fn new(rules: Vec<Rule>) -> Self {
        let (collectors, series, kept) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let all = ALL;
        Self { rules, collectors, series, all, kept, degraded: false, changed: false, crowded: false }
    }

    /// What an earlier process has told.
    pub fn remember(&mut self, note: Option<&str>) {
        let hashes = note.unwrap_or_default().split(' ').filter_map(|word| u32::from_str_radix(word, 16).ok());
        self.kept.extend(hashes.take(MAX_KEPT));
    }

    /// The note to be kept, if it has changed.
    pub fn take_note(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let failing = self.collectors.iter().filter(|(_, h)| h.state.told).map(|(name, _)| hash(name, ""));
        let raised = self.series.iter().filter(|(_, s)| s.state.told).map(|((name, series), _)| hash(name, series));
        let degraded = self.degraded.then(|| hash(DEGRADED, ""));
        let all = degraded.into_iter().chain(failing).chain(raised).chain(self.kept.iter().copied());
        let words: Vec<String> = all.take(MAX_KEPT).map(|hash| format!("{hash:08x}")).collect();
        Some(words.join(" "))
    }

    /// Whether there are more series beyond their limits than can be followed.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// A run has ended with these points; returns the events that it causes.
    pub fn saw(&mut self, collector: &Arc<str>, points: &[Point], now: &Now) -> Vec<Point> {
        let mut events = Vec::new();
        events.extend(self.judge(collector, points, now));
        for at in 0..self.rules.len() {
            if self.rules[at].collector == *collector {
                let rule = self.rules[at].clone();
                self.watch(&rule, points, now, &mut events);
            }
        }
        events
    }

    /// The event of a step. How many there are is bounded where they are decided.
    pub fn stepped(&mut self, step: Step, now: &Now) -> Point {
        self.degraded = step.stage > 0;
        self.changed = true;
        self.kept.remove(&hash(DEGRADED, ""));
        point::step(step, now)
    }

    /// Of an earlier process it was told that it does less, and nothing since.
    pub fn owes_a_step(&self) -> bool {
        self.kept.contains(&hash(DEGRADED, ""))
    }

    /// Other alarms and collectors from now on. What is unchanged goes on; what was told as bad and is no more is told to be
    /// over. Returns the events with their collectors.
    pub fn replace(&mut self, rules: Vec<Rule>, collectors: &[Arc<str>], now: &Now) -> Vec<(Arc<str>, Point)> {
        let mut events = Vec::new();
        let before = std::mem::replace(&mut self.rules, rules);
        for rule in before.iter().filter(|rule| !self.rules.contains(rule)) {
            let gone: Vec<_> = self.series.keys().filter(|(name, _)| *name == rule.name).cloned().collect();
            for key in gone {
                if self.series.remove(&key).is_some_and(|series| series.state.told) {
                    let message = format!("{}: the alarm is no longer configured as it was", rule.name);
                    events.push((rule.collector.clone(), point::alarm(rule, What::Cleared, None, message, now)));
                }
            }
        }
        let known = std::mem::take(&mut self.collectors);
        for (name, health) in known {
            if collectors.contains(&name) {
                self.collectors.insert(name, health);
            } else if health.state.told {
                let message = format!("{name}: the collector is no longer configured");
                events.push((name.clone(), point::collector(&name, What::Recovered, None, message, now)));
            }
        }
        self.changed |= !events.is_empty();
        events
    }

    /// ok -> err, and err -> ok.
    fn judge(&mut self, collector: &Arc<str>, points: &[Point], now: &Now) -> Option<Point> {
        let kept = &mut self.kept;
        let health = self
            .collectors
            .entry(collector.clone())
            .or_insert_with(|| Health { state: State::new(kept.remove(&hash(collector, ""))), was_well: false });
        let error = points.iter().find_map(|point| point.error.as_ref());
        health.was_well |= error.is_none();
        // What this host never had is no failure.
        let lacks = |error: &RunError| error.kind == ErrorKind::Unsupported && !health.was_well;
        let failing = error.is_some_and(|error| !lacks(error));
        if error.is_some() && !failing || failing == health.state.told {
            return None;
        }
        if !admitted(&mut health.state, &mut self.all, now.mono) {
            return None;
        }
        health.state.told = failing;
        self.changed = true;
        Some(match error {
            Some(error) => {
                let message = format!("{collector}: ok -> err: {}", error.message);
                point::collector(collector, What::Failed, Some(error), message, now)
            }
            None => point::collector(collector, What::Recovered, None, format!("{collector}: err -> ok"), now),
        })
    }

    /// One alarm against one run.
    fn watch(&mut self, rule: &Rule, points: &[Point], now: &Now, events: &mut Vec<Point>) {
        // Of several values of one series in a run the last counts.
        let mut values: BTreeMap<String, (&Point, f64)> = BTreeMap::new();
        for point in points {
            if let Some(value) = rule.value(point) {
                values.insert(point::series(point), (point, value));
            }
        }
        let whole = !points.is_empty() && points.iter().all(|point| point.error.is_none());
        if whole {
            self.unseen(rule, &values, now, events);
        }
        for (series, (point, value)) in values {
            let key = (rule.name.clone(), series);
            let before = self.kept.contains(&hash(&key.0, &key.1));
            if !self.series.contains_key(&key) && !before && !rule.bound.is_beyond(value) {
                continue;
            }
            if !self.series.contains_key(&key) && self.series.len() >= MAX_SERIES {
                self.crowded = true;
                continue;
            }
            self.kept.remove(&hash(&key.0, &key.1));
            let series = self.series.entry(key.clone()).or_insert_with(|| Series::new(before));
            let stands = series.saw(rule, value, now.mono);
            if stands != series.state.told && admitted(&mut series.state, &mut self.all, now.mono) {
                series.state.told = stands;
                self.changed = true;
                events.push(point::crossed(rule, stands, point, value, now));
            }
            if series.is_idle(now.mono) {
                self.series.remove(&key);
            }
        }
        self.crowded &= self.series.len() >= MAX_SERIES;
    }

    /// Series that a whole run did not measure: a disk that was taken out.
    fn unseen(&mut self, rule: &Rule, values: &BTreeMap<String, (&Point, f64)>, now: &Now, events: &mut Vec<Point>) {
        let (all, changed) = (&mut self.all, &mut self.changed);
        self.series.retain(|(name, key), series| {
            if *name != rule.name || values.contains_key(key) {
                return true;
            }
            series.unseen = series.unseen.saturating_add(1);
            if series.unseen < UNSEEN {
                return true;
            }
            if series.state.told {
                if !admitted(&mut series.state, all, now.mono) {
                    return true;
                }
                *changed = true;
                let message = format!("{}: {} of {key} is no longer measured", rule.name, rule.field);
                events.push(point::alarm(rule, What::Cleared, None, message, now));
            }
            false
        });
    }
}

/// Whether a change may be told, by its own measure and by that of all; if so it is counted.
fn admitted(state: &mut State, all: &mut Throttle, now: Duration) -> bool {
    let admitted = state.throttle.admits(now) && all.admits(now);
    if admitted {
        state.throttle.spend(now);
        all.spend(now);
    }
    admitted
}

fn hash(name: &str, series: &str) -> u32 {
    crc32fast::hash(format!("{name}\n{series}").as_bytes())
}
