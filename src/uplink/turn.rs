//! What to do next, and when to look again: watchdogs first, then a connection, then our own word, live, history.

use std::time::Duration;

use super::Uplink;
use super::io::{Action, Will};
use crate::clock::Now;

impl Uplink {
    /// The next thing to do; call until `None`.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        if let Some(action) = self.waiting_action() {
            return Some(action);
        }
        self.watch(now.mono);
        if let Some(action) = self.waiting_action() {
            return Some(action);
        }
        let action = self.step(now);
        // What a step found on its way (a quarantine, a log line) is said before its outcome.
        match self.waiting_action() {
            Some(first) => {
                self.out.extend(action);
                Some(first)
            }
            None => action,
        }
    }

    fn waiting_action(&mut self) -> Option<Action> {
        self.out.pop_front().or_else(|| self.journal.take())
    }

    /// When to poll again (on [`Now::mono`]) if nothing happens before. `None`: only an input can matter.
    pub fn next_wake(&self) -> Option<Duration> {
        let link = self.link.next_wake(self.answer_owed());
        if self.link.up().is_none() {
            return link;
        }
        let stop = self.stopping.map(|s| s.farewell.map_or(s.deadline, |(_, until)| until));
        let work = [
            self.heartbeat.next_wake(),
            self.subscription.next_wake(),
            self.history_wake,
            self.suspects_wake,
            self.retry_unreadable,
            self.delivery.next_recheck(),
            self.losses.next_recheck(),
        ];
        let work = if self.stopping.is_some() { [None; 7] } else { work };
        [link, stop].into_iter().chain(work).flatten().min()
    }

    /// Gives up what has been silent too long; asks again for what could not be read.
    fn watch(&mut self, now: Duration) {
        if let Some(why) = self.link.overdue(self.answer_owed(), now) {
            self.give_up(why, now);
            self.hide_resting();
        }
        if self.retry_unreadable.is_some_and(|at| at <= now) {
            self.retry_unreadable = None;
            self.counts.unreadable = 0;
            self.delivery.retry_unreadable();
        }
        self.twin.forget_old(now);
        self.delivery.recheck(now);
        self.losses.recheck(now);
    }

    fn step(&mut self, now: Now) -> Option<Action> {
        if let Some(url) = self.link.try_connect(now.mono) {
            let session = self.heartbeat.new_session(&mut self.rng);
            let payload = self.offline_payload(&session);
            let will = Will { topic: self.settings.topics.status(), payload, retain: self.link.retains() };
            return Some(Action::Connect { url, session, will });
        }
        self.link.up()?;
        if let Some(stopping) = self.stopping {
            let in_time = stopping.farewell.is_none() && now.mono < stopping.deadline;
            let live = if in_time { self.publish_live(now).or_else(|| self.publish_copy(now)) } else { None };
            return live.or_else(|| self.farewell(now.mono));
        }
        if self.subscription.take_due(now.mono) {
            return Some(Action::Subscribe(self.subscriptions()));
        }
        let own = self.publish_status(now).or_else(|| self.publish_reply(now.mono));
        if own.is_some() || !self.subscription.is_clear(now.mono) {
            (self.history_wake, self.suspects_wake) = (None, None);
            return own;
        }
        self.publish_live(now).or_else(|| self.publish_copy(now)).or_else(|| self.publish_history(now))
    }

    /// Commands, acknowledgements, and our own status: the will of an older connection may overwrite it.
    fn subscriptions(&self) -> Vec<String> {
        let [cmd, acks, _] = self.settings.topics.subscriptions();
        vec![cmd, acks, self.settings.topics.status().to_string()]
    }
}
