//! Between agent and broker: the uplink's actions carried out, the broker's answers brought back, as the agent's loop does.

use std::time::Duration;

use holdover::agent::relay::{self, Passed};
use holdover::outbox::writer;
use holdover::ranges::RangeSet;
use holdover::uplink::{Action, CloseReason, Encoding, HubMemory, Input, Level, Message, Will};
use holdover::wire::{Ack, Command};

use crate::uplink_sim::broker::{Connect, Reaction};
use crate::uplink_sim::oracle::{Check, Flight};

use super::net::Kept;
use super::plant::Fault;
use super::world::{Event, World};

/// The seqs that it speaks of.
fn covered(ack: &Ack) -> RangeSet {
    let mut covered: RangeSet = ack.ranges.iter().map(|[from, to]| *from..=*to).collect();
    covered.insert(1..=ack.upto);
    covered
}

impl World {
    /// The outbox's word reaches the loop.
    pub fn told(&mut self, event: writer::Event) {
        self.untold -= 1;
        self.unchecked = true;
        if self.fault().is_some_and(|fault| fault.swallows(&event)) {
            return;
        }
        match &event {
            writer::Event::Appended { chunks, .. } => {
                for chunk in chunks {
                    self.agent.known.insert(chunk.epoch);
                    self.oracle.newest = chunk.epoch;
                    self.oracle.appended(chunk.epoch, chunk.first);
                }
            }
            writer::Event::Opened(found) => {
                self.agent.opened = true;
                self.agent.machine.handle(Input::Anchors(relay::anchors(found)), self.clock());
                self.agent.known.extend(found.epochs.iter().map(|view| view.epoch));
                let auto = self.host.settings.level == Level::Auto;
                self.oracle.at_level_hub |= auto && relay::hub_memory(found) == HubMemory::Acknowledged;
                // What was kept until now is repeated when the epochs are known.
                let kept = self.heard.clone();
                kept.into_iter().for_each(|ack| self.about_to_hear(&ack));
            }
            _ => {}
        }
        if let Some(input) = relay::to_uplink(event) {
            self.agent.machine.handle(input, self.clock());
        }
    }

    pub fn carry_out(&mut self, action: Action) -> Check {
        self.note(|| match &action {
            Action::Publish { token, topic, payload, .. } => {
                format!("-> publish {token} to {topic}, {} B", payload.len())
            }
            other => format!("-> {other:.300?}"),
        });
        self.judge_action(&action)?;
        let action = match (self.fault(), action) {
            (Some(Fault::GreedyLoads), Action::Load { epoch, range, max_bytes }) => {
                Action::Load { epoch, range, max_bytes: max_bytes << 8 }
            }
            (_, action) => action,
        };
        let Some(handle) = self.agent.handle() else { return Ok(()) };
        match relay::to_outbox(action, handle) {
            Passed::On => Ok(()),
            Passed::Back(input) => {
                self.agent.machine.handle(input, self.clock());
                Ok(())
            }
            Passed::Other(action) => self.transport(action),
        }
    }

    fn judge_action(&mut self, action: &Action) -> Check {
        match action {
            Action::Settle { epoch, seqs } => {
                self.oracle.settle(*epoch, seqs)?;
                if self.oracle.at_level_hub {
                    let mut rest = seqs.clone();
                    rest.subtract(&self.hub.knows(*epoch)?.sure);
                    if !rest.is_empty() {
                        return Err(format!(
                            "settle-hub: {rest:?} of {epoch}, which the hub would not know after a crash"
                        ));
                    }
                }
                self.summary.settled += seqs.len();
                self.truth.settle(*epoch, seqs, self.oracle.at_level_hub);
                Ok(())
            }
            Action::SettleLosses(losses) => {
                self.oracle.settle_losses(losses)?;
                self.truth.told(losses);
                Ok(())
            }
            Action::Quarantine { epoch, seqs, .. } => {
                let json = self.agent.settings.encoding == Encoding::Json;
                self.summary.quarantined += 1;
                let bytes = self.truth.size_of(*epoch, *seqs.start());
                self.oracle.quarantine(*epoch, *seqs.start(), bytes, json)?;
                self.truth.quarantine(*epoch, seqs.clone());
                Ok(())
            }
            Action::BeginEpoch => Err("alarm: the uplink takes this outbox for an older copy of itself".into()),
            _ => Ok(()),
        }
    }

    fn transport(&mut self, action: Action) -> Check {
        match action {
            Action::Connect { will, .. } => self.connect(&will),
            Action::Subscribe(filters) => {
                self.subscribe(filters);
                Ok(())
            }
            Action::Publish { token, topic, payload, retain, .. } => {
                self.publish(token, topic.as_str(), &payload, retain)
            }
            Action::Disconnect { clean } => {
                if clean {
                    self.net.will = None;
                }
                self.link_lost();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn connect(&mut self, will: &Will) -> Check {
        self.oracle.connect(self.now)?;
        self.connection += 1;
        let mut mood = self.moods.next_mood(&mut self.rng);
        if self.plan.any_size {
            mood.limits.max_packet = u32::MAX;
        }
        let wait = Duration::from_millis(5 + self.rng.below(1_000));
        let input = match mood.connect {
            Connect::Hang => return Ok(()),
            Connect::Refuse => Input::Closed(CloseReason::Connect("refused".into())),
            Connect::Accept => Input::Connected(mood.limits.clone()),
        };
        if mood.connect == Connect::Accept && mood.silent_at.is_none() {
            let at = wait + mood.limits.keep_alive;
            self.after(at, Event::Link(self.connection, Input::Progress));
        }
        self.next_will = Some(Kept { topic: will.topic.to_string(), payload: will.payload.clone() });
        self.after(wait, Event::Link(self.connection, input));
        Ok(())
    }

    fn subscribe(&mut self, filters: Vec<String>) {
        let outcomes = filters.into_iter().map(|filter| (filter, 1)).collect();
        let wait = Duration::from_millis(1 + self.rng.below(20));
        self.after(wait, Event::Link(self.connection, Input::Subscribed(outcomes)));
        self.subscribed = true;
        let topics = &self.agent.settings.topics;
        for topic in [topics.status().to_string(), topics.ack("hub").to_string()] {
            if let Some(payload) = self.net.retained.get(&topic).cloned() {
                self.forward(&topic, &payload, true);
            }
        }
    }

    /// To the agent, if it listens.
    pub fn forward(&mut self, topic: &str, payload: &[u8], retained: bool) {
        if self.is_up && self.subscribed {
            let wait = Duration::from_millis(1 + self.rng.below(200));
            let (topic, payload) = (topic.to_owned(), payload.to_vec());
            let message = Message { topic, payload, retained, ..Message::default() };
            self.after(wait, Event::Link(self.connection, Input::Received(message)));
        }
    }

    /// The connection is over, for the broker and for whatever was on its way.
    pub fn link_lost(&mut self) {
        self.connection += 1;
        (self.is_up, self.subscribed) = (false, false);
        self.oracle.disconnected(true);
        if let Some(will) = self.net.will.take() {
            let wait = Duration::from_millis(self.rng.below(9_000));
            self.after(wait, Event::Will(will));
        }
    }

    pub fn will(&mut self, will: Kept) {
        self.net.retained.insert(will.topic.clone(), will.payload.clone());
        self.forward(&will.topic, &will.payload, false);
        self.for_hub(&will.topic, &will.payload);
    }

    pub fn reported(&mut self, input: Input) {
        self.note(|| format!("<- {input:.300?}"));
        match &input {
            Input::Connected(limits) => {
                self.oracle.connected(limits);
                self.is_up = true;
                self.net.will = self.next_will.take();
            }
            Input::Acked { token, code } => self.oracle.acked(*token, *code, self.now),
            Input::Received(message) => self.overhear(message),
            Input::Closed(reason) => {
                if matches!(reason, CloseReason::Server { code: 0x95, .. }) {
                    self.oracle.too_large();
                }
                self.link_lost();
                self.unchecked = true;
            }
            Input::Progress => {
                let again = self.moods.mood.limits.keep_alive;
                self.after(again, Event::Link(self.connection, Input::Progress));
            }
            _ => {}
        }
        self.agent.machine.handle(input, self.clock());
    }

    /// What the uplink is about to hear from the hub, as the oracle judges it.
    fn overhear(&mut self, message: &Message) {
        if let Ok(ack) = serde_json::from_slice::<Ack>(&message.payload) {
            self.about_to_hear(&ack);
            self.heard = Some(ack);
        } else if let Ok(Command::Resend { epoch, from, to, .. }) = serde_json::from_slice(&message.payload) {
            self.summary.asked += to - from + 1;
            self.oracle.ask(epoch, from..=to);
        }
    }

    fn about_to_hear(&mut self, ack: &Ack) {
        self.oracle.stored(ack.epoch, &covered(ack));
        if self.host.settings.level == Level::Auto && self.agent.known.contains(&ack.epoch) {
            self.oracle.at_level_hub = true;
        }
    }

    fn publish(&mut self, token: u64, topic: &str, payload: &[u8], retain: bool) -> Check {
        let bytes = payload.len() + topic.len();
        let is_data = topic.ends_with("/h") || topic.contains("/m/");
        let parsed = if is_data { Some(self.truth.published(payload)?) } else { None };
        self.note(|| format!("   {parsed:?}"));
        self.agent.machine.published(token, parsed.as_ref().unwrap_or(&Default::default()));
        let flight = Flight { bytes, history: topic.ends_with("/h"), data: parsed.clone() };
        self.oracle.publish(token, topic, flight, self.now)?;
        let reaction = self.moods.react((topic, retain, bytes), parsed.as_ref(), self.now, &mut self.rng);
        self.note(|| format!("   {reaction:?}"));
        let taken = match &reaction {
            Reaction::Ack { code, .. } => *code < 0x80 && *code != 0x10,
            Reaction::Nothing { taken } | Reaction::Cut { taken } => *taken,
            Reaction::Disconnect(_) => false,
        };
        if taken {
            if retain {
                self.net.retained.insert(topic.to_owned(), payload.to_vec());
            }
            self.for_hub(topic, payload);
        }
        self.answer(token, reaction);
        Ok(())
    }

    fn answer(&mut self, token: u64, reaction: Reaction) {
        let connection = self.connection;
        let closed = match reaction {
            Reaction::Ack { code, after } => {
                self.after(after, Event::Link(connection, Input::Acked { token, code }));
                return;
            }
            Reaction::Nothing { .. } => return,
            Reaction::Cut { .. } => CloseReason::Lost("end of stream".into()),
            Reaction::Disconnect(code) => CloseReason::Server { code, text: "packet too large".into() },
        };
        self.after(Duration::from_millis(2), Event::Link(connection, Input::Closed(closed)));
    }
}
