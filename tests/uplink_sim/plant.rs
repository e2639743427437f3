//! The shipped uplink, or the shipped uplink with one planted fault between it and the world: the oracle
//! must catch each.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holdover::clock::Now;
use holdover::uplink::{Action, Input, Uplink};
use holdover::wire::{Loss, LossReason};

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
}

pub struct Machine {
    pub uplink: Uplink,
    pub fault: Option<Fault>,
    flights: BTreeMap<u64, Parsed>,
    /// Connections lost with this value alone in flight.
    strikes: BTreeMap<(u64, u64), u32>,
    extra: VecDeque<Action>,
    held: Option<(Action, u32)>,
}

impl Machine {
    pub fn new(uplink: Uplink, fault: Option<Fault>) -> Self {
        Self { uplink, fault, flights: BTreeMap::new(), strikes: BTreeMap::new(), extra: VecDeque::new(), held: None }
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
            (_, input) => input,
        };
        match &input {
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
