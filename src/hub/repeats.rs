//! Says the same thing once, then now and then with the number of times. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

/// The same is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Repeats {
    said: Option<(String, Duration, u64)>,
}

impl Repeats {
    /// What to say of `what` now, if anything.
    pub fn say(&mut self, what: &str, detail: &str, now: Duration) -> Option<String> {
        if let Some((last, at, times)) = &mut self.said
            && last == what
        {
            *times += 1;
            if now.saturating_sub(*at) < SAY_AGAIN {
                return None;
            }
            *at = now;
            return Some(format!("{what} ({times} times){detail}"));
        }
        self.said = Some((what.to_owned(), now, 1));
        Some(format!("{what}{detail}"))
    }

    fn is_fresh(&self, now: Duration) -> bool {
        self.said.as_ref().is_some_and(|(_, at, _)| now.saturating_sub(*at) < SAY_AGAIN)
    }

    /// It is over: the next time it is news.
    pub fn over(&mut self) {
        self.said = None;
    }
}

/// Lines on one subject that a host can provoke: the first at once, then one in [`SAY_AGAIN`], for each host.
#[derive(Debug, Default)]
pub(super) struct HostRepeats {
    said: BTreeMap<(String, &'static str), Repeats>,
}

impl HostRepeats {
    /// Hosts and subjects that are remembered; of more at once nothing is said.
    const MOST: usize = 20_000;

    /// What to say of `what` now, if anything.
    pub fn say(&mut self, host: &str, what: &'static str, now: Duration) -> Option<String> {
        let key = (host.to_owned(), what);
        if self.said.len() >= Self::MOST && !self.said.contains_key(&key) {
            self.said.retain(|_, repeats| repeats.is_fresh(now));
            if self.said.len() >= Self::MOST {
                return None;
            }
        }
        self.said.entry(key).or_default().say(what, "", now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_said_now_and_then() {
        let mut repeats = Repeats::default();
        let mut at = |s, what| repeats.say(what, "!", Duration::from_secs(s));
        assert_eq!(at(0, "a").as_deref(), Some("a!"));
        assert_eq!(at(1, "a"), None);
        assert_eq!(at(30, "a").as_deref(), Some("a (3 times)!"));
        assert_eq!(at(31, "b").as_deref(), Some("b!"));
    }

    #[test]
    fn a_host_is_heard_now_and_then_whatever_it_does_and_keeps_no_other_from_it() {
        let (mut repeats, mut lines) = (HostRepeats::default(), Vec::new());
        for ms in (0..90_000).step_by(10) {
            lines.extend(repeats.say("noisy", "a", Duration::from_millis(ms)));
            lines.extend(repeats.say("noisy", "b", Duration::from_millis(ms)));
        }
        assert_eq!(lines, ["a", "b", "a (3001 times)", "b (3001 times)", "a (6001 times)", "b (6001 times)"]);
        assert_eq!(repeats.say("other", "a", Duration::from_secs(90)).as_deref(), Some("a"));
        let at = Duration::from_secs(1_000);
        let said = (0..30_000).filter(|n| repeats.say(&format!("h{n}"), "a", at).is_some()).count();
        assert_eq!((said, repeats.said.len()), (HostRepeats::MOST, HostRepeats::MOST));
        assert!(repeats.say("late", "a", at * 2).is_some() && repeats.said.len() == 1);
    }
}
