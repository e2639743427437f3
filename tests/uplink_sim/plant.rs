//! The shipped uplink, or the shipped uplink with one planted fault between it and the world: the oracle
//! must catch each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdover::clock::Now;
use holdover::uplink::{Action, Input, Message, Settings, Uplink};
use holdover::wire::{Ack, Command, Loss, LossReason, decode_payload, encode_payload};

use super::broker::Parsed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The PUBACK of one publish counts for another.
    SettleWrongToken,
    /// Settled when published.
    SettleBeforeAck,
    /// What was in flight at a lost connection is forgotten.
    ForgetOnReconnect,
    /// A refusal counts as an acceptance.
    RefusalIsSuccess,
    /// The broker's Receive Maximum is not seen.
    IgnoreReceiveMaximum,
    /// Live messages wait for two history messages.
    LiveLast,
    /// Asks to be called all the time.
    Spin,
    /// Losses count as delivered when they are published.
    ForgetLosses,
    /// Three connections lost with it alone in flight convict a value, whatever else the link does.
    ConvictWithoutContrast,
    /// At level hub the broker's word settles.
    PubackSettlesAtHub,
    /// A hub's acknowledgement of one epoch counts for the present one.
    AckOfAnotherEpoch,
    /// An acknowledgement of seqs that were never drawn settles those that were.
    AckBeyondNext,
    /// What is asked for is sent although it is on its way.
    ResendOfPending,
    /// A hub's requests are not heard.
    ResendIgnored,
    /// A new connection begins with everything that no hub has acknowledged.
    StormOnReconnect,
}

pub struct Machine {
    pub uplink: Uplink,
    pub fault: Option<Fault>,
    flights: BTreeMap<u64, Parsed>,
    /// Connections lost with this value alone in flight.
    strikes: BTreeMap<(u64, u64), u32>,
    extra: VecDeque<Action>,
    held: Option<(Action, u32)>,
    /// Epoch and next seq, as last seen.
    newest: Option<(u64, u64)>,
    /// The last data message, while it is in flight.
    last_data: Option<Action>,
    pub settings: Settings,
}

impl Machine {
    pub fn new(uplink: Uplink, fault: Option<Fault>, settings: Settings) -> Self {
        Self {
            uplink,
            fault,
            flights: BTreeMap::new(),
            strikes: BTreeMap::new(),
            extra: VecDeque::new(),
            held: None,
            newest: None,
            last_data: None,
            settings,
        }
    }

    pub fn handle(&mut self, input: Input, now: Now) {
        let input = match (self.fault, input) {
            (Some(Fault::SettleWrongToken), Input::Acked { token, code: 0 }) if self.flights.len() > 1 => {
                let other = self.flights.keys().copied().find(|t| *t != token).unwrap_or(token);
                self.flights.remove(&other);
                Input::Acked { token: other, code: 0 }
            }
            (Some(Fault::RefusalIsSuccess), Input::Acked { token, code: 0x80.. }) => Input::Acked { token, code: 0 },
            (Some(Fault::IgnoreReceiveMaximum), Input::Connected(mut limits)) => {
                limits.receive_max = u16::MAX;
                Input::Connected(limits)
            }
            (Some(Fault::ForgetOnReconnect), Input::Closed(reason)) => {
                let flights = std::mem::take(&mut self.flights);
                let forgotten = flights.values().flat_map(|p| p.chunks.iter().map(|c| loss(p.epoch, *c))).collect();
                self.uplink.handle(Input::Lost(forgotten), now);
                Input::Closed(reason)
            }
            (Some(Fault::AckOfAnotherEpoch | Fault::AckBeyondNext), Input::Received(message)) => {
                Input::Received(self.misread(message))
            }
            (Some(Fault::ResendIgnored), Input::Received(message)) if message.topic.ends_with("/cmd") => {
                Input::Received(Message { payload: Vec::new(), ..message })
            }
            (_, input) => input,
        };
        self.plant_more(&input, now);
        match &input {
            Input::Appended { chunks, .. } | Input::Redrawn(chunks) => {
                self.newest = chunks.last().map(|c| (c.epoch, c.last() + 1)).or(self.newest);
            }
            Input::Acked { token, .. } => drop(self.flights.remove(token)),
            Input::Closed(_) => {
                self.strike();
                self.flights.clear();
                self.held = None;
            }
            _ => {}
        }
        self.uplink.handle(input, now);
    }

    /// An acknowledgement as a careless reader takes it.
    fn misread(&self, message: Message) -> Message {
        let (Ok(ack), Some((newest, next))) = (decode_payload::<Ack>(&message.payload), self.newest) else {
            return message;
        };
        let upto = ack.upto.min(next - 1);
        let careless = match self.fault {
            Some(Fault::AckOfAnotherEpoch) if ack.epoch != newest => Ack { epoch: newest, upto, ranges: vec![], ..ack },
            Some(Fault::AckBeyondNext) if ack.epoch == newest => Ack { upto, ranges: vec![], ..ack },
            _ => ack,
        };
        Message { payload: encode_payload(&careless), ..message }
    }

    fn plant_more(&mut self, input: &Input, now: Now) {
        match (self.fault, input) {
            (Some(Fault::PubackSettlesAtHub), Input::Acked { token, code: 0 }) if self.uplink.is_at_level_hub() => {
                if let Some(flight) = self.flights.get(token).filter(|f| !f.chunks.is_empty()) {
                    let seqs = flight.chunks.iter().map(|c| c.0..=c.1).collect();
                    self.extra.push_back(Action::Settle { epoch: flight.epoch, seqs });
                }
            }
            (Some(Fault::ResendOfPending), Input::Received(message)) if message.topic.ends_with("/cmd") => {
                if let Some(Action::Publish { topic, payload, content_type, .. }) = self.last_data.clone() {
                    let (token, retain, correlation) = (u64::MAX, false, None);
                    self.extra.push_back(Action::Publish { token, topic, payload, retain, content_type, correlation });
                }
            }
            (Some(Fault::StormOnReconnect), Input::Connected(_)) => {
                if let Some((epoch, next)) = self.newest {
                    let command = Command::Resend { id: String::new(), epoch, from: 1, to: next - 1 };
                    let (topic, payload) = (self.settings.topics.cmd().to_string(), encode_payload(&command));
                    self.uplink.handle(Input::Received(Message { topic, payload, ..Message::default() }), now);
                }
            }
            (_, Input::Acked { .. } | Input::Closed(_)) => self.last_data = None,
            _ => {}
        }
    }

    fn strike(&mut self) {
        let mut data = self.flights.values().filter(|p| !p.chunks.is_empty());
        if let (Some(Fault::ConvictWithoutContrast), Some(only), None) = (self.fault, data.next(), data.next())
            && let [(first, last)] = only.chunks[..]
        {
            let strikes = self.strikes.entry((only.epoch, first)).or_default();
            *strikes += 1;
            if *strikes == 3 {
                let (epoch, seqs, reason) = (only.epoch, first..=last, "planted".to_owned());
                self.extra.push_back(Action::Quarantine { epoch, seqs, reason });
            }
        }
    }

    pub fn poll(&mut self, now: Now) -> Option<Action> {
        if let Some(action) = self.extra.pop_front() {
            return Some(action);
        }
        let action = self.uplink.poll(now)?;
        if let Action::Publish { topic, .. } = &action
            && (topic.as_str().ends_with("/h") || topic.as_str().contains("/m/"))
        {
            self.last_data = Some(action.clone());
        }
        if matches!(action, Action::Disconnect { .. }) {
            self.held = None;
        }
        if let (Some(Fault::LiveLast), Action::Publish { topic, .. }) = (self.fault, &action) {
            if topic.as_str().contains("/m/") && self.held.is_none() {
                self.held = Some((action, 2));
                return self.poll(now);
            }
            if topic.as_str().ends_with("/h")
                && let Some((held, left)) = &mut self.held
            {
                *left -= 1;
                if *left == 0 {
                    self.extra.push_back(held.clone());
                    self.held = None;
                }
            }
        }
        Some(action)
    }

    /// What the world read in a publish.
    pub fn published(&mut self, token: u64, parsed: &Parsed) {
        match self.fault {
            Some(Fault::SettleBeforeAck) if !parsed.chunks.is_empty() => {
                let seqs = parsed.chunks.iter().map(|c| c.0..=c.1).collect();
                self.extra.push_back(Action::Settle { epoch: parsed.epoch, seqs });
            }
            Some(Fault::ForgetLosses) if !parsed.losses.is_empty() => {
                self.extra.push_back(Action::SettleLosses(parsed.losses.clone()));
            }
            _ => {}
        }
        self.flights.insert(token, parsed.clone());
    }

    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        if self.fault == Some(Fault::Spin) { Some(now) } else { self.uplink.next_wake() }
    }
}

fn loss(epoch: u64, (from, to): (u64, u64)) -> Loss {
    Loss { epoch, from, to: Some(to), count: to - from + 1, reason: LossReason::Other, t0: 0, t1: 0 }
}
