//! What lost connections prove against one stored value.
//!
//! A link that flakes, or that ends each connection after so many bytes, ends some of them with a good value
//! alone in flight: it may be sent again, never given up. So a lost connection counts only with contrast: the
//! same link, undisturbed, carried another message of the value's size since the last count, and it
//! carried more bytes on one connection than another had got when the value ended it. A link that cuts at a
//! fixed number of bytes cannot satisfy the latter. Without contrast a value is tried again for ever.

use std::time::Duration;

/// Lost connections that count, until a value is convicted.
pub const STRIKES: u32 = 3;
/// Bytes that a connection may carry beside what we publish: CONNECT, pings, the TLS handshake.
const UNSEEN_BYTES: u64 = 1 << 10;
/// How long a value rests after its first lost connection; doubled with each, up to the last.
pub const FIRST_REST: Duration = Duration::from_secs(60);
pub const LAST_REST: Duration = Duration::from_secs(600);

/// One connection that ended with one suspect alone in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The suspect's packet, in bytes.
    pub size: usize,
    /// Bytes of all packets handed to that connection, the suspect's included.
    pub published: u64,
    /// Bytes of the packets that were answered on it.
    pub answered: u64,
}

/// What is held against one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Connections it ended, counted or not.
    times: u32,
    counted: u32,
    size: usize,
    /// Another message of at least `size` bytes was accepted since the last strike.
    contrast: bool,
    /// Of the counted strikes: the fewest bytes handed to a connection, the most bytes answered on one.
    least_published: u64,
    most_answered: u64,
}

impl Evidence {
    /// Another data message of `bytes` was accepted.
    pub fn accepted(&mut self, bytes: usize) {
        self.contrast |= self.times > 0 && bytes >= self.size;
    }

    /// A connection ended and this value was not the cause: the link is no witness.
    pub fn doubt(&mut self) {
        *self = Self { times: self.times, size: self.size, ..Self::default() };
    }

    /// Returns whether that is proof.
    pub fn strike(&mut self, strike: Strike) -> bool {
        self.times = self.times.saturating_add(1);
        if self.counted == 0 {
            (self.least_published, self.most_answered) = (strike.published, strike.answered);
        }
        if self.counted == 0 || self.contrast {
            self.counted = self.counted.saturating_add(1);
            self.least_published = self.least_published.min(strike.published);
            self.most_answered = self.most_answered.max(strike.answered);
        }
        self.contrast = false;
        self.size = strike.size;
        // Packets are weighed from above, and TLS and MQTT add their own: a third for both.
        let any_cut = (self.least_published + UNSEEN_BYTES) * 4 / 3;
        self.counted >= STRIKES && self.most_answered > any_cut
    }

    /// Its next lost connection will count.
    pub fn is_nearing(&self) -> bool {
        self.contrast && self.counted > 0 && self.counted < STRIKES
    }

    /// It has ended connections as often as would convict it with contrast.
    pub fn is_grave(&self) -> bool {
        self.times >= STRIKES
    }

    /// Until it is tried again.
    pub fn rest(&self) -> Duration {
        (FIRST_REST * (1 << self.times.saturating_sub(1).min(10))).min(LAST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(published: u64, size: usize) -> Strike {
        Strike { size, published, answered: published - size as u64 }
    }

    #[test]
    fn three_lost_connections_without_contrast_prove_nothing() {
        let mut evidence = Evidence::default();
        for i in 1..100 {
            assert!(!evidence.strike(strike(i * 10_000, 500)));
            evidence.accepted(499);
        }
        assert!(evidence.is_grave());
    }

    #[test]
    fn three_with_contrast_between_them_at_different_places_are_proof() {
        let mut evidence = Evidence::default();
        assert!(!evidence.strike(strike(2_000, 500)));
        evidence.accepted(500);
        assert!(!evidence.strike(strike(8_000, 500)));
        assert!(!evidence.clone().strike(strike(9_000, 500)), "no contrast since the second");
        evidence.accepted(900);
        assert!(evidence.strike(strike(3_000, 500)));
    }

    #[test]
    fn a_link_that_cuts_at_one_place_is_no_witness_whatever_the_contrast() {
        let mut evidence = Evidence::default();
        for i in 0..100 {
            assert!(!evidence.strike(strike(9_000 + i % 7 * 100, 500)));
            evidence.accepted(5_000);
            assert_eq!(evidence.is_nearing(), i < 2, "more of the same would prove no more");
        }
    }

    #[test]
    fn a_third_more_bytes_may_be_what_tls_added_to_the_same_cut() {
        for (published, proof) in [(9_800, false), (9_900, true)] {
            let mut evidence = Evidence::default();
            for published in [6_000, 7_000] {
                assert!(!evidence.strike(strike(published, 500)));
                evidence.accepted(500);
            }
            assert_eq!(evidence.strike(strike(published, 500)), proof, "{published}");
        }
    }

    #[test]
    fn a_connection_that_ended_for_anything_else_starts_the_count_anew() {
        let mut evidence = Evidence::default();
        for i in 1..100 {
            assert!(!evidence.strike(strike(i * 10_000, 500)));
            evidence.accepted(500);
            if i % 2 == 0 {
                evidence.doubt();
                evidence.accepted(500);
            }
        }
    }

    #[test]
    fn a_doubt_takes_back_what_counts_and_not_how_often_it_happened() {
        let mut evidence = Evidence::default();
        for i in 1..=4 {
            evidence.strike(strike(i * 10_000, 500));
            evidence.doubt();
            assert_eq!((evidence.is_grave(), evidence.rest().as_secs()), (i >= 3, [60, 120, 240, 480][i as usize - 1]));
        }
    }

    #[test]
    fn a_value_rests_one_minute_then_longer_up_to_ten() {
        let mut evidence = Evidence::default();
        let mut rests = Vec::new();
        for _ in 0..40 {
            evidence.strike(strike(1_000, 500));
            rests.push(evidence.rest().as_secs());
        }
        assert_eq!(rests[..6], [60, 120, 240, 480, 600, 600]);
        assert_eq!(rests[39], 600);
    }
}
