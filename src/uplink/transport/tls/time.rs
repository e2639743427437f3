//! The time that certificates are judged by: the latest of the wall clock, the last saved wall clock and the
//! release date, so that a board which boots in 1970 can still connect. Never earlier than the truth allows,
//! never later than the wall clock unless that clock is behind.

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::clock;

/// When this version was released, seconds since 1970: 2026-11-23. Set by hand at each release, so that builds
/// stay reproducible; no host runs this code before it.
pub const RELEASED_S: i64 = 1_795_392_000;

/// A floor under the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationTime {
    floor_s: i64,
}

impl VerificationTime {
    /// `saved_wall_ms` is the last wall clock known to have been reached, milliseconds since 1970, if one was saved.
    pub fn new(saved_wall_ms: Option<i64>) -> Self {
        Self { floor_s: saved_wall_ms.map_or(RELEASED_S, |ms| RELEASED_S.max(ms / 1000)) }
    }

    /// Seconds since 1970.
    pub fn at(self, wall_ms: i64) -> i64 {
        self.floor_s.max(wall_ms / 1000)
    }

    pub fn now_s(self) -> i64 {
        self.at(clock::now().wall_ms)
    }
}

impl TimeProvider for VerificationTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.now_s()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verification_time_is_the_latest_of_wall_saved_and_release() {
        let (released, later) = (RELEASED_S * 1000, (RELEASED_S + 500) * 1000);
        for (saved, wall, want) in [
            (None, 0, RELEASED_S),
            (None, -5_000_000, RELEASED_S),
            (None, later, RELEASED_S + 500),
            (Some(later), 0, RELEASED_S + 500),
            (Some(later), released, RELEASED_S + 500),
            (Some(0), released + 1_000, RELEASED_S + 1),
        ] {
            assert_eq!(VerificationTime::new(saved).at(wall), want, "saved {saved:?}, wall {wall}");
        }
    }

    /// Set by hand, so it is the changelog that it is held to.
    #[test]
    fn the_release_date_is_that_of_the_newest_release() {
        let headings = include_str!("../../../../CHANGELOG.md").lines().filter_map(|line| line.strip_prefix("## "));
        if let Some((version, date)) = headings.filter_map(|heading| heading.split_once(" - ")).next() {
            let shown = crate::uplink::transport::tls::date(RELEASED_S);
            assert_eq!(shown, format!("{} 00:00:00Z", date.trim()), "set RELEASED_S to the date of {version}");
        }
        assert_eq!(RELEASED_S % 86_400, 0, "midnight, UTC");
    }

    #[test]
    fn the_release_date_is_not_in_the_future() {
        assert!(RELEASED_S * 1000 <= clock::now().wall_ms, "RELEASED_S lies ahead of this machine's clock");
    }
}
