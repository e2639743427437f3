//! What arrives for this host: sorted by topic, decoded within limits, handed to whom it concerns.
//!
//! Hostile bytes cost one log line a minute.

use super::Uplink;
use super::io::{Message, Severity};
use super::journal::Subject;
use crate::clock::Now;
use crate::wire::{Ack, Offline, ParsedTopic, StatusMessage, TopicKind, decode_payload, decode_status};

impl Uplink {
    pub(super) fn received(&mut self, message: Message, now: Now) {
        let now = now.mono;
        let Some(kind) = self.own_kind(&message.topic) else {
            return self.unreadable_message(&message.topic, "not a topic of this host", now);
        };
        if kind == TopicKind::Status {
            self.subscription.heard();
        }
        // A retained message that was cleared.
        if message.payload.is_empty() {
            return;
        }
        match kind {
            TopicKind::Cmd => self.commanded(message, now),
            TopicKind::Ack(hub) => match decode_payload::<Ack>(&message.payload) {
                Ok(ack) => self.hub_acked(&hub, ack, message.retained, now),
                Err(error) => self.unreadable_message(&message.topic, &error.to_string(), now),
            },
            TopicKind::Status => match decode_status(&message.payload) {
                Ok(StatusMessage::Online(status)) if message.retained => {
                    self.saw_kept_status(&status.session, status.epoch, status.next_seq, now);
                }
                Ok(StatusMessage::Online(_)) => {}
                // One from before this connection is overwritten by our next status anyway.
                Ok(StatusMessage::Offline(Offline { session, epoch, next_seq, .. })) if message.retained => {
                    if let Some((epoch, next_seq)) = epoch.zip(next_seq) {
                        self.saw_kept_status(&session, epoch, next_seq, now);
                    }
                }
                Ok(StatusMessage::Offline(offline)) => self.saw_offline(&offline.session, now),
                Err(error) => self.unreadable_message(&message.topic, &error.to_string(), now),
            },
            _ => {}
        }
    }

    fn own_kind(&self, topic: &str) -> Option<TopicKind> {
        let Ok(ParsedTopic::Host { kind, .. }) = topic.parse() else { return None };
        let topics = &self.settings.topics;
        let own = match &kind {
            TopicKind::Cmd => topics.cmd(),
            TopicKind::Ack(hub) => topics.ack(hub),
            TopicKind::Status => topics.status(),
            _ => return None,
        };
        (own.as_str() == topic).then_some(kind)
    }

    /// The will of an older connection has overwritten our status.
    pub(super) fn saw_offline(&mut self, session: &str, now: std::time::Duration) {
        if session != self.heartbeat.session() {
            self.heartbeat.changed(now);
        }
    }

    fn unreadable_message(&mut self, topic: &str, why: &str, now: std::time::Duration) {
        let topic: String = topic.chars().take(crate::wire::MAX_TOPIC).collect();
        self.journal.say(Subject::Command, Severity::Warn, now, || format!("a message on {topic:?} is ignored: {why}"));
    }
}
