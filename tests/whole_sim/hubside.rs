//! Between broker and hub: delivery, commits, acknowledgements, questions; and how each of the two goes down.

use std::time::Duration;

use holdover::uplink::{CloseReason, Input};
use holdover::wire::{Ack, Command, encode_payload};

use crate::uplink_sim::oracle::Check;

use super::plant::Fault;
use super::world::{Event, World};

impl World {
    /// The broker took it; the hub subscribes to it.
    pub fn for_hub(&mut self, topic: &str, payload: &[u8]) {
        self.net.queue(topic, payload);
        self.deliver_next();
    }

    fn deliver_next(&mut self) {
        if !self.delivering && self.net.hub_is_here && self.net.sent < self.net.session.len() {
            self.delivering = true;
            let wait = Duration::from_millis(1 + self.rng.below(30));
            self.after(wait, Event::ToHub(self.hub_link));
        }
    }

    pub fn delivered(&mut self) -> Check {
        self.delivering = false;
        if let Some(message) = self.net.deliver() {
            self.hub_takes(&message.topic, &message.payload, false)?;
        }
        self.deliver_next();
        Ok(())
    }

    fn hub_takes(&mut self, topic: &str, payload: &[u8], retain: bool) -> Check {
        let mut asks = self.hub.take((topic, payload, retain), self.hub_clock())?;
        if !self.moods.healthy && self.rng.below(12) == 0 {
            // Whatever it is, on its way or not.
            let from = 1 + self.rng.below(40);
            asks.push((self.oracle.newest, from..=from + self.rng.below(30)));
        }
        for (epoch, seqs) in asks {
            self.note(|| format!("   hub asks for {seqs:?} of {epoch}"));
            let command = Command::Resend { id: "1".into(), epoch, from: *seqs.start(), to: *seqs.end() };
            let topic = self.agent.settings.topics.cmd().to_string();
            self.forward(&topic, &encode_payload(&command), false);
        }
        if self.fault() == Some(Fault::HubAcksEarly) {
            let early = self.hub.acks();
            self.acknowledge(early);
        }
        if !self.committing {
            self.committing = true;
            let wait = Duration::from_millis(20 + self.rng.below(1_500));
            self.after(wait, Event::HubCommits(self.hub_link));
        }
        Ok(())
    }

    pub fn hub_commits(&mut self) {
        self.committing = false;
        let count = self.hub.uncommitted;
        let acks = self.hub.commit();
        self.note(|| format!("   hub commits {count} messages: {acks:?}"));
        self.net.acknowledged(count);
        self.acknowledge(acks);
    }

    fn acknowledge(&mut self, acks: Vec<Ack>) {
        for ack in acks {
            let topic = self.agent.settings.topics.ack("hub").to_string();
            let payload = encode_payload(&ack);
            self.forward(&topic, &payload, false);
            self.net.retained.insert(topic, payload);
        }
    }

    pub fn broker_crashes(&mut self) {
        self.net.crash(&mut self.rng);
        if self.is_up {
            let reason = Input::Closed(CloseReason::Lost("reset".into()));
            self.after(Duration::from_millis(1), Event::Link(self.connection, reason));
        }
        let wait = Duration::from_millis(200 + self.rng.below(3_000));
        self.hub_is_gone(wait);
    }

    pub fn hub_leaves(&mut self, wait: Duration) {
        self.hub_is_gone(wait);
    }

    fn hub_is_gone(&mut self, wait: Duration) {
        self.net.hub_left();
        self.hub.uncommitted = 0;
        self.hub_link += 1;
        (self.delivering, self.committing) = (false, false);
        self.after(wait, Event::HubReturns(self.hub_link));
    }

    /// What was sent and not acknowledged comes again.
    pub fn hub_returns(&mut self) -> Check {
        self.net.hub_is_here = true;
        let topic = self.agent.settings.topics.status().to_string();
        if let Some(payload) = self.net.retained.get(&topic).cloned() {
            self.hub_takes(&topic, &payload, true)?;
        }
        self.deliver_next();
        Ok(())
    }

    /// By its own account and by what it knows of the host's.
    pub fn hub_lacks_nothing(&self) -> bool {
        self.hub.gaps().is_empty() && self.net.session.is_empty()
    }
}
