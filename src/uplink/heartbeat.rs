//! When the status is published: at connect, every minute, and when something changed that a reader acts on.
//!
//! Owns the timing, the session and the rate by which the backlog shrinks; what the status says is
//! `report.rs`.

use std::time::Duration;

use super::backoff::Rng;

/// Between two heartbeats.
pub const PERIOD: Duration = Duration::from_secs(60);
/// Between two statuses for changes.
pub const MIN_GAP: Duration = Duration::from_secs(5);
/// What seems to end connections waits this long on the next one: data comes first.
const HELD_BACK: Duration = Duration::from_secs(600);
/// Strikes until meta is held back, until the status is no longer retained, until it is held back too.
const META_STRIKES: u32 = 3;
const RETAIN_STRIKES: u32 = 6;
const STATUS_STRIKES: u32 = 9;

#[derive(Debug, Default)]
pub struct Heartbeat {
    session: String,
    due: Option<Duration>,
    last: Option<Duration>,
    /// One status is in flight; the next waits for its answer.
    in_flight: bool,
    /// It found no place in the window; any answer makes place.
    blocked: bool,
    meta_at: Option<Duration>,
    /// Connections in a row that ended with nothing but our status or meta in flight.
    strikes: u32,
    settled: u64,
    /// Records settled per second since the status before.
    rate: f64,
}

impl Heartbeat {
    /// The random name of the connection that is attempted next.
    pub fn new_session(&mut self, rng: &mut Rng) -> String {
        self.session = format!("{:016x}", rng.next_u64());
        self.session.clone()
    }

    pub fn session(&self) -> &str {
        &self.session
    }

    pub fn connected(&mut self, now: Duration) {
        let held_back = |strikes| if self.strikes >= strikes { now + HELD_BACK } else { now };
        let (due, meta_at) = (Some(held_back(STATUS_STRIKES)), Some(held_back(META_STRIKES)));
        let session = std::mem::take(&mut self.session);
        *self = Self { session, due, meta_at, strikes: self.strikes, ..Self::default() };
    }

    /// `blamed`: nothing but status or meta was in flight. Some brokers end the connection at a retained
    /// publish; that must not keep data from flowing.
    pub fn disconnected(&mut self, blamed: bool) {
        self.due = None;
        self.meta_at = None;
        self.in_flight = false;
        self.strikes = if blamed { self.strikes.saturating_add(1) } else { self.strikes };
    }

    /// Whether the status of this connection is held back for what it did to others.
    pub fn is_held_back(&self) -> bool {
        self.strikes >= STATUS_STRIKES && self.last.is_none()
    }

    /// Whether connections seem to end for our status or meta.
    pub fn is_suspect(&self) -> bool {
        self.strikes >= META_STRIKES
    }

    pub fn may_retain(&self) -> bool {
        self.strikes < RETAIN_STRIKES
    }

    pub fn changed(&mut self, now: Duration) {
        if self.is_held_back() {
            return;
        }
        let earliest = self.last.map_or(now, |last| now.max(last + MIN_GAP));
        self.due = self.due.map(|due| due.min(earliest));
    }

    pub fn settled(&mut self, records: u64) {
        self.settled += records;
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub fn is_due(&self, now: Duration) -> bool {
        !self.in_flight && !self.blocked && self.due.is_some_and(|due| due <= now)
    }

    /// A status is about to be built: what was settled since the last becomes the rate.
    pub fn measure(&mut self, now: Duration) {
        if let Some(elapsed) = self.last.map(|last| now.saturating_sub(last).as_secs_f64()).filter(|s| *s > 0.5) {
            self.rate = std::mem::take(&mut self.settled) as f64 / elapsed;
        }
    }

    /// Published, or found impossible to publish (`in_flight` false): again in a minute.
    pub fn done(&mut self, now: Duration, in_flight: bool) {
        self.last = Some(now);
        self.due = Some(now + PERIOD);
        self.in_flight = in_flight;
    }

    pub fn blocked(&mut self) {
        self.blocked = true;
    }

    /// Some publish was answered: there is place.
    pub fn unblocked(&mut self) {
        self.blocked = false;
    }

    pub fn answered(&mut self) {
        self.in_flight = false;
    }

    /// Meta follows the first status of each connection.
    pub fn meta_is_due(&self, now: Duration) -> bool {
        self.last.is_some() && !self.blocked && self.meta_at.is_some_and(|at| at <= now)
    }

    /// It is published again, unless there is no connection: then it is at the next one.
    pub fn meta_changed(&mut self, now: Duration) {
        if self.due.is_some() {
            self.meta_at.get_or_insert(now);
        }
    }

    pub fn meta_done(&mut self) {
        self.meta_at = None;
    }

    pub fn meta_answered(&mut self) {
        self.strikes = 0;
    }

    pub fn next_wake(&self) -> Option<Duration> {
        if self.blocked {
            return None;
        }
        let status = self.due.filter(|_| !self.in_flight);
        let meta = self.meta_at.filter(|_| self.last.is_some());
        status.into_iter().chain(meta).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn beats_at_connect_each_minute_and_soon_after_a_change() {
        let mut h = Heartbeat::default();
        h.changed(S);
        assert!(!h.is_due(S * 1000), "never without a connection");
        h.connected(S);
        assert!(h.is_due(S) && !h.meta_is_due(S));
        h.done(S, true);
        assert!(h.meta_is_due(S) && !h.is_due(S * 100), "its answer is awaited");
        h.meta_done();
        h.answered();
        assert_eq!(h.next_wake(), Some(S * 61));
        h.changed(S * 2);
        h.changed(S * 3);
        assert_eq!(h.next_wake(), Some(S * 6), "changes are rate-limited");
        h.blocked();
        assert_eq!((h.next_wake(), h.is_due(S * 6)), (None, false));
        h.unblocked();
        assert!(h.is_due(S * 6));
    }

    #[test]
    fn what_seems_to_end_connections_is_held_back_step_by_step() {
        let mut h = Heartbeat::default();
        let mut seen = Vec::new();
        for _ in 0..10 {
            h.connected(S);
            let status = h.is_due(S);
            h.done(S, true);
            seen.push((status, h.may_retain(), h.meta_is_due(S)));
            h.disconnected(true);
        }
        assert_eq!(seen[2], (true, true, true));
        assert_eq!(seen[3], (true, true, false), "without meta");
        assert_eq!(seen[6], (true, false, false), "and not retained");
        assert_eq!(seen[9], (false, false, false), "and no status at first");
        h.connected(S);
        h.changed(S * 2);
        assert_eq!(h.next_wake(), Some(S + HELD_BACK));
        h.meta_answered();
        h.disconnected(false);
        h.connected(S);
        assert!(h.is_due(S) && h.may_retain());
    }

    #[test]
    fn the_status_is_held_back_only_on_a_connection_that_has_not_had_it_and_after_it_ended_nine() {
        let mut h = Heartbeat::default();
        for strikes in 0..=STATUS_STRIKES {
            h.connected(S);
            assert_eq!((h.is_held_back(), h.is_suspect()), (strikes >= STATUS_STRIKES, strikes >= META_STRIKES));
            if strikes < STATUS_STRIKES {
                h.disconnected(true);
            }
        }
        h.done(S + HELD_BACK, false);
        h.meta_done();
        assert!(!h.is_held_back());
        h.changed(S * 2 + HELD_BACK);
        assert_eq!(h.next_wake(), Some(S + HELD_BACK + MIN_GAP), "what changes is told again");
    }

    #[test]
    fn meta_wakes_by_itself_and_goes_again_when_it_has_changed() {
        let mut h = Heartbeat::default();
        h.meta_changed(S);
        assert!(!h.meta_is_due(S), "without a connection it goes with the next one");
        h.strikes = META_STRIKES;
        h.connected(S);
        h.done(S * 590, false);
        assert_eq!(h.next_wake(), Some(S + HELD_BACK));
        h.meta_done();
        assert_eq!(h.next_wake(), Some(S * 650));
        h.meta_changed(S * 602);
        assert!(h.meta_is_due(S * 602) && h.next_wake() == Some(S * 602));
    }

    #[test]
    fn the_rate_is_what_was_settled_between_two_statuses() {
        let mut h = Heartbeat::default();
        h.connected(S);
        h.done(S, false);
        h.settled(300);
        h.measure(S * 61);
        assert!((h.rate() - 5.0).abs() < 1e-9);
    }
}
