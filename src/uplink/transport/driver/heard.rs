//! What rumqttc has read and written, event by event: what each means for tokens, ids and the caller.

use std::collections::VecDeque;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::v5::{self, SubAck};
use rumqttc::v5::{Event, EventLoop, Incoming};

use super::{Driver, Phase};
use crate::clock;
use crate::uplink::transport::binder::BindError;
use crate::uplink::transport::codes::{puback_code, suback_code};
use crate::uplink::transport::inbox::Taken;
use crate::uplink::transport::limits::limits;
use crate::uplink::transport::{CloseKind, SubscribeOutcome, TransportEvent};

impl Driver {
    pub(super) fn on_connack(&mut self, connack: &v5::ConnAck, event_loop: &mut EventLoop) -> Result<(), CloseKind> {
        let limits = limits(connack, &self.rules)?;
        // rumqttc takes over a Server Keep Alive of 0, which means "none", as a ping every 0 seconds.
        if event_loop.options.keep_alive().is_zero() {
            event_loop.options.set_keep_alive(limits.keep_alive);
        }
        self.rules.keep_alive = limits.keep_alive;
        self.binder.draws_from(self.rules.packet_ids.min(limits.receive_max));
        self.phase = Phase::Online;
        self.last_heard = clock::now().mono;
        self.emit(TransportEvent::Connected(limits))
    }

    pub(super) fn on_event(&mut self, event: Event) -> Result<(), CloseKind> {
        let now = clock::now().mono;
        match event {
            Event::Outgoing(Outgoing::Publish(id)) => {
                self.progress(now);
                self.unflushed.push(id);
                self.binder.publishing(id).map_err(out_of_step)
            }
            Event::Outgoing(Outgoing::AwaitAck(id)) => self.binder.collided(id, now).map_err(out_of_step),
            Event::Outgoing(Outgoing::Subscribe(id)) => {
                self.binder.drawn(id);
                Ok(())
            }
            Event::Outgoing(Outgoing::Disconnect) => {
                self.phase = Phase::Leaving(now);
                Ok(())
            }
            Event::Outgoing(_) => Ok(()),
            Event::Incoming(packet) => {
                self.last_heard = now;
                self.progress(now);
                self.on_packet(packet)
            }
        }
    }

    fn on_packet(&mut self, packet: Incoming) -> Result<(), CloseKind> {
        match packet {
            Incoming::PubAck(ack) => {
                // In the same batch as its publish, before the flush: it cannot be the answer to it.
                if self.unflushed.contains(&ack.pkid) {
                    return Err(CloseKind::UnsolicitedAck(ack.pkid));
                }
                let token = self.binder.acked(ack.pkid).map_err(out_of_step)?;
                self.emit(TransportEvent::Acked { token, code: puback_code(ack.reason) })
            }
            Incoming::SubAck(ack) => self.on_suback(ack),
            Incoming::Publish(publish) => self.on_publish(publish),
            // rumqttc returns an error with the reason right after a DISCONNECT.
            Incoming::PingResp(_) | Incoming::Disconnect(_) => Ok(()),
            _ => Err(CloseKind::Protocol("it sent a packet that nobody asked for".into())),
        }
    }

    fn on_suback(&mut self, ack: SubAck) -> Result<(), CloseKind> {
        let (subscriptions, _) =
            self.subscribing.take().ok_or_else(|| CloseKind::Protocol("SUBACK without SUBSCRIBE".into()))?;
        if subscriptions.len() != ack.return_codes.len() {
            return Err(CloseKind::Protocol("SUBACK with a wrong number of codes".into()));
        }
        let outcomes = subscriptions
            .into_iter()
            .zip(ack.return_codes)
            .map(|(s, code)| SubscribeOutcome { filter: s.filter, code: suback_code(code) })
            .collect();
        self.emit(TransportEvent::Subscribed(outcomes))
    }

    fn on_publish(&mut self, publish: v5::Publish) -> Result<(), CloseKind> {
        let room = self.events.capacity() > self.rules.reserved_events;
        match self.inbox.take_in(publish, room)? {
            Taken::Deliver(received) => self.emit(TransportEvent::Received(received)),
            Taken::Drop => Ok(()),
            Taken::Refuse(id) => {
                // Wakes the caller, who looks at the counters first.
                self.last_progress = Duration::ZERO;
                self.progress(clock::now().mono);
                self.acknowledge(id)
            }
        }
    }

    /// PUBACKs that were read before the end count; everything else is void. Ends at the first thing that does not fit.
    pub(super) fn drain(&mut self, events: &mut VecDeque<Event>) {
        for event in events.drain(..) {
            let handled = match &event {
                Event::Outgoing(Outgoing::Publish(_) | Outgoing::AwaitAck(_))
                | Event::Incoming(Incoming::PubAck(_)) => self.on_event(event),
                _ => Ok(()),
            };
            if handled.is_err() {
                return;
            }
        }
    }
}

fn out_of_step(error: BindError) -> CloseKind {
    match error {
        BindError::Unsolicited(id) => CloseKind::UnsolicitedAck(id),
        other => CloseKind::Protocol(other.to_string()),
    }
}
