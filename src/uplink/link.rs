//! The life of a connection: when to try, which URL, when to give it up.
//!
//! Owns the back-off between attempts and the watchdogs; knows nothing of what is sent. Its delays reset
//! only after a connection that lasted, so a broker that accepts and then drops is not stormed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backoff::{Reconnect, Rng, reconnect_delay};
use super::io::Limits;

/// A connection that lasted this long was a good one.
pub const STABLE: Duration = Duration::from_secs(30);
/// For DNS, TCP, TLS and CONNACK together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Without any PUBACK while something is in flight. Long enough for the largest stored value at 150 B/s.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection; the next attempt is due at `until`.
    Waiting {
        until: Duration,
    },
    Connecting {
        since: Duration,
    },
    Up(Up),
    /// For good.
    Stopped,
}

/// An established connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    pub limits: Limits,
    pub since: Duration,
    /// When anything was last heard of the peer.
    pub heard: Duration,
    /// When the last PUBACK came (or the connection).
    pub acked: Duration,
    /// PUBACKs so far, whatever they said: the connection works.
    pub acks: u64,
}

/// Why the uplink itself gives a connection up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Neither CONNACK nor an error.
    Connect,
    /// Nothing at all for 1.5 keep-alives and 5 s.
    Silence,
    /// The peer answers pings but acknowledges nothing.
    NoAck,
}

#[derive(Debug)]
pub struct Link {
    state: State,
    urls: usize,
    url: usize,
    /// Attempts since the last stable connection that came to nothing.
    fruitless: u32,
    reconnect: Reconnect,
    /// URLs whose broker keeps no retained messages, as it last said.
    plain: BTreeSet<usize>,
}

impl Link {
    /// Due at once.
    pub fn new(urls: usize, reconnect: Reconnect) -> Self {
        Self {
            state: State::Waiting { until: Duration::ZERO },
            urls: urls.max(1),
            url: 0,
            fruitless: 0,
            reconnect,
            plain: BTreeSet::new(),
        }
    }

    /// Whether the broker of this URL keeps retained messages, as far as it is known.
    pub fn retains(&self) -> bool {
        !self.plain.contains(&self.url)
    }

    /// The broker of this URL refused a connection with a will that was to be retained.
    pub fn keeps_no_retained(&mut self) {
        self.plain.insert(self.url);
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn up(&self) -> Option<&Up> {
        match &self.state {
            State::Up(up) => Some(up),
            _ => None,
        }
    }

    /// Index of the URL of this or the next attempt.
    pub fn url(&self) -> usize {
        self.url
    }

    pub fn fruitless(&self) -> u32 {
        self.fruitless
    }

    /// Begins an attempt if one is due.
    pub fn try_connect(&mut self, now: Duration) -> Option<usize> {
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Connecting { since: now };
                Some(self.url)
            }
            _ => None,
        }
    }

    /// Returns whether a connection was awaited.
    pub fn connected(&mut self, limits: Limits, now: Duration) -> bool {
        let awaited = matches!(self.state, State::Connecting { .. });
        if awaited {
            match limits.retain_available {
                true => self.plain.remove(&self.url),
                false => self.plain.insert(self.url),
            };
            self.state = State::Up(Up { limits, since: now, heard: now, acked: now, acks: 0 });
        }
        awaited
    }

    pub fn heard(&mut self, now: Duration) {
        if let State::Up(up) = &mut self.state {
            up.heard = now;
        }
    }

    pub fn acked(&mut self, now: Duration) {
        if let State::Up(up) = &mut self.state {
            (up.heard, up.acked, up.acks) = (now, now, up.acks + 1);
        }
    }

    /// The attempt or connection is over; plans the next. A stable connection is tried again where it
    /// was, anything else moves on to the next URL; the back-off grows once all were tried.
    pub fn closed(&mut self, now: Duration, rng: &mut Rng) {
        if self.up().is_some_and(|up| now.saturating_sub(up.since) >= STABLE) {
            self.fruitless = 0;
        } else {
            self.fruitless = self.fruitless.saturating_add(1);
            self.url = (self.url + 1) % self.urls;
        }
        let rounds = self.fruitless / u32::try_from(self.urls).unwrap_or(u32::MAX);
        self.state = State::Waiting { until: now + reconnect_delay(self.reconnect, rounds, rng) };
    }

    pub fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// Until when the present state may last; `owed` is since when a PUBACK is owed.
    fn deadline(&self, owed: Option<Duration>) -> Option<(Duration, Option<GiveUp>)> {
        match &self.state {
            State::Waiting { until } => Some((*until, None)),
            State::Connecting { since } => Some((*since + CONNECT_TIMEOUT, Some(GiveUp::Connect))),
            State::Up(up) => {
                let keep_alive = up.limits.keep_alive;
                let silence = (!keep_alive.is_zero())
                    .then(|| (up.heard + keep_alive * 3 / 2 + Duration::from_secs(5), Some(GiveUp::Silence)));
                let no_ack = owed.map(|since| (since + ACK_TIMEOUT, Some(GiveUp::NoAck)));
                silence.into_iter().chain(no_ack).min_by_key(|(at, _)| *at)
            }
            State::Stopped => None,
        }
    }

    /// Whether this connection or attempt has to be given up now.
    pub fn overdue(&self, owed: Option<Duration>, now: Duration) -> Option<GiveUp> {
        self.deadline(owed).filter(|(at, _)| *at <= now).and_then(|(_, why)| why)
    }

    pub fn next_wake(&self, owed: Option<Duration>) -> Option<Duration> {
        self.deadline(owed).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn wait(link: &Link) -> Duration {
        match link.state() {
            State::Waiting { until } => *until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepting_and_dropping_at_once_does_not_reset_the_back_off() {
        let (mut link, mut rng) = (Link::new(1, Reconnect::default()), Rng::new(1));
        let mut now = Duration::ZERO;
        let mut attempts = 0;
        while now < S * 3600 {
            now = now.max(wait(&link));
            assert_eq!(link.try_connect(now), Some(0));
            attempts += 1;
            assert!(link.connected(Limits::default(), now));
            now += S;
            link.closed(now, &mut rng);
        }
        assert!(attempts < 160, "{attempts} attempts in an hour");
    }

    #[test]
    fn urls_are_tried_in_turn_and_a_stable_one_again() {
        let (mut link, mut rng) = (Link::new(3, Reconnect::default()), Rng::new(1));
        let mut tried = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..5 {
            now = now.max(wait(&link));
            tried.push(link.try_connect(now).unwrap());
            link.closed(now, &mut rng);
        }
        assert_eq!(tried, [0, 1, 2, 0, 1]);
        now = wait(&link);
        assert_eq!(link.try_connect(now), Some(2));
        link.connected(Limits::default(), now);
        now += STABLE;
        link.closed(now, &mut rng);
        assert!(wait(&link) <= now + S * 2, "a stable connection resets the back-off");
        assert_eq!(link.try_connect(wait(&link)), Some(2));
    }

    #[test]
    fn the_back_off_grows_by_rounds_over_all_urls() {
        for seed in 0..50 {
            let (mut link, mut rng, mut now) = (Link::new(3, Reconnect::default()), Rng::new(seed), S);
            for longest in [2, 2, 4, 4, 4, 8] {
                link.try_connect(now);
                link.closed(now, &mut rng);
                assert!(wait(&link) <= now + S * longest, "seed {seed}: {:?}", wait(&link) - now);
                now = wait(&link);
            }
        }
    }

    #[test]
    fn silence_is_given_up_and_progress_is_not() {
        let mut link = Link::new(1, Reconnect::default());
        link.try_connect(S);
        assert_eq!(link.overdue(None, S + CONNECT_TIMEOUT), Some(GiveUp::Connect));
        link.connected(Limits { keep_alive: S * 10, ..Limits::default() }, S);
        assert_eq!(link.overdue(None, S * 20), None);
        assert_eq!(link.overdue(None, S * 21), Some(GiveUp::Silence));
        for second in (20..200).step_by(20) {
            link.heard(S * second);
        }
        assert_eq!(link.overdue(Some(S * 100), S * 199), None);
        link.heard(S * 219);
        assert_eq!(link.overdue(Some(S * 100), S * 219), None);
        assert_eq!(link.overdue(Some(S * 100), S * 220), Some(GiveUp::NoAck));
    }
}
