//! What the host subscribes to, once per connection and before anything is published on it.
//!
//! Without it the host still delivers to the broker, so nothing that a broker does about it ends that: a refusal is a
//! problem line, and a subscription that seems to end connections is held back for a while on the next ones.

use std::time::Duration;

use super::reasons;

/// Connections in a row that ended before the answer.
const STRIKES: u32 = 3;
const HELD_BACK: Duration = Duration::from_secs(600);
/// Data waits so long at most for what stands on our own topics.
const HEARING: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Subscription {
    due: Option<Duration>,
    /// Sent, and not answered on this connection.
    unanswered: bool,
    strikes: u32,
    /// Data waits until then: what stands on our own status topic comes first.
    hears_until: Option<Duration>,
    refused: Vec<(String, u8)>,
}

impl Subscription {
    pub fn connected(&mut self, now: Duration) {
        let wait = if self.is_held_back() { HELD_BACK } else { Duration::ZERO };
        self.due = Some(now + wait);
        self.hears_until = Some(now + HEARING).filter(|_| wait.is_zero());
    }

    /// Whether it is to be sent now; then it is taken to be.
    pub fn take_due(&mut self, now: Duration) -> bool {
        let due = self.due.is_some_and(|at| at <= now);
        if due {
            self.due = None;
            self.unanswered = true;
        }
        due
    }

    /// Filters with the broker's codes. Returns whether what was refused changed.
    pub fn answered(&mut self, outcomes: Vec<(String, u8)>) -> bool {
        self.unanswered = false;
        self.strikes = 0;
        // Then nothing will be heard.
        if outcomes.iter().any(|(_, code)| *code >= reasons::UNSPECIFIED) {
            self.hears_until = None;
        }
        let refused = outcomes.into_iter().filter(|(_, code)| *code >= reasons::UNSPECIFIED).collect();
        let before = std::mem::replace(&mut self.refused, refused);
        before != self.refused
    }

    /// Returns whether the answer was still awaited: then nothing else is to blame for the end of the connection.
    pub fn disconnected(&mut self) -> bool {
        self.due = None;
        self.hears_until = None;
        let unanswered = std::mem::take(&mut self.unanswered);
        self.strikes = if unanswered { self.strikes.saturating_add(1) } else { self.strikes };
        unanswered
    }

    pub fn next_wake(&self) -> Option<Duration> {
        self.due.into_iter().chain(self.hears_until).min()
    }

    /// A message on our own status topic: the one that was kept there, or our own.
    pub fn heard(&mut self) {
        self.hears_until = None;
    }

    /// Whether data may go. What it would be called may turn out to be somebody else's name: see `acks`.
    pub fn is_clear(&mut self, now: Duration) -> bool {
        if self.hears_until.is_some_and(|until| until <= now) {
            self.hears_until = None;
        }
        self.hears_until.is_none()
    }

    fn is_held_back(&self) -> bool {
        self.strikes >= STRIKES
    }

    pub fn problem(&self) -> Option<String> {
        if self.is_held_back() {
            return Some(
                "connections end when the host subscribes to its acks and commands; that is held back".to_owned(),
            );
        }
        let (filter, code) = self.refused.first()?;
        Some(format!(
            "the broker refuses the subscription to {filter} (0x{code:02x}, {}): check its ACL; hubs are not heard",
            reasons::name(*code)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_sent_once_per_connection_and_a_refusal_is_told() {
        let mut s = Subscription::default();
        assert!(!s.take_due(S));
        s.connected(S);
        assert!(s.take_due(S) && !s.take_due(S * 2));
        assert!(s.answered(vec![("a/cmd".into(), 1), ("a/ack/+".into(), 0x87)]));
        assert!(s.problem().unwrap().contains("a/ack/+"));
        assert!(!s.disconnected());
        s.connected(S * 3);
        assert!(s.take_due(S * 3) && s.answered(vec![("a/cmd".into(), 1)]) && s.problem().is_none());
    }

    #[test]
    fn data_waits_for_the_own_topic_to_be_heard_and_no_longer_than_a_second() {
        let mut s = Subscription::default();
        assert!(s.is_clear(S));
        s.connected(S);
        assert!(!s.is_clear(S) && s.take_due(S));
        s.answered(vec![("a/cmd".into(), 1)]);
        assert!(!s.is_clear(S) && s.next_wake() == Some(S * 2));
        s.heard();
        assert!(s.is_clear(S));
        s.connected(S * 3);
        assert!(!s.is_clear(S * 3) && s.is_clear(S * 4), "nothing stands there");
        s.connected(S * 5);
        assert_eq!(s.next_wake(), Some(S * 5), "it is due first");
        assert!(s.answered(vec![("a/cmd".into(), 1), ("a/status".into(), 0x80)]));
        assert!(s.is_clear(S * 5) && s.problem().is_some(), "it will not be heard");
    }

    #[test]
    fn what_ends_three_connections_is_held_back_and_tried_again_later() {
        let mut s = Subscription::default();
        for _ in 0..STRIKES {
            s.connected(S);
            assert!(s.take_due(S) && s.disconnected());
        }
        s.connected(S);
        assert!(!s.take_due(S) && s.problem().is_some());
        assert_eq!(s.next_wake(), Some(S + HELD_BACK));
        assert!(s.is_clear(S), "data does not wait for what is not asked for");
        assert!(s.take_due(S + HELD_BACK));
        s.answered(Vec::new());
        s.disconnected();
        s.connected(S);
        assert!(s.take_due(S) && s.problem().is_none());
    }
}
