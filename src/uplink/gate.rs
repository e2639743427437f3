//! One topic's willingness to take messages: open, closed for a while, or open to a single probe.
//!
//! Every refusal that may pass (nobody listens, quota, not authorized) closes the gate of its own topic
//! and of no other. Owns no data: what is refused stays pending.

use std::time::Duration;

use super::backoff::{Rng, probe_delay};

/// Why a topic was closed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Unheard,
    Forbidden,
    Busy(u8),
    /// Too many stored values in a row were refused for their content; see `suspects`.
    Poison,
}

/// A topic's gate; time is [`crate::clock::Now::mono`].
#[derive(Clone, Debug, Default)]
pub struct Gate {
    failures: u32,
    closed: Option<(Closed, Duration)>,
    /// The one message sent through the half-open gate.
    probe: Option<u64>,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Why it is not open.
    pub fn closed(&self) -> Option<Closed> {
        self.closed.map(|(why, _)| why)
    }

    /// Whether a message may go now.
    pub fn admits(&self, now: Duration) -> bool {
        self.closed.is_none_or(|(_, until)| self.probe.is_none() && until <= now)
    }

    /// When a message may go, if that is only a matter of time.
    pub fn opens_at(&self) -> Option<Duration> {
        self.closed.filter(|_| self.probe.is_none()).map(|(_, until)| until)
    }

    pub fn sent(&mut self, token: u64) {
        if self.closed.is_some() {
            self.probe = Some(token);
        }
    }

    /// Returns whether it was open until now. Refusals of messages sent before it closed change nothing,
    /// so that a full window of them counts once.
    pub fn refused(&mut self, token: u64, why: Closed, now: Duration, rng: &mut Rng) -> bool {
        let was_open = self.closed.is_none();
        if was_open || self.probe == Some(token) {
            self.close(why, now, rng);
        }
        was_open
    }

    /// Closes it for a while, or for longer if it was closed already.
    pub fn close(&mut self, why: Closed, now: Duration, rng: &mut Rng) {
        self.failures = self.failures.saturating_add(1);
        self.closed = Some((why, now + probe_delay(self.failures, rng)));
        self.probe = None;
    }

    /// Returns whether it was closed until now.
    pub fn accepted(&mut self) -> bool {
        let was_closed = self.closed.is_some();
        *self = Self::default();
        was_closed
    }

    /// The probe, if any, was neither refused nor accepted for its topic's sake: it may be tried again.
    pub fn probe_undecided(&mut self, token: u64) {
        if self.probe == Some(token) {
            self.probe = None;
        }
    }

    /// A probe in flight is lost with its connection.
    pub fn disconnected(&mut self) {
        self.probe = None;
    }

    /// A new connection may have other rights and other listeners: one probe at once. Connections are at
    /// least a second apart, so this does not defeat the back-off.
    pub fn connected(&mut self, now: Duration) {
        if let Some((_, until)) = &mut self.closed {
            *until = now.min(*until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_window_of_refusals_counts_once_and_one_probe_goes_at_a_time() {
        let (mut gate, mut rng) = (Gate::default(), Rng::new(1));
        assert!(gate.admits(S));
        gate.sent(1);
        gate.sent(2);
        assert!(gate.refused(1, Closed::Unheard, S, &mut rng));
        let until = gate.opens_at().unwrap();
        assert!(!gate.refused(2, Closed::Unheard, S, &mut rng));
        assert_eq!(gate.opens_at(), Some(until), "the second refusal of one window changes nothing");
        assert!(!gate.admits(S) && gate.admits(until));
        gate.sent(3);
        assert!(!gate.admits(until + S * 100), "the probe is out");
        assert!(!gate.refused(3, Closed::Unheard, until, &mut rng));
        assert!(gate.opens_at().unwrap() > until + S, "the second delay is longer than the first");
        assert!(gate.accepted() && gate.is_open() && !gate.accepted());
    }

    #[test]
    fn a_probe_that_decided_nothing_is_followed_by_another_and_one_of_another_message_is_not() {
        let (mut gate, mut rng) = (Gate::default(), Rng::new(1));
        gate.refused(1, Closed::Forbidden, S, &mut rng);
        assert_eq!(gate.closed(), Some(Closed::Forbidden));
        let until = gate.opens_at().unwrap();
        gate.sent(2);
        gate.probe_undecided(1);
        assert!(!gate.admits(until) && gate.opens_at().is_none());
        gate.probe_undecided(2);
        assert!(gate.admits(until) && gate.opens_at() == Some(until));
    }

    #[test]
    fn a_lost_connection_frees_the_probe_and_a_new_one_probes_at_once() {
        let (mut gate, mut rng) = (Gate::default(), Rng::new(1));
        for token in 0..10 {
            gate.refused(token, Closed::Busy(0x97), S, &mut rng);
            gate.connected(S);
            gate.sent(token + 1);
        }
        gate.disconnected();
        gate.connected(S * 2);
        assert!(gate.admits(S * 2) && !gate.is_open());
    }
}
