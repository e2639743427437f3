//! Other alarms and collectors: what of the former ones was told as bad is over.

use std::sync::Arc;

use super::Events;
use super::point::{self, What};
use super::rule::Rule;
use super::state::Series;
use super::told::Key;
use crate::clock::Now;
use crate::record::{Point, Tags};

impl Events {
    /// Other alarms and collectors from now on. What is unchanged goes on; what was told as bad and is no more is told to be
    /// over. Returns the events with their collectors.
    pub fn replace(&mut self, rules: Vec<Rule>, collectors: &[Arc<str>], now: &Now) -> Vec<(Arc<str>, Point)> {
        let before = std::mem::replace(&mut self.rules, rules);
        let names = std::mem::replace(&mut self.names, collectors.to_vec());
        for key in self.ended.keys() {
            // What is configured again speaks for itself.
            if self.is_configured(key) && self.ended.forget(key) {
                self.kept.insert(key, 0);
            }
        }
        let mut events = Vec::new();
        for rule in &before {
            let stays = self.rules.contains(rule);
            if !stays || !collectors.contains(&rule.collector) {
                events
                    .extend(self.end_alarm(rule, stays, now).into_iter().map(|event| (rule.collector.clone(), event)));
            }
        }
        for name in names.iter().filter(|name| !collectors.contains(name)) {
            events.extend(self.end_collector(name, now).map(|event| (name.clone(), event)));
        }
        events
    }

    fn end_alarm(&mut self, rule: &Rule, stays: bool, now: &Now) -> Vec<Point> {
        let why =
            if stays { "its collector is no longer configured" } else { "the alarm is no longer configured as it was" };
        let message = format!("{}: {why}", rule.name);
        for key in self.told.coming_of(Key::alarm(&rule.name)) {
            let event = point::alarm(rule, What::Cleared, key, &Tags::new(), message.clone(), now);
            self.end(key, &event);
        }
        let mut events = Vec::new();
        for series in self.take_series(rule) {
            let event = point::ended(rule, &series, message.clone(), now);
            self.end(series.key, &event);
            self.told.change(series.key, false);
            events.push(event);
        }
        events
    }

    fn end_collector(&mut self, name: &Arc<str>, now: &Now) -> Option<Point> {
        let key = Key::collector(name);
        let kept = self.kept.remove(&key).is_some();
        let stood = self.collectors.remove(name).map_or(kept, |health| health.state.told);
        let message = format!("{name}: the collector is no longer configured");
        let event = point::collector(name, What::Recovered, None, message, now);
        if stood || self.told.coming(key).is_some() {
            self.end(key, &event);
        }
        if stood {
            self.told.change(key, false);
        }
        stood.then_some(event)
    }

    /// It is over, or will be by an event on its way: with this one, should that be refused.
    fn end(&mut self, key: Key, event: &Point) {
        if !self.is_configured(key) {
            self.ended.told(key, event);
        }
    }

    /// Forgets all series of an alarm; returns those that are told as raised.
    fn take_series(&mut self, rule: &Rule) -> Vec<Series> {
        let of_rule = |(name, _): &(Arc<str>, String), _: &mut Series| *name == rule.name;
        let owner = Key::alarm(&rule.name);
        let met = self.series.extract_if(.., of_rule).map(|(_, series)| series).filter(|series| series.state.told);
        let kept = self.kept.extract_if(.., |key, _| key.owner == owner);
        met.chain(kept.map(|(key, _)| Series::new(true, key, Tags::new()))).collect()
    }
}
