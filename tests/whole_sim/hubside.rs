//! Between broker and hub: delivery, commits, acknowledgements, questions; and how each of the two goes down.

use std::time::Duration;

use holdover::hub::ingest::resends::Ask;
use holdover::uplink::{CloseReason, Input};
use holdover::wire::{Ack, Command, encode_payload};

use crate::uplink_sim::oracle::Check;

use super::hub::{Word, early};
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
        if let Some(mut message) = self.net.deliver() {
            if self.fault() == Some(Fault::Garbled) && !message.topic.ends_with("/status") {
                message.payload.iter_mut().rev().find(|byte| **byte == b'x').into_iter().for_each(|byte| *byte = b'y');
            }
            self.hub_takes(&message.topic, &message.payload, false)?;
        }
        self.deliver_next();
        Ok(())
    }

    fn hub_takes(&mut self, topic: &str, payload: &[u8], retain: bool) -> Check {
        let records = self.hub.take((topic, payload, retain), self.hub_clock())?;
        if let Some((epoch, seqs)) = records.filter(|_| self.fault() == Some(Fault::HubAcksEarly)) {
            self.acknowledge(&early(epoch, &seqs));
        }
        if !self.moods.healthy && self.rng.below(12) == 0 {
            // Somebody asks by hand: whatever it is, on its way or not.
            let from = 1 + self.rng.below(40);
            let to = from + self.rng.below(30);
            self.ask(self.oracle.newest, from, to);
        }
        if !self.committing {
            self.committing = true;
            let wait = Duration::from_millis(20 + self.rng.below(1_500));
            self.after(wait, Event::HubCommits(self.hub_link));
        }
        Ok(())
    }

    pub fn hub_commits(&mut self) -> Check {
        self.committing = false;
        let count = self.hub.uncommitted;
        let Some(rows) = self.hub.commit(self.hub_clock())? else {
            self.note(|| "   the hub dies while it commits".into());
            let wait = Duration::from_millis(500 + self.rng.below(20_000));
            self.hub_is_gone(wait);
            return Ok(());
        };
        rows.iter().try_for_each(|(epoch, record)| self.truth.stored(*epoch, record))?;
        self.note(|| format!("   hub commits {count} messages"));
        self.net.acknowledged(count);
        self.hub_speaks();
        Ok(())
    }

    /// Says what is due, and comes back for the rest.
    pub fn hub_speaks(&mut self) {
        self.speaking = false;
        for word in self.hub.speak(self.hub_clock()) {
            match word {
                Word::Ask(Ask { epoch, seqs, .. }) => self.ask(epoch, *seqs.start(), *seqs.end()),
                Word::Ack(ack) => self.acknowledge(&ack),
            }
        }
        if self.hub.has_to_say() && !self.speaking {
            self.speaking = true;
            self.after(Duration::from_secs(1), Event::HubSpeaks(self.hub_link));
        }
    }

    fn ask(&mut self, epoch: u64, from: u64, to: u64) {
        self.note(|| format!("   hub asks for {from}..={to} of {epoch}"));
        let command = Command::Resend { id: "1".into(), epoch, from, to };
        let topic = self.agent.settings.topics.cmd().to_string();
        self.forward(&topic, &encode_payload(&command), false);
    }

    fn acknowledge(&mut self, ack: &Ack) {
        self.note(|| format!("   hub says {ack:?}"));
        let topic = self.agent.settings.topics.ack("hub").to_string();
        let payload = encode_payload(ack);
        self.forward(&topic, &payload, false);
        self.net.retained.insert(topic, payload);
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
        self.hub.disconnected();
        self.hub_link += 1;
        (self.delivering, self.committing, self.speaking) = (false, false, false);
        self.after(wait, Event::HubReturns(self.hub_link));
    }

    /// What was sent and not acknowledged comes again.
    pub fn hub_returns(&mut self) -> Check {
        self.net.hub_is_here = true;
        self.committing = true;
        self.after(Duration::from_millis(100), Event::HubCommits(self.hub_link));
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
