//! Another client that takes our client id: the broker ends one connection for the other, and to everybody else the two
//! are one host. Nothing is mixed, for each has an epoch of its own, but a person has to know. Not every broker says why
//! it ends a connection: mosquitto does not; then the other's status, found on our own topic, gives it away.

use std::time::Duration;

/// Sightings before it is told: one may be what a process before this one left behind.
const CERTAIN: u64 = 2;
/// It counts as over when it has not been seen for so long.
const OVER: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
pub struct Twin {
    times: u64,
    last: Option<Duration>,
}

impl Twin {
    pub fn seen(&mut self, now: Duration) {
        self.times += 1;
        self.last = Some(now);
    }

    pub fn forget_old(&mut self, now: Duration) {
        if self.last.is_some_and(|at| at + OVER <= now) {
            *self = Self::default();
        }
    }

    pub fn problem(&self) -> Option<String> {
        (self.times >= CERTAIN).then(|| {
            format!(
                "ALARM: another client connects with this host's client id (seen {} times): two agents with one id, or a copy \
                 of this host; give each its own id and certificate",
                self.times
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_until_an_hour_has_passed_without_it() {
        let mut twin = Twin::default();
        twin.seen(Duration::ZERO);
        assert!(twin.problem().is_none());
        (2..=3).for_each(|at| twin.seen(Duration::from_secs(at)));
        twin.forget_old(Duration::from_secs(3_602));
        assert!(twin.problem().unwrap().contains("seen 3 times"));
        twin.forget_old(Duration::from_secs(3_603));
        assert!(twin.problem().is_none());
    }
}
