//! Says the same thing once, then now and then with the number of times. Pure: time is an argument.

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

    /// It is over: the next time it is news.
    pub fn over(&mut self) {
        self.said = None;
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
}
