//! Events: what a run changes that a person may want to be told, as records named `holdover.event`.
//!
//! A collector that was well and fails, or is well again; a value beyond the limit of an alarm, or back. What is compared
//! is always what was last told with what the run shows. So a change that may not be told now, because there were too
//! many, is told with a later run if it still holds. Pure: time and points come in; bounded: see the constants.

mod ended;
mod point;
mod reload;
mod rule;
mod state;
mod throttle;
mod told;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::record::{ErrorKind, Fields, Point, RunError, Tags};
use crate::wire::EVENT_NAME;
use ended::Ended;
use point::What;
pub use rule::{Bound, Rule};
use state::{Series, State};
use throttle::Throttle;
use told::{Change, Key, Told};

/// Events of this host at once, and after that one each while.
const ALL: Throttle = Throttle::new(32, Duration::from_secs(10));
/// Series of all alarms that are beyond their limits, or lately were.
const MAX_SERIES: usize = 512;
/// An alarm whose series is not measured any more is over after so many runs.
const UNSEEN: u32 = 3;
/// What is known of all collectors and alarms.
#[derive(Debug)]
pub struct Events {
    rules: Vec<Rule>,
    collectors: BTreeMap<Arc<str>, Health>,
    /// By the alarm's name and the series.
    series: BTreeMap<(Arc<str>, String), Series>,
    all: Throttle,
    /// The collectors that are configured.
    names: Vec<Arc<str>>,
    told: Told,
    /// Told as bad and not met since, by an earlier process mostly; and how many whole runs did not measure it.
    kept: BTreeMap<Key, u32>,
    /// Of what a reload has taken away.
    ended: Ended,
    /// Noted, and of an alarm or a collector that is no more.
    stale: Vec<Change>,
    /// The agent was last told to be beyond its own limits.
    degraded: bool,
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
    key: Key,
    state: State,
    /// It has run well since the start.
    was_well: bool,
}

impl Events {
    /// The outbox's note of what is told as bad: words.
    pub const NOTE: &str = "events";

    pub fn new(rules: Vec<Rule>, collectors: Vec<Arc<str>>) -> Self {
        Self {
            rules,
            collectors: BTreeMap::new(),
            series: BTreeMap::new(),
            all: ALL,
            names: collectors,
            told: Told::default(),
            kept: BTreeMap::new(),
            ended: Ended::default(),
            stale: Vec::new(),
            degraded: false,
            crowded: false,
        }
    }

    /// What an earlier process has told. It may come late: what has been met since is told to be over if it is.
    pub fn remember(&mut self, note: Option<&str>) {
        for key in note.unwrap_or_default().split(' ').filter_map(Key::parse) {
            if key == Key::AGENT || self.is_configured(key) {
                self.told.know(key);
                self.put_back(vec![(key, self.told.stands(key))]);
            } else {
                self.stale.push((key, false));
            }
        }
    }

    /// Whether runs to come can show how it is: those of the collector, or of that which the alarm looks at.
    fn is_configured(&self, key: Key) -> bool {
        let runs = |rule: &Rule| self.names.contains(&rule.collector);
        let alarm = self.rules.iter().any(|rule| Key::alarm(&rule.name) == key.owner && runs(rule));
        alarm || self.names.iter().any(|name| Key::collector(name) == key)
    }

    /// Words that are to go from the note without an event: nobody is left to be told of.
    pub fn take_stale(&mut self) -> Vec<(String, bool)> {
        words(std::mem::take(&mut self.stale))
    }

    /// A run with these points is handed to the outbox, in the order in which runs were made. Returns the words of the note
    /// that its events add or remove. It is to be answered by [`Events::settled`], in order, or at once by [`Events::refused`].
    pub fn hand_over(&mut self, points: &[Point]) -> Vec<(String, bool)> {
        words(self.told.hand_over(points.iter().filter(|point| point.name == EVENT_NAME).count()))
    }

    /// The oldest run with events is stored; or never will be: a later run tells what it told, if it still holds.
    pub fn settled(&mut self, stored: bool) {
        if stored {
            let changes = self.told.stored();
            return changes.into_iter().for_each(|(key, _)| self.forget_end(key));
        }
        let truth = self.told.refused();
        self.put_back(truth);
    }

    /// The run that was just handed over was not taken.
    pub fn refused(&mut self) {
        let truth = self.told.refused_at_once();
        self.put_back(truth);
    }

    /// Unless it is still on its way, or owed.
    fn forget_end(&mut self, key: Key) {
        if self.told.coming(key).is_none() && !self.told.stands(key) {
            self.ended.forget(key);
        }
    }

    fn put_back(&mut self, truth: Vec<Change>) {
        for (key, told) in truth {
            let configured = self.is_configured(key);
            let health = self.collectors.values_mut().find(|health| health.key == key).map(|health| &mut health.state);
            let series = self.series.values_mut().find(|series| series.key == key).map(|series| &mut series.state);
            if key == Key::AGENT {
                self.degraded = told;
            } else if let Some(state) = health.or(series) {
                state.told = told;
            } else if told && !configured && self.ended.owe(key) {
                // No run will show that it is over: it is told again as it was.
            } else if told {
                self.kept.insert(key, 0);
            } else {
                self.kept.remove(&key);
                self.forget_end(key);
            }
        }
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
        self.tell_owed_ends(now, &mut events);
        events
    }

    /// With whatever run comes.
    fn tell_owed_ends(&mut self, now: &Now, events: &mut Vec<Point>) {
        while let Some(key) = self.ended.owed().filter(|_| self.all.admits(now.mono)) {
            self.all.spend(now.mono);
            self.told.change(key, false);
            events.extend(self.ended.tell(key, now));
        }
    }

    /// The event of a step. How many there are is bounded where they are decided.
    pub fn stepped(&mut self, step: Step, now: &Now) -> Point {
        self.degraded = step.stage > 0;
        self.told.change(Key::AGENT, self.degraded);
        point::step(step, now)
    }

    /// What was last told of it is not what holds: by an earlier process, or the event could not be stored.
    pub fn owes_a_step(&self, stage: u8) -> bool {
        self.degraded != (stage > 0)
    }

    /// ok -> err, and err -> ok.
    fn judge(&mut self, collector: &Arc<str>, points: &[Point], now: &Now) -> Option<Point> {
        let (kept, key) = (&mut self.kept, Key::collector(collector));
        let met = || Health { key, state: State::new(kept.remove(&key).is_some()), was_well: false };
        let health = self.collectors.entry(collector.clone()).or_insert_with(met);
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
        self.told.change(key, failing);
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
        // A run that says nothing is whole too: there are scripts that speak only of what is wrong.
        if points.iter().all(|point| point.error.is_none()) {
            let measured = values.keys().map(|name| Key::series(&rule.name, name)).collect();
            self.unseen(rule, &measured, now, events);
            self.unmet(rule, &measured, now, events);
        }
        for (name, (point, value)) in values {
            let (key, at) = (Key::series(&rule.name, &name), (rule.name.clone(), name));
            let before = self.kept.contains_key(&key);
            if !self.series.contains_key(&at) && !before && !rule.bound.is_beyond(value) {
                continue;
            }
            if !self.series.contains_key(&at) && self.series.len() >= MAX_SERIES {
                self.crowded = true;
                continue;
            }
            self.kept.remove(&key);
            let met = || Series::new(before, key, point::bounded(&point.tags));
            let series = self.series.entry(at.clone()).or_insert_with(met);
            let stands = series.saw(rule, value, now.mono);
            if stands != series.state.told && admitted(&mut series.state, &mut self.all, now.mono) {
                series.state.told = stands;
                self.told.change(key, stands);
                events.push(point::crossed(rule, stands, series, &at.1, value, now));
            }
            if series.is_idle(now.mono) {
                self.series.remove(&at);
            }
        }
        self.crowded &= self.series.len() >= MAX_SERIES;
    }

    /// Series that a whole run did not measure: a disk that was taken out.
    fn unseen(&mut self, rule: &Rule, measured: &BTreeSet<Key>, now: &Now, events: &mut Vec<Point>) {
        let (all, told) = (&mut self.all, &mut self.told);
        self.series.retain(|(alarm, name), series| {
            if *alarm != rule.name || measured.contains(&series.key) {
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
                told.change(series.key, false);
                let message = format!("{}: {} of {name} is no longer measured", rule.name, rule.field);
                events.push(point::ended(rule, series, message, now));
            }
            false
        });
    }

    /// The same for series that were told by an earlier process and not met since: their names are not known.
    fn unmet(&mut self, rule: &Rule, measured: &BTreeSet<Key>, now: &Now, events: &mut Vec<Point>) {
        let (all, told, owner) = (&mut self.all, &mut self.told, Key::alarm(&rule.name));
        self.kept.retain(|key, unseen| {
            if key.owner != owner || measured.contains(key) {
                return true;
            }
            *unseen = unseen.saturating_add(1);
            if *unseen < UNSEEN || !all.admits(now.mono) {
                return true;
            }
            all.spend(now.mono);
            told.change(*key, false);
            let message = format!("{}: what was raised before the restart is no longer measured", rule.name);
            events.push(point::alarm(rule, What::Cleared, *key, &Tags::new(), message, now));
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

fn words(changes: Vec<Change>) -> Vec<(String, bool)> {
    changes.into_iter().map(|(key, told)| (key.word(), told)).collect()
}
