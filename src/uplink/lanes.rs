//! Publishing: status and meta first, then live; and the way every publish takes into the window.
//!
//! P6 rests here, in `history.rs` and in `trials.rs`: while a live run waits, no history message is emitted (but for one
//! suspect, which has to be alone in flight).

use std::sync::Arc;
use std::time::Duration;

use super::io::{Action, Settings, Severity};
use super::journal::Subject;
use super::link::State as LinkState;
use super::live::LiveRun;
use super::message::{Envelope, content_type, packet_size};
use super::window::{Data, Kind, Route, Sent};
use super::{Stopping, Uplink};
use crate::clock::Now;
use crate::record::ClockContext;
use crate::wire::{CONTENT_TYPE_JSON, Lane, Topic};

/// After `Stop`'s grace: for the answer to the offline status.
const FAREWELL: Duration = Duration::from_secs(1);

impl Uplink {
    pub(super) fn publish_status(&mut self, now: Now) -> Option<Action> {
        if self.window.has_suspect() {
            // It has to be alone; its answer unblocks.
            self.heartbeat.blocked();
            return None;
        }
        if self.heartbeat.is_due(now.mono) {
            self.heartbeat.measure(now.mono);
            let payload = self.status_payload(now);
            let topic = self.settings.topics.status();
            if let Some(action) = self.publish_retained(Kind::Status, topic, payload, now.mono) {
                return Some(action);
            }
        }
        if self.heartbeat.meta_is_due(now.mono) {
            let payload = self.settings.meta.clone();
            let topic = self.settings.topics.meta();
            return self.publish_retained(Kind::Meta, topic, payload, now.mono);
        }
        None
    }

    /// `None` when there is no place now (tried again after the next answer) or never (said so).
    fn publish_retained(&mut self, kind: Kind, topic: Topic, payload: Vec<u8>, now: Duration) -> Option<Action> {
        let bytes = packet_size(&topic, payload.len());
        let possible = !payload.is_empty() && bytes <= self.max_packet();
        if possible && !self.window.fits(bytes, self.room()) {
            self.heartbeat.blocked();
            return None;
        }
        match kind {
            Kind::Meta => self.heartbeat.meta_done(),
            _ => self.heartbeat.done(now, possible),
        }
        if !possible {
            if !payload.is_empty() {
                self.journal.say(Subject::Status, Severity::Warn, now, || {
                    format!("{topic} not published: its packet of {bytes} bytes is above the broker's limit")
                });
            }
            return None;
        }
        Some(self.send_retained(kind, topic, payload, now))
    }

    fn send_retained(&mut self, kind: Kind, topic: Topic, payload: Vec<u8>, now: Duration) -> Action {
        let token = self.send_own(kind, packet_size(&topic, payload.len()), now);
        let retain = self.link.up().is_some_and(|up| up.limits.retain_available) && self.heartbeat.may_retain();
        Action::Publish { token, topic, payload, retain, content_type: CONTENT_TYPE_JSON, correlation: None }
    }

    /// A place in the window for what carries no data.
    pub(super) fn send_own(&mut self, kind: Kind, bytes: usize, now: Duration) -> u64 {
        let token = self.new_token();
        self.window.push(Sent { token, bytes, at: now, overtaken: false, kind });
        token
    }

    /// The next live message, if it may go.
    pub(super) fn publish_live(&mut self, now: Now) -> Option<Action> {
        while let Some(run) = self.live.front() {
            if self.live_paused || self.window.has_suspect() {
                return None;
            }
            let (collector, head) = (Arc::clone(&run.collector), run.chunks.front()?.clone());
            if !self.gate_mut(&collector).admits(now.mono) {
                self.live_to_history();
                continue;
            }
            let settings = Arc::clone(&self.settings);
            let topic = settings.topics.live(&collector);
            let envelope = self.envelope(&settings, topic, Lane::Live, (head.epoch, head.context), now);
            let (room, overhead) = (self.room(), envelope.overhead(0));
            let limit = self.max_packet().min(room.bytes);
            let chunks = self.live.front()?.fitting(limit.saturating_sub(overhead));
            let maps: usize = chunks.iter().map(|c| c.maps.len()).sum();
            if !chunks.is_empty() && !self.window.fits(overhead + maps, room) {
                return None;
            }
            match envelope.encode_within(&[], &chunks, limit) {
                Ok((payload, n)) if self.window.fits(packet_size(&envelope.topic, payload.len()), room) => {
                    self.live.take_chunks(n);
                    let data = Data::new(Route::Live(collector), head.epoch, &chunks[..n]);
                    return Some(self.send_data(data, envelope.topic, payload, now.mono));
                }
                // JSON weighs more than was estimated: place has to be made first.
                Ok(_) => return None,
                // Too large for this broker, or not to be written: history finds out which value it is.
                Err(_) => self.live_to_history(),
            }
        }
        None
    }

    pub(super) fn envelope<'a>(
        &self,
        settings: &'a Settings,
        topic: Topic,
        lane: Lane,
        (epoch, context): (u64, ClockContext),
        now: Now,
    ) -> Envelope<'a> {
        let synced = self.context.as_ref().is_some_and(|c| c.synced);
        let kept = self.anchors.of(&context.boot);
        Envelope { settings, topic, epoch, context, lane, synced, kept, now }
    }

    /// Claims what is in the message and hands it over.
    pub(super) fn send_data(&mut self, data: Data, topic: Topic, payload: Vec<u8>, now: Duration) -> Action {
        let token = self.new_token();
        data.stretches().into_iter().for_each(|seqs| self.delivery.claim(data.epoch, seqs));
        self.losses.sent(&data.losses, token);
        self.gate(&data.route).sent(token);
        let bytes = packet_size(&topic, payload.len());
        self.window.push(Sent { token, bytes, at: now, overtaken: false, kind: Kind::Data(data) });
        let content_type = content_type(self.settings.encoding);
        Action::Publish { token, topic, payload, retain: false, content_type, correlation: None }
    }

    /// The first waiting run is history from now on.
    fn live_to_history(&mut self) {
        if let Some(run) = self.live.pop() {
            self.release_run(&run);
        }
    }

    pub(super) fn live_all_to_history(&mut self) {
        while !self.live.is_empty() {
            self.live_to_history();
        }
    }

    pub(super) fn release_run(&mut self, run: &LiveRun) {
        run.chunks.iter().for_each(|c| self.delivery.release(c.epoch, c.seqs()));
    }

    pub(super) fn stop(&mut self, now: Duration) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping { deadline: now + self.settings.stop_grace, farewell: None });
        self.live_paused = false;
        // What is committed already still goes live, but not before we know by whose name.
        if !self.subscription.is_clear(now) {
            self.live_all_to_history();
        }
        if self.link.up().is_none() {
            if matches!(self.link.state(), LinkState::Connecting { .. }) {
                self.out.push_back(Action::Disconnect { clean: false });
            }
            self.link.stop();
        }
    }

    /// Once nothing waits or is in flight, or the grace is over: the offline status, its answer, DISCONNECT. Where it
    /// cannot be said or is not answered, the connection is dropped, and the will says it.
    pub(super) fn farewell(&mut self, now: Duration) -> Option<Action> {
        let stopping = self.stopping?;
        let clean = match stopping.farewell {
            Some((token, until)) => {
                let answered = !self.window.iter().any(|s| s.token == token);
                if !answered && now < until {
                    return None;
                }
                answered
            }
            None if !(self.window.is_empty() && self.live.is_empty()) && now < stopping.deadline => return None,
            None => {
                let (topic, payload) = (self.settings.topics.status(), self.offline_payload(self.heartbeat.session()));
                let bytes = packet_size(&topic, payload.len());
                if self.window.fits(bytes, self.room()) && bytes <= self.max_packet() {
                    let action = self.send_retained(Kind::Offline, topic, payload, now);
                    let farewell = Some((self.last_token, now + FAREWELL));
                    self.stopping = Some(Stopping { farewell, ..stopping });
                    return Some(action);
                }
                false
            }
        };
        let left = self.window.take_all().len();
        self.journal.say(Subject::Stop, Severity::Info, now, || match left {
            0 => "disconnected; everything published was acknowledged".to_owned(),
            n => format!("disconnected with {n} publishes unacknowledged; they are sent again at the next start"),
        });
        self.link.stop();
        Some(Action::Disconnect { clean })
    }
}
