//! Which token a packet id stands for, on one connection.
//!
//! rumqttc chooses the packet id after a publish was handed over, so tokens wait in hand-over order until an
//! outgoing event names the id. Every PUBACK goes through [`Binder::acked`]: an id that stands for nothing
//! settles nothing. It also foresees the next id, so that rumqttc need never put a publish aside (its way with a
//! taken id wedges on a refusing PUBACK). Never looks at reason codes; never outlives its connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The sequence of events cannot be explained: the caller must give the connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BindError {
    #[error("packet id {0} left without a publish waiting")]
    NothingWaiting(u16),
    #[error("packet id {0} was used twice")]
    IdInUse(u16),
    #[error("a second publish waits for a free packet id")]
    SecondStash,
    #[error("the broker acknowledged packet id {0}, which is not in flight")]
    Unsolicited(u16),
}

/// A publish in our hands, and the bytes it adds to what the peer has yet to take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub token: u64,
    pub bytes: usize,
    /// Monotonic time of the hand-over.
    pub since: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Binder {
    /// Handed over, id not known yet; oldest first.
    waiting: VecDeque<Sent>,
    by_id: BTreeMap<u16, Sent>,
    /// The one publish whose id is still taken by an older publish, and since when it is stuck.
    stash: Option<(u16, Sent, Duration)>,
    /// rumqttc draws ids from 1..=circle in turn.
    circle: u16,
    /// The last one drawn; 0 before the first.
    last: u16,
}

impl Binder {
    /// Ids will be drawn from 1..=`circle`; call it at the CONNACK.
    pub fn draws_from(&mut self, circle: u16) {
        self.circle = circle;
    }

    /// An id was drawn for something that is not a publish.
    pub fn drawn(&mut self, id: u16) {
        self.last = id;
    }

    /// The id that the next hand-over will get stands for nothing.
    pub fn next_is_free(&self) -> bool {
        let ahead = usize::from(self.last) + self.waiting.len();
        let next = ahead % usize::from(self.circle.max(1)) + 1;
        self.stash.is_none()
            && self.waiting.len() < usize::from(self.circle)
            && !self.by_id.contains_key(&(next as u16))
    }

    /// Call just before the publish is handed over.
    pub fn handed_over(&mut self, sent: Sent) {
        self.waiting.push_back(sent);
    }

    /// The publish with this id goes out.
    pub fn publishing(&mut self, id: u16) -> Result<(), BindError> {
        let sent = match self.stash.take_if(|(stuck, ..)| *stuck == id) {
            Some((_, sent, _)) => sent,
            None => {
                self.last = id;
                self.waiting.pop_front().ok_or(BindError::NothingWaiting(id))?
            }
        };
        match self.by_id.insert(id, sent) {
            None => Ok(()),
            Some(_) => Err(BindError::IdInUse(id)),
        }
    }

    /// The next publish got an id that an older one still holds.
    pub fn collided(&mut self, id: u16, now: Duration) -> Result<(), BindError> {
        self.last = id;
        let sent = self.waiting.pop_front().ok_or(BindError::NothingWaiting(id))?;
        match self.stash.replace((id, sent, now)) {
            None => Ok(()),
            Some(_) => Err(BindError::SecondStash),
        }
    }

    /// The broker acknowledged this id: the token it stood for, exactly once.
    pub fn acked(&mut self, id: u16) -> Result<u64, BindError> {
        self.by_id.remove(&id).map(|sent| sent.token).ok_or(BindError::Unsolicited(id))
    }

    /// Publishes handed over and not acknowledged.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.by_id.len() + usize::from(self.stash.is_some())
    }

    /// Bytes of them.
    pub fn bytes(&self) -> usize {
        self.all().map(|sent| sent.bytes).sum()
    }

    /// When the oldest of them was handed over.
    pub fn oldest(&self) -> Option<Duration> {
        self.all().map(|sent| sent.since).min()
    }

    /// Since when a publish is stuck behind an id that is not given back.
    pub fn stuck_since(&self) -> Option<Duration> {
        self.stash.as_ref().map(|(_, _, since)| *since)
    }

    fn all(&self) -> impl Iterator<Item = &Sent> {
        self.waiting.iter().chain(self.by_id.values()).chain(self.stash.as_ref().map(|(_, sent, _)| sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(token: u64) -> Sent {
        Sent { token, bytes: 10, since: Duration::from_secs(token) }
    }

    #[test]
    fn ids_bind_in_hand_over_order_and_acks_in_any() {
        let mut b = Binder::default();
        for token in [11, 12, 13] {
            b.handed_over(sent(token));
        }
        for id in [1, 2, 3] {
            b.publishing(id).unwrap();
        }
        assert_eq!((b.acked(2), b.acked(1), b.acked(3)), (Ok(12), Ok(11), Ok(13)));
        assert_eq!(b.len(), 0);
    }

    #[test]
    fn a_collided_publish_is_bound_when_its_id_is_given_back() {
        let mut b = Binder::default();
        b.handed_over(sent(11));
        b.publishing(1).unwrap();
        b.handed_over(sent(12));
        b.collided(1, Duration::from_secs(20)).unwrap();
        assert_eq!(b.stuck_since(), Some(Duration::from_secs(20)));
        b.handed_over(sent(13));
        assert_eq!(b.acked(1), Ok(11));
        b.publishing(1).unwrap();
        b.publishing(2).unwrap();
        assert_eq!((b.stuck_since(), b.acked(1), b.acked(2)), (None, Ok(12), Ok(13)));
    }

    #[test]
    fn a_second_or_invented_ack_settles_nothing() {
        let mut b = Binder::default();
        b.handed_over(sent(11));
        assert_eq!(b.acked(1), Err(BindError::Unsolicited(1)), "handed over, but not on the wire");
        b.publishing(1).unwrap();
        assert_eq!(b.acked(1), Ok(11));
        assert_eq!(b.acked(1), Err(BindError::Unsolicited(1)));
        assert_eq!(b.publishing(2), Err(BindError::NothingWaiting(2)));
    }

    #[test]
    fn the_next_id_is_foreseen_round_the_circle() {
        let mut b = Binder::default();
        assert!(!b.next_is_free(), "no ids before the CONNACK");
        b.draws_from(3);
        b.drawn(1);
        for (token, id) in [(11, 2), (12, 3), (13, 1)] {
            assert!(b.next_is_free());
            b.handed_over(sent(token));
            b.publishing(id).unwrap();
        }
        assert!(!b.next_is_free(), "2 is next and taken");
        b.acked(3).unwrap();
        assert!(!b.next_is_free(), "3 is free, but 2 is next");
        b.acked(2).unwrap();
        assert!(b.next_is_free());
        b.handed_over(sent(14));
        assert!(b.next_is_free(), "2 is spoken for, 3 is next and free");
        b.handed_over(sent(15));
        assert!(!b.next_is_free(), "1 is next and taken");
    }

    #[test]
    fn what_is_outstanding_is_counted_wherever_it_waits() {
        let mut b = Binder::default();
        for token in [5, 6, 7] {
            b.handed_over(sent(token));
        }
        b.publishing(1).unwrap();
        b.collided(1, Duration::from_secs(9)).unwrap();
        assert_eq!((b.len(), b.bytes(), b.oldest()), (3, 30, Some(Duration::from_secs(5))));
    }
}
