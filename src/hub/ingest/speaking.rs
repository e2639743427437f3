//! What the hub publishes: that it is there, what it asks for again, and what it acknowledges. In that order, as far as
//! the window allows; the rest waits where it is.

use tokio::sync::oneshot;

use super::Ingest;
use super::resends::Ask;
use super::socket::{Asked, Request, ResendRequest, error};
use crate::clock::{self, Now};
use crate::uplink::transport::{Publish, puback_name};
use crate::wire::{CONTENT_TYPE_JSON, Command, HubState, State, Topic, TopicScheme, VERSION, encode_payload};

impl Ingest {
    /// Publishes what is due, as far as the window allows.
    pub(super) fn speak(&mut self) {
        let now = clock::now();
        if self.state_due && self.link.listening && self.link.free() > 0 {
            self.state_due = !self.publish_state(State::Online, now);
        }
        while self.link.listening && self.link.free() > 0 {
            let Some(ask) = self.desk.resends.next(now.mono) else { break };
            if !self.publish_ask(&ask) {
                self.desk.resends.unsent(ask);
                break;
            }
        }
        while self.link.listening && self.link.free() > 0 {
            let Some(ack) = self.desk.acks.next(now.mono) else { break };
            let Ok(topics) = TopicScheme::new(&self.options.prefix, &ack.site, &ack.host) else { continue };
            let topic = topics.ack(&self.options.hub);
            match self.publish(&topic, encode_payload(&ack.ack), true, None) {
                Some(token) => self.desk.acks.sent(token, ack, now.mono),
                None => {
                    self.desk.acks.add(ack);
                    break;
                }
            }
        }
    }

    pub(super) fn publish_state(&mut self, state: State, now: Now) -> bool {
        let session = self.link.session();
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let said = HubState { v: VERSION, state, session, version, sent: Some(now.wall_ms) };
        let Some(topic) = self.options.link.presence.clone() else { return true };
        self.publish(&topic, encode_payload(&said), true, None).is_some()
    }

    fn publish_ask(&mut self, ask: &Ask) -> bool {
        let Ask { host, site, epoch, seqs, id } = ask;
        let Ok(topics) = TopicScheme::new(&self.options.prefix, site, host) else { return true };
        let command = Command::Resend { id: id.clone(), epoch: *epoch, from: *seqs.start(), to: *seqs.end() };
        let reply = topics.reply(&self.options.hub);
        let sent = self.publish(&topics.cmd(), encode_payload(&command), false, Some(&reply)).is_some();
        if sent {
            tracing::info!(host, epoch, from = seqs.start(), to = seqs.end(), "asked for records again");
        }
        sent
    }

    fn publish(&mut self, topic: &Topic, payload: Vec<u8>, retain: bool, reply: Option<&Topic>) -> Option<u64> {
        self.publishes += 1;
        let token = self.publishes;
        let content_type = Some(CONTENT_TYPE_JSON);
        let (topic, response_topic) = (topic.to_string(), reply.map(Topic::to_string));
        let publish = Publish { token, topic, payload, retain, content_type, response_topic, correlation: None };
        match self.link.publish(publish) {
            Ok(()) => Some(token),
            Err(refused) => {
                let text = self.failures.say(&refused.to_string(), "", clock::now().mono);
                text.inspect(|text| tracing::warn!("{text}"));
                None
            }
        }
    }

    pub(super) fn answered(&mut self, token: u64, code: u8) {
        let accepted = code < 0x80;
        let refused = self.desk.acks.answered(token, accepted);
        if !accepted {
            let what = refused
                .map_or_else(|| "a message of ours".to_owned(), |ack| format!("the acknowledgement for {}", ack.host));
            let name = puback_name(code);
            let why =
                format!("the broker refused {what}: {name} (0x{code:02x}); check its ACL for {}", self.options.hub);
            self.failures.say(&why, "", clock::now().mono).inspect(|text| tracing::warn!("{text}"));
        }
        self.speak();
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        let Asked { request, answer } = asked;
        match request {
            Request::Question(question) => self.writer.answer(question, answer),
            Request::Resend(request) => self.resend(&request, answer),
        }
    }

    fn resend(&mut self, request: &ResendRequest, answer: oneshot::Sender<String>) {
        let said = match self.try_resend(request) {
            Ok(ask) => serde_json::json!({"asked": {"host": ask.host, "epoch": ask.epoch, "from": ask.seqs.start(),
                "to": ask.seqs.end(), "id": ask.id}})
            .to_string(),
            Err(why) => error(&why),
        };
        // Whoever asked may be gone.
        answer.send(said).ok();
    }

    fn try_resend(&mut self, request: &ResendRequest) -> Result<Ask, String> {
        let ResendRequest { resend: host, epoch, from, to } = request;
        let site = self.desk.sites.get(host).cloned().ok_or_else(|| format!("no host {host:?} has been heard of"))?;
        let current = self.desk.tracker.current_epoch(host);
        let epoch = epoch.or(current).ok_or_else(|| format!("no epoch of {host:?} is known; give one with --epoch"))?;
        if *from == 0 || to < from {
            return Err(format!("{from}-{to} is not a range of seqs; the first seq is 1"));
        }
        if !self.link.listening || self.link.free() == 0 {
            return Err("the hub is not connected to the broker; try again when it is".to_owned());
        }
        let ask = self.desk.resends.by_hand(host, &site, epoch, *from..=*to);
        if self.publish_ask(&ask) {
            Ok(ask)
        } else {
            Err("the broker takes no more at the moment; try again".to_owned())
        }
    }
}
