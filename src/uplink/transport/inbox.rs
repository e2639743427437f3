//! What the broker sends us: bounded, acknowledged only on the caller's word, never a reason to stop.
//!
//! QoS 1 is bounded by our Receive Maximum, and a broker that exceeds it by far is cut off. QoS 0 is dropped and counted when
//! the caller does not keep up. What can never be delivered is acknowledged and counted, or it would come for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5;

use super::{AckToken, CloseKind, Received, TransportEvent};

/// How many times our Receive Maximum a broker may reach. mosquitto 2.0.11 goes beyond it when it drains a queue to a
/// slow subscriber; cut off at once, it would send them all again, for ever. Reading stops long before (see the driver).
pub(super) const RECEIVE_SLACK: usize = 8;

/// Dropped messages; counted here and reported by the caller's side, so that the report needs no place in the queue.
#[derive(Debug, Default)]
pub(super) struct Discards {
    overflow: AtomicU64,
    unreadable: AtomicU64,
}

impl Discards {
    pub fn take(&self) -> Option<TransportEvent> {
        let reasons = [
            (&self.overflow, "QoS 0 messages came faster than they were taken"),
            (&self.unreadable, "topic is not UTF-8"),
        ];
        reasons.into_iter().find_map(|(counter, why)| match counter.swap(0, Ordering::Relaxed) {
            0 => None,
            count => Some(TransportEvent::Discarded { count, why }),
        })
    }
}

/// What becomes of a message.
pub(super) enum Taken {
    Deliver(Received),
    Drop,
    /// Acknowledge this id and go on.
    Refuse(u16),
}

pub(super) struct Inbox {
    connection: u64,
    receive_max: usize,
    /// Packet ids that the caller has not acknowledged.
    unacknowledged: BTreeSet<u16>,
    discards: Arc<Discards>,
}

impl Inbox {
    pub fn new(connection: u64, receive_max: usize, discards: Arc<Discards>) -> Self {
        Self { connection, receive_max, unacknowledged: BTreeSet::new(), discards }
    }

    /// `room`: the caller keeps up, so a message that nobody waits for may be queued.
    pub fn take_in(&mut self, publish: v5::Publish, room: bool) -> Result<Taken, CloseKind> {
        let ack = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(self.expect_ack(publish.pkid)?),
            QoS::ExactlyOnce => return Err(CloseKind::Protocol("it sent QoS 2 for a QoS 1 subscription".into())),
        };
        if ack.is_none() && !room {
            self.discards.overflow.fetch_add(1, Ordering::Relaxed);
            return Ok(Taken::Drop);
        }
        let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
            self.discards.unreadable.fetch_add(1, Ordering::Relaxed);
            return Ok(ack.map_or(Taken::Drop, |token| Taken::Refuse(token.pkid)));
        };
        if topic.is_empty() {
            return Err(CloseKind::Protocol("it used a topic alias, which we do not allow".into()));
        }
        let properties = publish.properties.unwrap_or_default();
        Ok(Taken::Deliver(Received {
            topic,
            payload: publish.payload.to_vec(),
            retain: publish.retain,
            dup: publish.dup,
            content_type: properties.content_type,
            response_topic: properties.response_topic,
            correlation: properties.correlation_data.map(|data| data.to_vec()),
            ack,
        }))
    }

    /// Whether this id was still owed an acknowledgement.
    pub fn acknowledged(&mut self, id: u16) -> bool {
        self.unacknowledged.remove(&id)
    }

    fn expect_ack(&mut self, id: u16) -> Result<AckToken, CloseKind> {
        if !self.unacknowledged.insert(id) {
            return Err(CloseKind::Protocol(format!("it used packet id {id} twice")));
        }
        match self.unacknowledged.len() > self.receive_max.saturating_mul(RECEIVE_SLACK) {
            true => Err(CloseKind::Protocol("it exceeded our Receive Maximum".into())),
            false => Ok(AckToken { connection: self.connection, pkid: id }),
        }
    }
}
